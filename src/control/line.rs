//! One line over a stream, within a size and a time.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Reads up to the first line feed (not returned), or to the end of the stream.
pub(super) fn read(stream: &mut UnixStream, most: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut room = [0; 4096];
    loop {
        // Set before each read: a client that sends a byte a second must not count as alive.
        stream.set_read_timeout(Some(left(deadline)?))?;
        let n = match stream.read(&mut room) {
            Ok(0) => return Ok(line),
            Ok(n) => n,
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => continue,
                ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                _ => return Err(error),
            },
        };
        let new = room.get(..n).unwrap_or_default();
        let end = new.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(new.get(..end.unwrap_or(n)).unwrap_or_default());
        if line.len() > most {
            let message = format!("longer than {most} bytes");
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        if end.is_some() {
            return Ok(line);
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
