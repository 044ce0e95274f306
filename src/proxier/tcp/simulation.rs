//! Seeded simulation of [`Session`] between two sockets of a pretended kernel: edge-triggered events, short writes, early ends,
//! resets and urgent data in every order, against what the two peers have said and heard.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::contract::{End, Got, Input, Output, Patience, Readiness, Reason, Side};
use super::session::Session;
use crate::proxier::rng::{Rng, seeds};

const SIDES: [Side; 2] = [Side::Client, Side::Endpoint];
/// What one read takes; small, so that full reads are common.
const ROOM: usize = 8;
const HALF_CLOSE: Duration = Duration::from_secs(60);

/// A connected socket as the kernel keeps it, and its peer.
#[derive(Debug, Default)]
struct Socket {
    /// From the peer, unread.
    inbox: VecDeque<u8>,
    /// Reads stop here: what is left before the mark.
    urgent: Option<usize>,
    fin: bool,
    reset: bool,
    /// The reset has not been reported by a call yet.
    error: bool,
    room: usize,
    was_full: bool,
    edge: bool,
    /// What the peer has said and heard.
    said: Vec<u8>,
    heard: Vec<u8>,
    unread: usize,
    heard_fin: bool,
    /// A read may find nothing, for the last one did not show the bottom.
    unsure: bool,
    /// Urgent data was reported since a read found nothing.
    was_urgent: bool,
    /// What was written last waits for more.
    corked: bool,
}

impl Socket {
    fn peer_says(&mut self, rng: &mut Rng) {
        if self.fin || self.reset {
            return;
        }
        for _ in 0..1 + rng.below(40) {
            let byte = rng.below(256) as u8;
            self.said.push(byte);
            self.inbox.push_back(byte);
        }
        if rng.one_in(8) {
            self.urgent = Some(rng.below(self.inbox.len()));
        }
        self.edge = true;
    }

    fn peer_ends(&mut self) {
        self.edge |= !self.fin && !self.reset;
        self.fin |= !self.reset;
    }

    fn peer_resets(&mut self) {
        if !self.reset {
            (self.reset, self.error, self.edge) = (true, true, true);
        }
    }

    fn peer_reads(&mut self, n: usize) {
        let n = n.min(self.unread);
        self.unread -= n;
        self.room += n;
        // Like sk_stream_write_space: only a writer that met a full buffer is woken.
        if self.was_full && self.room > 0 {
            (self.was_full, self.edge) = (false, true);
        }
    }

    fn readiness(&self) -> Readiness {
        Readiness {
            readable: !self.inbox.is_empty() || self.fin || self.reset,
            writable: self.room > 0 || self.reset,
            read_closed: self.fin || self.reset,
            failed: self.error,
            urgent: self.urgent.is_some(),
        }
    }

    /// Up to `room` bytes, none at the end of them.
    fn read(&mut self, room: usize) -> Result<Option<Vec<u8>>, ()> {
        if self.inbox.is_empty() {
            if std::mem::take(&mut self.error) {
                return Err(());
            }
            return Ok((self.fin || self.reset).then(Vec::new));
        }
        let mut n = room.min(self.inbox.len());
        if let Some(mark) = self.urgent {
            n = n.min(mark.max(1));
            self.urgent = (mark > n).then(|| mark - n);
        }
        Ok(Some(self.inbox.drain(..n).collect()))
    }

    fn write(&mut self, bytes: &[u8], more: bool) -> Result<usize, ()> {
        assert!(!self.heard_fin, "written after the end");
        self.corked = more;
        if self.reset {
            self.error = false;
            return Err(());
        }
        let n = bytes.len().min(self.room);
        self.room -= n;
        self.unread += n;
        self.heard.extend_from_slice(&bytes[..n]);
        self.was_full |= n < bytes.len();
        Ok(n)
    }
}

/// What an attempt to connect will come to.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    Connects,
    Fails,
    Silence,
}

struct World {
    patience: Patience,
    now: Instant,
    session: Session,
    sockets: [Socket; 2],
    held: [Vec<u8>; 2],
    queued: bool,
    attempts: usize,
    connected: bool,
    delivering: bool,
    fate: Option<Attempt>,
    end: Option<End>,
    last_moved: Instant,
}

impl World {
    fn new(rng: &mut Rng) -> Self {
        let now = Instant::now();
        let patience = Patience {
            ladder: [250, 500, 1000, 2000].map(Duration::from_millis).into(),
            half_close: HALF_CLOSE,
            last_bytes: HALF_CLOSE,
        };
        let socket = |rng: &mut Rng| Socket {
            room: 1 + rng.below(30),
            ..Socket::default()
        };
        Self {
            patience,
            now,
            session: Session::new(),
            sockets: [socket(rng), socket(rng)],
            held: Default::default(),
            queued: false,
            attempts: 0,
            connected: false,
            delivering: false,
            fate: None,
            end: None,
            last_moved: now,
        }
    }

