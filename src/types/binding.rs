//! What routing asks of the portal: addresses to capture, listeners to make.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Protocol;

/// In which network namespace a listener is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The portal's: virtual IPs.
    Portal,
    /// The host's: node ports, and external or load-balancer IPs that are addresses of this host.
    Host,
}

/// The identity of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindKey {
    /// Where the socket is made.
    pub scope: Scope,
    /// A virtual IP with its service port, or a node address (the wildcard for all of them) with a node port.
    pub addr: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// What must be routed to the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capture {
    /// A clusterIP: all of it is ours, so that a port without a Service is refused.
    Address(IpAddr),
    /// One service port of an external or load-balancer IP: the rest of the address is not ours.
    Port(SocketAddr, Protocol),
    /// A ServiceCIDR: what no Service holds there is dropped.
    Range(IpNet),
}

impl Capture {
    /// The address that it is about; of a range the first.
    pub(crate) fn ip(&self) -> IpAddr {
        match self {
            Self::Address(ip) => *ip,
            Self::Port(addr, _) => addr.ip(),
            Self::Range(net) => net.addr(),
        }
    }

    /// Whether the rest of the address is not ours.
    pub(crate) fn is_port(&self) -> bool {
        matches!(self, Self::Port(..))
    }
}
