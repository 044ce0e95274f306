//! One line over a stream, within a size and a time.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// A line on its way, in whatever pieces it comes. Pure.
#[derive(Debug)]
pub struct Line {
    bytes: Vec<u8>,
    most: usize,
}

/// A line that is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Line {
    /// Of at most so many bytes, its line feed not counted.
    pub fn new(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            most,
        }
    }

    /// Takes what came, up to the first line feed. True: that was in it, and the line is complete.
    ///
    /// # Errors
    /// Nothing can be taken after it.
    pub fn push(&mut self, piece: &[u8]) -> Result<bool, TooLong> {
        let end = piece.iter().position(|byte| *byte == b'\n');
        let new = piece.get(..end.unwrap_or(piece.len())).unwrap_or_default();
        if new.len() > self.most.saturating_sub(self.bytes.len()) {
            return Err(TooLong);
        }
        self.bytes.extend_from_slice(new);
        Ok(end.is_some())
    }

    /// What has come, without the line feed.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads up to the first line feed (not returned), or to the end of the stream.
pub(super) fn read(stream: &mut UnixStream, most: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Line::new(most);
    let mut room = [0; 4096];
    loop {
        // Set before each read: a client that sends a byte a second must not count as alive.
        stream.set_read_timeout(Some(left(deadline)?))?;
        let n = match stream.read(&mut room) {
            Ok(0) => return Ok(line.into_bytes()),
            Ok(n) => n,
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => continue,
                ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                _ => return Err(error),
            },
        };
        match line.push(room.get(..n).unwrap_or_default()) {
            Ok(false) => {}
            Ok(true) => return Ok(line.into_bytes()),
            Err(TooLong) => {
                let message = format!("longer than {most} bytes");
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
        }
    }
}

/// Writes a line and its line feed.
pub(super) fn write(stream: &mut UnixStream, line: &str, deadline: Instant) -> io::Result<()> {
    let line = format!("{line}\n");
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

/// Never zero, which would mean "no limit".
fn left(deadline: Instant) -> io::Result<std::time::Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        left if left.is_zero() => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_same_in_any_pieces() {
        let rows: [(&str, Option<(&str, bool)>); 8] = [
            ("", Some(("", false))),
            ("\n", Some(("", true))),
            ("four", Some(("four", false))),
            ("four\n", Some(("four", true))),
            ("one\nand more than that\n", Some(("one", true))),
            ("fives", None),
            ("fives\n", None),
            ("much longer\n", None),
        ];
        for (text, expect) in rows {
            for size in 1..=text.len().max(1) {
                let mut line = Line::new(4);
                let mut pieces = text.as_bytes().chunks(size);
                let end = pieces.try_fold(false, |end, piece| match end {
                    true => Ok(true),
                    false => line.push(piece),
                });
                let found = end.ok().map(|end| (line.into_bytes(), end));
                let expect = expect.map(|(line, end)| (line.as_bytes().to_vec(), end));
                assert_eq!(found, expect, "{text:?} in pieces of {size}");
            }
        }
    }
}
