//! Where each JSON value begins and ends, while it arrives: one value at a time is in memory, and of a large one nothing.
//!
//! Only brackets, quotes and commas count here; whether a value's text is JSON its decoder says. So what is wrong within one
//! value, be it the characters themselves, costs that value alone.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};

use super::error::StreamError;
use super::outline::Outline;

/// What one value may take. The apiserver's own store, etcd, refuses objects of 1.5 MiB.
pub(super) const LARGEST: usize = 4 << 20;
/// What is kept between two values.
const ROOM: usize = 64 << 10;

/// Where bytes come from, as with [`BufRead`].
pub(super) trait Source {
    /// What is there; nothing at the end.
    fn fill(&mut self) -> io::Result<&[u8]>;
    /// So many of them have been taken.
    fn consume(&mut self, count: usize);
}

impl<R: Read> Source for BufReader<R> {
    fn fill(&mut self) -> io::Result<&[u8]> {
        while let Err(error) = self.fill_buf() {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(self.buffer())
    }

    fn consume(&mut self, count: usize) {
        BufRead::consume(self, count);
    }
}

/// The values of a text, one after another.
pub(super) struct Frames<R> {
    reader: R,
    text: Vec<u8>,
    /// Bytes taken so far.
    taken: u64,
}

/// A value.
pub(super) enum Framed<'t> {
    /// Its text, should it be text.
    Text(Cow<'t, [u8]>),
    /// It is larger than [`LARGEST`].
    Large(Outline),
}

impl Framed<'_> {
    pub(super) fn into_owned(self) -> Framed<'static> {
        match self {
            Self::Text(text) => Framed::Text(Cow::Owned(text.into_owned())),
            Self::Large(outline) => Framed::Large(outline),
        }
    }

    /// In bytes; of a large one, that it is large.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Large(_) => LARGEST + 1,
        }
    }

    /// For what is small and of no object.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => String::from_utf8_lossy(text),
            Self::Large(_) => Cow::Borrowed(""),
        }
    }
}

