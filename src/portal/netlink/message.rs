//! The requests we make and the objects we read, as values.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};

use crate::types::Protocol;

/// The routing table that everyone looks into.
pub const TABLE_MAIN: u32 = 254;
/// The routing table of what is delivered here.
pub const TABLE_LOCAL: u32 = 255;
/// Our mark on routes and rules.
pub const PROTOCOL: u8 = 112;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// One change to ask of the kernel.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) message: RouteNetlinkMessage,
    pub(super) flags: u16,
}

/// A pair of virtual Ethernet links; the peer appears in another namespace.
pub struct Veth<'a> {
    /// Our end's name and address.
    pub near: (&'a str, Mac),
    /// The other end's.
    pub far: (&'a str, Mac),
    /// The namespace of the other end.
    pub namespace: BorrowedFd<'a>,
    /// For both.
    pub mtu: u32,
}

/// Settings of one link that need no /proc/sys.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkSettings {
    /// `net.ipv4.conf.<link>.forwarding`
    pub forwarding: Option<bool>,
    /// `net.ipv4.conf.<link>.rp_filter`
    pub rp_filter: Option<u32>,
}

/// What we read of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Up in every respect, carrier included: what is sent now is not lost.
    pub operational: bool,
    /// 0 if unknown.
    pub mtu: u32,
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address itself, not the peer's.
    pub ip: IpAddr,
    /// The length of its subnet's prefix.
    pub prefix_len: u8,
    /// The link's number.
    pub link: u32,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// A neighbour on that link, which need not be in any subnet of ours.
    Gateway(IpAddr, u32),
    /// Delivered here; the link is lo.
    Local(u32),
    /// Dropped without a word.
    Blackhole,
    /// Anything else, when read from others' routes.
    Other,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Its destination.
    pub net: IpNet,
    /// The table that holds it.
    pub table: u32,
    /// Where it leads.
    pub via: Via,
    /// The preferred source address of what this host sends there.
    pub source: Option<IpAddr>,
}

/// A rule that sends one port of one address into a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The destination address and port.
    pub addr: SocketAddr,
    /// The protocol the port belongs to.
    pub protocol: Protocol,
    /// Where to look for the route.
    pub table: u32,
    /// Rules are asked in ascending order.
    pub priority: u32,
}

