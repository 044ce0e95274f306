//! One object, of every kind: an item of a list, an event of a watch and a manifest say the same.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use portico::types::{EndpointSlice, Node, Service, ServiceCidr};
use portico::wire::{self, Decode, Event, Events, Interner, Item, ItemError, Kind, Object};
use serde_json::Value;
use serde_json::value::RawValue;

fuzz_target!(|text: &str| {
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else {
        return;
    };
    check::<Service>(Kind::Service, raw.get(), Object::Service);
    check::<EndpointSlice>(Kind::EndpointSlice, raw.get(), Object::EndpointSlice);
    check::<EndpointSlice>(Kind::Endpoints, raw.get(), Object::EndpointSlice);
    check::<Node>(Kind::Node, raw.get(), Object::Node);
    check::<ServiceCidr>(Kind::ServiceCidr, raw.get(), Object::ServiceCidr);
});

fn check<T>(kind: Kind, text: &str, wrap: fn(T) -> Object)
where
    T: Decode + Clone + Debug + PartialEq,
{
    let interner = &mut Interner::default();
    let [item, again] = &listed::<T>(kind, text, interner)[..] else {
        panic!("a list of two has two items");
    };
    assert_eq!(item, again, "the interner makes no difference");

    let frame = format!(r#"{{"type":"MODIFIED","object":{text}}}"#);
    let mut events = Events::new(frame.as_bytes());
    let event = events.next::<T>(kind, interner).expect("an event");
    match (item, event.expect("a whole event")) {
        (Ok(item), Event::Modified(found)) => assert_eq!(&found, item),
        (Err(_), Event::Skipped(_)) => {}
        (item, event) => panic!("{item:?} in a list, {event:?} in a watch"),
    }
    if let Ok(Item { name, object, .. }) = item {
        assert!(!name.name().is_empty() && !name.name().contains('/'));
        if let Ok(Some(object)) = object {
            assert_eq!(object.name(), name);
        }
    }
    in_a_manifest(kind, text, item, wrap);
}

fn listed<T: Decode>(
    kind: Kind,
    text: &str,
    interner: &mut Interner,
) -> Vec<Result<Item<T>, ItemError>> {
    let mut items = Vec::new();
    let list = format!(r#"{{"metadata":{{"resourceVersion":"1"}},"items":[{text},{text}]}}"#);
    wire::list(list.as_bytes(), kind, interner, &mut |item| {
        items.push(item)
    })
    .expect("a list");
    items
}

/// A manifest is a value first, in which of two equal keys the last one counts; a list takes fields as they come.
fn in_a_manifest<T>(
    kind: Kind,
    text: &str,
    item: &Result<Item<T>, ItemError>,
    wrap: fn(T) -> Object,
) where
    T: Decode + Clone + Debug + PartialEq,
{
    let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else {
        return;
    };
    if fields
        .get("kind")
        .is_some_and(|found| found != kind.as_str())
    {
        return;
    }
    let version = match kind.group() {
        "" => "v1".to_owned(),
        group => format!("{group}/v1"),
    };
    fields.insert("apiVersion".to_owned(), version.into());
    fields.insert("kind".to_owned(), kind.as_str().into());
    let json = Value::Object(fields).to_string();
    let interner = &mut Interner::default();
    let found = wire::manifests(|| Ok(json.as_bytes()), interner).expect("JSON");
    let expect = listed::<T>(kind, &json, interner).swap_remove(0);
    let (objects, errors) = match expect.map(|item| item.object) {
        Ok(Ok(object)) => (object.map(wrap).into_iter().collect(), 0),
        Ok(Err(_)) | Err(_) => (Vec::new(), 1),
    };
    assert_eq!(found.objects, objects, "as an item: {item:?}");
    assert_eq!(found.errors.len(), errors, "as an item: {item:?}");
}
