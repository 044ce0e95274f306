//! Manifests: wherever a text is cut, and in whichever order a list says what it is, the same objects.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portico::wire::{Interner, Manifests, manifests, yaml};
use portico_fuzz::Pieces;

/// What the decoder reads at once.
const CHUNK: usize = 16 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let Ok(found) = read(bytes) else {
        return;
    };
    // Bytes that are no text cost their object alone.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    cut_elsewhere(text, &found);
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
    assert_eq!(read(json.as_bytes()), Ok(found), "{json}");
});

/// Behind blank lines, so that a chunk ends within a character, or else within a marker between documents; what is wrong is
/// as many lines further down.
fn cut_elsewhere(text: &str, found: &Manifests) {
    if text.is_empty() || text.starts_with('\u{feff}') {
        return;
    }
    let character = (1..text.len()).find(|at| !text.is_char_boundary(*at));
    let marker = || {
        ["\n---", "\n..."]
            .map(|marker| text.find(marker))
            .into_iter()
            .flatten()
            .min()
    };
    let Some(within) = character.or_else(|| Some(marker()? + 2)) else {
        return;
    };
    let lines = CHUNK - within.min(CHUNK);
    let mut again = read(format!("{}{text}", "\n".repeat(lines)).as_bytes()).expect("the same");
    let duplicates = again.duplicates.iter_mut().map(|(_, error)| error);
    for error in again.broken.iter_mut().chain(duplicates) {
        error.line -= lines;
    }
    assert_eq!(&again, found);
}

fn read(bytes: &[u8]) -> Result<Manifests, String> {
    let open = || Ok(Pieces::new(bytes, 3));
    manifests(open, &mut Interner::default()).map_err(|error| error.to_string())
}
