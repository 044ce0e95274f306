//! Requests against what iproute2 sends, and as another library reads them.

use std::net::IpAddr;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
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

use super::super::codec::{attributes, messages, u32_of};
use super::super::message::{self, Veth};
use super::super::rng::{Rng, seeds};
use super::*;

fn written(request: &Request, sequence: u32, flags: u16) -> Vec<u8> {
    let mut writer = Writer::default();
    request.write(&mut writer, sequence, flags);
    writer.bytes().to_vec()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What strace showed iproute2 6.x to send for the commands.
#[cfg(target_endian = "little")]
#[test]
fn requests_are_as_iproute2_sends_them() {
    // ip route add 10.96.0.1/32 via 169.254.7.1 dev NUMBER_3 onlink proto 112 table 7112
    let route = Route {
        net: "10.96.0.1/32".parse().unwrap(),
        table: 7112,
        via: Via::Gateway(ip("169.254.7.1"), 3),
        source: None,
    };
    let route_bytes = [
        0x3c, 0, 0, 0, 0x18, 0, 0x05, 0x06, 0x59, 0xa3, 0x06, 0x6b, 0, 0, 0, 0, //
        0x02, 0x20, 0, 0, 0, 0x70, 0, 0x01, 0x04, 0, 0, 0, //
        0x08, 0, 0x01, 0, 0x0a, 0x60, 0, 0x01, 0x08, 0, 0x05, 0, 0xa9, 0xfe, 0x07, 0x01, //
        0x08, 0, 0x0f, 0, 0xc8, 0x1b, 0, 0, 0x08, 0, 0x04, 0, 0x03, 0, 0, 0,
    ];
    // ip rule add to 10.96.0.1/32 dport 53 ipproto udp priority 90 table 7112 protocol 112
    let rule = Rule {
        addr: "10.96.0.1:53".parse().unwrap(),
        protocol: Protocol::Udp,
        table: 7112,
        priority: 90,
    };
    let rule_bytes = [
        0x4c, 0, 0, 0, 0x20, 0, 0x05, 0x06, 0x59, 0xa3, 0x06, 0x6b, 0, 0, 0, 0, //
        0x02, 0x20, 0, 0, 0, 0, 0, 0x01, 0, 0, 0, 0, //
        0x08, 0, 0x01, 0, 0x0a, 0x60, 0, 0x01, 0x08, 0, 0x18, 0, 0x35, 0, 0x35, 0, //
        0x05, 0, 0x16, 0, 0x11, 0, 0, 0, 0x08, 0, 0x06, 0, 0x5a, 0, 0, 0, //
        0x08, 0, 0x0f, 0, 0xc8, 0x1b, 0, 0, 0x05, 0, 0x15, 0, 0x70, 0, 0, 0,
    ];
    let sequence = 0x6b06_a359;
    let added = written(&Request::add_route(&route), sequence, NLM_F_ACK);
    assert_eq!(added, route_bytes);
    let added = written(&Request::add_rule(&rule), sequence, NLM_F_ACK);
    assert_eq!(added, rule_bytes);
}

const ADD: u16 = 0x600;
const SET: u16 = 0x500;

/// Holds a request against its meaning as the other library has it. That is serialized and read back, too, since the
/// library does not tell apart everything that it can write.
fn assert_means(request: &Request, flags: u16, meaning: RouteNetlinkMessage) {
    let bytes = written(request, 77, 0);
    let read = |bytes: &[u8]| NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).unwrap();
    let mut expected = NetlinkMessage::from(meaning);
    expected.header.sequence_number = 77;
    expected.header.flags = 1 | flags;
    expected.finalize();
    let mut reference = vec![0; expected.buffer_len()];
    expected.serialize(&mut reference);
    let (found, expected) = (read(&bytes), read(&reference));
    assert!(matches!(found.payload, NetlinkPayload::InnerMessage(_)));
    assert_eq!(found, expected, "{request:?}");
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn link_message(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn veth_message(veth: &Veth) -> LinkMessage {
    let end = |(name, mac): (&str, message::Mac)| {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::Mtu(veth.mtu),
        ];
        message
    };
    let mut far = end(veth.far);
    let namespace = std::os::fd::AsRawFd::as_raw_fd(&veth.namespace);
    far.attributes.push(LinkAttribute::NetNsFd(namespace));
    let mut near = end(veth.near);
    near.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
    ]));
    near
}

