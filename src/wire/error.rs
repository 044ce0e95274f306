//! Why what arrives cannot be read on.

use std::fmt;
use std::io;

/// Why a list or a stream ended before its time.
#[derive(Debug)]
pub enum StreamError {
    /// The connection broke, or was silent for too long.
    Read(io::Error),
    /// What came is not what the API sends.
    Malformed(String),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "the connection broke: {error}"),
            Self::Malformed(what) => write!(f, "cannot decode the response: {what}"),
        }
    }
}

impl std::error::Error for StreamError {}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<serde_json::Error> for StreamError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}
