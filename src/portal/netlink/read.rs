//! The objects we ask for and read.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};

use super::{Address, Link, Netlink, PROTOCOL, Route, Rule, TABLE_MAIN, Via};
use crate::types::{IpFamily, Protocol};

impl Netlink {
    /// The link of that name, if there is one.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        const ENODEV: i32 = 19;
        let mut query = LinkMessage::default();
        query.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        match self.get(RouteNetlinkMessage::GetLink(query)) {
            Ok(RouteNetlinkMessage::NewLink(link)) => Ok(Some(read_link(&link))),
            Ok(_) => Ok(None),
            Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        let query = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump(&query, |object| {
            if let RouteNetlinkMessage::NewLink(link) = object {
                links.push(read_link(&link));
            }
        })?;
        Ok(links)
    }

    /// All addresses of the namespace, both families.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let mut addresses = Vec::new();
        let query = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.dump(&query, |object| {
            if let RouteNetlinkMessage::NewAddress(message) = object {
                addresses.extend(read_address(&message));
            }
        })?;
        Ok(addresses)
    }

    /// The routes that carry our mark, in all tables.
    pub fn our_routes(&mut self, family: IpFamily) -> io::Result<Vec<Route>> {
        self.routes(family, RouteProtocol::Other(PROTOCOL), |_| true)
    }

    /// Everybody's unicast routes in the main table.
    pub fn main_routes(&mut self, family: IpFamily) -> io::Result<Vec<Route>> {
        let mut routes = self.routes(family, RouteProtocol::Unspec, |message| {
            message.header.kind == RouteType::Unicast
        })?;
        routes.retain(|route| route.table == TABLE_MAIN);
        Ok(routes)
    }

    fn routes(
        &mut self,
        family: IpFamily,
        protocol: RouteProtocol,
        keep: impl Fn(&RouteMessage) -> bool,
    ) -> io::Result<Vec<Route>> {
        let mut query = RouteMessage::default();
        query.header.address_family = match family {
            IpFamily::V4 => AddressFamily::Inet,
            IpFamily::V6 => AddressFamily::Inet6,
        };
        query.header.protocol = protocol;
        let wanted = |message: &RouteMessage| {
            // Old kernels do not filter; none may hand us its cache of single destinations.
            (protocol == RouteProtocol::Unspec || message.header.protocol == protocol)
                && !message.header.flags.contains(RouteFlags::Cloned)
                && keep(message)
        };
        let mut routes = Vec::new();
        let result = self.dump(&RouteNetlinkMessage::GetRoute(query), |object| {
            if let RouteNetlinkMessage::NewRoute(message) = object {
                if wanted(&message) {
                    routes.extend(Route::read(&message));
                }
            }
        });
        missing_is_empty(result)?;
        Ok(routes)
    }

    /// The rules that carry our mark.
    pub fn our_rules(&mut self, family: IpFamily) -> io::Result<Vec<Rule>> {
        let mut query = RuleMessage::default();
        query.header.family = match family {
            IpFamily::V4 => AddressFamily::Inet,
            IpFamily::V6 => AddressFamily::Inet6,
        };
        let mark = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
        let mut rules = Vec::new();
        let result = self.dump(&RouteNetlinkMessage::GetRule(query), |object| {
            if let RouteNetlinkMessage::NewRule(message) = object {
                if message.attributes.contains(&mark) {
                    rules.extend(Rule::read(&message));
                }
            }
        });
        missing_is_empty(result)?;
        Ok(rules)
    }
}

/// A family that this kernel does not have, or has no rules for, has nothing to show.
fn missing_is_empty(result: io::Result<()>) -> io::Result<()> {
    const EAFNOSUPPORT: i32 = 97;
    const EOPNOTSUPP: i32 = 95;
    match result {
        Err(e) if matches!(e.raw_os_error(), Some(EAFNOSUPPORT | EOPNOTSUPP)) => Ok(()),
        other => other,
    }
}

fn read_link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        operational: message
            .attributes
            .contains(&LinkAttribute::OperState(State::Up)),
        mtu: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    link
}

pub(super) fn read_address(message: &AddressMessage) -> Option<Address> {
    // IPv4 says Local for the address and Address for the peer's on point-to-point links; IPv6 mostly Address alone.
    let (mut local, mut plain) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => plain = Some(*ip),
            _ => {}
        }
    }
    Some(Address {
        ip: local.or(plain)?,
        prefix_len: message.header.prefix_len,
        link: message.header.index,
    })
}

impl Route {
    fn read(message: &RouteMessage) -> Option<Self> {
        let family = match message.header.address_family {
            AddressFamily::Inet => IpFamily::V4,
            AddressFamily::Inet6 => IpFamily::V6,
            _ => return None,
        };
        let (mut dst, mut link, mut gateway, mut source) = (family.unspecified(), None, None, None);
        let mut table = u32::from(message.header.table);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(ip) => dst = address(ip)?,
                RouteAttribute::Gateway(ip) => gateway = address(ip),
                RouteAttribute::PrefSource(ip) => source = address(ip),
                RouteAttribute::Oif(index) => link = Some(*index),
                RouteAttribute::Table(number) => table = *number,
                _ => {}
            }
        }
        let via = match (message.header.kind, gateway, link) {
            (RouteType::Unicast, Some(gateway), Some(link)) => Via::Gateway(gateway, link),
            (RouteType::Local, _, Some(link)) => Via::Local(link),
            (RouteType::BlackHole, _, _) => Via::Blackhole,
            _ => Via::Other,
        };
        Some(Self {
            net: IpNet::new(dst, message.header.destination_prefix_length).ok()?,
            table,
            via,
            source,
        })
    }
}

impl Rule {
    /// None for rules that are not as ours are, even if they carry our mark.
    fn read(message: &RuleMessage) -> Option<Self> {
        let (mut ip, mut port, mut protocol) = (None, None, None);
        let (mut table, mut priority) = (u32::from(message.header.table), 0);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Destination(to) => ip = Some(*to),
                RuleAttribute::DestinationPortRange(ports) => port = Some(ports.start),
                RuleAttribute::IpProtocol(IpProtocol::Tcp) => protocol = Some(Protocol::Tcp),
                RuleAttribute::IpProtocol(IpProtocol::Udp) => protocol = Some(Protocol::Udp),
                RuleAttribute::IpProtocol(IpProtocol::Sctp) => protocol = Some(Protocol::Sctp),
                RuleAttribute::Table(number) => table = *number,
                RuleAttribute::Priority(number) => priority = *number,
                _ => {}
            }
        }
        Some(Self {
            addr: SocketAddr::new(ip?, port?),
            protocol: protocol?,
            table,
            priority,
        })
    }
}

fn address(ip: &RouteAddress) -> Option<IpAddr> {
    match ip {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
