//! labelSelector and fieldSelector, as much of them as proxies use.

use serde_json::Value;

/// `!key`, `key`, `key=value`, `key!=value`, joined by commas.
pub(crate) fn matches_labels(selector: &str, object: &Value) -> bool {
    let label = |key: &str| {
        object["metadata"]["labels"]
            .get(key)
            .and_then(Value::as_str)
    };
    terms(selector).all(|term| match parse(term) {
        Term::Absent(key) => label(key).is_none(),
        Term::Present(key) => label(key).is_some(),
        Term::Equal(key, value) => label(key) == Some(value),
        Term::NotEqual(key, value) => label(key) != Some(value),
    })
}

/// `path=value`, `path!=value`, joined by commas; an absent field is the empty string.
pub(crate) fn matches_fields(selector: &str, object: &Value) -> bool {
    let field = |path: &str| {
        path.split('.')
            .fold(object, |value, key| &value[key])
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    terms(selector).all(|term| match parse(term) {
        Term::Equal(path, value) => field(path) == value,
        Term::NotEqual(path, value) => field(path) != value,
        Term::Absent(_) | Term::Present(_) => false,
    })
}

enum Term<'a> {
    Absent(&'a str),
    Present(&'a str),
    Equal(&'a str, &'a str),
    NotEqual(&'a str, &'a str),
}

fn terms(selector: &str) -> impl Iterator<Item = &str> {
    selector
        .split(',')
        .map(str::trim)
        .filter(|term| !term.is_empty())
}

fn parse(term: &str) -> Term<'_> {
    if let Some(key) = term.strip_prefix('!') {
        Term::Absent(key)
    } else if let Some((key, value)) = term.split_once("!=") {
        Term::NotEqual(key, value)
    } else if let Some((key, value)) = term.split_once('=') {
        Term::Equal(key, value.trim_start_matches('='))
    } else {
        Term::Present(term)
    }
}
