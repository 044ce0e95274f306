//! The asking side.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::error::Error;
use super::line;

/// For the whole exchange: the proxy may be in the middle of its first sync.
const PATIENCE: Duration = Duration::from_secs(30);
/// Beyond any answer about a few Services.
const LARGEST_ANSWER: usize = 16 << 20;

/// Asks the process behind a control socket.
///
/// # Errors
/// When nobody answers, or not in time, or not in JSON.
pub fn ask(path: &Path, question: &Value) -> Result<Value, Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::NotRunning(path.to_owned()),
        _ => Error::io("cannot connect to", path)(error),
    })?;
    line::write(&mut stream, &question.to_string(), deadline)
        .map_err(Error::io("cannot write to", path))?;
    let answer = line::read(&mut stream, LARGEST_ANSWER, deadline)
        .map_err(Error::io("cannot read from", path))?;
    if answer.is_empty() {
        return Err(Error::BadAnswer("it hung up".into()));
    }
    serde_json::from_slice(&answer).map_err(|error| Error::BadAnswer(error.to_string()))
}