#[test]
fn link_requests_mean_what_they_say() {
    let namespace = std::fs::File::open("/proc/self/ns/net").unwrap();
    for (near, far) in [("vethportico", "vethportico"), ("a", "fifteen-letters")] {
        let veth = Veth {
            near: (near, [2, 1, 2, 3, 4, 5]),
            far: (far, [2, 0, 0, 0, 0, 255]),
            namespace: std::os::fd::AsFd::as_fd(&namespace),
            mtu: 65535,
        };
        let meaning = RouteNetlinkMessage::NewLink(veth_message(&veth));
        assert_means(&Request::add_veth(&veth), ADD, meaning);
    }
    for index in [1, 0x1234_5678] {
        let meaning = RouteNetlinkMessage::DelLink(link_message(index));
        assert_means(&Request::delete_link_index(index), 0, meaning);
        let mut up = link_message(index);
        up.header.flags = LinkFlags::Up;
        up.header.change_mask = LinkFlags::Up;
        let meaning = RouteNetlinkMessage::SetLink(up);
        assert_means(&Request::link_up(index), 0, meaning);
        let mut silent = link_message(index);
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        silent.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
            vec![mode],
        )])];
        let meaning = RouteNetlinkMessage::SetLink(silent);
        assert_means(&Request::link_without_addresses(index), 0, meaning);
    }
}

#[test]
fn settings_of_links_are_written_even_if_zero() {
    // The other library reads only whole tables of these settings.
    for (settings, expected) in [
        ((Some(false), Some(0)), vec![(1, 0), (8, 0)]),
        ((Some(true), None), vec![(1, 1)]),
        ((None, Some(2)), vec![(8, 2)]),
        ((None, None), vec![]),
    ] {
        let (forwarding, rp_filter) = settings;
        let settings = LinkSettings {
            forwarding,
            rp_filter,
        };
        let bytes = written(&Request::link_settings(9, settings), 1, 0);
        let message = messages(&bytes).next().unwrap();
        let (header, rest) = IfInfo::split(message.payload).unwrap();
        assert_eq!((message.kind, header.index), (RTM_SETLINK, 9));
        let mut inside = rest;
        for wanted in [IFLA_AF_SPEC, AF_INET.into(), IFLA_INET_CONF] {
            let (kind, value) = attributes(inside).next().unwrap();
            assert_eq!(kind, wanted);
            assert_eq!(attributes(inside).count(), 1);
            inside = value;
        }
        let found: Vec<_> = attributes(inside)
            .map(|(kind, value)| (kind, u32_of(value).unwrap()))
            .collect();
        assert_eq!(found, expected);
    }
    // That the other library reads the same of it: one table for IPv4.
    let settings = LinkSettings {
        forwarding: Some(true),
        rp_filter: Some(0),
    };
    let bytes = written(&Request::link_settings(9, settings), 1, 0);
    let read = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).unwrap();
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::SetLink(link)) = read.payload else {
        panic!("{read:?}");
    };
    let [LinkAttribute::AfSpecUnspec(families)] = &link.attributes[..] else {
        panic!("{link:?}");
    };
    let [AfSpecUnspec::Inet(tables)] = &families[..] else {
        panic!("{families:?}");
    };
    assert!(matches!(tables[..], [AfSpecInet::DevConf(_)]), "{tables:?}");
}

#[test]
fn address_and_neighbour_requests_mean_what_they_say() {
    for address in [ip("10.96.0.1"), ip("0.0.0.0"), ip("2001:db8::ffff")] {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = whole(address);
        message.header.index = 12;
        message.header.scope = AddressScope::Universe;
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(address),
        ];
        let meaning = RouteNetlinkMessage::NewAddress(message);
        assert_means(&Request::add_address(12, address), SET, meaning);

        let mac = [2, 0, 0, 9, 8, 7];
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = 12;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(match address {
                IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
                IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
            }),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        let meaning = RouteNetlinkMessage::NewNeighbour(message);
        assert_means(&Request::set_neighbour(12, address, mac), SET, meaning);
    }
}

fn any_ip(rng: &mut Rng, v6: bool) -> IpAddr {
    match v6 {
        false => IpAddr::V4((rng.next() as u32).into()),
        true => IpAddr::V6((u128::from(rng.next()) << 64 | u128::from(rng.next())).into()),
    }
}

/// Any route of ours.
pub(crate) fn any_route(rng: &mut Rng) -> Route {
    let v6 = rng.one_in(2);
    let width = if v6 { 128 } else { 32 };
    let len = *rng.choose(&[0, 1, 8, 24, width, width]);
    let net = ipnet::IpNet::new(any_ip(rng, v6), len).unwrap().trunc();
    let link = rng.next() as u32;
    Route {
        net,
        table: *rng.choose(&[1, 254, 255, 256, 7112, u32::MAX]),
        via: match rng.below(3) {
            0 => Via::Gateway(any_ip(rng, v6), link),
            1 => Via::Local(link),
            _ => Via::Blackhole,
        },
        source: rng.one_in(2).then(|| any_ip(rng, v6)),
    }
}

