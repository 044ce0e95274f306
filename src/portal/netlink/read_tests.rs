//! Objects as another library writes them, as the kernel may vary them, and spoilt.

use std::net::IpAddr;

use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteProtocol};
use netlink_packet_route::rule::{RuleAttribute, RulePortRange};

use super::super::codec::{messages, outcome};
use super::super::monitor::Change;
use super::super::rng::{Rng, seeds};
use super::super::write::tests::{any_route, any_rule, route_message, rule_message};
use super::*;

fn bytes_of(message: RouteNetlinkMessage) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn only(bytes: &[u8]) -> Message<'_> {
    messages(bytes).next().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link_bytes(name: &str, up: bool, state: State) -> Vec<u8> {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.header.flags = if up {
        LinkFlags::Up | LinkFlags::Running
    } else {
        LinkFlags::Broadcast
    };
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::TxQueueLen(1000),
        LinkAttribute::OperState(state),
        LinkAttribute::Mtu(9000),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
    ];
    bytes_of(RouteNetlinkMessage::NewLink(message))
}

#[test]
fn links() {
    for (name, up, state) in [
        ("eth0", true, State::Up),
        ("lo", true, State::Unknown),
        ("fifteen-letters", false, State::Down),
        ("v", true, State::LowerLayerDown),
    ] {
        let expected = Link {
            index: 7,
            name: name.to_owned(),
            up,
            operational: state == State::Up,
            mtu: 9000,
        };
        assert_eq!(link(&only(&link_bytes(name, up, state))), Some(expected));
    }
    let bytes = bytes_of(RouteNetlinkMessage::DelLink(LinkMessage::default()));
    assert_eq!(link(&only(&bytes)), None);
}

fn address_message(attributes: Vec<AddressAttribute>) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.prefix_len = 24;
    message.header.index = 7;
    message.attributes = attributes;
    message
}

#[test]
fn addresses() {
    use AddressAttribute::{Address as Plain, Label, Local};
    for (attributes, expected) in [
        (
            vec![Local(ip("10.0.0.1")), Plain(ip("10.0.0.2"))],
            Some("10.0.0.1"),
        ),
        (
            vec![Plain(ip("10.0.0.2")), Local(ip("10.0.0.1"))],
            Some("10.0.0.1"),
        ),
        (vec![Plain(ip("2001:db8::1"))], Some("2001:db8::1")),
        (vec![Label("eth0".to_owned())], None),
        (vec![], None),
    ] {
        let expected = expected.map(|text| Address {
            ip: ip(text),
            prefix_len: 24,
            link: 7,
        });
        let bytes = bytes_of(RouteNetlinkMessage::NewAddress(address_message(attributes)));
        assert_eq!(address(&only(&bytes)), expected);
    }
}

#[test]
fn routes_and_rules() {
    seeds(500, |mut rng| {
        let expected = any_route(&mut rng);
        let mut message = route_message(&expected);
        // What the kernel says beside, and in its order.
        message.attributes.insert(0, RouteAttribute::Priority(1024));
        let first = rng.below(message.attributes.len());
        message.attributes.rotate_left(first);
        let bytes = bytes_of(RouteNetlinkMessage::NewRoute(message.clone()));
        let (header, found) = route(&only(&bytes)).unwrap();
        assert_eq!((header.protocol, found), (PROTOCOL, expected));
        message.header.flags |= RouteFlags::Cloned;
        let bytes = bytes_of(RouteNetlinkMessage::NewRoute(message));
        assert_eq!(route(&only(&bytes)), None);

        let expected = any_rule(&mut rng);
        let mut message = rule_message(&expected);
        message
            .attributes
            .push(RuleAttribute::SuppressPrefixLen(u32::MAX));
        message.attributes.rotate_left(rng.below(6));
        let bytes = bytes_of(RouteNetlinkMessage::NewRule(message.clone()));
        assert_eq!(our_rule(&only(&bytes)), Some(expected));
        // Whatever we always write is missing.
        let kept = |a: &RuleAttribute| match rng.clone().below(4) {
            0 => !matches!(a, RuleAttribute::Destination(_)),
            1 => !matches!(a, RuleAttribute::DestinationPortRange(_)),
            2 => !matches!(a, RuleAttribute::IpProtocol(_)),
            _ => !matches!(a, RuleAttribute::Protocol(_)),
        };
        message.attributes.retain(kept);
        let bytes = bytes_of(RouteNetlinkMessage::NewRule(message));
        assert_eq!(our_rule(&only(&bytes)), None);
    });
}

