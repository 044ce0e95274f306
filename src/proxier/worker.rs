//! One event loop.
//!
//! A turn: wait for events, act on each, act on deadlines, give a turn to each session and listener that has more to do
//! than its share. Nothing here blocks but the wait, and the wait ends only for an event or a deadline.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::change::ListenerChange;
use super::config::ProxierConfig;
use super::files::{Files, PER_CONNECTION};
use super::mail::{Accepted, Mail};
use super::shared::Shared;
use super::shortage::{Pause, is_shortage};
use super::slab::SlabKey;
use super::subject::Subject;
use super::tcp::{Next, Patience, Side, Tcp, TcpListeners};
use super::turn::Turn;
use super::udp::{self, Udp};
use crate::routing::Frontend;
use crate::types::Protocol;

/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// Clients accepted from one listener in one turn: those already here are not kept waiting, and other workers get some.
const ACCEPT_BATCH: usize = 8;
/// What a reset connection has said before it was has so long to reach the other side.
const LAST_BYTES: Duration = Duration::from_secs(60);
/// How many sessions more than the least busy worker one may have before it hands a new client over.
const IMBALANCE: usize = 2;

/// One thread's state.
pub(crate) struct Worker {
    listeners: TcpListeners,
    /// Listeners that may have more clients waiting.
    accepting: VecDeque<SlabKey>,
    /// Those that have, and no files for them; all through the pause.
    waiting: Vec<SlabKey>,
    pause: Pause,
    tcp: Tcp,
    udp: Udp,
}

/// What is known of a listener's clients that are not accepted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backlog {
    /// There are none.
    Empty,
    /// There may be some.
    Unknown,
    /// There may be some, and they have to wait for files.
    Waits,
}

impl Worker {
    /// A worker that has nothing to do yet.
    pub(crate) fn new(config: &ProxierConfig, max_flows: usize, files: &Arc<Files>) -> Self {
        let tcp = Patience {
            ladder: config.connect_ladder.clone(),
            half_close: config.half_close_timeout,
            last_bytes: LAST_BYTES,
        };
        let udp = udp::FlowLimits {
            max_flows,
            timeout: config.udp_timeout,
            stream_timeout: config.udp_stream_timeout,
        };
        Self {
            listeners: TcpListeners::default(),
            accepting: VecDeque::new(),
            waiting: Vec::new(),
            pause: Pause::default(),
            tcp: Tcp::new(tcp, config.keepalive, files),
            udp: Udp::new(udp, files),
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
            let turn = Turn {
                worker: index,
                registry: poll.registry(),
                shared,
                now: Instant::now(),
            };
            if self.act(&turn, &events) == ControlFlow::Break(()) {
                return;
            }
        }
    }

