//! What can go wrong with an apiserver, by what is done about it.

use std::fmt;
use std::time::Duration;

use super::machine::Failure;
use crate::types::one_line;
use crate::wire::{Status, StreamError};

/// How much of a header is shown.
const LONGEST_HEADER: usize = 200;

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
    Status(Box<Refusal>),
    /// What came is not what an apiserver sends.
    Malformed(String),
}

/// An answer that is not what was asked for.
#[derive(Clone, Debug, Default)]
pub struct Refusal {
    /// Who gave it: its base URL.
    pub(super) server: String,
    /// HTTP's code.
    pub(super) code: u16,
    /// What it said; of what is no Status the beginning.
    pub(super) status: Status,
    /// The body is a Status, as an apiserver's is.
    pub(super) is_status: bool,
    /// `Content-Type`, where it is not JSON's.
    pub(super) content_type: Option<String>,
    /// `Location`
    pub(super) location: Option<String>,
    /// `Retry-After`
    pub(super) retry_after: Option<Duration>,
    /// What we have found out about why.
    pub(super) hint: Option<String>,
}

/// Whom a trouble concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The server, or ourselves in its eyes: every kind of object meets it.
    Server,
    /// One kind of object.
    Kind,
}

impl Error {
    pub(super) fn config(problem: impl fmt::Display) -> Self {
        Self::Config(problem.to_string())
    }

    /// What follows for the reflector. `optional`: it can do without the resource.
    pub(super) fn failure(&self, optional: bool) -> Failure {
        let refusal = match self {
            Self::Refused(_) => return Failure::Refused,
            Self::Config(_) | Self::Unreachable(_) | Self::Malformed(_) => return Failure::Other,
            Self::Status(refusal) => refusal,
        };
        let status = &refusal.status;
        match refusal.code {
            _ if status.is_too_large() => Failure::TooLarge,
            // A page of somebody in between says nothing about what the apiserver has.
            404 if optional && !refusal.is_page() => Failure::Absent,
            429 => Failure::Later,
            500..=599 if refusal.retry_after.is_some() => Failure::Later,
            400 | 422 => Failure::Unsupported,
            code if code == 410 || status.is_expired() => Failure::Expired,
            _ => Failure::Other,
        }
    }

    pub(super) fn scope(&self) -> Scope {
        match self {
            Self::Config(_) | Self::Refused(_) | Self::Unreachable(_) => Scope::Server,
            Self::Malformed(_) => Scope::Kind,
            Self::Status(refusal) => match refusal.code {
                400 | 403 | 404 | 410 | 422 if !refusal.is_page() => Scope::Kind,
                _ => Scope::Server,
            },
        }
    }

    /// What it has in common with others of its sort: numbers may be others each time.
    pub(super) fn sort(&self) -> String {
        let text = match self {
            Self::Config(what) | Self::Unreachable(what) => what,
            Self::Refused(_) => "refused",
            Self::Malformed(_) => "malformed",
            Self::Status(refusal) => {
                return format!("{} {}", refusal.code, refusal.status.reason);
            }
        };
        text.chars().filter(|c| !c.is_ascii_digit()).collect()
    }

    /// HTTP's code, if it came to that.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Status(refusal) => Some(refusal.code),
            Self::Config(_) | Self::Refused(_) | Self::Unreachable(_) | Self::Malformed(_) => None,
        }
    }

    /// How long the server wants us to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(refusal) => refusal.retry_after,
            Self::Config(_) | Self::Refused(_) | Self::Unreachable(_) | Self::Malformed(_) => None,
        }
    }

    #[cfg(test)]
    pub(super) fn refusal(server: &str, code: u16, status: Status) -> Self {
        Self::Status(Box::new(Refusal {
            server: server.to_owned(),
            code,
            status,
            is_status: true,
            ..Refusal::default()
        }))
    }
}

impl Refusal {
    /// Written for people: a login, a load balancer's excuse.
    pub(super) fn is_page(&self) -> bool {
        let html = |it: &String| it.contains("html");
        let is_marked = self.content_type.as_ref().is_some_and(html);
        !self.is_status && (is_marked || self.status.message.starts_with('<'))
    }

    fn advice(&self) -> Option<&str> {
        let to_tls = "HTTP request to an HTTPS server";
        Some(match self.code {
            _ if self.hint.is_some() => self.hint.as_deref()?,
            401 => "check the kubeconfig's token or client certificate",
            403 if self.is_status => {
                "bind the ClusterRole system:node-proxier to this user or service account"
            }
            400 if self.status.message.contains(to_tls) => {
                "the kubeconfig's server should begin with https://"
            }
            300..=399 => "check the kubeconfig's server: redirections are not followed",
            _ if self.is_page() => "is it an apiserver? check the kubeconfig's server",
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the apiserver {} answered {}", self.server, self.code)?;
        if let Some(kind) = &self.content_type {
            write!(f, " with {}", one_line(kind, LONGEST_HEADER))?;
        }
        if let Some(location) = &self.location {
            write!(f, ", Location {}", one_line(location, LONGEST_HEADER))?;
        }
        write!(f, ": {}", self.status)?;
        match self.advice() {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
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
            Self::Status(refusal) => refusal.fmt(f),
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
