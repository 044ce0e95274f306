//! JSON documents, one after another, in pieces.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::piece::{Faults, Piece, YamlError};
use super::refusal::{IDENTITY, Refusal};
use super::scalar::fraction;
use super::utf8::Utf8;
use crate::wire::StreamError;
use crate::wire::frame::{Framed, Frames, LARGEST};

/// Hands over the documents of a text. False if it is not JSON throughout: what has been handed over is void then.
pub(super) fn read<R: Read>(text: Utf8<R>, each: &mut dyn FnMut(Piece<'_>)) -> io::Result<bool> {
    let mut documents = Documents {
        each,
        frames: Frames::new(text),
        number: 0,
        twice: Vec::new(),
    };
    loop {
        match documents.next() {
            Ok(true) => {}
            Ok(false) => return Ok(true),
            Err(StreamError::Read(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(error);
            }
            Err(StreamError::Read(_) | StreamError::Malformed(_)) => return Ok(false),
        }
    }
}

struct Documents<'f, R> {
    each: &'f mut dyn FnMut(Piece<'_>),
    frames: Frames<Utf8<R>>,
    /// Of the document, the first being 1.
    number: usize,
    /// Keys that appear twice, as far as no piece has taken them along.
    twice: Vec<YamlError>,
}

impl<R: Read> Documents<'_, R> {
    /// Hands over the next document; false if there is none.
    fn next(&mut self) -> Result<bool, StreamError> {
        let Some(first) = self.frames.peek()? else {
            return Ok(false);
        };
        self.number += 1;
        let (document, refusal) = match first {
            b'{' => self.object()?,
            _ => self.value()?,
        };
        let faults = self.faults(0, refusal, &document);
        (self.each)(Piece::Document(document, faults));
        Ok(true)
    }

    /// The outermost object of a document: field by field, and of `items` element by element.
    fn object(&mut self) -> Result<(Value, Option<Refusal>), StreamError> {
        self.frames.expect(b'{')?;
        let (mut entries, mut size, mut first) = (Map::new(), 0, true);
        while let Some(key) = self.frames.key(&mut first)? {
            if entries.contains_key(&key) {
                let line = self.frames.reader().line() + 1;
                YamlError::twice(&key, line, self.number).keep(&mut self.twice);
            }
            if key == "items" {
                (self.each)(Piece::Items(&entries));
                if self.frames.peek()? == Some(b'[') {
                    self.items()?;
                    entries.insert(key, Value::Array(Vec::new()));
                    continue;
                }
            }
            let line = self.line()?;
            let framed = match &*key {
                "metadata" => self.frames.metadata()?,
                _ => self.frames.value()?,
            };
            size += framed.size();
            match framed {
                // Once it is too large only who it is matters.
                Framed::Text(_) if size > LARGEST && !IDENTITY.contains(&&*key) => {}
                Framed::Text(text) => {
                    let value = parse(&text, line, self.number, &mut self.twice)?;
                    entries.insert(key, value);
                }
                Framed::Large(outline) if key == "metadata" => {
                    entries.insert(key, outline.metadata());
                }
                Framed::Large(_) => {}
            }
        }
        let document = Value::Object(entries);
        Ok(match size > LARGEST {
            true => (Refusal::identity(document), Some(Refusal::Large)),
            false => (document, None),
        })
    }

    /// The elements of the outermost object's `items`.
    fn items(&mut self) -> Result<(), StreamError> {
        self.frames.expect(b'[')?;
        let mut first = true;
        while self.frames.more(&mut first, b']')? {
            let before = self.twice.len();
            let (item, refusal) = self.value()?;
            let faults = self.faults(before, refusal, &item);
            (self.each)(Piece::Item(item, faults));
        }
        Ok(())
    }

    fn value(&mut self) -> Result<(Value, Option<Refusal>), StreamError> {
        let line = self.line()?;
        Ok(match self.frames.value()? {
            Framed::Text(text) => (parse(&text, line, self.number, &mut self.twice)?, None),
            Framed::Large(outline) => (outline.object(), Some(Refusal::Large)),
        })
    }

    /// Lines before the next value.
    fn line(&mut self) -> Result<usize, StreamError> {
        self.frames.peek()?;
        Ok(self.frames.reader().line())
    }

    /// What is wrong with a value, where `before` other keys had appeared twice before it.
    fn faults(&mut self, before: usize, refusal: Option<Refusal>, value: &Value) -> Faults {
        let replaced = self.frames.reader().replaced().get();
        Faults {
            twice: self.twice.split_off(before),
            refusal: refusal.or_else(|| Refusal::of_text(value, replaced)),
        }
    }
}

/// Parses a value with `line` lines before it.
fn parse(
    text: &[u8],
    line: usize,
    document: usize,
    twice: &mut Vec<YamlError>,
) -> Result<Value, StreamError> {
    let lines = Cell::new(line + 1);
    let mut json = serde_json::Deserializer::from_reader(Counted {
        text,
        lines: &lines,
    });
    let node = Element {
        twice,
        lines: &lines,
        document,
    };
    let value = node.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

/// A text that is read byte by byte; its line is known at any time.
struct Counted<'t> {
    text: &'t [u8],
    lines: &'t Cell<usize>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.text.read(buffer)?;
        let lines = buffer[..count].iter().filter(|byte| **byte == b'\n');
        self.lines.set(self.lines.get() + lines.count());
        Ok(count)
    }
}

/// A value to be read. Unlike with serde_json's own reading, a key that appears twice is noticed.
struct Element<'d> {
    twice: &'d mut Vec<YamlError>,
    lines: &'d Cell<usize>,
    document: usize,
}

impl Element<'_> {
    fn below(&mut self) -> Element<'_> {
        Element {
            twice: self.twice,
            lines: self.lines,
            document: self.document,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(fraction(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element_seed(self.below())? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Value, A::Error> {
        let mut entries = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if entries.contains_key(&key) {
                let line = self.lines.get();
                YamlError::twice(&key, line, self.document).keep(self.twice);
            }
            let value = object.next_value_seed(self.below())?;
            entries.insert(key, value);
        }
        Ok(Value::Object(entries))
    }
}
