//! Objects from the kernel's form. Pure; None for what cannot be read, or is none of what we keep.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::codec::{Message, attributes, ip_of, text_of, u8_of, u32_of};
use super::message::{Address, Link, Route, Rule, Via};
use super::uapi::*;
use crate::portal::marks::PROTOCOL;
use crate::types::{IpFamily, Protocol};

/// The link of a `RTM_NEWLINK`.
pub fn link(message: &Message<'_>) -> Option<Link> {
    let (header, rest) = of_kind(message, RTM_NEWLINK).and_then(IfInfo::split)?;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        up: header.flags & IFF_UP != 0,
        operational: false,
        mtu: 0,
    };
    for (kind, value) in attributes(rest) {
        match kind {
            IFLA_IFNAME => link.name = text_of(value),
            IFLA_MTU => link.mtu = u32_of(value).unwrap_or(0),
            IFLA_OPERSTATE => link.operational = u8_of(value) == Some(IF_OPER_UP),
            _ => {}
        }
    }
    Some(link)
}

/// The address of a `RTM_NEWADDR`.
pub fn address(message: &Message<'_>) -> Option<Address> {
    address_payload(of_kind(message, RTM_NEWADDR)?)
}

/// The address of a `RTM_NEWADDR` or `RTM_DELADDR`.
pub(super) fn address_payload(payload: &[u8]) -> Option<Address> {
    let (header, rest) = IfAddr::split(payload)?;
    // IPv4 says Local for the address and Address for the peer's on point-to-point links; IPv6 mostly Address alone.
    let (mut local, mut plain) = (None, None);
    for (kind, value) in attributes(rest) {
        match kind {
            IFA_LOCAL => local = ip_of(value),
            IFA_ADDRESS => plain = ip_of(value),
            _ => {}
        }
    }
    Some(Address {
        ip: local.or(plain)?,
        prefix_len: header.prefix_len,
        link: header.index,
    })
}

/// The route of a `RTM_NEWROUTE`, and its header; None for one of the kernel's cache of single destinations.
pub fn route(message: &Message<'_>) -> Option<(Rt, Route)> {
    let (header, rest) = of_kind(message, RTM_NEWROUTE).and_then(Rt::split)?;
    if header.flags & RTM_F_CLONED != 0 {
        return None;
    }
    let family = match header.family {
        AF_INET => IpFamily::V4,
        AF_INET6 => IpFamily::V6,
        _ => return None,
    };
    let (mut dst, mut link, mut gateway, mut source) = (family.unspecified(), None, None, None);
    let mut table = u32::from(header.table);
    for (kind, value) in attributes(rest) {
        match kind {
            RTA_DST => dst = ip_of(value)?,
            RTA_GATEWAY => gateway = ip_of(value),
            RTA_PREFSRC => source = ip_of(value),
            RTA_OIF => link = u32_of(value),
            RTA_TABLE => table = u32_of(value)?,
            _ => {}
        }
    }
    let via = match (header.kind, gateway, link) {
        (RTN_UNICAST, Some(gateway), Some(link)) => Via::Gateway(gateway, link),
        (RTN_LOCAL, _, Some(link)) => Via::Local(link),
        (RTN_BLACKHOLE, _, _) => Via::Blackhole,
        _ => Via::Other,
    };
    let route = Route {
        net: IpNet::new(dst, header.dst_len).ok()?,
        table,
        via,
        source,
    };
    Some((header, route))
}

/// The rule of a `RTM_NEWRULE`. None for rules without our mark, and for those that are not as ours are even with it.
pub fn our_rule(message: &Message<'_>) -> Option<Rule> {
    let (header, rest) = of_kind(message, RTM_NEWRULE).and_then(FibRule::split)?;
    let (mut ip, mut port, mut protocol) = (None, None, None);
    let (mut table, mut priority, mut ours) = (u32::from(header.table), 0, false);
    for (kind, value) in attributes(rest) {
        match kind {
            FRA_DST => ip = ip_of(value),
            FRA_DPORT_RANGE => port = single_port(value),
            FRA_IP_PROTO => {
                protocol = match u8_of(value)? {
                    IPPROTO_TCP => Some(Protocol::Tcp),
                    IPPROTO_UDP => Some(Protocol::Udp),
                    IPPROTO_SCTP => Some(Protocol::Sctp),
                    _ => None,
                }
            }
            FRA_TABLE => table = u32_of(value)?,
            FRA_PRIORITY => priority = u32_of(value)?,
            FRA_PROTOCOL => ours = u8_of(value) == Some(PROTOCOL),
            _ => {}
        }
    }
    Some(Rule {
        addr: SocketAddr::new(ip?, port?),
        protocol: protocol?,
        table,
        priority,
    })
    .filter(|_| ours)
}

/// `struct fib_rule_port_range`, of one port.
fn single_port(value: &[u8]) -> Option<u16> {
    match value {
        [a, b, c, d] if [a, b] == [c, d] => Some(u16::from_ne_bytes([*a, *b])),
        _ => None,
    }
}

fn of_kind<'a>(message: &Message<'a>, kind: u16) -> Option<&'a [u8]> {
    (message.kind == kind).then_some(message.payload)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
