//! YAML or JSON text -> JSON values, the one form in which configuration and manifests are decoded.
//!
//! Scalars follow YAML 1.2's core schema (`yes` is a string). Aliases and merge keys (`<<`) are resolved, within limits: a
//! file that somebody else wrote must not be able to exhaust memory or the stack.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// As deep as serde_json goes before it refuses, so that both kinds of text have one limit.
const MAX_DEPTH: usize = 127;
/// Nodes that aliases may add in all. A few nested aliases can otherwise stand for billions.
const MAX_ALIASED_NODES: usize = 100_000;

/// Why a text is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// Which document, the first being 1.
    pub document: usize,
    /// The line in the whole text, the first being 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)?;
        if self.document > 1 {
            write!(f, " (document {})", self.document)?;
        }
        Ok(())
    }
}

impl std::error::Error for YamlError {}

/// The documents in a text, YAML (separated by `---`) or JSON (one after another). Empty documents are left out.
pub fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // JSON proper is left to serde_json: faster, and exact about tabs and escapes. What is flow-style YAML goes on below.
    if text.trim_start().starts_with(['{', '[']) {
        let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect();
        if let Ok(values) = values {
            return Ok(values);
        }
    }
    Ok(Loader::default().load(text)?.0)
}

/// As [`documents`], but a key that appears twice is no error: its last value counts, and it is among the complaints.
pub fn documents_lenient(text: &str) -> Result<(Vec<Value>, Vec<YamlError>), YamlError> {
    let loader = Loader {
        lenient: true,
        ..Loader::default()
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (documents, duplicates) = loader.load(text)?;
    let errors = duplicates.into_iter().map(|duplicate| duplicate.error);
    Ok((documents, errors.collect()))
}

/// A key that appears twice in one mapping, of which the last value counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// What and where.
    pub error: YamlError,
    /// In which of the documents that were returned, the first being 0.
    pub index: usize,
    /// In which element of that document's `items`.
    pub item: Option<usize>,
}

/// What a text of several documents says, as far as it can be read.
#[derive(Debug, Default, PartialEq)]
pub struct Manifests {
    /// The documents that can be read.
    pub documents: Vec<Value>,
    /// Keys that appear twice in them.
    pub duplicates: Vec<Duplicate>,
    /// Why other documents cannot be read.
    pub errors: Vec<YamlError>,
}

/// As [`documents`], but a key that appears twice costs only its first value, and what is no YAML only its document. An
/// error if that leaves nothing.
pub fn manifests(text: &str) -> Result<Manifests, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with(['{', '['])
        && let Some(found) = json_manifests(text)
    {
        return Ok(found);
    }
    let error = match load_leniently(text) {
        Ok((documents, duplicates)) => {
            return Ok(Manifests {
                documents,
                duplicates,
                errors: Vec::new(),
            });
        }
        Err(error) => error,
    };
    let mut found = Manifests::default();
    for (number, (line, part)) in (1..).zip(parts(text)) {
        let at = |error: YamlError| YamlError {
            document: number,
            line: line + error.line,
            ..error
        };
        match load_leniently(part) {
            Ok((documents, duplicates)) => {
                let before = found.documents.len();
                found.documents.extend(documents);
                let duplicates = duplicates.into_iter().map(|duplicate| Duplicate {
                    error: at(duplicate.error),
                    index: before + duplicate.index,
                    ..duplicate
                });
                found.duplicates.extend(duplicates);
            }
            Err(error) => found.errors.push(at(error)),
        }
    }
    match found.documents.is_empty() {
        true => Err(error),
        false => Ok(found),
    }
}

fn load_leniently(text: &str) -> Result<(Vec<Value>, Vec<Duplicate>), YamlError> {
    let loader = Loader {
        lenient: true,
        ..Loader::default()
    };
    loader.load(text)
}

/// None if it is not JSON throughout.
fn json_manifests(text: &str) -> Option<Manifests> {
    let mut found = Manifests::default();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut start = 0;
    while let Some(value) = values.next() {
        let (value, part) = (value.ok()?, text.get(start..values.byte_offset())?);
        if serde_json::from_str::<Distinct>(part).is_err() {
            // JSON is YAML, which knows where it is.
            let lines = text.get(..start)?.matches('\n').count();
            let (_, duplicates) = load_leniently(part).unwrap_or_default();
            for mut duplicate in duplicates {
                duplicate.index = found.documents.len();
                duplicate.error.document = duplicate.index + 1;
                duplicate.error.line += lines;
                found.duplicates.push(duplicate);
            }
        }
        found.documents.push(value);
        start = values.byte_offset();
    }
    Some(found)
}

