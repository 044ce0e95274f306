//! One setting's place, by the type of its value: read from a flag's text or a file's JSON, written back as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::duration::GoDuration;

/// A borrowed place of a known type.
pub(super) enum Slot<'a> {
    Bool(&'a mut bool),
    Int(&'a mut i64),
    Float(&'a mut f64),
    Duration(&'a mut GoDuration),
    /// In a file a number of nanoseconds, too.
    DurationOrNanos(&'a mut GoDuration),
    Text(&'a mut String),
    /// A Kubernetes quantity: a string or a number.
    Quantity(&'a mut String),
    /// A flag whose value may be left out (`--version`, `--version=raw`), which says "true".
    Word(&'a mut String),
    /// Comma-separated and repeatable on the command line.
    List(&'a mut Vec<String>),
    /// Repeatable on the command line, one value each time.
    Repeated(&'a mut Vec<String>),
    /// `name=true,other=false` on the command line.
    Gates(&'a mut BTreeMap<String, bool>),
    /// `pattern=N,other=N` on the command line, in a file a list of mappings that is kept as it came.
    Vmodule(&'a mut Value),
}

impl Slot<'_> {
    /// The value that a flag alone means, if it may stand alone.
    pub(super) fn alone(&self) -> Option<&'static str> {
        matches!(self, Self::Bool(_) | Self::Word(_)).then_some("true")
    }

    /// Sets it from a flag's value. `first` is false when the same flag has come before.
    pub(super) fn set_text(self, text: &str, first: bool) -> Result<(), &'static str> {
        match self {
            Self::Bool(place) => *place = parse_bool(text).ok_or("expected true or false")?,
            Self::Int(place) => *place = text.parse().map_err(|_| "expected a whole number")?,
            Self::Float(place) => *place = text.parse().map_err(|_| "expected a number")?,
            Self::Duration(place) | Self::DurationOrNanos(place) => {
                *place =
                    GoDuration::parse(text).ok_or("expected a duration such as 30s or 1m30s")?;
            }
            Self::Text(place) | Self::Quantity(place) | Self::Word(place) => {
                text.clone_into(place);
            }
            Self::List(place) => {
                if first {
                    place.clear();
                }
                let items = text.split(',').map(str::trim).filter(|s| !s.is_empty());
                place.extend(items.map(str::to_owned));
            }
            Self::Repeated(place) => {
                if first {
                    place.clear();
                }
                place.push(text.to_owned());
            }
            Self::Gates(place) => {
                for pair in text.split(',').filter(|s| !s.trim().is_empty()) {
                    let expected = "expected NAME=true|false,...";
                    let (name, value) = pair.split_once('=').ok_or(expected)?;
                    let value = parse_bool(value.trim()).ok_or(expected)?;
                    let name = Some(name.trim()).filter(|name| !name.is_empty());
                    place.insert(name.ok_or(expected)?.to_owned(), value);
                }
            }
            Self::Vmodule(place) => *place = vmodule(text).ok_or("expected PATTERN=N,...")?,
        }
        Ok(())
    }

    /// Sets it from a file's value, which is not null.
    pub(super) fn set_json(self, value: &Value) -> Result<(), &'static str> {
        match self {
            Self::Bool(place) => *place = value.as_bool().ok_or("expected true or false")?,
            Self::Int(place) => *place = value.as_i64().ok_or("expected a whole number")?,
            Self::Float(place) => *place = value.as_f64().ok_or("expected a number")?,
            Self::DurationOrNanos(place) if value.is_i64() => {
                *place = GoDuration::from_nanos(value.as_i64().unwrap_or(0));
            }
            Self::Duration(place) | Self::DurationOrNanos(place) => {
                let text = value
                    .as_str()
                    .ok_or("expected a duration such as \"30s\"")?;
                *place = GoDuration::parse(text).ok_or("expected a duration such as \"30s\"")?;
            }
            Self::Text(place) | Self::Word(place) => {
                value.as_str().ok_or("expected a string")?.clone_into(place);
            }
            Self::Quantity(place) => {
                *place = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                        return Err("expected a quantity such as \"64Ki\"");
                    }
                };
            }
            Self::List(place) | Self::Repeated(place) => {
                let items = value.as_array().ok_or("expected a list of strings")?;
                let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                let items = items.ok_or("expected a list of strings")?;
                *place = items.into_iter().map(str::to_owned).collect();
            }
            Self::Gates(place) => {
                let expected = "expected a map of names to true or false";
                for (name, value) in value.as_object().ok_or(expected)? {
                    place.insert(name.clone(), value.as_bool().ok_or(expected)?);
                }
            }
            Self::Vmodule(place) => value.clone_into(place),
        }
        Ok(())
    }

    /// The value, as a KubeProxyConfiguration holds it.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Bool(place) => Value::from(**place),
            Self::Int(place) => Value::from(**place),
            Self::Float(place) if place.fract() == 0.0 && place.abs() < 1e9 => {
                Value::from(**place as i64)
            }
            Self::Float(place) => Value::from(**place),
            Self::Duration(place) | Self::DurationOrNanos(place) => Value::from(place.to_string()),
            Self::Text(place) | Self::Word(place) => Value::from(place.as_str()),
            Self::Quantity(place) if place.is_empty() => Value::from("0"),
            Self::Quantity(place) => Value::from(place.as_str()),
            Self::List(place) | Self::Repeated(place) => Value::from(place.as_slice()),
            Self::Gates(place) => Value::Object(
                place
                    .iter()
                    .map(|(k, v)| (k.clone(), (*v).into()))
                    .collect(),
            ),
            Self::Vmodule(place) => (**place).clone(),
        }
    }

    /// The value, as a command line holds it.
    pub(super) fn to_text(&self) -> String {
        match self.to_json() {
            Value::String(text) => text,
            Value::Null => String::new(),
            Value::Array(items) => {
                let text = |item: &Value| match item {
                    Value::String(text) => text.clone(),
                    // Of vmodule's.
                    other => format!(
                        "{}={}",
                        other["filePattern"].as_str().unwrap_or_default(),
                        other["verbosity"]
                    ),
                };
                items.iter().map(text).collect::<Vec<_>>().join(",")
            }
            Value::Object(gates) => {
                let pairs = gates.iter().map(|(name, on)| format!("{name}={on}"));
                pairs.collect::<Vec<_>>().join(",")
            }
            other @ (Value::Bool(_) | Value::Number(_)) => other.to_string(),
        }
    }

    /// Whether it holds its type's zero value, which upstream cannot tell from unset.
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Bool(place) => !**place,
            Self::Int(place) => **place == 0,
            Self::Float(place) => **place == 0.0,
            Self::Duration(place) | Self::DurationOrNanos(place) => place.is_zero(),
            Self::Text(place) | Self::Quantity(place) | Self::Word(place) => place.is_empty(),
            Self::List(place) | Self::Repeated(place) => place.is_empty(),
            Self::Gates(place) => place.is_empty(),
            Self::Vmodule(place) => place.is_null(),
        }
    }
}

/// A flag's value as the file has it, so that what is written can be read by kube-proxy as well.
fn vmodule(text: &str) -> Option<Value> {
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    let patterns = pairs.map(|pair| {
        let (pattern, verbosity) = pair.split_once('=')?;
        let verbosity: u32 = verbosity.trim().parse().ok()?;
        let pattern = pattern.trim();
        let named = !pattern.is_empty();
        named.then(|| json!({"filePattern": pattern, "verbosity": verbosity}))
    });
    patterns.collect::<Option<Vec<Value>>>().map(Value::from)
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
