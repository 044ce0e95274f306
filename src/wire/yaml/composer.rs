//! The parser's events -> values.

use std::cell::Cell;
use std::collections::HashMap;
use std::mem;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScanError, Span};
use serde_json::{Map, Value};

use super::piece::{Faults, Piece, YamlError};
use super::refusal::{IDENTITY, NAMES, Refusal};
use super::scalar::{key_text, scalar};
use crate::types::one_line;
use crate::wire::frame::LARGEST;

/// As deep as serde_json goes before it refuses, so that both kinds of text have one limit.
const MAX_DEPTH: usize = 127;
/// What aliases may add in all, as [`weight`] has it. A few nested aliases can otherwise stand for billions of nodes.
const MAX_ALIASED: usize = 100_000;
/// So many bytes of text weigh as much as a node.
const TEXT_PER_NODE: usize = 32;
const TOO_MUCH: &str = "aliases expand to too much";
/// What anchors may keep in all, in the same measure: about 64 MiB.
const MAX_ANCHORED: usize = 2_000_000;
/// What a node counts for beside its text, when an object is measured.
const NODE: usize = 32;
/// A single value beyond this is not read to its end: it would have to be in memory.
const LONGEST_VALUE: usize = 4 * LARGEST;
/// So much is said of where it stands.
const LONGEST_PATH: usize = 200;

/// Builds the values and hands them over in pieces.
pub(super) struct Composer<'f> {
    each: &'f mut dyn FnMut(Piece<'_>),
    /// A key that appears twice is an error.
    strict: bool,
    /// A value that is longer, in characters, ends its document.
    pub(super) longest: usize,
    /// Lines before the text.
    line: usize,
    /// Documents begun, before the text and in it.
    begun: usize,
    /// Collections that are open, the innermost last.
    open: Vec<OpenCollection>,
    /// The value of each anchor, with its weight.
    anchors: HashMap<usize, (Value, usize)>,
    /// The weight of all copies so far.
    aliased: usize,
    /// The weight of all values of anchors.
    anchored: usize,
    /// Something of the text was no text.
    replaced: Rc<Cell<bool>>,
    /// A whole document.
    complete: Option<Value>,
    /// The element of `items` that is being read, and what else is in the document.
    item: Measured,
    document: Measured,
}

/// An object that is being read.
#[derive(Default)]
struct Measured {
    size: usize,
    /// Keys that appear twice in it.
    twice: Vec<YamlError>,
}

