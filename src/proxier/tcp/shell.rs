//! The sockets of all sessions of one worker: hands events to [`Session`], does what it answers.

use std::collections::{HashSet, VecDeque};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mio::event::Event;
use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use super::contract::{End, Input, Output, Patience, Readiness, Reason, Side};
use super::dial::{self, Dialled, Dialling, INTERESTS};
use super::relay::{self, BrokenEnd, Held, Moved};
use super::session::Session;
use crate::proxier::buffers::Buffers;
use crate::proxier::files::{Files, PER_CONNECTION};
use crate::proxier::mail::Accepted;
use crate::proxier::outbound;
use crate::proxier::slab::{Slab, SlabKey};
use crate::proxier::subject::Subject;
use crate::proxier::tally::Tally;
use crate::proxier::timers::Timers;
use crate::proxier::turn::Turn;
use crate::routing::{Cause, Pick};
use crate::types::counters::ServiceCounters;

/// Most connections are over before keepalive could matter: its system calls wait until one has lasted this long.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);

/// How long an endpoint may leave bytes unacknowledged, or have no room for any: by default the kernel waits for a quarter of
/// an hour, or for ever.
const USER_TIMEOUT: Duration = Duration::from_secs(600);

/// All sessions of one worker.
#[derive(Debug)]
pub(crate) struct Tcp {
    patience: Patience,
    keepalive: TcpKeepalive,
    sessions: Slab<TcpSession>,
    timers: Timers<SlabKey>,
    buffers: Buffers,
    tally: Tally,
    /// Sessions that have more to do than their share of one turn.
    ready: VecDeque<SlabKey>,
    /// When to set keepalive on the sockets that lack it.
    keepalive_due: Option<Instant>,
    out_of_files: Option<std::io::Error>,
    /// Sessions whose end somebody waits for, and what that is told by: it goes with the last of them.
    awaited: HashSet<SlabKey>,
    mark: Option<Arc<Sender<()>>>,
    /// Those that have been told the end, and may not have acknowledged it.
    leaving: Vec<TcpStream>,
}

/// A session with its sockets.
#[derive(Debug)]
struct TcpSession {
    state: Session,
    client: TcpStream,
    endpoint: Option<TcpStream>,
    /// Indexed by the side that the bytes came from.
    held: [Held; 2],
    destination: Destination,
    /// The deadline that `timers` holds for this session.
    armed: Option<Instant>,
    keepalive_set: bool,
}

/// Where a client goes.
#[derive(Debug)]
enum Destination {
    /// An endpoint is being looked for.
    Sought(Box<Dialling>),
    /// It is connected.
    Found(Pick),
}

impl Tcp {
    /// No sessions yet.
    pub(crate) fn new(patience: Patience, keepalive: Duration, files: &Arc<Files>) -> Self {
        let keepalive = TcpKeepalive::new()
            .with_time(keepalive)
            .with_interval(Duration::from_secs(15))
            .with_retries(4);
        Self {
            patience,
            keepalive,
            sessions: Slab::default(),
            timers: Timers::default(),
            buffers: Buffers::new(files),
            tally: Tally::default(),
            ready: VecDeque::new(),
            keepalive_due: None,
            out_of_files: None,
            awaited: HashSet::new(),
            mark: None,
            leaving: Vec::new(),
        }
    }

    /// Keeps a mark until the last of the sessions that there are now has ended.
    pub(crate) fn mark(&mut self, mark: Arc<Sender<()>>) {
        self.awaited = self.sessions.iter_mut().map(|(key, _)| key).collect();
        self.mark = (!self.awaited.is_empty()).then_some(mark);
    }

    /// Ends every session. Where all that was read has been passed on, both sides hear that this is the end; else, that it
    /// is not the proper one.
    pub(crate) fn hang_up(&mut self, turn: &Turn<'_>) {
        let keys: Vec<SlabKey> = self.sessions.iter_mut().map(|(key, _)| key).collect();
        for key in keys {
            let Some(session) = self.sessions.remove(key) else {
                continue;
            };
            let whole = session
                .held
                .iter()
                .all(|held| matches!(held, Held::Nothing));
            let endpoint = session.endpoint.as_ref();
            let told = whole && endpoint.is_some_and(|endpoint| say_end(&session.client, endpoint));
            let leaving = match told {
                true => session.leave(turn),
                false => {
                    // To the endpoint it is as if the client had gone, and to the client the other way round.
                    session.close(turn, End::Reset(Reason::Peer(Side::Client)));
                    Vec::new()
                }
            };
            self.leaving.extend(leaving);
        }
        self.awaited.clear();
        self.mark = None;
        self.tally.flush();
    }

