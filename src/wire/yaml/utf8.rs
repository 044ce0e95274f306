//! Text from a reader, of which only a little is in memory.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use crate::wire::frame::Source;

/// What is read at once.
const CHUNK: u64 = 16 * 1024;

/// What stands for bytes that are no text.
pub(super) const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Takes text from a reader, by characters or by bytes of UTF-8, and counts lines. It is UTF-8, or UTF-16 where a byte order
/// mark says so; the mark itself is left out. Bytes that are no text become [`REPLACEMENT`].
pub(super) struct Utf8<R> {
    reader: R,
    encoding: Bytes,
    text: String,
    /// What of it has been taken.
    taken: usize,
    /// The beginning of a character of which the rest has not been read yet.
    cut: Vec<u8>,
    ended: bool,
    lines: usize,
    /// Something was no text.
    replaced: Rc<Cell<bool>>,
    /// Why the text ended early.
    error: Option<io::Error>,
}

#[derive(Clone, Copy)]
enum Bytes {
    /// Nothing has been read yet.
    Unknown,
    Utf8,
    /// With what makes a unit of two bytes.
    Utf16(fn([u8; 2]) -> u16),
}

impl<R: Read> Utf8<R> {
    /// Nothing has been read yet.
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            encoding: Bytes::Unknown,
            text: String::new(),
            taken: 0,
            cut: Vec::new(),
            ended: false,
            lines: 0,
            replaced: Rc::default(),
            error: None,
        }
    }

    /// How many lines have been taken.
    pub(super) fn line(&self) -> usize {
        self.lines
    }

    /// Whether something so far was no text; also for someone who does not have this at hand while it is read.
    pub(super) fn replaced(&self) -> Rc<Cell<bool>> {
        self.replaced.clone()
    }

    /// Takes whitespace; what comes then.
    pub(super) fn skip_blank(&mut self) -> &str {
        while self.ahead(1).starts_with(char::is_whitespace) {
            self.take_char();
        }
        self.ahead(1)
    }

    /// The characters that come next: at least so many bytes of them, unless the text ends before, or reading fails.
    pub(super) fn ahead(&mut self, least: usize) -> &str {
        self.prepare(least);
        self.text.get(self.taken..).unwrap_or_default()
    }

    /// The next character; None at the end, and when reading has failed.
    pub(super) fn take_char(&mut self) -> Option<char> {
        let next = self.ahead(1).chars().next()?;
        self.taken += next.len_utf8();
        if next == '\n' {
            self.lines += 1;
        }
        Some(next)
    }

    /// An error if the text ended for another reason than its end.
    pub(super) fn check(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    fn prepare(&mut self, least: usize) {
        while self.text.len() - self.taken < least && !self.ended {
            if let Err(error) = self.read() {
                self.error = Some(error);
                self.ended = true;
            }
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.cut);
        let read = (&mut self.reader).take(CHUNK).read_to_end(&mut bytes)?;
        self.ended = read == 0;
        self.text.drain(..self.taken);
        self.taken = 0;
        if let Bytes::Unknown = self.encoding {
            self.begin(&mut bytes);
        }
        match self.encoding {
            Bytes::Unknown => self.cut = bytes,
            Bytes::Utf8 => self.decode(&bytes),
            Bytes::Utf16(unit) => self.decode_units(bytes, unit),
        }
        Ok(())
    }

    /// Takes the byte order mark, if there is one.
    fn begin(&mut self, bytes: &mut Vec<u8>) {
        let (encoding, mark) = match bytes.as_slice() {
            [0xef, 0xbb, 0xbf, ..] => (Bytes::Utf8, 3),
            [0xff, 0xfe, ..] => (Bytes::Utf16(u16::from_le_bytes), 2),
            [0xfe, 0xff, ..] => (Bytes::Utf16(u16::from_be_bytes), 2),
            // It may be the beginning of one.
            [] | [0xef | 0xff | 0xfe] | [0xef, 0xbb] if !self.ended => (Bytes::Unknown, 0),
            _ => (Bytes::Utf8, 0),
        };
        self.encoding = encoding;
        bytes.drain(..mark);
    }

    fn decode(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.utf8_chunks();
        while let Some(chunk) = chunks.next() {
            self.text.push_str(chunk.valid());
            let wrong = chunk.invalid();
            let is_last = chunks.clone().next().is_none();
            let is_begun = std::str::from_utf8(wrong).is_err_and(|e| e.error_len().is_none());
            if is_last && is_begun && !self.ended {
                // Cut where reading paused, not wrong.
                self.cut = wrong.to_owned();
            } else if !wrong.is_empty() {
                self.replace();
            }
        }
    }

    fn decode_units(&mut self, mut bytes: Vec<u8>, unit: fn([u8; 2]) -> u16) {
        let mut whole = bytes.len() - bytes.len() % 2;
        let is_first_half =
            |pair: &[u8]| matches!(pair, [a, b] if (0xd800..0xdc00).contains(&unit([*a, *b])));
        if bytes[..whole]
            .chunks_exact(2)
            .next_back()
            .is_some_and(is_first_half)
            && !self.ended
        {
            whole -= 2;
        }
        self.cut = bytes.split_off(whole);
        let units = bytes.chunks_exact(2).map(|pair| match pair {
            [a, b] => unit([*a, *b]),
            _ => 0,
        });
        for decoded in char::decode_utf16(units) {
            match decoded {
                Ok(next) => self.text.push(next),
                Err(_) => self.replace(),
            }
        }
        if self.ended && !std::mem::take(&mut self.cut).is_empty() {
            self.replace();
        }
    }

    fn replace(&mut self) {
        self.text.push(REPLACEMENT);
        self.replaced.set(true);
    }
}

impl<R: Read> Source for Utf8<R> {
    fn fill(&mut self) -> io::Result<&[u8]> {
        self.prepare(1);
        self.check()?;
        Ok(self.ahead(1).as_bytes())
    }

    /// Of which no character's rest may be left.
    fn consume(&mut self, count: usize) {
        let taken = self.text.as_bytes()[self.taken..].iter().take(count);
        self.lines += taken.filter(|byte| **byte == b'\n').count();
        self.taken += count;
    }
}
