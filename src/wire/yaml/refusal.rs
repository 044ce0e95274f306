//! Objects of which nothing but their identity is kept.

use std::fmt;

use serde_json::Value;

use super::utf8::REPLACEMENT;
use crate::wire::frame::LARGEST;

/// The fields that say who an object is.
pub(super) const IDENTITY: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// And those of `metadata`.
pub(super) const NAMES: [&str; 2] = ["namespace", "name"];

/// Why an object is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum Refusal {
    Large,
    NoText,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Large => write!(f, "the object is larger than {LARGEST} bytes"),
            Self::NoText => f.write_str("the object has bytes that are no UTF-8"),
        }
    }
}

impl Refusal {
    /// Of a value that came from a text of which something was `replaced`, being no text.
    pub(super) fn of_text(value: &Value, replaced: bool) -> Option<Self> {
        (replaced && has_replacement(value)).then_some(Self::NoText)
    }

    /// What is left of an object that is too large. Of a list, that it is one.
    pub(super) fn identity(value: Value) -> Value {
        let Value::Object(mut entries) = value else {
            return Value::Null;
        };
        entries.retain(|key, _| IDENTITY.contains(&&**key) || key == "items");
        if let Some(Value::Object(metadata)) = entries.get_mut("metadata") {
            metadata.retain(|key, _| NAMES.contains(&&**key));
        }
        Value::Object(entries)
    }
}

fn has_replacement(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(REPLACEMENT),
        Value::Array(elements) => elements.iter().any(has_replacement),
        Value::Object(entries) => {
            let mut entries = entries.iter();
            entries.any(|(key, value)| key.contains(REPLACEMENT) || has_replacement(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