impl<R: Source> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            text: Vec::new(),
            taken: 0,
        }
    }

    /// The reader, which is where the last value ended.
    pub(super) fn reader(&mut self) -> &mut R {
        &mut self.reader
    }

    /// The next byte that is not blank stays where it is. None at the end.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let bytes = self.reader.fill()?;
            let blank = bytes.iter().take_while(|byte| is_blank(**byte)).count();
            let next = bytes.get(blank).copied();
            let ended = bytes.is_empty();
            self.consume(blank);
            if next.is_some() || ended {
                return Ok(next);
            }
        }
    }

    /// Takes a byte that has to come next.
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), StreamError> {
        match self.need()? {
            found if found == byte => {
                self.consume(1);
                Ok(())
            }
            found => Err(self.unexpected(&format!("`{}`", char::from(byte)), found)),
        }
    }

    /// Whether another element of a list or an object comes, which `close` ends; `first` at the first call.
    pub(super) fn more(&mut self, first: &mut bool, close: u8) -> Result<bool, StreamError> {
        let begun = !std::mem::take(first);
        let found = self.need()?;
        if found == close {
            self.consume(1);
            return Ok(false);
        }
        if begun {
            self.expect(b',')?;
            let found = self.need()?;
            if found == close {
                return Err(self.unexpected("a value", found));
            }
        }
        Ok(true)
    }

    /// The key of an object's next element; None at the object's end. One that is too large is nobody's key.
    pub(super) fn key(&mut self, first: &mut bool) -> Result<Option<String>, StreamError> {
        if !self.more(first, b'}')? {
            return Ok(None);
        }
        let found = self.need()?;
        if found != b'"' {
            return Err(self.unexpected("a key", found));
        }
        let key = match self.value()? {
            Framed::Text(text) => serde_json::from_slice(&text)?,
            Framed::Large(_) => String::new(),
        };
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// The next value.
    pub(super) fn value(&mut self) -> Result<Framed<'_>, StreamError> {
        self.frame(Some(Outline::default()))
    }

    /// The next value, which is an object's `metadata`.
    pub(super) fn metadata(&mut self) -> Result<Framed<'_>, StreamError> {
        self.frame(Some(Outline::of_metadata()))
    }

    /// Passes over the next value.
    pub(super) fn skip(&mut self) -> Result<(), StreamError> {
        self.frame(None).map(drop)
    }

    /// With an outline to draw should the value be large; without, it is not kept at all.
    fn frame(&mut self, outline: Option<Outline>) -> Result<Framed<'_>, StreamError> {
        let first = self.need()?;
        let mut scan = Scan::new(first).ok_or_else(|| self.unexpected("a value", first))?;
        let most = outline.as_ref().map_or(0, |_| LARGEST);
        let mut outline = outline.unwrap_or_default();
        let mut large = false;
        if self.text.capacity() > ROOM {
            self.text = Vec::new();
        }
        self.text.clear();
        loop {
            let bytes = self.reader.fill()?;
            if bytes.is_empty() {
                return match scan.inside {
                    Lexeme::Bare => Ok(self.framed(large, outline)),
                    Lexeme::Plain | Lexeme::Quotes | Lexeme::Escape => Err(cut()),
                };
            }
            let (count, ends) = scan.take(bytes);
            let taken = &bytes[..count];
            if !large && self.text.len() + count > most {
                large = true;
                outline.draw(&std::mem::take(&mut self.text));
            }
            match (large, most) {
                (false, _) => self.text.extend_from_slice(taken),
                (true, 0) => {}
                (true, _) => outline.draw(taken),
            }
            self.consume(count);
            if ends {
                return Ok(self.framed(large, outline));
            }
        }
    }

    fn framed(&self, large: bool, outline: Outline) -> Framed<'_> {
        match large {
            true => Framed::Large(outline),
            false => Framed::Text(Cow::Borrowed(&self.text)),
        }
    }

    /// As [`peek`](Self::peek), where the text must not end.
    fn need(&mut self) -> Result<u8, StreamError> {
        self.peek()?.ok_or_else(cut)
    }

    fn consume(&mut self, count: usize) {
        self.taken += count as u64;
        self.reader.consume(count);
    }

    /// Something else came than what has to.
    pub(super) fn unexpected(&self, expected: &str, found: u8) -> StreamError {
        let (found, at) = (found.escape_ascii(), self.taken);
        StreamError::Malformed(format!("expected {expected}, found `{found}` at byte {at}"))
    }
}

fn cut() -> StreamError {
    StreamError::Read(io::ErrorKind::UnexpectedEof.into())
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Where in a value the reader is.
struct Scan {
    depth: usize,
    inside: Lexeme,
}

#[derive(Clone, Copy)]
enum Lexeme {
    /// Brackets count.
    Plain,
    Quotes,
    /// Behind a backslash.
    Escape,
    /// A number, true, false or null: it ends where something else begins.
    Bare,
}

impl Scan {
    /// At a value that begins like this; None if none does.
    fn new(first: u8) -> Option<Self> {
        let inside = match first {
            b'{' | b'[' | b'"' => Lexeme::Plain,
            b',' | b':' | b']' | b'}' => return None,
            _ => Lexeme::Bare,
        };
        Some(Self { depth: 0, inside })
    }

    /// How many of these bytes are the value's, and whether it ends with them.
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (i, byte) in bytes.iter().enumerate() {
            self.inside = match (self.inside, byte) {
                (Lexeme::Plain, b'"') => Lexeme::Quotes,
                (Lexeme::Plain, b'{' | b'[') => {
                    self.depth += 1;
                    Lexeme::Plain
                }
                (Lexeme::Plain, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return (i + 1, true);
                    }
                    Lexeme::Plain
                }
                (Lexeme::Plain, _) => Lexeme::Plain,
                (Lexeme::Quotes, b'"') if self.depth == 0 => return (i + 1, true),
                (Lexeme::Quotes, b'"') => Lexeme::Plain,
                (Lexeme::Quotes, b'\\') => Lexeme::Escape,
                (Lexeme::Quotes | Lexeme::Escape, _) => Lexeme::Quotes,
                (Lexeme::Bare, byte) if is_blank(*byte) || b",:]}[{\"".contains(byte) => {
                    return (i, true);
                }
                (Lexeme::Bare, _) => Lexeme::Bare,
            };
        }
        (bytes.len(), false)
    }
}
