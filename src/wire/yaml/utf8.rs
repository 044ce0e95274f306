//! Text from a reader, of which only a little is in memory.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// What is read at once.
const CHUNK: u64 = 16 * 1024;

/// Takes UTF-8 from a reader, by characters or by bytes, and counts lines. A byte order mark at the beginning is left out.
pub(super) struct Utf8<R> {
    reader: R,
    text: String,
    /// What of it has been taken.
    taken: usize,
    /// The beginning of a character of which the rest has not been read yet.
    cut: Vec<u8>,
    begun: bool,
    ended: bool,
    lines: Rc<Cell<usize>>,
    /// Why the text ended early.
    error: Option<io::Error>,
}

impl<R: Read> Utf8<R> {
    /// Nothing has been read yet.
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            text: String::new(),
            taken: 0,
            cut: Vec::new(),
            begun: false,
            ended: false,
            lines: Rc::default(),
            error: None,
        }
    }

    /// How many lines have been taken.
    pub(super) fn line(&self) -> usize {
        self.lines.get()
    }

    /// The same, for someone who does not have this at hand while it is read.
    pub(super) fn lines(&self) -> Rc<Cell<usize>> {
        self.lines.clone()
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
            self.lines.set(self.lines.get() + 1);
        }
        Some(next)
    }

    /// An error if the text ended for another reason than its end.
    pub(super) fn check(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    fn prepare(&mut self, least: usize) {
        while self.text.len() - self.taken < least && !self.ended {
            if let Err(error) = self.fill() {
                self.error = Some(error);
                self.ended = true;
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        bytes.drain(..self.taken);
        self.taken = 0;
        bytes.append(&mut self.cut);
        let read = (&mut self.reader).take(CHUNK).read_to_end(&mut bytes)?;
        self.ended = read == 0;
        self.text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let problem = error.utf8_error();
                if self.ended || problem.error_len().is_some() {
                    let problem = "stream did not contain valid UTF-8";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
                }
                let mut bytes = error.into_bytes();
                self.cut = bytes.split_off(problem.valid_up_to());
                String::from_utf8(bytes).unwrap_or_default()
            }
        };
        if !self.begun && !self.text.is_empty() {
            self.begun = true;
            if self.text.starts_with('\u{feff}') {
                self.taken = '\u{feff}'.len_utf8();
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Utf8<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // serde_json reads byte by byte.
        if self.taken == self.text.len() {
            self.prepare(1);
            self.check()?;
        }
        let mut ahead = &self.text.as_bytes()[self.taken..];
        let count = ahead.read(buffer)?;
        let taken = &buffer[..count];
        let lines = taken.iter().filter(|byte| **byte == b'\n').count();
        self.taken += count;
        self.lines.set(self.lines.get() + lines);
        Ok(count)
    }
}
