//! By which way virtual IPs reach sockets of ours.

use std::fmt;

/// Which kind of portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PortalKind {
    /// The first of the others that works.
    Auto,
    Netns,
    Host,
    None,
}

impl PortalKind {
    /// The spelling of `--portal`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Netns => "netns",
            Self::Host => "host",
            Self::None => "none",
        }
    }
}

impl fmt::Display for PortalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
