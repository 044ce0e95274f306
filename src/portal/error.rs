//! What can go wrong, by what the caller does about it.

use std::fmt;
use std::io;
use std::net::IpAddr;

use nix::libc::{EACCES, EOPNOTSUPP, EPERM};

/// Why a portal, or one capture, does not work.
#[derive(Debug)]
pub enum Error {
    /// Run with that capability, or with a portal that needs less.
    Capability {
        /// `CAP_NET_ADMIN`, ...
        capability: &'static str,
        /// What it is needed for.
        to: &'static str,
    },
    /// This kernel cannot; another kind of portal may do.
    Unsupported {
        /// What it lacks.
        lacks: &'static str,
        /// What it said.
        error: io::Error,
    },
    /// Another portico holds this host's portal.
    Running,
    /// The address belongs to this host already and is left alone (NodeLocal DNS, a kube-proxy's kube-ipvs0).
    AlreadyLocal {
        /// The virtual IP.
        ip: IpAddr,
        /// The link that has it.
        link: String,
    },
    /// The portal "none" serves only addresses that this host has.
    NotLocal(IpAddr),
    /// There is no IPv6 (or IPv4) to carry it.
    Family(IpAddr),
    /// Without policy routing the whole address would have to be captured, and that one must not be.
    Protected {
        /// The external or load-balancer IP.
        ip: IpAddr,
        /// What else it is.
        is: &'static str,
    },
    /// The kernel refused; worth another try later.
    Kernel {
        /// What was asked of it.
        what: String,
        /// Its answer.
        error: io::Error,
    },
}

impl Error {
    /// An answer of the kernel to something that needs CAP_NET_ADMIN.
    pub(super) fn net_admin(to: &'static str, error: io::Error) -> Self {
        Self::of("CAP_NET_ADMIN", to, error)
    }

    /// An answer of the kernel to something that needs a capability.
    pub(super) fn of(capability: &'static str, to: &'static str, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(EPERM | EACCES) => Self::Capability { capability, to },
            Some(EOPNOTSUPP) => Self::Unsupported { lacks: to, error },
            _ => Self::Kernel {
                what: to.to_owned(),
                error,
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capability { capability, to } => {
                write!(
                    f,
                    "needs {capability} to {to}: grant it, or use --portal none"
                )
            }
            Self::Unsupported { lacks, error } => write!(f, "this kernel cannot {lacks}: {error}"),
            Self::Running => write!(
                f,
                "another portico serves this host (it holds the abstract socket {}): stop it first",
                super::marks::LOCK
            ),
            Self::AlreadyLocal { ip, link } => write!(
                f,
                "{ip} is an address of this host already (on {link}): left alone"
            ),
            Self::NotLocal(ip) => write!(
                f,
                "{ip} is not an address of this host, and the portal none serves no others"
            ),
            Self::Family(ip) => {
                write!(f, "no route can lead {ip} here: this host lacks its family")
            }
            Self::Protected { ip, is } => write!(
                f,
                "{ip} is {is}: without policy routing (CONFIG_IP_MULTIPLE_TABLES, Linux 4.17) it would have to be \
                 captured whole, so it is not captured"
            ),
            Self::Kernel { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

/// Why a listener could not be made, or could not be changed. Concerns that listener alone, and may be gone at the next try.
#[derive(Debug)]
pub struct BindError {
    error: io::Error,
    advice: &'static str,
}

impl BindError {
    /// With what to do about it, beginning with a separator.
    pub(super) fn new(error: io::Error, advice: &'static str) -> Self {
        Self { error, advice }
    }

    /// Of which kind the kernel's answer is.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        Self::new(error, "")
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.error, self.advice)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unsupported { error, .. } | Self::Kernel { error, .. } => Some(error),
            Self::Capability { .. }
            | Self::Running
            | Self::AlreadyLocal { .. }
            | Self::NotLocal(_)
            | Self::Family(_)
            | Self::Protected { .. } => None,
        }
    }
}
