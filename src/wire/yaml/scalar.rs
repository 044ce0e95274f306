//! What a scalar means: YAML 1.2's core schema.

use std::borrow::Cow;

use saphyr_parser::{ScalarStyle, Tag};
use serde_json::{Number, Value};

/// The value of a scalar.
pub(super) fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
) -> Result<Value, &'static str> {
    let core_tag = tag
        .filter(|tag| tag.is_yaml_core_schema())
        .map(|tag| tag.suffix.as_str());
    if core_tag == Some("str") || (style != ScalarStyle::Plain && core_tag.is_none()) {
        return Ok(Value::String(text.into_owned()));
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if let Some(number) = integer(&text) {
        return Ok(Value::Number(number));
    }
    float(text)
}

fn integer(text: &str) -> Option<Number> {
    let radix = [("0x", 16), ("0o", 8)];
    if let Some((digits, radix)) = radix
        .iter()
        .find_map(|(prefix, radix)| Some((text.strip_prefix(prefix)?, *radix)))
    {
        return u64::from_str_radix(digits, radix).ok().map(Number::from);
    }
    let signed = text.parse::<i64>().ok().map(Number::from);
    signed.or_else(|| text.parse::<u64>().ok().map(Number::from))
}

fn float(text: Cow<'_, str>) -> Result<Value, &'static str> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(&text);
    if matches!(
        unsigned,
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"
    ) {
        return Err("infinity and NaN have no form in JSON");
    }
    // Rust would also take "inf" and "nan", which are strings here.
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let number = text.parse::<f64>().ok().filter(|_| numeric);
    Ok(match number.and_then(Number::from_f64) {
        Some(number) => Value::Number(number),
        None => Value::String(text.into_owned()),
    })
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
