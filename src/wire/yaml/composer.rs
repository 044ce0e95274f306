//! The parser's events -> values.

use std::collections::HashMap;
use std::mem;

use saphyr_parser::{Event, Parser, ScanError, Span};
use serde_json::{Map, Value};

use super::scalar::{key_text, scalar};
use super::{Piece, YamlError};

/// As deep as serde_json goes before it refuses, so that both kinds of text have one limit.
const MAX_DEPTH: usize = 127;
/// What aliases may add in all, as [`weight`] has it. A few nested aliases can otherwise stand for billions of nodes.
const MAX_ALIASED: usize = 100_000;
/// So many bytes of text weigh as much as a node.
const TEXT_PER_NODE: usize = 32;
const TOO_MUCH: &str = "aliases expand to too much";

/// Builds the values and hands them over in pieces.
pub(super) struct Composer<'f> {
    each: &'f mut dyn FnMut(Piece<'_>),
    /// A key that appears twice is an error.
    strict: bool,
    /// Lines before the text.
    line: usize,
    /// Documents begun, before the text and in it.
    begun: usize,
    /// Collections that are open, the innermost last.
    open: Vec<Open>,
    /// The value of each anchor, with its weight.
    anchors: HashMap<usize, (Value, usize)>,
    /// The weight of all copies so far.
    aliased: usize,
    /// A whole document.
    complete: Option<Value>,
    /// Keys that appear twice: in the element of `items` that is being read, and elsewhere in the document.
    twice_in_item: Vec<YamlError>,
    twice: Vec<YamlError>,
}

/// A collection that has begun.
struct Open {
    /// Anchors are numbered from 1; 0 is none.
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
    /// The elements of the outermost mapping's `items`: handed over one by one.
    Items,
}

impl<'f> Composer<'f> {
    /// `line` lines and `begun` documents have come before.
    pub(super) fn new(
        each: &'f mut dyn FnMut(Piece<'_>),
        strict: bool,
        line: usize,
        begun: usize,
    ) -> Self {
        Self {
            each,
            strict,
            line,
            begun,
            open: Vec::new(),
            anchors: HashMap::new(),
            aliased: 0,
            complete: None,
            twice_in_item: Vec::new(),
            twice: Vec::new(),
        }
    }

    /// Reads a text to its end. Returns how many documents have begun, this text's and those before.
    pub(super) fn read(mut self, text: &mut dyn Iterator<Item = char>) -> Result<usize, YamlError> {
        let mut parser = Parser::new_from_iter(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.scan_error(&error))?;
            self.event(event, span)?;
        }
        Ok(self.begun)
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => Ok(()),
            Event::StreamEnd => {
                self.finish();
                Ok(())
            }
            Event::DocumentStart(_) => {
                self.finish();
                self.begun += 1;
                self.anchors.clear();
                Ok(())
            }
            Event::SequenceStart(anchor, _) => {
                let content = match self.open.as_slice() {
                    // What has an anchor is needed whole.
                    [outermost] if anchor == 0 && outermost.streams_items() => Content::Items,
                    _ => Content::Sequence(Vec::new()),
                };
                self.begin(anchor, content, span)
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
                let value = scalar(text, style, tag.as_deref())
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
        let Some((value, weight)) = self.anchors.get(&anchor) else {
            return Err(self.error(span, "an alias to an anchor that is not complete yet"));
        };
        self.aliased += weight;
        if self.aliased > MAX_ALIASED {
            return Err(self.error(span, TOO_MUCH));
        }
        let value = value.clone();
        if self.open.len() + depth(&value) > MAX_DEPTH {
            return Err(self.error(span, "nested too deeply"));
        }
        Ok(value)
    }

    /// A complete value: an element, a key, the value of a key, or a whole document.
    fn value(&mut self, value: Value, anchor: usize, span: Span) -> Result<(), YamlError> {
        if anchor > 0 {
            let weight = weight(&value);
            // What an anchor keeps is a copy; an anchor around it keeps it once more.
            if self.open.iter().any(|open| open.anchor > 0) {
                self.aliased += weight;
            }
            if self.aliased > MAX_ALIASED {
                return Err(self.error(span, TOO_MUCH));
            }
            self.anchors.insert(anchor, (value.clone(), weight));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.complete = Some(value),
            Some(Content::Items) => {
                let twice = mem::take(&mut self.twice_in_item);
                (self.each)(Piece::Item(value, twice));
            }
            Some(Content::Sequence(elements)) => elements.push(value),
            Some(Content::Mapping {
                entries,
                key,
                merged,
            }) => match key.take() {
                None => return self.key(value, span),
                Some(text) if text == "<<" => merged.push(value),
                Some(text) => {
                    entries.insert(text, value);
                }
            },
        }
        Ok(())
    }

    /// Hands over the document: now it is known that nothing but another one follows.
    fn finish(&mut self) {
        let twice = mem::take(&mut self.twice);
        if let Some(document) = self.complete.take().filter(|value| !value.is_null()) {
            (self.each)(Piece::Document(document, twice));
        }
    }

    /// A key of the innermost collection.
    fn key(&mut self, value: Value, span: Span) -> Result<(), YamlError> {
        let Some(text) = key_text(value) else {
            // Leaves nothing to go on with.
            return Err(self.error(span, "a key must be a scalar"));
        };
        let outermost = self.open.len() == 1;
        let Some(Content::Mapping { entries, key, .. }) =
            self.open.last_mut().map(|open| &mut open.content)
        else {
            return Ok(());
        };
        if outermost && text == "items" {
            (self.each)(Piece::Items(entries));
        }
        let twice = text != "<<" && entries.contains_key(&text);
        let text = key.insert(text);
        if twice {
            let error = YamlError::twice(text, self.line + span.start.line(), self.begun.max(1));
            match self.open.get(1).map(|open| &open.content) {
                _ if self.strict => return Err(error),
                Some(Content::Items) => self.twice_in_item.push(error),
                _ => self.twice.push(error),
            }
        }
        Ok(())
    }

    fn error(&self, span: Span, message: impl Into<String>) -> YamlError {
        YamlError {
            document: self.begun.max(1),
            line: self.line + span.start.line(),
            message: message.into(),
        }
    }

    fn scan_error(&self, error: &ScanError) -> YamlError {
        YamlError {
            document: self.begun.max(1),
            line: self.line + error.marker().line(),
            message: error.info().to_string(),
        }
    }
}

impl Open {
    /// The elements of the list that begins now are handed over one by one.
    fn streams_items(&self) -> bool {
        let Content::Mapping { key, .. } = &self.content else {
            return false;
        };
        self.anchor == 0 && key.as_deref() == Some("items")
    }
}

impl Content {
    fn finish(self) -> Value {
        match self {
            Self::Items => Value::Array(Vec::new()),
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

/// The memory that a value takes: one for each node, and for every so many bytes of text.
fn weight(value: &Value) -> usize {
    let text = |text: &String| text.len() / TEXT_PER_NODE;
    1 + match value {
        Value::Array(elements) => elements.iter().map(weight).sum(),
        Value::Object(entries) => {
            let entries = entries.iter();
            entries.map(|(key, value)| text(key) + weight(value)).sum()
        }
        Value::String(string) => text(string),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Value::Object(entries) => 1 + entries.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}
