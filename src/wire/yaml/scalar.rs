//! What a scalar means: YAML 1.1's words and numbers, as Kubernetes' own parser has them.

use std::borrow::Cow;

use saphyr_parser::{ScalarStyle, Tag};
use serde_json::{Number, Value};

/// The value of a scalar.
pub(super) fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
) -> Result<Value, &'static str> {
    let Some(tag) = tag else {
        return match style {
            ScalarStyle::Plain => plain(text),
            _ => Ok(Value::String(text.into_owned())),
        };
    };
    // A tag of somebody's own, and `!` alone, make a string.
    let core = tag.is_yaml_core_schema().then_some(tag.suffix.as_str());
    let fits: fn(&Value) -> bool = match core {
        Some("int") if integer(&text.replace('_', "")).is_none() => |_| false,
        Some("null") => Value::is_null,
        Some("bool") => Value::is_boolean,
        Some("int" | "float") => Value::is_number,
        Some(_) | None => return Ok(Value::String(text.into_owned())),
    };
    plain(text).and_then(|value| match fits(&value) {
        true => Ok(value),
        false => Err("the value is not what its tag says"),
    })
}

/// What a scalar without quotes means.
fn plain(text: Cow<'_, str>) -> Result<Value, &'static str> {
    Ok(match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            Value::Bool(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            Value::Bool(false)
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF"
        | ".nan" | ".NaN" | ".NAN" => return Err("infinity and NaN have no form in JSON"),
        _ => match number(&text) {
            Some(number) => Value::Number(number),
            None => Value::String(text.into_owned()),
        },
    })
}

fn number(text: &str) -> Option<Number> {
    match text.as_bytes().first()? {
        b'.' => decimal(text),
        b'0'..=b'9' | b'+' | b'-' => {
            // 8_080 is 8080.
            let text = text.replace('_', "");
            integer(&text).or_else(|| decimal(&text))
        }
        _ => None,
    }
}

/// `0120` is octal, as is `0o120`.
fn integer(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (digits, radix) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&unsigned[2..], 16),
        [b'0', b'o' | b'O', ..] => (&unsigned[2..], 8),
        [b'0', b'b' | b'B', ..] => (&unsigned[2..], 2),
        [b'0', _, ..] => (&unsigned[1..], 8),
        _ => (unsigned, 10),
    };
    // Rust would take another sign here.
    let digits = Some(digits).filter(|digits| digits.chars().all(|c| c.is_digit(radix)))?;
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    match text.starts_with('-') {
        true => 0i64.checked_sub_unsigned(magnitude).map(Number::from),
        false => Some(magnitude.into()),
    }
}

fn decimal(text: &str) -> Option<Number> {
    // Rust would also take "inf" and "nan", which are strings here.
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    let number: f64 = text.parse().ok().filter(|_| text.chars().all(numeric))?;
    fraction(number)
}

/// A number written with a point or an exponent: a whole one where it is whole (8080.0, 8e3). None for infinity.
pub(super) fn fraction(number: f64) -> Option<Number> {
    // From here on not every whole number has a form of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.fract() == 0.0 && number.abs() < EXACT {
        true => Some((number as i64).into()),
        false => Number::from_f64(number),
    }
}

/// Mapping keys are strings in JSON; `80: web` has the key "80".
pub(super) fn key_text(key: Value) -> Option<String> {
    match key {
        Value::String(text) => Some(text),
        Value::Null => Some("null".to_string()),
        Value::Bool(_) | Value::Number(_) => Some(key.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}