    /// Begins a session; its worker's load was counted when the client was accepted.
    pub(crate) fn begin(&mut self, turn: &Turn<'_>, accepted: Accepted) {
        accepted.frontend.route.counters.active.inc();
        let client = TcpStream::from_std(accepted.socket.into());
        let dialling = Dialling::new(accepted.frontend, accepted.client, accepted.at);
        let session = TcpSession {
            state: Session::new(),
            client,
            endpoint: None,
            held: Default::default(),
            destination: Destination::Sought(Box::new(dialling)),
            armed: None,
            keepalive_set: false,
        };
        let key = match self.sessions.insert(session) {
            Ok(key) => key,
            Err(session) => return session.close(turn, UNREACHABLE),
        };
        let token = Subject::Client(key).token();
        if let Some(session) = self.sessions.get_mut(key) {
            let client = &mut session.client;
            if let Err(error) = turn.registry.register(client, token, INTERESTS) {
                log::debug!("cannot watch a client's socket: {error}");
                return self.finish(turn, key, UNREACHABLE);
            }
        }
        self.drive(turn, key, Input::Accepted);
    }

    /// Epoll spoke of one of a session's sockets.
    pub(crate) fn event(&mut self, turn: &Turn<'_>, key: SlabKey, side: Side, event: &Event) {
        let ready = Readiness {
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
            failed: event.is_error(),
            urgent: event.is_priority(),
        };
        self.drive(turn, key, Input::Ready(side, ready));
    }

    /// Gives each session that yielded its next turn.
    pub(crate) fn run_ready(&mut self, turn: &Turn<'_>) {
        for _ in 0..self.ready.len() {
            if let Some(key) = self.ready.pop_front() {
                self.drive(turn, key, Input::Resumed);
            }
        }
    }