impl Request {
    /// Makes a veth pair, both ends down.
    pub fn add_veth(veth: &Veth) -> Self {
        let end = |(name, mac): (&str, Mac)| {
            let mut message = LinkMessage::default();
            message.attributes = vec![
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::Address(mac.to_vec()),
                LinkAttribute::Mtu(veth.mtu),
            ];
            message
        };
        let mut far = end(veth.far);
        let namespace = LinkAttribute::NetNsFd(veth.namespace.as_raw_fd());
        far.attributes.push(namespace);
        let mut near = end(veth.near);
        near.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
        ]));
        Self {
            message: RouteNetlinkMessage::NewLink(near),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        }
    }

    /// Deletes a link, and with it everything that leads over it.
    pub fn delete_link_index(index: u32) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = index;
        Self {
            message: RouteNetlinkMessage::DelLink(message),
            flags: 0,
        }
    }

    /// Brings a link up.
    pub fn link_up(index: u32) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        Self {
            message: RouteNetlinkMessage::SetLink(message),
            flags: 0,
        }
    }

    /// Changes IPv4 settings of a link.
    pub fn link_settings(index: u32, settings: LinkSettings) -> Self {
        const FORWARDING: u16 = 1;
        const RP_FILTER: u16 = 8;
        let values = [
            (FORWARDING, settings.forwarding.map(u32::from)),
            (RP_FILTER, settings.rp_filter),
        ];
        let mut nested = Vec::new();
        for (kind, value) in values {
            if let Some(value) = value {
                let attribute = DefaultNla::new(kind, value.to_ne_bytes().to_vec());
                let start = nested.len();
                nested.resize(start + attribute.buffer_len(), 0);
                attribute.emit(nested.get_mut(start..).unwrap_or_default());
            }
        }
        const IFLA_INET_CONF: u16 = 1;
        // Not the library's own type: it leaves out zeros, and zero is what we want to set.
        let inet = AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, nested));
        Self::link_family(index, AfSpecUnspec::Inet(vec![inet]))
    }

    /// Keeps the kernel from giving the link an IPv6 address by itself.
    pub fn link_without_addresses(index: u32) -> Self {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        Self::link_family(index, AfSpecUnspec::Inet6(vec![mode]))
    }

    fn link_family(index: u32, family: AfSpecUnspec) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![family])];
        Self {
            message: RouteNetlinkMessage::SetLink(message),
            flags: 0,
        }
    }

    /// Gives a link an address that is alone in its subnet, without asking whether anyone else has it.
    pub fn add_address(link: u32, ip: IpAddr) -> Self {
        let mut message = AddressMessage::default();
        message.header.family = family(ip);
        message.header.prefix_len = if ip.is_ipv4() { 32 } else { 128 };
        message.header.index = link;
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        Self {
            message: RouteNetlinkMessage::NewAddress(message),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
        }
    }

    /// Writes a neighbour's address down for good: it is never asked for.
    pub fn set_neighbour(link: u32, ip: IpAddr, mac: Mac) -> Self {
        let mut message = NeighbourMessage::default();
        message.header.family = family(ip);
        message.header.ifindex = link;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(match ip {
                IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
                IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
            }),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        Self {
            message: RouteNetlinkMessage::NewNeighbour(message),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
        }
    }

    /// Adds a route; one of the same destination, table and metric, whoever's, makes it fail.
    pub fn add_route(route: &Route) -> Self {
        Self {
            message: RouteNetlinkMessage::NewRoute(route.message()),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        }
    }

    /// Adds a route or changes the one that is there.
    pub fn replace_route(route: &Route) -> Self {
        Self {
            message: RouteNetlinkMessage::NewRoute(route.message()),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
        }
    }

    /// Deletes a route of ours.
    pub fn delete_route(route: &Route) -> Self {
        let mut message = route.message();
        // Its source may have been another when it was made.
        let is_source = |a: &RouteAttribute| matches!(a, RouteAttribute::PrefSource(_));
        message.attributes.retain(|a| !is_source(a));
        Self {
            message: RouteNetlinkMessage::DelRoute(message),
            flags: 0,
        }
    }

    /// Adds a rule.
    pub fn add_rule(rule: &Rule) -> Self {
        Self {
            message: RouteNetlinkMessage::NewRule(rule.message()),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        }
    }

    /// Deletes a rule.
    pub fn delete_rule(rule: &Rule) -> Self {
        Self {
            message: RouteNetlinkMessage::DelRule(rule.message()),
            flags: 0,
        }
    }
}

impl Route {
    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = family(self.net.addr());
        header.destination_prefix_length = self.net.prefix_len();
        header.table = u8::try_from(self.table).unwrap_or(0);
        header.protocol = RouteProtocol::Other(PROTOCOL);
        let attributes = &mut message.attributes;
        if self.net.prefix_len() > 0 {
            attributes.push(RouteAttribute::Destination(self.net.addr().into()));
        }
        attributes.push(RouteAttribute::Table(self.table));
        match self.via {
            Via::Gateway(gateway, link) => {
                header.kind = RouteType::Unicast;
                header.flags = RouteFlags::Onlink;
                attributes.push(RouteAttribute::Gateway(gateway.into()));
                attributes.push(RouteAttribute::Oif(link));
            }
            Via::Local(link) => {
                header.kind = RouteType::Local;
                header.scope = RouteScope::Host;
                attributes.push(RouteAttribute::Oif(link));
            }
            Via::Blackhole | Via::Other => header.kind = RouteType::BlackHole,
        }
        attributes.extend(self.source.map(|ip| RouteAttribute::PrefSource(ip.into())));
        message
    }
}

impl Rule {
    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        let (ip, port) = (self.addr.ip(), self.addr.port());
        message.header.family = family(ip);
        message.header.dst_len = if ip.is_ipv4() { 32 } else { 128 };
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Destination(ip),
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Table(self.table),
            RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
            RuleAttribute::IpProtocol(match self.protocol {
                Protocol::Tcp => IpProtocol::Tcp,
                Protocol::Udp => IpProtocol::Udp,
                Protocol::Sctp => IpProtocol::Sctp,
            }),
            RuleAttribute::DestinationPortRange(RulePortRange {
                start: port,
                end: port,
            }),
        ];
        message
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