/// Any rule of ours.
pub(crate) fn any_rule(rng: &mut Rng) -> Rule {
    let v6 = rng.one_in(2);
    Rule {
        addr: (any_ip(rng, v6), rng.next() as u16).into(),
        protocol: *rng.choose(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp]),
        table: *rng.choose(&[254, 7112, u32::MAX]),
        priority: rng.next() as u32,
    }
}

/// A route as the other library has it.
pub(crate) fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.net.addr());
    header.destination_prefix_length = route.net.prefix_len();
    header.table = u8::try_from(route.table).unwrap_or(0);
    header.protocol = RouteProtocol::Other(PROTOCOL);
    let (mut gateway, mut oif) = (None, None);
    match route.via {
        Via::Gateway(ip, link) => {
            header.kind = RouteType::Unicast;
            header.flags = RouteFlags::Onlink;
            gateway = Some(RouteAttribute::Gateway(ip.into()));
            oif = Some(RouteAttribute::Oif(link));
        }
        Via::Local(link) => {
            header.kind = RouteType::Local;
            header.scope = RouteScope::Host;
            oif = Some(RouteAttribute::Oif(link));
        }
        Via::Blackhole | Via::Other => header.kind = RouteType::BlackHole,
    }
    let dst = RouteAttribute::Destination(route.net.addr().into());
    let dst = (route.net.prefix_len() > 0).then_some(dst);
    let table = Some(RouteAttribute::Table(route.table));
    let source = route.source.map(|ip| RouteAttribute::PrefSource(ip.into()));
    message.attributes = [dst, gateway, table, oif, source]
        .into_iter()
        .flatten()
        .collect();
    message
}

/// A rule as the other library has it.
pub(crate) fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    let (ip, port) = (rule.addr.ip(), rule.addr.port());
    message.header.family = family(ip);
    message.header.dst_len = whole(ip);
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Destination(ip),
        RuleAttribute::DestinationPortRange(RulePortRange {
            start: port,
            end: port,
        }),
        RuleAttribute::IpProtocol(match rule.protocol {
            Protocol::Tcp => IpProtocol::Tcp,
            Protocol::Udp => IpProtocol::Udp,
            Protocol::Sctp => IpProtocol::Sctp,
        }),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ];
    message
}

#[test]
fn route_and_rule_requests_mean_what_they_say() {
    seeds(500, |mut rng| {
        let route = any_route(&mut rng);
        let add = || RouteNetlinkMessage::NewRoute(route_message(&route));
        assert_means(&Request::add_route(&route), ADD, add());
        assert_means(&Request::replace_route(&route), SET, add());
        let sourceless = Route {
            source: None,
            ..route
        };
        let delete = RouteNetlinkMessage::DelRoute(route_message(&sourceless));
        assert_means(&Request::delete_route(&route), 0, delete);

        let rule = any_rule(&mut rng);
        let add = RouteNetlinkMessage::NewRule(rule_message(&rule));
        assert_means(&Request::add_rule(&rule), ADD, add);
        let delete = RouteNetlinkMessage::DelRule(rule_message(&rule));
        assert_means(&Request::delete_rule(&rule), 0, delete);
    });
}

#[test]
fn standing_rules_mean_what_they_say() {
    let standing = |from, verdict, ours| StandingRule {
        family: IpFamily::V6,
        from,
        verdict,
        priority: 89,
        ours,
    };
    let message = |action, attributes: &[RuleAttribute]| {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.action = action;
        message.attributes = attributes.to_vec();
        message
    };
    let link = RuleAttribute::Iifname("vethportico".to_owned());
    let priority = RuleAttribute::Priority(89);
    let mark = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
    for (rule, expected) in [
        (
            standing(Some("vethportico"), RuleVerdict::Goto(91), true),
            message(
                RuleAction::Goto,
                &[
                    link,
                    RuleAttribute::Goto(91),
                    priority.clone(),
                    mark.clone(),
                ],
            ),
        ),
        (
            standing(None, RuleVerdict::Nothing, true),
            message(RuleAction::Nop, &[priority.clone(), mark]),
        ),
        (
            standing(None, RuleVerdict::Lookup(255), false),
            message(RuleAction::ToTable, &[RuleAttribute::Table(255), priority]),
        ),
    ] {
        let add = RouteNetlinkMessage::NewRule(expected.clone());
        assert_means(&Request::add_standing_rule(&rule), ADD, add);
        let delete = RouteNetlinkMessage::DelRule(expected);
        assert_means(&Request::delete_standing_rule(&rule), 0, delete);
    }
}
