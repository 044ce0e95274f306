//! LIST responses of every kind: however they are cut, the same items and the same end.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use portico::types::{EndpointSlice, Node, Service, ServiceCidr};
use portico::wire::{self, Decode, Interner, Item, ItemError, Kind, ListMeta};
use portico_fuzz::Pieces;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    check::<Service>(Kind::Service, bytes);
    check::<EndpointSlice>(Kind::EndpointSlice, bytes);
    check::<EndpointSlice>(Kind::Endpoints, bytes);
    check::<Node>(Kind::Node, bytes);
    check::<ServiceCidr>(Kind::ServiceCidr, bytes);
});

fn check<T: Decode + Debug + PartialEq>(kind: Kind, bytes: &[u8]) {
    let whole = read::<T>(kind, bytes, bytes.len().max(1));
    let (items, end) = &whole;
    assert_eq!(read::<T>(kind, bytes, 3), whole, "in pieces");
    // What has come before the connection broke is what would have come; but the last may be half a number.
    let (mut before, _) = read::<T>(kind, &bytes[..bytes.len() / 2], bytes.len());
    if before.last().is_some_and(Result::is_err) {
        before.pop();
    }
    assert_eq!(items.get(..before.len()), Some(&before[..]));
    let commas = bytes.iter().filter(|byte| **byte == b',').count();
    assert!(items.len() <= commas + 1, "{} items", items.len());
    // Not every list that was decoded is a value: what is skipped may hold half a surrogate pair.
    if let (Ok(_), Ok(value)) = (end, serde_json::from_slice::<Value>(bytes)) {
        // Should `items` appear twice, the value has the last ones alone.
        let in_value = value["items"].as_array().map_or(0, Vec::len);
        assert!(items.len() >= in_value, "{} items", items.len());
    }
}

type List<T> = (Vec<Result<Item<T>, ItemError>>, Result<ListMeta, String>);

fn read<T: Decode>(kind: Kind, bytes: &[u8], size: usize) -> List<T> {
    let (mut items, mut interner) = (Vec::new(), Interner::default());
    let reader = Pieces::new(bytes, size);
    let end = wire::list(reader, kind, &mut interner, &mut |item| items.push(item));
    (items, end.map_err(|error| error.to_string()))
}
