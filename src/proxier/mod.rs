//! The data path: worker threads, each one event loop over sockets that never block.
//!
//! A worker owns its sessions and flows outright: no lock is taken for a byte of traffic. What the rest of the process
//! wants of a worker arrives in its mailbox. Listeners are made elsewhere (in whichever network namespace) and shared by
//! all workers; endpoint sockets are made here, in the namespace that the worker threads were started in.

mod buffers;
mod change;
mod config;
mod files;
mod hops;
mod loads;
mod mail;
mod mailbox;
mod outbound;
mod own;
#[cfg(test)]
#[path = "../../tests/util/rng.rs"]
#[allow(dead_code)]
mod rng;
mod shared;
mod shortage;
mod slab;
mod subject;
mod tally;
mod tcp;
mod timers;
mod told;
mod turn;
mod udp;
mod worker;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use nix::sys::resource::{Resource, getrlimit};

pub use change::{ListenerChange, ListenerId};
pub use config::ProxierConfig;
use mail::Mail;
use shared::Shared;
use subject::Subject;

/// The running data path. Dropping it ends every connection and joins the threads.
#[derive(Debug)]
pub struct Proxier {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxier {
    /// Starts the workers, without a listener yet. Endpoints are reached from the calling thread's network namespace.
    pub fn start(config: ProxierConfig) -> io::Result<Self> {
        let workers = config.workers.max(1);
        let max_flows = match config.max_udp_flows {
            Some(flows) => flows,
            None => default_max_flows()?,
        };
        let mut polls = Vec::new();
        let mut wakers = Vec::new();
        for _ in 0..workers {
            let poll = mio::Poll::new()?;
            wakers.push(mio::Waker::new(poll.registry(), Subject::Mailbox.token())?);
            polls.push(poll);
        }
        let shared = Arc::new(Shared::new(wakers));
        shared.files.set_budget(file_limit()?, open_files());
        // Filled as threads start, so that a failure half way joins those that run.
        let mut proxier = Self {
            shared,
            threads: Vec::new(),
        };
        for (index, poll) in polls.into_iter().enumerate() {
            let shared = Arc::clone(&proxier.shared);
            let config = config.clone();
            let run = move || {
                let max_flows = max_flows.div_ceil(workers);
                let worker = worker::Worker::new(&config, max_flows, &shared.files);
                worker.run(index, poll, &shared);
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(run)?;
            proxier.threads.push(thread);
        }
        Ok(proxier)
    }

    /// Hands changes to the workers, in order. Returns before they have acted on them.
    pub fn apply(&self, changes: Vec<ListenerChange>) {
        if changes.is_empty() {
            return;
        }
        self.shared.note(&changes);
        let changes: Arc<[ListenerChange]> = changes.into();
        for worker in 0..self.shared.workers() {
            let mail = Mail::Changes(Arc::clone(&changes));
            self.shared.send(worker, mail);
        }
    }

    /// Closes every listener. Connections that are under way go on.
    pub fn stop_accepting(&self) {
        for worker in 0..self.shared.workers() {
            self.shared.send(worker, Mail::StopAccepting);
        }
    }

    /// Is disconnected once all TCP connections that are under way now have ended; those that come later do not count.
    pub(crate) fn current_ended(&self) -> Receiver<()> {
        let (mark, ended) = bounded(0);
        let mark = Arc::new(mark);
        for worker in 0..self.shared.workers() {
            self.shared.send(worker, Mail::Mark(Arc::clone(&mark)));
        }
        ended
    }

    /// Ends every TCP connection and tells both sides: with FIN where everything has been passed on, else with RST.
    /// Connections count as ended, see [`Self::drain`], as soon as they have been told.
    pub(crate) fn hang_up(&self) {
        for worker in 0..self.shared.workers() {
            self.shared.send(worker, Mail::HangUp);
        }
    }

    /// Ends the workers; whoever has not acknowledged the end of a connection is sent RST. False if some still run at the
    /// deadline.
    pub(crate) fn end(&self, deadline: Instant) -> bool {
        for worker in 0..self.shared.workers() {
            self.shared.send(worker, Mail::Shutdown);
        }
        while !self.threads.iter().all(JoinHandle::is_finished) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Waits for the last TCP connection to end; false if some are left at the deadline.
    pub fn drain(&self, deadline: Instant) -> bool {
        self.shared.loads.wait_idle(deadline)
    }

    /// TCP connections under way.
    pub fn active_connections(&self) -> usize {
        self.shared.loads.active()
    }

    /// Everything else is open that will stay open: what is left of the limit on open files, but for a reserve, is the data
    /// path's.
    pub(crate) fn count_files(&self) -> io::Result<()> {
        let others = open_files().saturating_sub(self.shared.files.held());
        self.shared.files.set_budget(file_limit()?, others);
        Ok(())
    }

    /// How many more listeners there may be, so that enough files are left for their connections.
    pub(crate) fn listeners_left(&self) -> usize {
        let most = self.shared.files.for_listeners();
        most.saturating_sub(self.shared.listeners())
    }

    /// The addresses of this host: an endpoint there on the port of a wildcard listener would be a loop.
    pub fn set_host_addresses(&self, addresses: Arc<[IpAddr]>) {
        self.shared.set_host_addresses(addresses);
    }
}

impl Drop for Proxier {
    fn drop(&mut self) {
        for worker in 0..self.shared.workers() {
            self.shared.send(worker, Mail::Shutdown);
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has aborted the process in a release build; in tests its panic is printed already.
            let _ = thread.join();
        }
    }
}

/// Each flow holds an open file: a quarter of them, so that TCP, with two files a connection, keeps the most.
fn default_max_flows() -> io::Result<usize> {
    Ok((file_limit()? / 4).max(64))
}

fn file_limit() -> io::Result<usize> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(usize::try_from(soft).unwrap_or(usize::MAX))
}

/// Files that the process has open now.
fn open_files() -> usize {
    // One is the directory's own. Without /proc: about what the program has at rest.
    std::fs::read_dir("/proc/self/fd").map_or(64, |files| files.count().saturating_sub(1))
}
