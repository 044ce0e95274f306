//! What was found, before anything is made of it.

use super::foreign::Foreign;
use crate::portal::error::Error;

/// What looking found.
#[derive(Debug)]
pub(crate) struct Findings {
    /// The throw-away portals.
    pub(crate) netns: Trial,
    /// The throw-away portals.
    pub(crate) host: Trial,
    /// A portico runs on this host.
    pub(crate) running: bool,
    /// A portico has left its link, routes or rules.
    pub(crate) leftovers: bool,
    /// Why a port below 1024 cannot be listened on, if so.
    pub(crate) low_ports: Option<String>,
    /// The limit of open files: soft, hard.
    pub(crate) open_files: Option<(u64, u64)>,
    /// Whether the host forwards IPv4, IPv6. None: not readable.
    pub(crate) forwarding: [Option<bool>; 2],
    /// The firewall's chains that drop forwarded packets. None: not visible.
    pub(crate) dropping_chains: Option<Vec<String>>,
    /// `net.ipv4.conf.all.rp_filter`
    pub(crate) rp_filter: Option<u8>,
    /// What else captures virtual IPs.
    pub(crate) foreign: Foreign,
}

/// What became of a throw-away portal.
#[derive(Debug)]
pub(crate) enum Trial {
    /// It carried a TCP connection.
    Carried {
        /// From the client's SYN to its first byte.
        microseconds: u128,
        /// Whether the kernel routes by port.
        by_port: bool,
        /// Whether it also did over IPv6.
        v6: bool,
    },
    /// It could not be opened.
    Failed(Error),
    /// It was opened, and the connection failed.
    Silent(String),
    /// There was no place to try it.
    NotTried(&'static str),
}

impl Trial {
    pub(super) fn works(&self) -> bool {
        match self {
            Self::Carried { .. } | Self::NotTried(_) => true,
            Self::Failed(_) | Self::Silent(_) => false,
        }
    }
}
