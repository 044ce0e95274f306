//! What can become of a pick.

use std::fmt;
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
    /// It may be a proxy, and this client comes from so many of them that it must be going in circles.
    Circle,
    /// It was not asked: this host has no local port left for it.
    NoPort,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused a connection",
            Self::TimedOut => "did not answer in time",
            Self::Unreachable => "cannot be connected to",
            Self::Loop => "was not tried: it is a listener of ours",
            Self::Circle => "was not tried: the client has come through too many proxies",
            Self::NoPort => "was not tried: this host has no local port left for it",
        })
    }
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
