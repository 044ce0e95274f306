//! The data path: worker threads, each one event loop over sockets that never block.
//!
//! A worker owns its sessions and flows outright: no lock is taken for a byte of traffic. What the rest of the process
//! wants of a worker arrives in its mailbox. Listeners are made elsewhere (in whichever network namespace) and shared by
//! all workers; endpoint sockets are made here, in the namespace that the worker threads were started in.

mod buffers;
mod listeners;
mod mailbox;
#[cfg(test)]
#[path = "../../tests/util/rng.rs"]
#[allow(dead_code)]
mod rng;
mod shortage;
mod tally;
mod tcp;
mod timers;
mod tokens;
mod udp;
mod worker;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use socket2::Socket;

use crate::routing::Frontend;
use crate::types::Protocol;
use mailbox::{Message, Shared};

/// How the data path behaves; the defaults are Kubernetes' where Kubernetes has one.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads; at least one runs.
    pub workers: usize,
    /// How long each attempt to reach an endpoint may take; the client is reset once every step has run out.
    pub connect_ladder: Box<[Duration]>,
    /// How long a connection with one direction closed may be silent before it is reset.
    pub half_close_timeout: Duration,
    /// How long an endpoint's connection may be silent before the kernel probes whether the peer is alive.
    pub keepalive: Duration,
    /// How long a UDP flow may be silent that had no answer yet, or is younger than two seconds.
    pub udp_timeout: Duration,
    /// How long a UDP flow may be silent that goes both ways.
    pub udp_stream_timeout: Duration,
    /// UDP flows in all; each holds one open file. The oldest makes room for the next. None: a quarter of the open-file limit.
    pub max_udp_flows: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, |n| n.get()),
            // kube-proxy's EndpointDialTimeouts.
            connect_ladder: [250, 500, 1000, 2000].map(Duration::from_millis).into(),
            // kube-proxy's --conntrack-tcp-timeout-close-wait.
            half_close_timeout: Duration::from_secs(3600),
            keepalive: Duration::from_secs(60),
            // nf_conntrack_udp_timeout and nf_conntrack_udp_timeout_stream.
            udp_timeout: Duration::from_secs(30),
            udp_stream_timeout: Duration::from_secs(120),
            max_udp_flows: None,
        }
    }
}

/// The identity of a listener, chosen by the caller; never reused while the listener is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u64);

/// What the data path is told.
#[derive(Clone, Debug)]
pub enum Change {
    /// Serve a new listener.
    Open {
        /// Its identity in later changes.
        id: ListenerId,
        /// TCP: a listening socket. UDP: a bound one.
        protocol: Protocol,
        /// What it is bound to, possibly the wildcard address.
        addr: SocketAddr,
        /// Non-blocking; what accepted sockets inherit (TCP_NODELAY, keepalive) is already set.
        socket: Arc<Socket>,
        /// Where its connections go.
        frontend: Arc<Frontend>,
    },
    /// Connections from now on follow this frontend. UDP flows to endpoints that it no longer offers end.
    Replace {
        /// Which listener.
        id: ListenerId,
        /// Where its connections go from now on.
        frontend: Arc<Frontend>,
    },
    /// No more connections; those that are under way go on. UDP flows end.
    Close {
        /// Which listener.
        id: ListenerId,
    },
    /// The addresses of this host: an endpoint there on the port of a wildcard listener would be a loop.
    HostAddresses(Arc<[IpAddr]>),
}

/// The running data path. Dropping it ends every connection and joins the threads.
#[derive(Debug)]
pub struct Proxier {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxier {
    /// Starts the workers, without a listener yet. Endpoints are reached from the calling thread's network namespace.
    pub fn start(config: Config) -> io::Result<Self> {
        let workers = config.workers.max(1);
        let max_flows = match config.max_udp_flows {
            Some(flows) => flows,
            None => default_max_flows()?,
        };
        let mut polls = Vec::new();
        let mut wakers = Vec::new();
        for _ in 0..workers {
            let poll = mio::Poll::new()?;
            wakers.push(mio::Waker::new(
                poll.registry(),
                tokens::Subject::Mailbox.token(),
            )?);
            polls.push(poll);
        }
        let shared = Arc::new(Shared::new(wakers));
        // Filled as threads start, so that a failure half way joins those that run.
        let mut proxier = Self {
            shared,
            threads: Vec::new(),
        };
        for (index, poll) in polls.into_iter().enumerate() {
            let shared = Arc::clone(&proxier.shared);
            let config = config.clone();
            let run = move || {
                let worker = worker::Worker::new(&config, max_flows.div_ceil(workers));
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
    pub fn apply(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.shared.note(&changes);
        let changes: Arc<[Change]> = changes.into();
        for worker in 0..self.shared.workers() {
            let message = Message::Changes(Arc::clone(&changes));
            self.shared.send(worker, message);
        }
    }

    /// Closes every listener. Connections that are under way go on.
    pub fn stop_accepting(&self) {
        for worker in 0..self.shared.workers() {
            self.shared.send(worker, Message::StopAccepting);
        }
    }

    /// Waits for the last TCP connection to end; false if some are left at the deadline.
    pub fn drain(&self, deadline: Instant) -> bool {
        self.shared.wait_idle(deadline)
    }

    /// TCP connections under way.
    pub fn active_connections(&self) -> usize {
        self.shared.active()
    }

    /// Ends every connection and joins the threads.
    pub fn shutdown(self) {}
}

impl Drop for Proxier {
    fn drop(&mut self) {
        for worker in 0..self.shared.workers() {
            self.shared.send(worker, Message::Shutdown);
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has aborted the process in a release build; in tests its panic is printed already.
            let _ = thread.join();
        }
    }
}

/// Each flow holds an open file: a quarter of them, so that TCP, with two files a connection, keeps the most.
fn default_max_flows() -> io::Result<usize> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(usize::try_from(soft / 4).unwrap_or(usize::MAX).max(64))
}