/// The text's documents, each with the number of lines before it. `---` at the beginning of a line ends whatever stood before.
fn parts(text: &str) -> Vec<(usize, &str)> {
    let (mut parts, mut start, mut first_line, mut at) = (Vec::new(), 0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marker = line.strip_prefix("---");
        if at > start
            && marker.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        {
            parts.push((first_line, &text[start..at]));
            (start, first_line) = (at, number);
        }
        at += line.len();
    }
    parts.push((first_line, &text[start..]));
    parts
}

/// JSON without a key that appears twice. serde_json itself would keep the last one in silence.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DistinctVisitor)
    }
}

struct DistinctVisitor;

impl<'de> Visitor<'de> for DistinctVisitor {
    type Value = Distinct;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Distinct, A::Error> {
        while list.next_element::<Distinct>()?.is_some() {}
        Ok(Distinct)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Distinct, A::Error> {
        let mut keys = HashSet::new();
        while let Some((key, Distinct)) = object.next_entry::<String, Distinct>()? {
            if !keys.insert(key) {
                return Err(de::Error::custom("a key appears twice"));
            }
        }
        Ok(Distinct)
    }
}

/// Builds the values from the parser's events.
#[derive(Default)]
struct Loader {
    documents: Vec<Value>,
    /// Documents begun, for messages.
    begun: usize,
    /// Collections that are open, the innermost last.
    open: Vec<Open>,
    /// The value of each anchor, with its number of nodes.
    anchors: HashMap<usize, (Value, usize)>,
    aliased: usize,
    /// Duplicate keys are complaints, not errors.
    lenient: bool,
    complaints: Vec<Duplicate>,
}

/// A collection that has begun.
struct Open {
    anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Value>),
    Mapping {
        entries: Map<String, Value>,
        key: Option<String>,
        /// Values of `<<`: they fill in what the mapping itself does not say.
        merged: Vec<Value>,
    },
}

impl Loader {
    fn load(mut self, text: &str) -> Result<(Vec<Value>, Vec<Duplicate>), YamlError> {
        let mut parser = Parser::new(StrInput::new(text));
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.scan_error(&error))?;
            self.event(event, span)?;
        }
        Ok((self.documents, self.complaints))
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.begun += 1;
                self.anchors.clear();
                Ok(())
            }
            Event::SequenceStart(anchor, _) => {
                self.begin(anchor, Content::Sequence(Vec::new()), span)
            }
            Event::MappingStart(anchor, _) => {
                let content = Content::Mapping {
                    entries: Map::new(),
                    key: None,
                    merged: Vec::new(),
                };
                self.begin(anchor, content, span)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => {
                    let value = open.content.finish();
                    self.value(value, open.anchor, span)
                }
                None => Err(self.error(span, "a collection ends that never began")),
            },
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_ref())
                    .map_err(|message| self.error(span, message))?;
                self.value(value, anchor, span)
            }
            Event::Alias(anchor) => {
                let value = self.alias(anchor, span)?;
                self.value(value, 0, span)
            }
        }
    }

    fn begin(&mut self, anchor: usize, content: Content, span: Span) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.error(span, "nested too deeply"));
        }
        self.open.push(Open { anchor, content });
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Value, YamlError> {
        let Some((value, nodes)) = self.anchors.get(&anchor) else {
            return Err(self.error(span, "an alias to an anchor that is not complete yet"));
        };
        self.aliased += nodes;
        if self.aliased > MAX_ALIASED_NODES {
            return Err(self.error(span, "aliases expand to too much"));
        }
        let value = value.clone();
        if self.open.len() + depth(&value) > MAX_DEPTH {
            return Err(self.error(span, "nested too deeply"));
        }
        Ok(value)
    }

    /// A complete value: an element, a key, the value of a key, or a whole document.
    fn value(&mut self, value: Value, anchor: usize, span: Span) -> Result<(), YamlError> {
        // Anchors are numbered from 1; 0 is none.
        if anchor > 0 {
            let nodes = nodes(&value);
            self.anchors.insert(anchor, (value.clone(), nodes));
        }
        let problem = match self.open.last_mut().map(|open| &mut open.content) {
            None => {
                if !value.is_null() {
                    self.documents.push(value);
                }
                None
            }
            Some(Content::Sequence(elements)) => {
                elements.push(value);
                None
            }
            Some(Content::Mapping {
                entries,
                key,
                merged,
            }) => match key.take() {
                None => match key_text(value) {
                    Some(text) => {
                        let twice = text != "<<" && entries.contains_key(&text);
                        let problem = twice.then(|| format!("the key {text:?} appears twice"));
                        *key = Some(text);
                        problem
                    }
                    None => Some("a key must be a scalar".to_string()),
                },
                Some(text) if text == "<<" => {
                    merged.push(value);
                    None
                }
                Some(text) => {
                    entries.insert(text, value);
                    None
                }
            },
        };
        match problem.map(|problem| self.error(span, problem)) {
            // Only the duplicate keeps what it names; a key that is no scalar leaves nothing to go on with.
            Some(error) if self.lenient && self.has_key() => {
                let duplicate = Duplicate {
                    error,
                    index: self.documents.len(),
                    item: self.item(),
                };
                self.complaints.push(duplicate);
            }
            Some(error) => return Err(error),
            None => {}
        }
        Ok(())
    }

    /// A key waits for its value.
    fn has_key(&self) -> bool {
        let content = self.open.last().map(|open| &open.content);
        matches!(content, Some(Content::Mapping { key: Some(_), .. }))
    }

    /// In which element of the outermost mapping's `items` we are.
    fn item(&self) -> Option<usize> {
        match self.open.get(..2)? {
            [
                Open {
                    content: Content::Mapping { key: Some(key), .. },
                    ..
                },
                Open {
                    content: Content::Sequence(before),
                    ..
                },
            ] if key == "items" => Some(before.len()),
            _ => None,
        }
    }

    fn error(&self, span: Span, message: impl Into<String>) -> YamlError {
        YamlError {
            document: self.begun.max(1),
            line: span.start.line(),
            message: message.into(),
        }
    }

    fn scan_error(&self, error: &ScanError) -> YamlError {
        YamlError {
            document: self.begun.max(1),
            line: error.marker().line(),
            message: error.info().to_string(),
        }
    }
}

