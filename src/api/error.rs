//! What can go wrong with an apiserver, by what is done about it.

use std::fmt;
use std::time::Duration;

use super::machine::Failure;
use crate::wire::{Status, StreamError};

/// Why the apiserver cannot be used, or did not do what was asked.
#[derive(Clone, Debug)]
pub enum Error {
    /// The configuration cannot work: somebody has to correct it.
    Config(String),
    /// Nothing listens there, or it hangs up without an answer: ask the same again later.
    Refused(String),
    /// No connection, or it broke: begin anew later.
    Unreachable(String),
    /// The apiserver said no.
    Status {
        /// HTTP's code.
        code: u16,
        /// What it said.
        status: Box<Status>,
        /// `Retry-After`
        retry_after: Option<Duration>,
    },
    /// What came is not what an apiserver sends.
    Malformed(String),
}

impl Error {
    pub(super) fn config(problem: impl fmt::Display) -> Self {
        Self::Config(problem.to_string())
    }

    /// What follows for the reflector. `optional`: it can do without the resource.
    pub(super) fn failure(&self, optional: bool) -> Failure {
        match self {
            Self::Refused(_) => Failure::Refused,
            Self::Config(_) | Self::Unreachable(_) | Self::Malformed(_) => Failure::Other,
            Self::Status { code, status, .. } => match code {
                403 | 404 if optional => Failure::Absent,
                429 => Failure::TooManyRequests,
                400 | 422 => Failure::Unsupported,
                _ if status.is_too_large() => Failure::TooLarge,
                _ if *code == 410 || status.is_expired() => Failure::Expired,
                _ => Failure::Other,
            },
        }
    }

    /// HTTP's code, if it came to that.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::Config(_) | Self::Refused(_) | Self::Unreachable(_) | Self::Malformed(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what)
            | Self::Refused(what)
            | Self::Unreachable(what)
            | Self::Malformed(what) => f.write_str(what),
            Self::Status { code, status, .. } => {
                write!(f, "the apiserver answered {code}: {status}")?;
                match code {
                    401 => f.write_str(" (check the kubeconfig's token or client certificate)"),
                    403 => f.write_str(
                        " (bind the ClusterRole system:node-proxier to this user or service account)",
                    ),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<StreamError> for Error {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Read(_) => Self::Unreachable(error.to_string()),
            StreamError::Malformed(_) => Self::Malformed(error.to_string()),
        }
    }
}