    fn drive(&mut self, rng: &mut Rng, mut input: Input) {
        for _ in 0..200 {
            let action = self.session.step(&self.patience, self.now, input);
            input = match action {
                Output::Wait => return,
                Output::Yield => {
                    assert!(!self.queued, "queued twice");
                    self.queued = true;
                    return;
                }
                Output::End(end) => {
                    self.end = Some(end);
                    return;
                }
                Output::Connect => self.connect(rng),
                Output::Diagnose | Output::Abandon => {
                    self.fate = None;
                    Input::AttemptFailed
                }
                Output::Settle { .. } => {
                    self.connected = true;
                    self.last_moved = self.now;
                    Input::Done
                }
                Output::Relay { from, bulk, last } => self.relay(from, bulk, last),
                Output::Flush { from } => self.flush(from),
                Output::ShutDown(side) => self.shut_down(side),
                Output::AskUnsent(side) => {
                    self.delivering = true;
                    let socket = &self.sockets[side as usize];
                    Input::Unsent(socket.unread > 0 && !socket.reset)
                }
            };
        }
        panic!("does not come to rest: {:?}", self.session);
    }

    fn connect(&mut self, rng: &mut Rng) -> Input {
        self.attempts += 1;
        assert!(self.attempts <= 16);
        let fate = match rng.below(11) {
            10 => {
                self.attempts -= 1;
                return Input::Postponed;
            }
            0 => return Input::NoEndpoint,
            1 => return Input::AttemptFailed,
            2 => Attempt::Silence,
            3 => Attempt::Fails,
            _ => Attempt::Connects,
        };
        self.fate = Some(fate);
        Input::Attempting
    }

    fn relay(&mut self, from: Side, bulk: bool, last: bool) -> Input {
        assert!(self.held[from as usize].is_empty(), "read without room");
        let room = if bulk { 4 * ROOM } else { ROOM };
        let source = &mut self.sockets[from as usize];
        let bytes = match source.read(room) {
            Err(()) => return Input::ReadFailed(from),
            Ok(None) => {
                assert!(source.unsure, "a read for nothing: {:?}", self.session);
                (source.unsure, source.was_urgent) = (false, false);
                let (got, held) = (Got::Nothing, false);
                return Input::Relayed { from, got, held };
            }
            Ok(Some(bytes)) => bytes,
        };
        let got = match bytes.len() {
            0 => Got::End,
            _ if bulk => Got::Full,
            n if n < room => Got::Part,
            _ => Got::Full,
        };
        source.unsure = got == Got::Full || source.was_urgent || source.reset;
        self.last_moved = self.now;
        let sink = &mut self.sockets[from.other() as usize];
        let Ok(n) = sink.write(&bytes, last && got == Got::Part) else {
            return Input::WriteFailed(from.other());
        };
        self.held[from as usize] = bytes[n..].to_vec();
        let held = n < bytes.len();
        Input::Relayed { from, got, held }
    }

    fn flush(&mut self, from: Side) -> Input {
        let held = &mut self.held[from as usize];
        assert!(!held.is_empty(), "nothing to flush");
        let sink = &mut self.sockets[from.other() as usize];
        assert!(sink.room > 0 || sink.reset, "a write for nothing");
        let Ok(n) = sink.write(held, false) else {
            return Input::WriteFailed(from.other());
        };
        held.drain(..n);
        self.last_moved = self.now;
        let held = !held.is_empty();
        Input::Flushed { from, held }
    }

    fn shut_down(&mut self, side: Side) -> Input {
        let socket = &mut self.sockets[side as usize];
        if socket.reset {
            return Input::WriteFailed(side);
        }
        assert!(!socket.heard_fin, "shut down twice");
        socket.heard_fin = true;
        socket.corked = false;
        Input::Done
    }

    /// What epoll would say next, if anything.
    fn event(&mut self, rng: &mut Rng, side: Side) {
        if self.session.is_connecting() && side == Side::Endpoint {
            let ready = match self.fate {
                Some(Attempt::Connects) => Readiness {
                    writable: true,
                    ..self.sockets[1].readiness()
                },
                Some(Attempt::Fails) => Readiness {
                    failed: true,
                    writable: true,
                    ..Readiness::default()
                },
                Some(Attempt::Silence) | None => return,
            };
            let socket = &mut self.sockets[1];
            (socket.edge, socket.was_urgent) = (false, ready.urgent);
            return self.drive(rng, Input::Ready(side, ready));
        }
        let socket = &mut self.sockets[side as usize];
        if std::mem::take(&mut socket.edge) {
            let ready = socket.readiness();
            socket.was_urgent |= ready.urgent;
            socket.unsure |= ready.urgent;
            self.drive(rng, Input::Ready(side, ready));
        }
    }

