//! The thread that hears of changes to the host's network, and has the portal put right what they broke.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::error::Error;
use super::event::PortalEvent;
use super::netlink::{Change, Monitor};
use super::state::State;

/// Changes come in flocks: an interface that goes takes its addresses and routes along.
const GATHER: Duration = Duration::from_millis(10);
/// After a failed restoration.
const RETRY: Duration = Duration::from_secs(1);

/// Those who hear of changes.
pub(super) struct Monitors {
    /// In the host's namespace.
    pub(super) host: Monitor,
    /// In the portal's own, if there is one.
    pub(super) inside: Option<Monitor>,
}

impl Monitors {
    /// What has changed on the host, and inside.
    fn drain(&mut self) -> io::Result<(Vec<Change>, Vec<Change>)> {
        let inside = self.inside.as_mut().map(Monitor::drain).transpose()?;
        Ok((self.host.drain()?, inside.unwrap_or_default()))
    }
}

/// The running thread; ends when dropped.
pub(super) struct Watch {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts it.
    pub(super) fn start(
        monitors: Monitors,
        state: Arc<Mutex<State>>,
        events: Sender<PortalEvent>,
    ) -> Result<Self, Error> {
        let failed = |error| Error::Kernel {
            what: "start the thread that watches addresses and routes".to_owned(),
            error,
        };
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let stop = Arc::new(stop);
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("portal-watch".to_owned())
            .spawn(move || run(monitors, &stopped, &state, &events))
            .map_err(failed)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut monitors: Monitors, stop: &OwnedFd, state: &Mutex<State>, events: &Sender<PortalEvent>) {
    // Some(..) while something is broken that could not be put right: what has been said already is not said again.
    let mut broken: Option<String> = None;
    loop {
        let timeout = broken.is_some().then_some(RETRY);
        match wait(Some(&monitors), stop, timeout) {
            Ok(Woken::Stop) => return,
            Ok(Woken::Changes | Woken::Timeout) => {}
            Err(error) => return log::error!("portal: no longer sees changes of routes: {error}"),
        }
        if matches!(wait(None, stop, Some(GATHER)), Ok(Woken::Stop)) {
            return;
        }
        let (changes, inside) = match monitors.drain() {
            Ok(changes) => changes,
            Err(error) => return log::error!("portal: no longer sees changes of routes: {error}"),
        };
        if changes.iter().any(concerns_addresses) {
            // A closed channel means that nobody asks; restoring goes on.
            let _ = events.send(PortalEvent::Addresses);
        }
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let damaged = inside.iter().any(damages_inside) || state.concerned(&changes);
        if broken.is_none() && !damaged {
            continue;
        }
        match state.restore() {
            Ok(restored) if restored == Default::default() => broken = None,
            Ok(restored) => {
                broken = None;
                log::warn!(
                    "portal: {} routes and {} rules had been removed or lost their source address{}: restored",
                    restored.routes,
                    restored.rules,
                    if restored.link {
                        ", as the link was down"
                    } else {
                        ""
                    }
                );
            }
            Err(error) => {
                let text = error.to_string();
                if broken.as_ref() != Some(&text) {
                    log::error!("portal: {text}; will try again every second");
                    broken = Some(text);
                }
            }
        }
    }
}

fn concerns_addresses(change: &Change) -> bool {
    match change {
        Change::AddressAdded(_) | Change::AddressRemoved(_) | Change::Unknown => true,
        Change::LinkChanged { .. } | Change::LinkRemoved { .. } | Change::Routes => false,
    }
}

/// Inside there is nothing that may go.
fn damages_inside(change: &Change) -> bool {
    match change {
        Change::AddressAdded(_) | Change::LinkChanged { up: true, .. } => false,
        Change::AddressRemoved(_)
        | Change::LinkChanged { up: false, .. }
        | Change::LinkRemoved { .. }
        | Change::Routes
        | Change::Unknown => true,
    }
}

enum Woken {
    Stop,
    Changes,
    Timeout,
}

fn wait(
    monitors: Option<&Monitors>,
    stop: &OwnedFd,
    timeout: Option<Duration>,
) -> io::Result<Woken> {
    let timeout = timeout.map(|limit| Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    let inside = monitors.and_then(|monitors| monitors.inside.as_ref());
    let monitors = monitors.map(|monitors| &monitors.host);
    let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
    for monitor in monitors.into_iter().chain(inside) {
        fds.push(PollFd::new(monitor, PollFlags::IN));
    }
    loop {
        match poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => break,
        }
    }
    let mut woken = fds.iter().map(|fd| !fd.revents().is_empty());
    Ok(match (woken.next(), woken.any(|woken| woken)) {
        (Some(true), _) => Woken::Stop,
        (_, true) => Woken::Changes,
        (_, false) => Woken::Timeout,
    })
}