    /// How long nothing will happen without an event.
    fn timeout(&mut self) -> Option<Duration> {
        let accept_at = self.pause.until().filter(|_| !self.waiting.is_empty());
        if !self.accepting.is_empty() || self.tcp.has_ready() || self.udp.has_ready() {
            return Some(Duration::ZERO);
        }
        let deadlines = [self.tcp.deadline(), self.udp.deadline(), accept_at];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn act(&mut self, turn: &Turn<'_>, events: &Events) -> ControlFlow<()> {
        for event in events {
            match Subject::of(event.token()) {
                Some(Subject::Client(key)) => self.tcp.event(turn, key, Side::Client, event),
                Some(Subject::Endpoint(key)) => self.tcp.event(turn, key, Side::Endpoint, event),
                Some(Subject::TcpListener(key)) => self.queue(key),
                Some(Subject::UdpListener(key)) => self.udp.listener_event(turn, key),
                Some(Subject::Flow(key)) => self.udp.flow_event(turn, key),
                Some(Subject::Mailbox) if self.read_mail(turn) == ControlFlow::Break(()) => {
                    return ControlFlow::Break(());
                }
                Some(Subject::Mailbox) => {}
                None => {}
            }
        }
        self.tcp.run_ready(turn);
        self.udp.run_ready(turn);
        self.accept(turn);
        self.tcp.expire(turn);
        self.udp.expire(turn);
        self.tcp.flush_counters();
        self.udp.flush(turn);
        self.check_files(turn);
        ControlFlow::Continue(())
    }

    fn read_mail(&mut self, turn: &Turn<'_>) -> ControlFlow<()> {
        for mail in turn.shared.receive(turn.worker) {
            match mail {
                Mail::Changes(changes) => {
                    changes.iter().for_each(|change| self.change(turn, change));
                }
                Mail::Accepted(accepted) => self.tcp.begin(turn, accepted),
                Mail::StopAccepting => {
                    self.listeners.close_all(turn.registry);
                    self.udp.close_all(turn);
                }
                Mail::Mark(mark) => self.tcp.mark(mark),
                Mail::HangUp => self.tcp.hang_up(turn),
                Mail::Shutdown => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }

    fn change(&mut self, turn: &Turn<'_>, change: &ListenerChange) {
        match change {
            ListenerChange::Open {
                id,
                protocol,
                addr,
                socket,
                frontend,
            } => {
                let (socket, frontend) = (Arc::clone(socket), Arc::clone(frontend));
                let opened = match protocol {
                    Protocol::Tcp => self.listeners.open(turn.registry, *id, socket, frontend),
                    Protocol::Udp => self.udp.open(turn, *id, *addr, socket, frontend),
                    Protocol::Sctp => Err(io::Error::other("SCTP is not served")),
                };
                if let Err(error) = opened {
                    log::error!("cannot serve {protocol} {addr}: {error}");
                }
            }
            ListenerChange::Replace { id, frontend } => {
                self.listeners.replace(*id, frontend);
                self.udp.replace(turn, *id, frontend);
            }
            ListenerChange::Close { id } => {
                self.listeners.close(turn.registry, *id);
                self.udp.close(turn, *id);
            }
        }
    }

    /// Accepts from this listener at the end of the turn.
    fn queue(&mut self, key: SlabKey) {
        if let Some(listener) = self.listeners.get_mut(key) {
            if !listener.queued {
                listener.queued = true;
                self.accepting.push_back(key);
            }
        }
    }

    fn accept(&mut self, turn: &Turn<'_>) {
        if !self.pause.is_on(turn.now) {
            self.pause.end(turn.now);
            self.accepting.extend(self.waiting.drain(..));
        }
        for _ in 0..self.accepting.len() {
            let Some(key) = self.accepting.pop_front() else {
                return;
            };
            match self.accept_batch(turn, key) {
                Backlog::Unknown => self.accepting.push_back(key),
                Backlog::Waits => self.waiting.push(key),
                Backlog::Empty => {
                    if let Some(listener) = self.listeners.get_mut(key) {
                        listener.queued = false;
                    }
                }
            }
        }
    }

    fn accept_batch(&mut self, turn: &Turn<'_>, key: SlabKey) -> Backlog {
        let files = &turn.shared.files;
        for _ in 0..ACCEPT_BATCH {
            let Some(listener) = self.listeners.get_mut(key) else {
                return Backlog::Empty;
            };
            if !files.admits(listener.frontend.route.counters.active.get()) {
                let (held, budget) = (files.held(), files.budget());
                let why = format!("{held} of {budget} for traffic are in use");
                self.run_short(turn, &why);
                return Backlog::Waits;
            }
            match listener.accept() {
                Next::Client(socket, client) => {
                    let frontend = Arc::clone(&listener.frontend);
                    self.pause.relax();
                    turn.shared.shortage.suffice(turn.now);
                    self.admit(turn, socket, client, frontend);
                    if self.check_files(turn) {
                        return Backlog::Waits;
                    }
                }
                Next::Nobody => return Backlog::Empty,
                Next::Gone => {}
                Next::Failed(error) if is_shortage(&error) => {
                    self.run_short(turn, &error);
                    return Backlog::Waits;
                }
                Next::Failed(error) => {
                    let name = &listener.frontend.route.name;
                    log::error!("{name}: cannot accept from a listener: {error}");
                    return Backlog::Empty;
                }
            }
        }
        Backlog::Unknown
    }

    /// Begins a client's session here or, if this worker has more than its share, at the least busy one.
    fn admit(
        &mut self,
        turn: &Turn<'_>,
        socket: OwnedFd,
        client: SocketAddr,
        frontend: Arc<Frontend>,
    ) {
        frontend.route.counters.accepted.add(1);
        turn.shared.files.take(PER_CONNECTION);
        let accepted = Accepted {
            socket,
            client,
            frontend,
            at: turn.now,
        };
        let (other, fewer) = turn.shared.loads.least_loaded(turn.worker);
        if fewer >= IMBALANCE {
            turn.shared.loads.session_began(other);
            turn.shared.send(other, Mail::Accepted(accepted));
        } else {
            turn.shared.loads.session_began(turn.worker);
            self.tcp.begin(turn, accepted);
        }
    }

    /// True if a client that was accepted waits for a file: others wait outside.
    fn check_files(&mut self, turn: &Turn<'_>) -> bool {
        let error = self.tcp.take_out_of_files();
        if let Some(error) = &error {
            self.run_short(turn, error);
        }
        error.is_some()
    }

    fn run_short(&mut self, turn: &Turn<'_>, why: &dyn fmt::Display) {
        self.pause.begin(turn.now);
        turn.shared.shortage.ran_out(turn.now, why);
    }
}