    fn pass_time(&mut self, rng: &mut Rng, by: Duration) {
        self.now += by;
        if self.session.deadline().is_some_and(|at| at <= self.now) {
            let connecting = self.session.is_connecting();
            self.drive(rng, Input::TimedOut);
            if self.end == Some(End::Reset(Reason::Silent)) {
                assert!(!connecting);
                assert!(self.now - self.last_moved >= HALF_CLOSE, "too soon");
            }
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        let side = *rng.choose(&SIDES);
        // The endpoint says nothing before it is connected.
        let there = side == Side::Client || !self.session.is_connecting();
        match rng.below(20) {
            0..=4 if there => self.sockets[side as usize].peer_says(rng),
            5 if there && rng.one_in(4) => self.sockets[side as usize].peer_ends(),
            6 if there && rng.one_in(30) => self.sockets[side as usize].peer_resets(),
            7..=10 => {
                let n = rng.below(60);
                self.sockets[side as usize].peer_reads(n);
            }
            11 if std::mem::take(&mut self.queued) => self.drive(rng, Input::Resumed),
            12 => {
                let by = Duration::from_millis(rng.below(800) as u64);
                self.pass_time(rng, by);
            }
            _ => self.event(rng, side),
        }
    }

    /// Lets everything come to rest: peers read all, every event is delivered.
    fn settle(&mut self, rng: &mut Rng) {
        for _ in 0..10_000 {
            if self.end.is_some() {
                return;
            }
            if self.session.is_connecting() {
                self.pass_time(rng, Duration::from_millis(250));
                if self.end.is_some() {
                    return;
                }
            }
            if self.delivering {
                self.pass_time(rng, Duration::from_secs(1));
            }
            for side in SIDES {
                self.sockets[side as usize].peer_reads(usize::MAX);
                if self.end.is_none() {
                    self.event(rng, side);
                }
            }
            if self.end.is_none() && std::mem::take(&mut self.queued) {
                self.drive(rng, Input::Resumed);
            }
            let rest = !self.queued && !self.session.is_connecting() && !self.delivering;
            let full = |s: &Socket| s.edge || s.unread > 0;
            if rest && !self.sockets.iter().any(full) {
                return;
            }
        }
        panic!("does not settle: {:?}", self.session);
    }

    /// Once all is at rest, everything said has been heard, and every end too.
    fn check(&self) {
        let context = || format!("{:?}\n{:?}\n{:?}", self.end, self.session, self.sockets);
        let reset = self.sockets.iter().any(|socket| socket.reset);
        for from in SIDES {
            let (source, sink) = (
                &self.sockets[from as usize],
                &self.sockets[from.other() as usize],
            );
            assert!(source.said.starts_with(&sink.heard), "{}", context());
            let gave_up = matches!(
                self.end,
                Some(End::Reset(Reason::Unreachable | Reason::Silent))
            );
            // What a peer said before it reset the connection still counts.
            let early = gave_up || sink.reset || (reset && !source.reset) || !self.connected;
            if !early {
                assert_eq!(source.said.len(), sink.heard.len(), "{}", context());
            }
            assert!(!sink.heard_fin || source.fin, "{}", context());
            if !reset && self.end.is_none() {
                assert_eq!(source.fin, sink.heard_fin, "{}", context());
            }
        }
        let corked = self.sockets.iter().any(|socket| socket.corked);
        assert!(!corked || self.end.is_some(), "{}", context());
        let fins = self.sockets.iter().all(|socket| socket.fin);
        match self.end {
            None => assert!(!reset && !fins, "{}", context()),
            Some(End::Closed) => assert!(fins, "{}", context()),
            Some(End::Reset(Reason::Peer(side))) => {
                assert!(self.sockets[side as usize].reset, "{}", context());
                // The other side has it all, but for one that takes nothing for too long.
                let other = &self.sockets[side.other() as usize];
                let waited = self.now - self.last_moved >= HALF_CLOSE;
                let all = other.unread == 0 || other.reset || waited || !self.connected;
                assert!(all, "{}", context());
            }
            Some(End::Reset(Reason::Unreachable)) => assert!(self.fate.is_none() || reset),
            Some(End::Reset(Reason::Silent)) => {
                assert!(
                    self.sockets.iter().any(|s| s.fin || s.reset),
                    "{}",
                    context()
                );
            }
        }
    }
}

#[test]
fn simulation_between_two_peers() {
    let ends = [const { std::sync::atomic::AtomicUsize::new(0) }; 5];
    seeds(4096, |mut rng| {
        let mut world = World::new(&mut rng);
        world.drive(&mut rng, Input::Accepted);
        for _ in 0..rng.below(400) {
            if world.end.is_some() {
                break;
            }
            world.step(&mut rng);
        }
        world.settle(&mut rng);
        world.check();
        let kind = match world.end {
            None => 0,
            Some(End::Closed) => 1,
            Some(End::Reset(Reason::Peer(_))) => 2,
            Some(End::Reset(Reason::Unreachable)) => 3,
            Some(End::Reset(Reason::Silent)) => 4,
        };
        ends[kind].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if world.end.is_none() {
            let half_closed = world.sockets.iter().any(|socket| socket.fin);
            assert_eq!(world.session.deadline().is_some(), half_closed);
            world.pass_time(&mut rng, 2 * HALF_CLOSE);
            let silent = Some(End::Reset(Reason::Silent));
            assert_eq!(world.end, silent.filter(|_| half_closed));
        }
    });
    if std::env::var_os("PORTICO_SEED").is_none() {
        let seen = ends.map(|count| count.into_inner());
        assert!(seen[..4].iter().all(|count| *count > 20), "{seen:?}");
    }
}
