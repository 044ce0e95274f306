//! WATCH streams of every kind: however they are cut, the same events and the same end.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use portico::types::{EndpointSlice, Node, Service, ServiceCidr};
use portico::wire::{Decode, Event, Events, Interner, Kind};
use portico_fuzz::Pieces;

fuzz_target!(|bytes: &[u8]| {
    check::<Service>(Kind::Service, bytes);
    check::<EndpointSlice>(Kind::EndpointSlice, bytes);
    check::<EndpointSlice>(Kind::Endpoints, bytes);
    check::<Node>(Kind::Node, bytes);
    check::<ServiceCidr>(Kind::ServiceCidr, bytes);
});

fn check<T: Decode + Debug + PartialEq>(kind: Kind, bytes: &[u8]) {
    let whole = read::<T>(kind, bytes, bytes.len().max(1));
    assert_eq!(read::<T>(kind, bytes, 3), whole, "in pieces");
    // What has come before the connection broke is what would have come.
    let (before, _) = read::<T>(kind, &bytes[..bytes.len() / 2], bytes.len());
    assert_eq!(whole.0.get(..before.len()), Some(&before[..]));
    for event in &whole.0 {
        if let Event::Bookmark {
            resource_version, ..
        } = event
        {
            assert!(!resource_version.is_empty());
        }
    }
}

fn read<T: Decode>(kind: Kind, bytes: &[u8], size: usize) -> (Vec<Event<T>>, Option<String>) {
    let (mut found, mut interner) = (Vec::new(), Interner::default());
    let mut events = Events::new(Pieces::new(bytes, size));
    while let Some(event) = events.next(kind, &mut interner) {
        match event {
            Ok(event) => found.push(event),
            Err(error) => return (found, Some(error.to_string())),
        }
        // Each event is an object, or the form of one.
        assert!(found.len() <= bytes.len(), "events without end");
    }
    (found, None)
}