impl Content {
    fn finish(self) -> Value {
        match self {
            Self::Sequence(elements) => Value::Array(elements),
            Self::Mapping {
                mut entries,
                key: _,
                merged,
            } => {
                for value in merged {
                    merge(&mut entries, value);
                }
                Value::Object(entries)
            }
        }
    }
}

/// `<<: *other` or `<<: [*a, *b]`: an earlier word wins over a later one.
fn merge(entries: &mut Map<String, Value>, value: Value) {
    match value {
        Value::Object(other) => {
            for (key, value) in other {
                entries.entry(key).or_insert(value);
            }
        }
        Value::Array(others) => {
            for other in others.into_iter().filter(Value::is_object) {
                merge(entries, other);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Mapping keys are strings in JSON; `80: web` has the key "80".
fn key_text(key: Value) -> Option<String> {
    match key {
        Value::String(text) => Some(text),
        Value::Null => Some("null".to_string()),
        Value::Bool(_) | Value::Number(_) => Some(key.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Cow<'_, Tag>>,
) -> Result<Value, &'static str> {
    let core_tag = tag
        .filter(|tag| tag.is_yaml_core_schema())
        .map(|tag| tag.suffix.as_str());
    if core_tag == Some("str") || (style != ScalarStyle::Plain && core_tag.is_none()) {
        return Ok(Value::String(text.to_string()));
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if let Some(number) = integer(text) {
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

fn float(text: &str) -> Result<Value, &'static str> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(
        unsigned,
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"
    ) {
        return Err("infinity and NaN have no form in JSON");
    }
    // Rust would also take "inf" and "nan", which are strings here.
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let number = text.parse::<f64>().ok().filter(|_| numeric);
    Ok(number
        .and_then(Number::from_f64)
        .map_or_else(|| Value::String(text.to_string()), Value::Number))
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(nodes).sum(),
        Value::Object(entries) => entries.values().map(nodes).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Value::Object(entries) => 1 + entries.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(text: &str, expect: &[Value]) {
        assert_eq!(documents(text).as_deref(), Ok(expect), "{text}");
    }

    #[track_caller]
    fn check_error(text: &str, expect: &str) {
        let error = documents(text).expect_err(text);
        assert_eq!(error.to_string(), expect, "{text}");
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        check(
            "a: 1\nb: -2\nc: 0x1f\nd: 0o17\ne: 1.5\nf: 1e3\ng: 18446744073709551615\nh: 1.2.3.4\n",
            &[
                json!({"a": 1, "b": -2, "c": 31, "d": 15, "e": 1.5, "f": 1000.0, "g": u64::MAX, "h": "1.2.3.4"}),
            ],
        );
        check(
            "a: true\nb: yes\nc: ~\nd:\ne: 'true'\nf: \"1\"\ng: null\nh: inf\ni: 30s\nj: !!str 5\nk: 2026-01-01\n",
            &[
                json!({"a": true, "b": "yes", "c": null, "d": null, "e": "true", "f": "1", "g": null, "h": "inf", "i": "30s", "j": "5", "k": "2026-01-01"}),
            ],
        );
        check("80: web\ntrue: x", &[json!({"80": "web", "true": "x"})]);
        check(
            "a: |\n  one\n  two\nb: >-\n  one\n  two\n",
            &[json!({"a": "one\ntwo\n", "b": "one two"})],
        );
    }

    #[test]
    fn documents_are_split_and_empty_ones_left_out() {
        check("", &[]);
        check("---\n---\n# nothing\n", &[]);
        check(
            "---\na: 1\n---\n---\nb: 2\n...\n",
            &[json!({"a": 1}), json!({"b": 2})],
        );
        check(
            "{\"a\": 1}\n{\"b\":\t2}",
            &[json!({"a": 1}), json!({"b": 2})],
        );
        check("{a: 1, b: [x, y]}", &[json!({"a": 1, "b": ["x", "y"]})]);
        check("\u{feff}a: 1", &[json!({"a": 1})]);
    }

    #[test]
    fn aliases_and_merge_keys() {
        check(
            "base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nagain: *b\n",
            &[
                json!({"base": {"x": 1, "y": 2}, "use": {"x": 1, "y": 3}, "again": {"x": 1, "y": 2}}),
            ],
        );
    }

    #[test]
    fn errors_name_document_and_line() {
        check_error("a: 1\na: 2\n", "line 2: the key \"a\" appears twice");
        check_error(
            "a: 1\n---\nb: .nan\n",
            "line 3: infinity and NaN have no form in JSON (document 2)",
        );
        let error = documents("a: [1, 2\nb: 3").expect_err("an open bracket");
        assert_eq!((error.document, error.line), (1, 2), "{error}");
        check_error("? [a]\n: 1\n", "line 1: a key must be a scalar");
    }

    #[test]
    fn leniently_the_last_of_two_keys_counts() {
        let (documents, complaints) =
            documents_lenient("a: 1\nb: {c: 1, c: 2}\na: 3\n").expect("lenient");
        assert_eq!(documents, [json!({"a": 3, "b": {"c": 2}})]);
        let complaints: Vec<String> = complaints.iter().map(YamlError::to_string).collect();
        assert_eq!(
            complaints,
            [
                "line 2: the key \"c\" appears twice",
                "line 3: the key \"a\" appears twice"
            ]
        );
        assert!(documents_lenient("? [a]\n: 1\n").is_err());
    }

    #[test]
    fn manifests_lose_only_what_is_wrong() {
        let table = [
            ("a: 1\n---\nb: 2\n", "[{\"a\":1},{\"b\":2}]", ""),
            (
                "a: 1\n---\nb: [\n---\n# x\n---\nc: 3\nc: 4\n",
                "[{\"a\":1},{\"c\":4}]",
                "1: line 8: the key \"c\" appears twice (document 4); line 4",
            ),
            (
                "items:\n- a: 1\n- {b: 1, b: 2}\n",
                "[{\"items\":[{\"a\":1},{\"b\":2}]}]",
                "0[1]: line 3: the key \"b\" appears twice",
            ),
            (
                "{\"a\": {\"b\": 1, \"b\": 2}}\n{\"c\": 3}",
                "[{\"a\":{\"b\":2}},{\"c\":3}]",
                "0: line 1: the key \"b\" appears twice",
            ),
            ("{\"a\": 1}{\"a\": 2}", "[{\"a\":1},{\"a\":2}]", ""),
            (
                "{}\n{\"a\": 1,\n\"a\": 2}",
                "[{},{\"a\":2}]",
                "1: line 3: the key \"a\" appears twice (document 2)",
            ),
            ("text: |\n  ---\n  more\n---not\n", "", "error"),
        ];
        for (text, documents, wrong) in table {
            let Ok(found) = manifests(text) else {
                assert_eq!(wrong, "error", "{text}");
                continue;
            };
            assert_eq!(
                Value::Array(found.documents).to_string(),
                documents,
                "{text}"
            );
            let duplicates = found.duplicates.iter().map(|duplicate| {
                let item = duplicate.item.map(|item| format!("[{item}]"));
                format!(
                    "{}{}: {}",
                    duplicate.index,
                    item.unwrap_or_default(),
                    duplicate.error
                )
            });
            let errors = found
                .errors
                .iter()
                .map(|error| format!("line {}", error.line));
            let said: Vec<String> = duplicates.chain(errors).collect();
            assert_eq!(said.join("; "), wrong, "{text}");
        }
    }

    #[test]
    fn hostile_texts_are_refused() {
        check_error(&"- ".repeat(1000), "line 1: nested too deeply");
        assert!(documents(&"[".repeat(100_000)).is_err());
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
        for i in 1..10 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            laughs.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        let error = documents(&laughs).expect_err("a billion laughs");
        assert_eq!(error.message, "aliases expand to too much");
        check_error(
            "a: &a [*a]",
            "line 1: an alias to an anchor that is not complete yet",
        );
    }
}
