//! One event loop.
//!
//! A turn: wait for events, act on each, act on deadlines, give a turn to each session and listener that has more to do
//! than its share. Nothing here blocks but the wait, and the wait ends only for an event or a deadline.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry};

use super::listeners::{Listeners, Next};
use super::mailbox::{Accepted, Message, Shared};
use super::shortage::Shortage;
use super::tcp::{Limits, Side, Tcp};
use super::tokens::{Key, Subject};
use super::udp::{self, Udp};
use super::{Change, Config};
use crate::routing::Frontend;
use crate::types::Protocol;

/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// Clients accepted from one listener in one turn: those already here are not kept waiting, and other workers get some.
const ACCEPT_BATCH: usize = 8;
/// How many sessions more than the least busy worker one may have before it hands a new client over.
const IMBALANCE: usize = 2;

/// What a worker's parts need to know of it.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// Its number.
    pub(crate) worker: usize,
    /// Where sockets are registered.
    pub(crate) registry: &'a Registry,
    /// What it shares with the others.
    pub(crate) shared: &'a Shared,
    /// The time at the beginning of this turn.
    pub(crate) now: Instant,
}

/// One thread's state.
pub(crate) struct Worker {
    listeners: Listeners,
    /// Listeners that may have more clients waiting.
    accepting: VecDeque<Key>,
    shortage: Shortage,
    tcp: Tcp,
    udp: Udp,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

impl Worker {
    /// A worker that has nothing to do yet.
    pub(crate) fn new(config: &Config, max_flows: usize) -> Self {
        let tcp = Limits {
            ladder: config.connect_ladder.clone(),
            half_close: config.half_close_timeout,
        };
        let udp = udp::Limits {
            max_flows,
            timeout: config.udp_timeout,
            stream_timeout: config.udp_stream_timeout,
        };
        Self {
            listeners: Listeners::default(),
            accepting: VecDeque::new(),
            shortage: Shortage::default(),
            tcp: Tcp::new(tcp, config.keepalive),
            udp: Udp::new(udp),
        }
    }

