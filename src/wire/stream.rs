//! LIST responses and WATCH streams, decoded while they arrive.

use std::fmt;
use std::io::{self, BufReader, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::StreamDeserializer;
use serde_json::de::IoRead;
use serde_json::value::RawValue;

use super::lenient::{Field, Nested, Struct, Text};
use super::meta::parse;
use super::{Decode, Interner, Item, ItemError, Kind, Status};
use crate::types::one_line;

/// Enough to keep system calls few; small, since each of four reflectors has one for as long as the process lives.
const BUFFER: usize = 8 * 1024;

/// Why a list or a stream ended before its time.
#[derive(Debug)]
pub enum StreamError {
    /// The connection broke, or was silent for too long.
    Read(io::Error),
    /// What came is not what the API sends.
    Malformed(String),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "the connection broke: {error}"),
            Self::Malformed(what) => write!(f, "cannot decode the response: {what}"),
        }
    }
}

impl std::error::Error for StreamError {}

impl From<serde_json::Error> for StreamError {
    fn from(error: serde_json::Error) -> Self {
        match error.classify() {
            serde_json::error::Category::Io | serde_json::error::Category::Eof => {
                Self::Read(error.into())
            }
            serde_json::error::Category::Syntax | serde_json::error::Category::Data => {
                Self::Malformed(error.to_string())
            }
        }
    }
}

/// `metadata` of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListMeta {
    /// The version from which to watch.
    pub resource_version: String,
    /// The token for the next page; empty on the last one.
    pub continue_token: String,
}

/// Decodes a LIST response, handing over each item as it comes. Items before an error have been handed over.
pub fn list<T: Decode>(
    reader: impl Read,
    kind: Kind,
    interner: &mut Interner,
    each: &mut dyn FnMut(Result<Item<T>, ItemError>),
) -> Result<ListMeta, StreamError> {
    let reader = BufReader::with_capacity(BUFFER, reader);
    let mut json = serde_json::Deserializer::from_reader(reader);
    let mut decode = |text: &str| each(T::decode(kind, text, interner));
    let meta = ListVisitor {
        kind,
        each: &mut decode,
    }
    .deserialize(&mut json)?;
    // To the very end, so that a cut is noticed and the connection can be used again.
    json.end()?;
    Ok(meta)
}

struct ListVisitor<'f> {
    kind: Kind,
    each: &'f mut dyn FnMut(&str),
}

impl<'de> DeserializeSeed<'de> for ListVisitor<'_> {
    type Value = ListMeta;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ListMeta, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = ListMeta;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}List", self.kind.as_str())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ListMeta, A::Error> {
        let mut meta = ListMeta::default();
        while let Some(key) = map.next_key::<Box<str>>()? {
            match &*key {
                "kind" => {
                    let found = map.next_value::<Box<RawValue>>()?;
                    let expected = self.kind.as_str();
                    let names = [format!("\"{expected}List\""), "\"List\"".to_string()];
                    if !names.iter().any(|name| name == found.get()) {
                        let found = found.get();
                        return Err(A::Error::custom(format_args!(
                            "kind: expected {expected}List, found {found:.80}"
                        )));
                    }
                }
                "metadata" => meta = list_meta(&map.next_value::<Box<RawValue>>()?),
                "items" => map.next_value_seed(Items(&mut *self.each))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(meta)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawListMeta<'a> {
    #[serde(borrow)]
    resource_version: Text<'a>,
    #[serde(borrow)]
    r#continue: Text<'a>,
}

fn list_meta(raw: &RawValue) -> ListMeta {
    let raw: RawListMeta = parse(raw.get()).unwrap_or_default();
    ListMeta {
        resource_version: raw.resource_version.ok().unwrap_or_default().into_owned(),
        continue_token: raw.r#continue.ok().unwrap_or_default().into_owned(),
    }
}

struct Items<'f>(&'f mut dyn FnMut(&str));

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        // One item's text at a time: whatever is wrong inside it stays inside it.
        while let Some(item) = items.next_element::<Box<RawValue>>()? {
            (self.0)(item.get());
        }
        Ok(())
    }
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<T> {
    /// The object is new, or one of those that exist already.
    Added(Item<T>),
    /// The object has changed.
    Modified(Item<T>),
    /// The object is gone, or not selected any more; with its last state.
    Deleted(Item<T>),
    /// Nothing happened up to this version.
    Bookmark {
        /// The version from which to watch after a break.
        resource_version: String,
        /// Everything that existed when the watch began has been sent.
        initial_events_end: bool,
    },
    /// The watch failed.
    Error(Status),
    /// An event that says nothing to us, and why.
    Skipped(String),
}

/// The events of a watch, decoded as they arrive.
pub struct Events<R: Read> {
    frames: StreamDeserializer<'static, IoRead<BufReader<R>>, Frame>,
}

#[derive(Deserialize)]
struct Frame {
    r#type: String,
    object: Option<Box<RawValue>>,
}

impl<R: Read> Events<R> {
    /// The events in this body.
    pub fn new(reader: R) -> Self {
        let reader = BufReader::with_capacity(BUFFER, reader);
        Self {
            frames: serde_json::Deserializer::from_reader(reader).into_iter(),
        }
    }

    /// Waits for the next event. None at the end of the stream; nothing can be read after an error.
    pub fn next<T: Decode>(
        &mut self,
        kind: Kind,
        interner: &mut Interner,
    ) -> Option<Result<Event<T>, StreamError>> {
        let frame = match self.frames.next()? {
            Ok(frame) => frame,
            Err(error) => return Some(Err(error.into())),
        };
        let text = frame.object.as_deref().map_or("null", RawValue::get);
        Some(Ok(event(&frame.r#type, text, kind, interner)))
    }
}

fn event<T: Decode>(name: &str, text: &str, kind: Kind, interner: &mut Interner) -> Event<T> {
    let changed: fn(Item<T>) -> Event<T> = match name {
        "ADDED" => Event::Added,
        "MODIFIED" => Event::Modified,
        "DELETED" => Event::Deleted,
        "BOOKMARK" => return bookmark(text),
        "ERROR" => {
            return Event::Error(Status::parse(text).unwrap_or_else(|| Status {
                message: format!("an error event without a Status: {}", one_line(text, 200)),
                ..Status::default()
            }));
        }
        other => {
            let other = one_line(other, 80);
            return Event::Skipped(format!("an event of unknown type {other}"));
        }
    };
    match T::decode(kind, text, interner) {
        Ok(item) => changed(item),
        Err(error) => Event::Skipped(format!("{name} with an undecodable object: {error}")),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawBookmark<'a> {
    #[serde(borrow)]
    metadata: Nested<BookmarkMeta<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct BookmarkMeta<'a> {
    #[serde(borrow)]
    resource_version: Text<'a>,
    #[serde(borrow)]
    annotations: Nested<super::meta::Annotations<'a>>,
}

/// Bookmarks have no name, only a version.
fn bookmark<T>(text: &str) -> Event<T> {
    let raw: RawBookmark = parse(text).unwrap_or_default();
    let Struct(meta) = raw.metadata.ok().unwrap_or_default();
    let end = match &meta.annotations {
        Field::Present(Struct(annotations)) => {
            matches!(&annotations.initial_events_end, Field::Present(value) if value == "true")
        }
        Field::Absent | Field::Wrong(_) => false,
    };
    match meta.resource_version.ok() {
        Some(version) if !version.is_empty() => Event::Bookmark {
            resource_version: version.into_owned(),
            initial_events_end: end,
        },
        Some(_) | None => Event::Skipped("BOOKMARK without a resourceVersion".to_string()),
    }
}
