//! What happens to one client connection, decided without a socket, a clock or an allocation.
//!
//! ```text
//!              Accepted                 Connected                 both ways shut
//!     client ──────────▶ Connecting ───────────────▶ Relaying ───────────────────▶ Over(Closed)
//!                         │  ▲  │ every endpoint          │ a reset, or silence once half-closed
//!                  failed └──┘  └──────▶ Over(Reset) ◀────┘ Delivering, if it is a reset
//! ```
//!
//! A session has two ways, from the client and from the endpoint, each `Open` until its source has said all
//! (`Ended`), and `Shut` once that was passed on. The caller reports what epoll said and what came of the
//! last [`Output`]; the answer is the next action, until [`Output::Wait`]. Epoll is edge-triggered: a session remembers
//! what a socket is ready for until a system call says otherwise, and it never reads what it has no room for.

use std::time::{Duration, Instant};

use super::contract::{End, Got, Input, Output, Patience, Readiness, Reason, Side};

/// When to try again what was postponed. The client waits for as long as there are no files, as it would in the backlog.
const POSTPONED: Duration = Duration::from_millis(100);
/// Attempts within one client connection, however fast they fail: a Service whose endpoints all refuse must not turn
/// one SYN into a thousand.
const MAX_ATTEMPTS: u8 = 16;
/// Between two looks at what the kernel still has for a side that is to be reset; more each time.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// Reads and writes in one turn; at 64 KiB each, a bulk transfer delays the other sessions by less than a millisecond.
const BUDGET: u8 = 16;
/// Reads in a row that found as much as they had room for, after which a transfer counts as bulk.
const BULK: u8 = 4;

/// One client connection.
#[derive(Debug)]
pub(crate) struct Session {
    phase: SessionPhase,
    legs: [Leg; 2],
    /// Indexed by the side that the bytes come from.
    ways: [Way; 2],
    /// The way that is looked at first; the two take turns.
    first: Side,
    budget: u8,
    yielded: bool,
    deadline: Option<Instant>,
    /// When bytes last moved; kept only while half-closed.
    moved_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionPhase {
    /// On failure: the next attempt, until attempts or steps of the ladder (`timeouts`) run out; then Over.
    Connecting(Search),
    /// On failure of a side: what it has said is passed on, then Delivering.
    Relaying,
    /// This side is lost, and the other shall be reset once the kernel has brought it all that was said: a reset takes away
    /// what is on its way. On failure, or after a while: Over.
    Delivering(Side),
    /// Nothing more happens.
    Over(End),
}

/// How far the search for an endpoint has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Search {
    attempts: u8,
    /// Of them, those that took too long: the step of the ladder.
    timeouts: u8,
    postponed: bool,
}

/// One socket, as far as known.
#[derive(Clone, Copy, Debug, Default)]
struct Leg {
    readable: bool,
    writable: bool,
    /// See [`Readiness::read_closed`].
    ending: bool,
    /// A short read does not mean that there is no more.
    urgent: bool,
    /// See [`Readiness::failed`]. What it said before can still be read; nothing reaches it.
    lost: bool,
}

impl Leg {
    /// A short read leaves nothing but the end.
    fn ends_short(self) -> bool {
        self.ending && !self.urgent && !self.lost
    }
}

/// One direction.
#[derive(Clone, Copy, Debug)]
struct Way {
    course: Course,
    held: bool,
    /// How much the last reads looked like a bulk transfer.
    streak: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// More may come.
    Open,
    /// The source has said all; some may be held yet.
    Ended,
    /// The other side has been told, or cannot be told any more.
    Shut,
}

impl Session {
    /// A session whose first input shall be [`Input::Accepted`].
    pub(crate) fn new() -> Self {
        let way = Way {
            course: Course::Open,
            held: false,
            streak: 0,
        };
        // A new socket has room.
        let client = Leg {
            writable: true,
            ..Leg::default()
        };
        Self {
            phase: SessionPhase::Connecting(Search::default()),
            legs: [client, Leg::default()],
            ways: [way; 2],
            first: Side::Client,
            budget: BUDGET,
            yielded: false,
            deadline: None,
            moved_at: None,
        }
    }

