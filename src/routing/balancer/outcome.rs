//! What can become of a pick.

use std::time::Instant;

/// Why an endpoint was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It said no.
    Refused,
    /// It said nothing for as long as it may.
    TimedOut,
    /// It cannot be reached.
    Unreachable,
    /// It is a listener of ours: it must not be reached.
    Loop,
    /// It was not asked: this host has no local port left for it.
    NoPort,
}

/// What a pick reports to its balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The endpoint answers.
    Connected,
    /// It does not, as was found then.
    Failed(Cause, Instant),
    /// The client has left it.
    Gone,
}
