//! The configuration file: KubeProxyConfiguration v1alpha1, decoded strictly, then leniently with a warning, as upstream does.

use serde_json::Value;

use crate::wire::yaml;

use super::setting::{Draft, Setting};
use super::table::settings;

/// The only version there is.
pub(super) const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
pub(super) const KIND: &str = "KubeProxyConfiguration";

/// Puts the file's values over the draft's defaults. What strict decoding would refuse comes back as warnings; what no
/// decoding can use, as errors.
pub(super) fn apply(text: &str, draft: &mut Draft) -> Result<Vec<String>, Vec<String>> {
    let (documents, twice) =
        yaml::documents_lenient(text).map_err(|error| vec![error.to_string()])?;
    let mut documents = documents.into_iter();
    let document = documents.next().unwrap_or(Value::Null);
    let Value::Object(mut root) = document else {
        return Err(vec![format!("expected a {KIND}, found no mapping")]);
    };
    let mut errors = Vec::new();
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match root.remove(field) {
            Some(Value::String(found)) if found == expected => {}
            Some(found) => errors.push(format!("{field}: expected {expected}, found {found}")),
            None => errors.push(format!("{field} is missing: expected {expected}")),
        }
    }
    let mut unknown = Vec::new();
    let mut unstrict: Vec<String> = twice.iter().map(ToString::to_string).collect();
    walk("", &Value::Object(root), draft, &mut unknown, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut warnings = Vec::new();
    unstrict.extend(unknown.iter().map(|path| format!("unknown field {path}")));
    if !unstrict.is_empty() {
        warnings.push(format!(
            "using lenient decoding as strict decoding failed: {}",
            unstrict.join(", ")
        ));
    }
    if documents.next().is_some() {
        warnings.push("only the first document of the file is used".to_owned());
    }
    Ok(warnings)
}

fn walk(
    path: &str,
    value: &Value,
    draft: &mut Draft,
    unknown: &mut Vec<String>,
    errors: &mut Vec<String>,
) {
    if let Some(setting) = settings().find(|s| !s.path.is_empty() && s.path == path) {
        if let Err(reason) = set(setting, value, draft) {
            errors.push(format!("{path}: {reason}, found {value}"));
        }
        return;
    }
    let below = |setting: &Setting| {
        let rest = setting.path.strip_prefix(path);
        path.is_empty() || rest.is_some_and(|rest| rest.starts_with('.'))
    };
    if !settings().any(below) {
        unknown.push(path.to_owned());
        return;
    }
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                walk(&format!("{path}{dot}{name}"), value, draft, unknown, errors);
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            errors.push(format!("{path}: expected a mapping, found {value}"));
        }
    }
}

/// Null is the default, and so is a zero where upstream cannot tell it from unset.
fn set(setting: &Setting, value: &Value, draft: &mut Draft) -> Result<(), &'static str> {
    if value.is_null() {
        return Ok(());
    }
    let before = (setting.slot)(draft).to_json();
    (setting.slot)(draft).set_json(value)?;
    if setting.zero_is_unset && (setting.slot)(draft).is_zero() {
        (setting.slot)(draft).set_json(&before)?;
    }
    Ok(())
}

/// The configuration as the file would have it.
pub(super) fn to_json(draft: &mut Draft) -> Value {
    let mut root = Value::Object(serde_json::Map::new());
    for setting in settings().filter(|s| !s.path.is_empty()) {
        let value = (setting.slot)(draft).to_json();
        insert(&mut root, setting.path, value);
    }
    insert(&mut root, "apiVersion", API_VERSION.into());
    insert(&mut root, "kind", KIND.into());
    root
}

fn insert(at: &mut Value, path: &str, value: Value) {
    if !at.is_object() {
        *at = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = at else { return };
    match path.split_once('.') {
        Some((name, rest)) => insert(fields.entry(name).or_insert(Value::Null), rest, value),
        None => {
            fields.insert(path.to_owned(), value);
        }
    }
}

/// Block-style YAML of what `to_json` gives.
pub(super) fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    emit(value, 0, &mut out);
    out
}

fn emit(value: &Value, indent: usize, out: &mut String) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        out.push_str(&" ".repeat(indent));
        out.push_str(&scalar(name));
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push_str(":\n");
                emit(value, indent + 2, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push_str(":\n");
                for item in items {
                    // JSON is YAML: what is nested deeper than we ever write stays on its line.
                    let item = item.as_str().map_or_else(|| item.to_string(), scalar);
                    out.push_str(&format!("{}- {item}\n", " ".repeat(indent)));
                }
            }
            Value::String(text) => out.push_str(&format!(": {}\n", scalar(text))),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => {
                out.push_str(&format!(": {value}\n"));
            }
        }
    }
}

/// A plain scalar where nothing can mistake it for something else, else a quoted one.
fn scalar(text: &str) -> String {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let word = words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if first && text.chars().all(safe) && !word {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}