    /// When to report [`Input::TimedOut`], if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// An endpoint is being looked for.
    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.phase, SessionPhase::Connecting(_))
    }

    /// Takes in what happened; says what to do about it.
    pub(crate) fn step(&mut self, patience: &Patience, now: Instant, input: Input) -> Output {
        let action = match self.phase {
            SessionPhase::Connecting(search) => self.connecting(patience, now, search, input),
            SessionPhase::Relaying => self.relaying(patience, now, input),
            SessionPhase::Delivering(lost) => self.delivering(patience, now, lost, input),
            SessionPhase::Over(end) => Output::End(end),
        };
        self.check_invariants();
        action
    }

    fn connecting(
        &mut self,
        patience: &Patience,
        now: Instant,
        mut search: Search,
        input: Input,
    ) -> Output {
        match input {
            Input::Accepted => Output::Connect,
            Input::Attempting => {
                let step = patience.ladder.get(usize::from(search.timeouts));
                let end = now + step.copied().unwrap_or_default();
                self.deadline.get_or_insert(end);
                Output::Wait
            }
            Input::Postponed => {
                search.postponed = true;
                self.set_phase(SessionPhase::Connecting(search));
                self.deadline = Some(now + POSTPONED);
                Output::Wait
            }
            Input::Ready(Side::Client, ready) => {
                self.note(Side::Client, ready);
                if ready.failed {
                    return self.end(End::Reset(Reason::Peer(Side::Client)));
                }
                Output::Wait
            }
            Input::Ready(Side::Endpoint, ready) if ready.failed => Output::Diagnose,
            Input::Ready(Side::Endpoint, ready) if ready.writable => {
                self.note(Side::Endpoint, ready);
                self.set_phase(SessionPhase::Relaying);
                self.deadline = None;
                let has_data = self.legs[Side::Client as usize].readable;
                Output::Settle { has_data }
            }
            Input::TimedOut if search.postponed => {
                search.postponed = false;
                self.set_phase(SessionPhase::Connecting(search));
                self.deadline = None;
                Output::Connect
            }
            Input::TimedOut => {
                search.timeouts = search.timeouts.saturating_add(1);
                self.set_phase(SessionPhase::Connecting(search));
                Output::Abandon
            }
            Input::AttemptFailed => self.attempt_failed(patience, search),
            Input::NoEndpoint => self.end(End::Reset(Reason::Unreachable)),
            Input::Ready(Side::Endpoint, _)
            | Input::Resumed
            | Input::Done
            | Input::Relayed { .. }
            | Input::Flushed { .. }
            | Input::Unsent(_)
            | Input::ReadFailed(_)
            | Input::WriteFailed(_) => Output::Wait,
        }
    }

    fn attempt_failed(&mut self, patience: &Patience, mut search: Search) -> Output {
        search.attempts = search.attempts.saturating_add(1);
        let steps = patience.ladder.len();
        if search.attempts >= MAX_ATTEMPTS || usize::from(search.timeouts) >= steps {
            return self.end(End::Reset(Reason::Unreachable));
        }
        self.set_phase(SessionPhase::Connecting(search));
        self.deadline = None;
        Output::Connect
    }

    fn relaying(&mut self, patience: &Patience, now: Instant, input: Input) -> Output {
        match input {
            Input::Ready(side, ready) => {
                self.note(side, ready);
                if ready.failed {
                    self.lose(side);
                }
                if !self.yielded {
                    self.budget = BUDGET;
                }
            }
            Input::Resumed => {
                self.yielded = false;
                self.budget = BUDGET;
            }
            Input::TimedOut => {
                let silent_since = self.moved_at.unwrap_or(now);
                let silent_until = silent_since + self.silence(patience);
                if now >= silent_until {
                    return self.end(End::Reset(Reason::Silent));
                }
                self.deadline = Some(silent_until);
                return Output::Wait;
            }
            Input::Relayed { from, got, held } => self.relayed(now, from, got, held),
            Input::Flushed { from, held } => self.wrote(now, from, held),
            Input::ReadFailed(side) => {
                self.lose(side);
                self.finish_reading(side);
            }
            Input::WriteFailed(side) => self.lose(side),
            Input::Done => {}
            Input::Accepted
            | Input::Attempting
            | Input::AttemptFailed
            | Input::NoEndpoint
            | Input::Postponed
            | Input::Unsent(_) => {}
        }
        // Its turn comes by itself.
        let action = if self.yielded {
            Output::Wait
        } else {
            self.next()
        };
        self.watch_silence(patience, now);
        action
    }

    /// What to do next, given all that is known.
    fn next(&mut self) -> Output {
        for from in [self.first, self.first.other()] {
            let to = from.other();
            let way = self.ways[from as usize];
            let action = match way.course {
                Course::Shut => continue,
                Course::Open | Course::Ended if way.held => {
                    if !self.legs[to as usize].writable {
                        continue;
                    }
                    Output::Flush { from }
                }
                Course::Open => {
                    let leg = self.legs[from as usize];
                    if !leg.readable {
                        continue;
                    }
                    let bulk = way.streak >= BULK;
                    let last = leg.ends_short();
                    Output::Relay { from, bulk, last }
                }
                Course::Ended => return self.shut(from),
            };
            if self.budget == 0 {
                self.yielded = true;
                return Output::Yield;
            }
            self.budget -= 1;
            self.first = to;
            return action;
        }
        match self.ways.map(|way| way.course) {
            [Course::Shut, Course::Shut] => self.end_of_both(),
            _ => Output::Wait,
        }
    }

    /// All that this side has said was passed on: pass on that it was all.
    fn shut(&mut self, from: Side) -> Output {
        self.set_course(from, Course::Shut);
        let to = from.other();
        if self.legs[from as usize].lost || self.ways[to as usize].course == Course::Shut {
            // Closing says it as well as shutting down.
            return self.end_of_both();
        }
        Output::ShutDown(to)
    }

    fn end_of_both(&mut self) -> Output {
        let lost = |side: &Side| self.legs[*side as usize].lost;
        match [Side::Client, Side::Endpoint].map(|side| lost(&side).then_some(side)) {
            [None, None] => self.end(End::Closed),
            [Some(side), Some(_)] => self.end(End::Reset(Reason::Peer(side))),
            [Some(side), None] | [None, Some(side)] => {
                self.set_phase(SessionPhase::Delivering(side));
                self.deadline = None;
                Output::AskUnsent(side.other())
            }
        }
    }

    fn note(&mut self, side: Side, ready: Readiness) {
        let leg = &mut self.legs[side as usize];
        leg.readable |= ready.readable || ready.read_closed || ready.failed;
        leg.writable |= ready.writable;
        leg.ending |= ready.read_closed;
        leg.urgent |= ready.urgent;
    }

    /// This side's peer is gone: nothing reaches it any more, but what it said before the end still counts.
    fn lose(&mut self, side: Side) {
        self.legs[side as usize].lost = true;
        self.legs[side as usize].readable = true;
        let towards = side.other();
        self.ways[towards as usize].held = false;
        self.set_course(towards, Course::Shut);
        // There is less patience from now on.
        (self.deadline, self.moved_at) = (None, None);
    }

    fn relayed(&mut self, now: Instant, from: Side, got: Got, held: bool) {
        let leg = &mut self.legs[from as usize];
        let streak = &mut self.ways[from as usize].streak;
        match got {
            Got::Part => {
                *streak = 0;
                if leg.ends_short() {
                    self.finish_reading(from);
                } else if !leg.urgent && !leg.lost {
                    leg.readable = false;
                }
            }
            Got::Full => *streak = (*streak + 1).min(2 * BULK),
            Got::Nothing => {
                *streak = streak.saturating_sub(2);
                leg.readable = false;
                leg.urgent = false;
                if leg.lost {
                    self.finish_reading(from);
                }
            }
            Got::End => self.finish_reading(from),
        }
        if got == Got::Part || got == Got::Full {
            self.wrote(now, from, held);
        }
    }

    fn wrote(&mut self, now: Instant, from: Side, held: bool) {
        if self.ways[from as usize].course == Course::Shut {
            return;
        }
        self.ways[from as usize].held = held;
        if held {
            self.legs[from.other() as usize].writable = false;
        }
        if self.moved_at.is_some() {
            self.moved_at = Some(now);
        }
    }

    fn finish_reading(&mut self, from: Side) {
        self.legs[from as usize].readable = false;
        if self.ways[from as usize].course == Course::Open {
            self.set_course(from, Course::Ended);
        }
    }

    /// Half-closed sessions have a deadline, others have none.
    fn watch_silence(&mut self, patience: &Patience, now: Instant) {
        let over = self.phase != SessionPhase::Relaying;
        let open = self.ways.iter().all(|way| way.course == Course::Open);
        if !over && !open && self.deadline.is_none() {
            self.moved_at = Some(now);
            self.deadline = Some(now + self.silence(patience));
        }
    }

    /// How long nothing may move.
    fn silence(&self, patience: &Patience) -> Duration {
        match self.legs.iter().any(|leg| leg.lost) {
            true => patience.last_bytes.min(patience.half_close),
            false => patience.half_close,
        }
    }

    fn delivering(
        &mut self,
        patience: &Patience,
        now: Instant,
        lost: Side,
        input: Input,
    ) -> Output {
        let over = End::Reset(Reason::Peer(lost));
        let since = *self.moved_at.get_or_insert(now);
        match input {
            Input::Unsent(false) => self.end(over),
            Input::Unsent(true) if now >= since + patience.last_bytes => self.end(over),
            Input::Unsent(true) => {
                let look =
                    (now.saturating_duration_since(since) / 2).clamp(FIRST_LOOK, LONGEST_LOOK);
                self.deadline = Some(now + look);
                Output::Wait
            }
            Input::TimedOut => {
                self.deadline = None;
                Output::AskUnsent(lost.other())
            }
            Input::Ready(side, ready) if side != lost && ready.failed => self.end(over),
            _ => Output::Wait,
        }
    }

    fn end(&mut self, end: End) -> Output {
        self.set_phase(SessionPhase::Over(end));
        self.deadline = None;
        Output::End(end)
    }

    fn set_phase(&mut self, to: SessionPhase) {
        debug_assert!(
            matches!(
                (self.phase, to),
                (SessionPhase::Connecting(_), _)
                    | (SessionPhase::Relaying, SessionPhase::Delivering(_))
                    | (
                        SessionPhase::Relaying | SessionPhase::Delivering(_),
                        SessionPhase::Over(_)
                    )
            ),
            "{:?} -> {to:?}",
            self.phase
        );
        self.phase = to;
    }

    fn set_course(&mut self, from: Side, to: Course) {
        let way = &mut self.ways[from as usize];
        debug_assert!(
            matches!(
                (way.course, to),
                (Course::Open, Course::Ended) | (_, Course::Shut)
            ),
            "{:?} -> {to:?}",
            way.course
        );
        way.course = to;
    }

    fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        for side in [Side::Client, Side::Endpoint] {
            let way = self.ways[side as usize];
            assert!(!(way.held && way.course == Course::Shut), "{self:?}");
            assert!(!(way.held && self.is_connecting()), "{self:?}");
        }
        if self.phase == SessionPhase::Relaying {
            let open = self.ways.iter().all(|way| way.course == Course::Open);
            assert_eq!(self.deadline.is_none(), open, "{self:?}");
        }
        let over = matches!(self.phase, SessionPhase::Over(_));
        assert!(!over || self.deadline.is_none(), "{self:?}");
    }
}