/// A collection that has begun.
struct OpenCollection {
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
    /// `line` lines and `begun` documents have come before. `replaced` tells whether something of them was no text.
    pub(super) fn new(
        each: &'f mut dyn FnMut(Piece<'_>),
        strict: bool,
        line: usize,
        begun: usize,
        replaced: Rc<Cell<bool>>,
    ) -> Self {
        Self {
            each,
            strict,
            longest: LONGEST_VALUE,
            line,
            begun,
            open: Vec::new(),
            anchors: HashMap::new(),
            aliased: 0,
            anchored: 0,
            replaced,
            complete: None,
            item: Measured::default(),
            document: Measured::default(),
        }
    }

    /// Reads a text to its end. Returns how many documents have begun, this text's and those before.
    pub(super) fn read(mut self, text: &mut dyn Iterator<Item = char>) -> Result<usize, YamlError> {
        // Characters that the parser took since its last event.
        let (taken, longest) = (Cell::new(0), self.longest);
        let metered = text.take_while(|_| {
            taken.set(taken.get() + 1);
            taken.get() <= longest
        });
        let mut parser = Parser::new_from_iter(metered);
        while let Some(event) = parser.next_event() {
            if taken.get() > longest {
                return Err(self.too_long());
            }
            taken.set(0);
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
                self.anchored = 0;
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
        self.open.push(OpenCollection { anchor, content });
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
            self.keep_anchored(&value, anchor, span)?;
        }
        let large = self.measure(&value);
        let names = large && self.names_its_object(&value);
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.complete = Some(value),
            Some(Content::Items) => self.finish_item(value),
            Some(Content::Sequence(_)) if large => {}
            Some(Content::Sequence(elements)) => elements.push(value),
            Some(Content::Mapping {
                entries,
                key,
                merged,
            }) => match key.take() {
                None => return self.key(value, span),
                Some(_) if large && !names => {}
                Some(text) if text == "<<" => merged.push(value),
                Some(text) => {
                    entries.insert(text, value);
                }
            },
        }
        Ok(())
    }

    fn keep_anchored(&mut self, value: &Value, anchor: usize, span: Span) -> Result<(), YamlError> {
        let weight = weight(value);
        // What an anchor keeps is a copy; an anchor around it keeps it once more.
        if self.open.iter().any(|open| open.anchor > 0) {
            self.aliased += weight;
        }
        self.anchored += weight;
        if self.aliased > MAX_ALIASED || self.anchored > MAX_ANCHORED {
            return Err(self.error(span, TOO_MUCH));
        }
        self.anchors.insert(anchor, (value.clone(), weight));
        Ok(())
    }

    /// Adds a value to its object's size. True if that is too large by now.
    fn measure(&mut self, value: &Value) -> bool {
        let object = match self.is_in_item() {
            true => &mut self.item,
            false => &mut self.document,
        };
        object.size += NODE + value.as_str().map_or(0, str::len);
        object.size > LARGEST
    }

    fn is_in_item(&self) -> bool {
        matches!(
            self.open.get(1).map(|open| &open.content),
            Some(Content::Items)
        )
    }

    /// The value that is complete now says who its object is.
    fn names_its_object(&self, value: &Value) -> bool {
        let fits = value.as_str().is_none_or(|text| text.len() < LARGEST / 4);
        let outer = if self.is_in_item() { 2 } else { 0 };
        let mut keys = self.open.iter().skip(outer).map(OpenCollection::key);
        fits && match (keys.next().flatten(), keys.next(), keys.next()) {
            (Some(key), None, _) => IDENTITY.contains(&key),
            (Some("metadata"), Some(Some(key)), None) => NAMES.contains(&key),
            _ => false,
        }
    }

    fn finish_item(&mut self, value: Value) {
        let (value, faults) = mem::take(&mut self.item).finish(value, self.replaced.get());
        (self.each)(Piece::Item(value, faults));
    }

    /// Hands over the document: now it is known that nothing but another one follows.
    fn finish(&mut self) {
        let document = mem::take(&mut self.document);
        if let Some(value) = self.complete.take().filter(|value| !value.is_null()) {
            let (value, faults) = document.finish(value, self.replaced.get());
            (self.each)(Piece::Document(value, faults));
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
            match self.is_in_item() {
                _ if self.strict => return Err(error),
                true => error.keep(&mut self.item.twice),
                false => error.keep(&mut self.document.twice),
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

    /// Of the value that is being read.
    fn too_long(&self) -> YamlError {
        let keys: Vec<&str> = self.open.iter().filter_map(OpenCollection::key).collect();
        let what = match keys.as_slice() {
            [] => "a value".to_owned(),
            keys => one_line(&keys.join("."), LONGEST_PATH).into_owned(),
        };
        YamlError {
            document: self.begun.max(1),
            line: self.line + 1,
            message: format!(
                "{}{what} is longer than {} characters: nothing behind it in this document is read",
                self.whose(),
                self.longest,
            ),
        }
    }

    /// The object that is being read, as far as it has said who it is.
    fn whose(&self) -> String {
        let outer = if self.is_in_item() { 2 } else { 0 };
        let text = |open: Option<&OpenCollection>, key: &str| {
            let Content::Mapping { entries, .. } = &open?.content else {
                return None;
            };
            let value = entries.get(key)?;
            value
                .as_str()
                .or_else(|| value.get("name")?.as_str())
                .map(str::to_owned)
        };
        let (object, within) = (self.open.get(outer), self.open.get(outer + 1));
        let kind = text(object, "kind").unwrap_or_default();
        let name = text(object, "metadata").or_else(|| text(within, "name"));
        match name {
            Some(name) => format!(
                "{}: ",
                one_line(format!("{kind} {name}").trim(), LONGEST_PATH)
            ),
            None => String::new(),
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

impl Measured {
    /// What there is to say of it. Of one that is too large only who it is is left.
    fn finish(self, value: Value, replaced: bool) -> (Value, Faults) {
        let (value, refusal) = match self.size > LARGEST {
            true => (Refusal::identity(value), Some(Refusal::Large)),
            false => {
                let refusal = Refusal::of_text(&value, replaced);
                (value, refusal)
            }
        };
        let faults = Faults {
            twice: self.twice,
            refusal,
        };
        (value, faults)
    }
}

impl OpenCollection {
    /// The key whose value is being read.
    fn key(&self) -> Option<&str> {
        match &self.content {
            Content::Mapping { key, .. } => key.as_deref(),
            Content::Sequence(_) | Content::Items => None,
        }
    }

    /// The elements of the list that begins now are handed over one by one.
    fn streams_items(&self) -> bool {
        self.anchor == 0 && self.key() == Some("items")
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