#[test]
fn rules_of_others_are_none() {
    let ours = any_rule(&mut Rng::new(1));
    for changed in [
        RuleAttribute::Protocol(RouteProtocol::Kernel),
        RuleAttribute::DestinationPortRange(RulePortRange { start: 1, end: 2 }),
    ] {
        let mut message = rule_message(&ours);
        // The last of a kind is the one that counts, for the kernel too.
        message.attributes.push(changed);
        let bytes = bytes_of(RouteNetlinkMessage::NewRule(message));
        assert_eq!(our_rule(&only(&bytes)), None);
    }
}

#[test]
fn announcements() {
    let with_ip = address_message(vec![AddressAttribute::Local(ip("10.0.0.1"))]);
    let route = route_message(&any_route(&mut Rng::new(1)));
    let rule = rule_message(&any_rule(&mut Rng::new(1)));
    let mut gone = LinkMessage::default();
    gone.header.index = 9;
    use RouteNetlinkMessage::*;
    let cases = [
        (
            bytes_of(NewAddress(with_ip.clone())),
            Some(Change::AddressAdded(ip("10.0.0.1"))),
        ),
        (
            bytes_of(DelAddress(with_ip)),
            Some(Change::AddressRemoved(ip("10.0.0.1"))),
        ),
        (
            bytes_of(NewAddress(address_message(vec![]))),
            Some(Change::Unknown),
        ),
        (
            link_bytes("x", true, State::Up),
            Some(Change::LinkChanged { index: 7, up: true }),
        ),
        (
            link_bytes("x", false, State::Up),
            Some(Change::LinkChanged {
                index: 7,
                up: false,
            }),
        ),
        (
            bytes_of(DelLink(gone)),
            Some(Change::LinkRemoved { index: 9 }),
        ),
        (bytes_of(NewRoute(route.clone())), Some(Change::Routes)),
        (bytes_of(DelRoute(route)), Some(Change::Routes)),
        (bytes_of(NewRule(rule.clone())), None),
        (bytes_of(DelRule(rule)), Some(Change::Routes)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(Change::of(&only(&bytes)), expected);
    }
}

/// Reads bytes in every way there is.
fn read_all(bytes: &[u8]) {
    for message in messages(bytes) {
        let _ = outcome(&message);
        let _ = Change::of(&message);
        let _ = (link(&message), address(&message));
        let _ = (route(&message), our_rule(&message));
    }
}

#[test]
fn spoilt_objects_do_no_harm() {
    let mut rng = Rng::new(3);
    let mut objects = vec![link_bytes("vethportico", true, State::Up)];
    for _ in 0..4 {
        let (route, rule) = (any_route(&mut rng), any_rule(&mut rng));
        objects.push(bytes_of(RouteNetlinkMessage::NewRoute(route_message(
            &route,
        ))));
        objects.push(bytes_of(RouteNetlinkMessage::NewRule(rule_message(&rule))));
    }
    let with_ip = vec![AddressAttribute::Local(ip("2001:db8::1"))];
    objects.push(bytes_of(RouteNetlinkMessage::NewAddress(address_message(
        with_ip,
    ))));
    for object in &objects {
        for length in 0..object.len() {
            // Cut off as it came, and with a length that fits.
            let mut cut = object[..length].to_vec();
            read_all(&cut);
            if let Some(claimed) = cut.first_chunk_mut() {
                *claimed = (length as u32).to_ne_bytes();
            }
            read_all(&cut);
        }
        for at in 0..object.len() - 1 {
            for value in [0, 1, 3, 4, 5, 0x7fff, u16::MAX] {
                let mut spoilt = object.clone();
                spoilt[at..at + 2].copy_from_slice(&u16::to_ne_bytes(value));
                read_all(&spoilt);
            }
        }
    }
    seeds(300, |mut rng| {
        let mut spoilt = rng.choose(&objects).clone();
        for _ in 0..=rng.below(8) {
            let at = 16 + rng.below(spoilt.len() - 16);
            spoilt[at] = rng.next() as u8;
        }
        read_all(&spoilt);
    });
}
