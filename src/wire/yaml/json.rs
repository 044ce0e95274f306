//! JSON documents, one after another, in pieces.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::utf8::Utf8;
use super::{Piece, YamlError};

/// Hands over the documents of a text. False if it is not JSON throughout: what has been handed over is void then.
pub(super) fn read<R: Read>(text: Utf8<R>, each: &mut dyn FnMut(Piece<'_>)) -> io::Result<bool> {
    let mut documents = Documents {
        each,
        lines: text.lines(),
        number: 0,
        duplicates: Vec::new(),
    };
    let mut json = serde_json::Deserializer::from_reader(text);
    loop {
        documents.number += 1;
        let value = Node {
            documents: &mut documents,
            place: Place::Outermost,
        };
        match value.deserialize(&mut json) {
            Ok(document) => {
                let duplicates = std::mem::take(&mut documents.duplicates);
                (documents.each)(Piece::Document(document, duplicates));
            }
            Err(error) if error.is_io() => return Err(error.into()),
            Err(_) => return Ok(false),
        }
        match json.end() {
            Ok(()) => return Ok(true),
            Err(error) if error.is_io() => return Err(error.into()),
            // There is another.
            Err(_) => {}
        }
    }
}

struct Documents<'f> {
    each: &'f mut dyn FnMut(Piece<'_>),
    lines: Rc<Cell<usize>>,
    /// Of the document, the first being 1.
    number: usize,
    /// Keys that appear twice, as far as no piece has taken them along.
    duplicates: Vec<YamlError>,
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Outermost,
    /// The value of the outermost mapping's `items`.
    Items,
    Inside,
}

/// A value to be read. Unlike with serde_json's own reading, a key that appears twice is noticed.
struct Node<'d, 'f> {
    documents: &'d mut Documents<'f>,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
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
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let Self { documents, place } = self;
        let mut elements = Vec::new();
        loop {
            let before = documents.duplicates.len();
            let element = Node {
                documents: &mut *documents,
                place: Place::Inside,
            };
            let Some(element) = list.next_element_seed(element)? else {
                return Ok(Value::Array(elements));
            };
            match place {
                Place::Items => {
                    let duplicates = documents.duplicates.split_off(before);
                    (documents.each)(Piece::Item(element, duplicates));
                }
                Place::Inside => elements.push(element),
                // Such a document says nothing, whatever is in it.
                Place::Outermost => {}
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let Self { documents, place } = self;
        let mut entries = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if entries.contains_key(&key) {
                let (line, document) = (documents.lines.get() + 1, documents.number);
                documents
                    .duplicates
                    .push(YamlError::twice(&key, line, document));
            }
            let mut value = Node {
                documents: &mut *documents,
                place: Place::Inside,
            };
            if place == Place::Outermost && key == "items" {
                (value.documents.each)(Piece::Items(&entries));
                value.place = Place::Items;
            }
            let value = object.next_value_seed(value)?;
            entries.insert(key, value);
        }
        Ok(Value::Object(entries))
    }
}
