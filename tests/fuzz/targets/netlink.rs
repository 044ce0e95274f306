//! What comes from the kernel: messages and attributes lie within the datagram, and objects that are read can be written
//! and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portico::portal::netlink::codec::{Message, Writer, attributes, messages, outcome};
use portico::portal::netlink::{Change, Request, Route, Via, read};

fuzz_target!(|datagram: &[u8]| {
    let mut bytes = 0;
    for message in messages(datagram) {
        bytes += 16 + message.payload.len();
        let _ = outcome(&message);
        let _ = Change::of(&message);
        let mut inside = 0;
        for (_, value) in attributes(message.payload) {
            inside += 4 + value.len();
            assert!(inside <= message.payload.len());
        }
        framed_again(&message);
        objects(&message);
    }
    assert!(bytes <= datagram.len());
});

fn framed_again(message: &Message<'_>) {
    let mut writer = Writer::default();
    let id = (message.kind, message.flags, message.sequence);
    writer.message(id, message.payload, |_| {});
    let again = only(&writer);
    assert_eq!((again.kind, again.flags, again.sequence), id);
    // The writer counts the padding, too.
    assert_eq!(
        again.payload.get(..message.payload.len()),
        Some(message.payload)
    );
}

fn objects(message: &Message<'_>) {
    let _ = read::link(message);
    if let Some(address) = read::address(message) {
        let writer = written(&Request::add_address(address.link, address.ip));
        let again = read::address(&only(&writer)).expect("an address");
        assert_eq!((again.ip, again.link), (address.ip, address.link));
    }
    if let Some((_, route)) = read::route(message) {
        let writer = written(&Request::add_route(&route));
        let (_, again) = read::route(&only(&writer)).expect("a route");
        assert_eq!(again, as_written(route));
    }
    if let Some(rule) = read::our_rule(message) {
        let writer = written(&Request::add_rule(&rule));
        assert_eq!(read::our_rule(&only(&writer)), Some(rule));
    }
}

/// Everyone's routes are read, only ours are written.
fn as_written(route: Route) -> Route {
    Route {
        via: match route.via {
            Via::Other => Via::Blackhole,
            via => via,
        },
        net: match route.net.prefix_len() {
            0 => route.net.trunc(),
            _ => route.net,
        },
        ..route
    }
}

fn written(request: &Request) -> Writer {
    let mut writer = Writer::default();
    request.write(&mut writer, 1, 0);
    writer
}

fn only(writer: &Writer) -> Message<'_> {
    let mut messages = messages(writer.bytes());
    let message = messages.next().expect("a message");
    assert_eq!(messages.next(), None);
    message
}
