//! LIST responses and WATCH streams, decoded while they arrive.

use std::borrow::Cow;
use std::io::{BufReader, Read};

use serde::Deserialize;

use super::error::StreamError;
use super::frame::{Framed, Frames, LARGEST, Source};
use super::lenient::{Field, Nested, Struct, Text};
use super::meta::parse;
use super::outline::Outline;
use super::{Decode, Interner, Item, ItemError, Kind, Status};
use crate::types::{Problem, one_line};

/// Enough to keep system calls few; small, since each of four reflectors has one for as long as the process lives.
const BUFFER: usize = 8 * 1024;

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
    let mut frames = Frames::new(BufReader::with_capacity(BUFFER, reader));
    let mut meta = ListMeta::default();
    frames.expect(b'{')?;
    let mut first = true;
    while let Some(key) = frames.key(&mut first)? {
        match &*key {
            "kind" => check_kind(&frames.value()?, kind)?,
            "metadata" => meta = list_meta(&frames.value()?),
            "items" => {
                let mut first = true;
                while next_item(&mut frames, &mut first)? {
                    each(object(frames.value()?, kind, interner));
                }
            }
            _ => frames.skip()?,
        }
    }
    // To the very end, so that a cut is noticed and the connection can be used again.
    match frames.peek()? {
        None => Ok(meta),
        Some(found) => Err(frames.unexpected("the end", found)),
    }
}

/// Whether another item comes; null stands for no items.
fn next_item<R: Source>(frames: &mut Frames<R>, first: &mut bool) -> Result<bool, StreamError> {
    if *first && frames.peek()? == Some(b'n') {
        frames.skip()?;
        return Ok(false);
    }
    if *first {
        frames.expect(b'[')?;
    }
    frames.more(first, b']')
}

fn check_kind(found: &Framed<'_>, kind: Kind) -> Result<(), StreamError> {
    let (found, expected) = (found.text(), kind.as_str());
    if found == format!("\"{expected}List\"") || found == "\"List\"" {
        return Ok(());
    }
    let found = one_line(&found, 80);
    Err(StreamError::Malformed(format!(
        "kind: expected {expected}List, found {found}"
    )))
}

/// Decodes an object. One that cannot be decoded at all is named all the same, where its name can be found.
fn object<T: Decode>(
    framed: Framed<'_>,
    kind: Kind,
    interner: &mut Interner,
) -> Result<Item<T>, ItemError> {
    let (outline, what) = match framed {
        Framed::Text(text) => match std::str::from_utf8(&text) {
            Ok(text) => return T::decode(kind, text, interner),
            Err(error) => {
                let mut outline = Outline::default();
                outline.draw(&text);
                (outline, format!("no valid UTF-8: {error}"))
            }
        },
        Framed::Large(outline) => (outline, format!("larger than {LARGEST} bytes")),
    };
    match outline.key(kind) {
        Some(name) => Ok(Item {
            name,
            resource_version: outline.resource_version.unwrap_or_default().into(),
            object: Err(Problem::new("", format_args!("the object is {what}"))),
        }),
        None => Err(ItemError::new("", format_args!("the object is {what}"))),
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

fn list_meta(framed: &Framed<'_>) -> ListMeta {
    let text = framed.text();
    let raw: RawListMeta = parse(&text).unwrap_or_default();
    ListMeta {
        resource_version: raw.resource_version.ok().unwrap_or_default().into_owned(),
        continue_token: raw.r#continue.ok().unwrap_or_default().into_owned(),
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
    frames: Frames<BufReader<R>>,
    /// Nothing can be read any more.
    failed: bool,
}

impl<R: Read> Events<R> {
    /// The events in this body.
    pub fn new(reader: R) -> Self {
        Self {
            frames: Frames::new(BufReader::with_capacity(BUFFER, reader)),
            failed: false,
        }
    }

    /// Waits for the next event. None at the end of the stream; nothing can be read after an error.
    pub fn next<T: Decode>(
        &mut self,
        kind: Kind,
        interner: &mut Interner,
    ) -> Option<Result<Event<T>, StreamError>> {
        if self.failed {
            return None;
        }
        let event = self.read(kind, interner).transpose()?;
        self.failed = event.is_err();
        Some(event)
    }

    fn read<T: Decode>(
        &mut self,
        kind: Kind,
        interner: &mut Interner,
    ) -> Result<Option<Event<T>>, StreamError> {
        if self.frames.peek()?.is_none() {
            return Ok(None);
        }
        self.frames.expect(b'{')?;
        let (mut first, mut name, mut found, mut early) = (true, None, None, None);
        while let Some(key) = self.frames.key(&mut first)? {
            match (&*key, &name) {
                ("type", _) => {
                    let text: String = serde_json::from_str(&self.frames.value()?.text())?;
                    name = Some(text);
                }
                ("object", Some(name)) => {
                    found = Some(event(name, self.frames.value()?, kind, interner));
                }
                // What happened to it is said behind it.
                ("object", None) => early = Some(self.frames.value()?.into_owned()),
                _ => self.frames.skip()?,
            }
        }
        let name = name.ok_or_else(|| StreamError::Malformed("an event without a type".into()))?;
        Ok(found.or_else(|| {
            let object = early.unwrap_or(Framed::Text(Cow::Borrowed(b"null")));
            Some(event(&name, object, kind, interner))
        }))
    }
}

fn event<T: Decode>(
    name: &str,
    framed: Framed<'_>,
    kind: Kind,
    interner: &mut Interner,
) -> Event<T> {
    let changed: fn(Item<T>) -> Event<T> = match name {
        "ADDED" => Event::Added,
        "MODIFIED" => Event::Modified,
        "DELETED" => Event::Deleted,
        "BOOKMARK" => return bookmark(&framed.text()),
        "ERROR" => {
            let text = framed.text();
            return Event::Error(Status::parse(&text).unwrap_or_else(|| Status {
                message: format!("an error event without a Status: {}", one_line(&text, 200)),
                ..Status::default()
            }));
        }
        other => {
            let other = one_line(other, 80);
            return Event::Skipped(format!("an event of unknown type {other}"));
        }
    };
    match object(framed, kind, interner) {
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
