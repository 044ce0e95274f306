//! YAML and JSON texts: the two ways to read them agree, and a document means the same in both languages.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portico::wire::yaml;
use portico_fuzz::{alike, all_alike};
use serde_json::Value;

fuzz_target!(|text: &str| {
    let strict = yaml::documents(text);
    let lenient = yaml::documents_lenient(text);
    let lines = text.matches(['\n', '\r']).count() + 1;
    let complaints = lenient.iter().flat_map(|(_, complaints)| complaints);
    let errors = strict.as_ref().err().into_iter();
    for error in errors.chain(lenient.as_ref().err()).chain(complaints) {
        assert!((1..=lines + 1).contains(&error.line), "{error}");
    }
    if let Ok((documents, complaints)) = lenient
        && complaints.is_empty()
    {
        let strict = strict
            .as_ref()
            .expect("there was nothing to be lenient about");
        assert!(all_alike(strict, &documents), "{strict:?} {documents:?}");
    }
    strict.iter().flatten().for_each(in_both_languages);
});

fn in_both_languages(document: &Value) {
    let json = document.to_string();
    let again = yaml::documents(&json).expect("JSON");
    assert!(all_alike(&again, std::slice::from_ref(document)), "{json}");
    let (again, _) = yaml::documents_lenient(&json).expect("JSON is YAML");
    assert!(alike(&again[0], document), "{json}");
}