    /// Runs until told to shut down.
    pub(crate) fn run(mut self, index: usize, mut poll: Poll, shared: &Shared) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self.timeout();
            match poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    log::error!("worker-{index} cannot wait for events: {error}");
                    return;
                }
            }
            let context = Context {
                worker: index,
                registry: poll.registry(),
                shared,
                now: Instant::now(),
            };
            if self.turn(&context, &events) == Flow::Stop {
                return;
            }
        }
    }

    /// How long nothing will happen without an event.
    fn timeout(&mut self) -> Option<Duration> {
        let accept_at = match (self.accepting.is_empty(), self.shortage.until()) {
            (true, _) => None,
            (false, None) => return Some(Duration::ZERO),
            (false, Some(at)) => Some(at),
        };
        if self.tcp.has_ready() || self.udp.has_ready() {
            return Some(Duration::ZERO);
        }
        let deadlines = [self.tcp.deadline(), self.udp.deadline(), accept_at];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn turn(&mut self, context: &Context<'_>, events: &Events) -> Flow {
        for event in events {
            match Subject::of(event.token()) {
                Some(Subject::Client(key)) => self.tcp.event(context, key, Side::Client, event),
                Some(Subject::Endpoint(key)) => self.tcp.event(context, key, Side::Endpoint, event),
                Some(Subject::Listener(key)) => self.queue(key),
                Some(Subject::UdpListener(key)) => self.udp.listener_event(context, key),
                Some(Subject::Flow(key)) => self.udp.flow_event(context, key),
                Some(Subject::Mailbox) if self.read_mail(context) == Flow::Stop => {
                    return Flow::Stop;
                }
                Some(Subject::Mailbox) => {}
                None => {}
            }
        }
        self.tcp.run_ready(context);
        self.udp.run_ready(context);
        self.accept(context);
        self.tcp.expire(context);
        self.udp.expire(context);
        self.tcp.flush_counters();
        self.udp.flush(context);
        self.check_files(context);
        Flow::Continue
    }

    fn read_mail(&mut self, context: &Context<'_>) -> Flow {
        for message in context.shared.receive(context.worker) {
            match message {
                Message::Changes(changes) => {
                    changes
                        .iter()
                        .for_each(|change| self.change(context, change));
                }
                Message::Accepted(accepted) => self.tcp.begin(context, accepted),
                Message::StopAccepting => {
                    self.listeners.close_all(context.registry);
                    self.udp.close_all(context);
                }
                Message::Shutdown => return Flow::Stop,
            }
        }
        Flow::Continue
    }

    fn change(&mut self, context: &Context<'_>, change: &Change) {
        match change {
            Change::Open {
                id,
                protocol,
                addr,
                socket,
                frontend,
            } => {
                let (socket, frontend) = (Arc::clone(socket), Arc::clone(frontend));
                let opened = match protocol {
                    Protocol::Tcp => self.listeners.open(context.registry, *id, socket, frontend),
                    Protocol::Udp => self.udp.open(context, *id, *addr, socket, frontend),
                    Protocol::Sctp => Err(io::Error::other("SCTP is not served")),
                };
                if let Err(error) = opened {
                    log::error!("cannot serve {protocol} {addr}: {error}");
                }
            }
            Change::Replace { id, frontend } => {
                self.listeners.replace(*id, frontend);
                self.udp.replace(context, *id, frontend);
            }
            Change::Close { id } => {
                self.listeners.close(context.registry, *id);
                self.udp.close(context, *id);
            }
            // Shared::note has taken it.
            Change::HostAddresses(_) => {}
        }
    }

    /// Accepts from this listener at the end of the turn.
    fn queue(&mut self, key: Key) {
        if let Some(listener) = self.listeners.get_mut(key) {
            if !listener.queued {
                listener.queued = true;
                self.accepting.push_back(key);
            }
        }
    }

    fn accept(&mut self, context: &Context<'_>) {
        if self.shortage.is_on(context.now) {
            return;
        }
        self.shortage.end_pause(context.now);
        for _ in 0..self.accepting.len() {
            let Some(key) = self.accepting.pop_front() else {
                return;
            };
            if self.accept_batch(context, key) {
                self.accepting.push_back(key);
            } else if let Some(listener) = self.listeners.get_mut(key) {
                listener.queued = false;
            }
        }
    }

    /// True if more clients may be waiting.
    fn accept_batch(&mut self, context: &Context<'_>, key: Key) -> bool {
        for _ in 0..ACCEPT_BATCH {
            let Some(listener) = self.listeners.get_mut(key) else {
                return false;
            };
            match listener.accept() {
                Next::Client(socket, client) => {
                    let frontend = Arc::clone(&listener.frontend);
                    self.shortage.relax();
                    context.shared.files_suffice(context.now);
                    self.admit(context, socket, client, frontend);
                    if self.check_files(context) {
                        return true;
                    }
                }
                Next::Nobody => return false,
                Next::Gone => {}
                Next::Failed(error) if Shortage::is(error) => {
                    self.run_short(context, &error.into());
                    return true;
                }
                Next::Failed(error) => {
                    let name = &listener.frontend.route.name;
                    log::error!("{name}: cannot accept from a listener: {error}");
                    return false;
                }
            }
        }
        true
    }

    /// Begins a client's session here or, if this worker has more than its share, at the least busy one.
    fn admit(
        &mut self,
        context: &Context<'_>,
        socket: OwnedFd,
        client: SocketAddr,
        frontend: Arc<Frontend>,
    ) {
        frontend.route.counters.accepted.add(1);
        let accepted = Accepted {
            socket,
            client,
            frontend,
            at: context.now,
        };
        let (other, fewer) = context.shared.least_loaded(context.worker);
        if fewer >= IMBALANCE {
            context.shared.session_began(other);
            context.shared.send(other, Message::Accepted(accepted));
        } else {
            context.shared.session_began(context.worker);
            self.tcp.begin(context, accepted);
        }
    }

    /// True if a client that was accepted waits for a file: others wait outside.
    fn check_files(&mut self, context: &Context<'_>) -> bool {
        let error = self.tcp.take_out_of_files();
        if let Some(error) = &error {
            self.run_short(context, error);
        }
        error.is_some()
    }

    fn run_short(&mut self, context: &Context<'_>, error: &io::Error) {
        self.shortage.begin(context.now);
        context.shared.files_ran_out(context.now, error);
    }
}
