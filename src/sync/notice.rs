//! What the plan has to tell the log: once per change of state, not once per attempt.

use std::fmt;

use crate::types::{BindKey, ServicePortName};

/// One thing that is otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A listener could not be made, or now for another reason.
    NotOpened {
        port: ServicePortName,
        key: BindKey,
        why: String,
    },
    /// One that could not be made has been made.
    Opened { port: ServicePortName, key: BindKey },
    /// Who a listener hears could not be changed; it is made anew.
    NotFiltered {
        port: ServicePortName,
        key: BindKey,
        why: String,
    },
    /// An address could not be captured, or now for another reason.
    NotCaptured { why: String },
    /// One that could not be captured has been captured.
    Captured { why_not_before: String },
}

impl Notice {
    /// Whether something works that did not.
    pub(crate) fn is_good(&self) -> bool {
        match self {
            Self::Opened { .. } | Self::Captured { .. } => true,
            Self::NotOpened { .. } | Self::NotFiltered { .. } | Self::NotCaptured { .. } => false,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpened { port, key, why } => {
                write!(
                    f,
                    "{port}: cannot listen on {}/{}: {why}",
                    key.addr, key.protocol
                )
            }
            Self::Opened { port, key } => {
                write!(
                    f,
                    "{port}: listens on {}/{} after all",
                    key.addr, key.protocol
                )
            }
            Self::NotFiltered { port, key, why } => write!(
                f,
                "{port}: cannot change which sources {}/{} hears, and opens it anew: {why}",
                key.addr, key.protocol
            ),
            Self::NotCaptured { why } => f.write_str(why),
            Self::Captured { why_not_before } => write!(f, "no more: {why_not_before}"),
        }
    }
}
