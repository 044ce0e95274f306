//! Why the program cannot go on.

use std::fmt;
use std::io;
use std::path::Path;

use crate::{api, control, health, portal, routing};

/// A failure that ends the command, printed after `portico: `.
#[derive(Debug)]
pub(super) enum Error {
    /// The apiserver cannot be reached as configured.
    Api(api::Error),
    /// No portal of the wanted kind can work here.
    Portal(portal::Error),
    /// A server cannot be bound, and that is to be fatal.
    Health(health::BindError),
    /// The running portico cannot be asked.
    Control(control::Error),
    /// `--nodeport-addresses` says something that is no address.
    NodePortAddress(routing::InvalidNodePortAddress),
    /// An operation on a file, a thread or a socket failed.
    Io {
        /// What was being done, on which object.
        doing: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// Something is missing; says what to do.
    Missing(String),
}

impl Error {
    pub(super) fn file(doing: &str, path: &Path, error: io::Error) -> Self {
        Self::Io {
            doing: format!("{doing} {}", path.display()),
            error,
        }
    }

    /// For threads and channels of our own.
    pub(super) fn start(what: &str) -> impl FnOnce(io::Error) -> Self + '_ {
        move |error| Self::Io {
            doing: format!("cannot start {what}"),
            error,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(error) => error.fmt(f),
            Self::Portal(error) => error.fmt(f),
            Self::Health(error) => error.fmt(f),
            Self::Control(error) => error.fmt(f),
            Self::NodePortAddress(error) => write!(f, "--nodeport-addresses: {error}"),
            Self::Io { doing, error } => write!(f, "{doing}: {error}"),
            Self::Missing(what) => f.write_str(what),
        }
    }
}

impl From<api::Error> for Error {
    fn from(error: api::Error) -> Self {
        Self::Api(error)
    }
}

impl From<portal::Error> for Error {
    fn from(error: portal::Error) -> Self {
        Self::Portal(error)
    }
}

impl From<routing::InvalidNodePortAddress> for Error {
    fn from(error: routing::InvalidNodePortAddress) -> Self {
        Self::NodePortAddress(error)
    }
}

impl From<health::BindError> for Error {
    fn from(error: health::BindError) -> Self {
        Self::Health(error)
    }
}

impl From<control::Error> for Error {
    fn from(error: control::Error) -> Self {
        Self::Control(error)
    }
}