    /// Some sessions wait for their turn, not for an event.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When [`Tcp::expire`] has something to do.
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        let sessions = &self.sessions;
        let next = self.timers.next(|key, at| is_armed(sessions, key, at));
        [next, self.keepalive_due].into_iter().flatten().min()
    }

    /// Acts on every deadline that has passed.
    pub(crate) fn expire(&mut self, turn: &Turn<'_>) {
        loop {
            let sessions = &self.sessions;
            let live = |key, at| is_armed(sessions, key, at);
            let Some((key, _)) = self.timers.pop_expired(turn.now, live) else {
                break;
            };
            if let Some(session) = self.sessions.get_mut(key) {
                session.armed = None;
            }
            self.drive(turn, key, Input::TimedOut);
        }
        if self.keepalive_due.take_if(|due| *due <= turn.now).is_some() {
            self.set_keepalive();
        }
    }

    /// Brings counters up to date.
    pub(crate) fn flush_counters(&mut self) {
        self.tally.flush();
    }

    /// Files ran out since this was last asked.
    pub(crate) fn take_out_of_files(&mut self) -> Option<std::io::Error> {
        self.out_of_files.take()
    }

    /// Steps a session until it waits, and does what it says in between.
    fn drive(&mut self, turn: &Turn<'_>, key: SlabKey, mut input: Input) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        loop {
            let output = session.state.step(&self.patience, turn.now, input);
            input = match output {
                Output::Wait => break,
                Output::Yield => {
                    self.ready.push_back(key);
                    break;
                }
                Output::End(end) => return self.finish(turn, key, end),
                Output::Connect => {
                    let out_of_files = &mut self.out_of_files;
                    session.connect(turn, key, out_of_files)
                }
                Output::Diagnose => session.diagnose(turn),
                Output::Abandon => session.attempt_failed(turn, Cause::TimedOut),
                Output::Settle { has_data } => {
                    session.settle(turn.now, has_data);
                    let due = turn.now + KEEPALIVE_AFTER;
                    self.keepalive_due.get_or_insert(due);
                    Input::Done
                }
                Output::Relay { from, bulk, last } => {
                    let hints = RelayHints { bulk, last };
                    session.relay(from, hints, &mut self.buffers, &mut self.tally)
                }
                Output::Flush { from } => session.flush(from, &mut self.buffers),
                Output::ShutDown(side) => session.shut_down(side),
                Output::AskUnsent(side) => Input::Unsent(session.is_unsent(side)),
            };
        }
        let deadline = session.state.deadline();
        let armed = std::mem::replace(&mut session.armed, deadline);
        if armed != deadline {
            if armed.is_some() {
                let sessions = &self.sessions;
                self.timers.abandon(|key, at| is_armed(sessions, key, at));
            }
            if let Some(deadline) = deadline {
                self.timers.arm(deadline, key);
            }
        }
    }

    fn finish(&mut self, turn: &Turn<'_>, key: SlabKey, end: End) {
        let Some(session) = self.sessions.remove(key) else {
            return;
        };
        if session.armed.is_some() {
            let sessions = &self.sessions;
            self.timers.abandon(|key, at| is_armed(sessions, key, at));
        }
        if self.awaited.remove(&key) && self.awaited.is_empty() {
            self.mark = None;
        }
        // Once a connection is seen to have ended, its bytes are seen too.
        self.tally.flush();
        session.close(turn, end);
    }

    fn set_keepalive(&mut self) {
        for (_, session) in self.sessions.iter_mut() {
            let Some(endpoint) = &session.endpoint else {
                continue;
            };
            let found = matches!(session.destination, Destination::Found(_));
            if found && !session.keepalive_set {
                session.keepalive_set = true;
                // They fail on a connection that is gone already.
                let _ = SockRef::from(endpoint).set_tcp_keepalive(&self.keepalive);
                let _ = SockRef::from(endpoint).set_tcp_user_timeout(Some(USER_TIMEOUT));
            }
        }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        // Who has acknowledged the end has nothing left to read here.
        self.leaving.iter().for_each(relay::reset_on_close);
    }
}

/// Tells both sides that nothing more comes; false if one of them cannot be told so.
fn say_end(client: &TcpStream, endpoint: &TcpStream) -> bool {
    let told = [client, endpoint].map(|socket| socket.shutdown(Shutdown::Write));
    told.into_iter().all(|told| match told {
        Ok(()) => true,
        // It has been told before, or is gone.
        Err(error) => error.kind() == std::io::ErrorKind::NotConnected,
    })
}

/// How to relay; see [`Output::Relay`].
struct RelayHints {
    bulk: bool,
    last: bool,
}

const UNREACHABLE: End = End::Reset(Reason::Unreachable);

fn is_armed(sessions: &Slab<TcpSession>, key: SlabKey, at: Instant) -> bool {
    sessions.get(key).is_some_and(|c| c.armed == Some(at))
}

impl Destination {
    /// Those of the client's ServicePort.
    fn counters(&self) -> &Arc<ServiceCounters> {
        match self {
            Self::Sought(dialling) => &dialling.frontend.route.counters,
            Self::Found(pick) => pick.counters(),
        }
    }
}

impl TcpSession {
    fn connect(
        &mut self,
        turn: &Turn<'_>,
        key: SlabKey,
        out_of_files: &mut Option<std::io::Error>,
    ) -> Input {
        let Destination::Sought(dialling) = &mut self.destination else {
            return Input::NoEndpoint;
        };
        match dialling.dial(turn, key, &self.client) {
            Dialled::Attempting(stream) => {
                self.endpoint = Some(stream);
                Input::Attempting
            }
            Dialled::OutOfFiles(error) => {
                *out_of_files = Some(error);
                Input::Postponed
            }
            Dialled::Failed => Input::AttemptFailed,
            Dialled::NoEndpoint => Input::NoEndpoint,
        }
    }

