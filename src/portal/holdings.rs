//! What a portal holds of this host, apart from taking it and giving it up: values and descriptors alone, so that another
//! process can go on with it.
//!
//! Nothing ends by dropping holdings but what the kernel itself ends with the last descriptor: a namespace that nobody is
//! in any more, and with it the link and what leads over it.

use std::fs::File;
use std::time::Duration;

use super::lock::Lock;
use crate::types::{Capture, PortalKind};

/// See the module's page; from [`super::Portal::hand_on`], for [`super::Portal::adopt`].
pub struct Holdings {
    /// Never `Auto`.
    pub(super) kind: PortalKind,
    /// That nobody else has a portal on this host; None for the portal "none".
    pub(super) lock: Option<Lock>,
    /// Where traffic is delivered, if not in the host's own namespace.
    pub(super) namespace: Option<OwnNamespace>,
    /// Whether rules can look at ports, if that was found out.
    pub(super) by_port: Option<bool>,
    /// What is captured. The routes and rules are those that these need.
    pub(super) captures: Vec<HeldCapture>,
}

/// A network namespace of our own.
pub(super) struct OwnNamespace {
    /// As in /proc/PID/ns/net.
    pub(super) file: File,
    /// Whether IPv6 can be carried there.
    pub(super) v6: bool,
}

/// Something captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldCapture {
    pub(super) capture: Capture,
    /// It was given up, and goes after so long.
    pub(super) lingers: Option<Duration>,
}
