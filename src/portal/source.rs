//! Which source address the host's own connections to virtual IPs carry.
//!
//! Our link has no address, so the kernel takes the first that it finds on any link. That is mostly the node's own, and
//! then nothing need be said. Where it is another (a bridge older than the bonding device), routes name the address of
//! the default route. They are the exception because the kernel silently deletes routes that name an address which goes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use super::netlink::Netlink;
use crate::types::IpFamily;

/// Reached over our link, by a route that names no source: shows what the kernel chooses.
pub(super) const PROBE: Ipv4Addr = Ipv4Addr::new(169, 254, 112, 3);

/// The source of what this host sends to the world at large; None without a default route.
pub(super) fn by_default(family: IpFamily) -> Option<IpAddr> {
    // Documentation's address, and the first global one: any that only the default route covers.
    let far = match family {
        IpFamily::V4 => IpAddr::from([198, 51, 100, 1]),
        IpFamily::V6 => IpAddr::from([0x2000, 0, 0, 0, 0, 0, 0, 1]),
    };
    towards(far)
}

/// An address of this host that others may see, that of the default route if there is one.
pub(super) fn of_this_host(family: IpFamily, host: &mut Netlink) -> Option<IpAddr> {
    let usable = |ip: &IpAddr| {
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        IpFamily::of(*ip) == family && !ip.is_loopback() && !link_local
    };
    by_default(family).or_else(|| {
        let addresses = host.addresses().unwrap_or_default();
        addresses.iter().map(|address| address.ip).find(usable)
    })
}

/// The source to name on IPv4 routes, if any.
pub(super) fn to_name() -> Option<IpAddr> {
    let wanted = by_default(IpFamily::V4)?;
    (towards(PROBE.into()) != Some(wanted)).then_some(wanted)
}

/// Asks the kernel by connecting a UDP socket, which sends nothing.
fn towards(ip: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((IpFamily::of(ip).unspecified(), 0)).ok()?;
    socket.connect(SocketAddr::new(ip, 9)).ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_unspecified() && !source.is_loopback()).then_some(source)
}