    fn diagnose(&mut self, turn: &Turn<'_>) -> Input {
        let error = self.endpoint.as_ref().map(TcpStream::take_error);
        match error {
            Some(Ok(Some(error)) | Err(error)) => {
                self.attempt_failed(turn, outbound::cause_of(&error))
            }
            Some(Ok(None)) => Input::Attempting,
            None => self.attempt_failed(turn, Cause::Unreachable),
        }
    }

    fn attempt_failed(&mut self, turn: &Turn<'_>, cause: Cause) -> Input {
        self.endpoint = None;
        if let Destination::Sought(dialling) = &mut self.destination {
            dialling.failed(turn, cause);
        }
        Input::AttemptFailed
    }

    fn settle(&mut self, now: Instant, has_data: bool) {
        if let Destination::Sought(dialling) = &mut self.destination {
            if let Some(pick) = dialling.connected(now) {
                self.destination = Destination::Found(pick);
            }
        }
        if let Some(endpoint) = self.endpoint.as_ref().filter(|_| !has_data) {
            dial::acknowledge(endpoint);
        }
    }

    fn relay(
        &mut self,
        from: Side,
        hints: RelayHints,
        buffers: &mut Buffers,
        tally: &mut Tally,
    ) -> Input {
        let Some(endpoint) = &self.endpoint else {
            return Input::ReadFailed(from);
        };
        let (source, sink) = match from {
            Side::Client => (&self.client, endpoint),
            Side::Endpoint => (endpoint, &self.client),
        };
        let held = &mut self.held[from as usize];
        let piped = if hints.bulk {
            relay::pipe(source, sink, buffers, held)
        } else {
            None
        };
        let moved = piped.unwrap_or_else(|| relay::copy(source, sink, hints.last, buffers, held));
        match moved {
            Ok(Moved { got, read, held }) => {
                let counters = self.destination.counters();
                match from {
                    Side::Client => tally.received(counters, read),
                    Side::Endpoint => tally.sent(counters, read),
                }
                Input::Relayed { from, got, held }
            }
            Err(BrokenEnd::Source) => Input::ReadFailed(from),
            Err(BrokenEnd::Sink) => Input::WriteFailed(from.other()),
        }
    }

    fn flush(&mut self, from: Side, buffers: &mut Buffers) -> Input {
        let to = from.other();
        let sink = match to {
            Side::Client => &self.client,
            Side::Endpoint => match &self.endpoint {
                Some(endpoint) => endpoint,
                None => return Input::WriteFailed(to),
            },
        };
        match relay::flush(sink, buffers, &mut self.held[from as usize]) {
            Ok(held) => Input::Flushed { from, held },
            Err(_) => Input::WriteFailed(to),
        }
    }

    fn shut_down(&mut self, side: Side) -> Input {
        let socket = match side {
            Side::Client => Some(&self.client),
            Side::Endpoint => self.endpoint.as_ref(),
        };
        match socket.map(|socket| socket.shutdown(Shutdown::Write)) {
            Some(Ok(())) => Input::Done,
            // It was reset just now.
            Some(Err(_)) | None => Input::WriteFailed(side),
        }
    }

    fn is_unsent(&self, side: Side) -> bool {
        match side {
            Side::Client => relay::is_unsent(&self.client),
            Side::Endpoint => self.endpoint.as_ref().is_some_and(relay::is_unsent),
        }
    }

    /// Its sockets, for as long as it takes to see that the end has arrived.
    fn leave(self, turn: &Turn<'_>) -> Vec<TcpStream> {
        self.destination.counters().active.dec();
        turn.shared.loads.session_ended(turn.worker);
        [Some(self.client), self.endpoint]
            .into_iter()
            .flatten()
            .collect()
    }

    fn close(self, turn: &Turn<'_>, end: End) {
        if let End::Reset(reason) = end {
            relay::reset_on_close(&self.client);
            if let Some(endpoint) = &self.endpoint {
                relay::reset_on_close(endpoint);
            }
            if reason == Reason::Unreachable {
                self.destination.counters().failed.add(1);
            }
        }
        self.destination.counters().active.dec();
        turn.shared.files.give(PER_CONNECTION);
        turn.shared.loads.session_ended(turn.worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        let size = std::mem::size_of::<TcpSession>();
        assert!(size <= 256, "{size} bytes");
    }
}
