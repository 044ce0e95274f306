//! Manifests: however a text is cut, and in whichever order a list says what it is, the same objects.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portico::wire::{Interner, Manifests, manifests, yaml};
use portico_fuzz::Pieces;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, bytes.len().max(1));
    for size in [1, 7] {
        assert_eq!(read(bytes, size), whole, "in pieces of {size}");
    }
    let (Ok(found), Ok(text)) = (whole, std::str::from_utf8(bytes)) else {
        return;
    };
    // Without keys that appear twice a text says the same when it is written in another way: as JSON, its keys sorted.
    let Ok(documents) = yaml::documents(text) else {
        return;
    };
    // A scalar says nothing, and is not always JSON's beginning.
    let collections = documents
        .iter()
        .all(|document| document.is_object() || document.is_array());
    if !found.duplicates.is_empty() || !collections {
        return;
    }
    assert!(found.broken.is_empty(), "{:?}", found.broken);
    let json: String = documents
        .iter()
        .map(|document| format!("{document}\n"))
        .collect();
    let again = read(json.as_bytes(), json.len().max(1)).expect("JSON");
    assert_eq!(again, found, "{json}");
});

fn read(bytes: &[u8], size: usize) -> Result<Manifests, String> {
    let open = || Ok(Pieces::new(bytes, size));
    manifests(open, &mut Interner::default()).map_err(|error| error.to_string())
}
