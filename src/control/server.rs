//! The thread `control`: one client at a time, each with a question.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::error::Error;
use super::line;
use super::place::SocketPlace;

/// For a question to arrive, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(2);
/// Beyond any question.
const LARGEST_QUESTION: usize = 64 << 10;

/// The running server. Dropping it stops the thread, waits for it and removes the socket file.
#[derive(Debug)]
pub struct ControlServer {
    place: SocketPlace,
    /// Device and inode of the socket file: another process may have put its own there by now.
    identity: (u64, u64),
    /// Closed to stop the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Listens on `path` (mode 0600; its directory is made where it is missing; a socket that nobody answers on is replaced)
    /// and has questions answered.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn start(
        path: &Path,
        answer: impl Fn(Value) -> Value + Send + 'static,
    ) -> Result<Self, Error> {
        let place = SocketPlace::find(path)?;
        make_way(&place, path)?;
        let listener = listen(&place).map_err(Error::io("cannot listen on", path))?;
        let metadata = fs::symlink_metadata(place.path());
        let metadata = metadata.map_err(Error::io("cannot look at", path))?;
        let start = || -> io::Result<_> {
            let (stop, stopped) = UnixStream::pair()?;
            let thread = thread::Builder::new()
                .name("control".into())
                .spawn(move || serve(&listener, &stopped, answer))?;
            Ok((stop, thread))
        };
        let (stop, thread) = start().map_err(Error::io("cannot start the thread for", path))?;
        Ok(Self {
            place,
            identity: (metadata.dev(), metadata.ino()),
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // Only a panic can make this fail, and it has been reported where it happened.
            let _ = thread.join();
        }
        let ours = fs::symlink_metadata(self.place.path())
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            // Should it stay, the next start replaces it.
            let _ = fs::remove_file(self.place.path());
        }
    }
}

/// Sees to it that a socket may be put there.
fn make_way(place: &SocketPlace, path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(place.path()) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(Error::Occupied(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("cannot look at", path)(error)),
    }
    match UnixStream::connect(place.path()) {
        Ok(_) => Err(Error::InUse(path.to_owned())),
        // What an earlier run left: the rename below replaces it.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("cannot connect to", path)(error)),
    }
}

/// Binds beside the place and moves the socket there once it is private: no moment in which others may connect.
fn listen(place: &SocketPlace) -> io::Result<UnixListener> {
    let beside = place.beside(OsStr::new(".new"));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
    fs::rename(&beside, place.path())?;
    Ok(listener)
}

fn serve(listener: &UnixListener, stopped: &UnixStream, answer: impl Fn(Value) -> Value) {
    loop {
        let mut fds = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(stopped, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return log::error!("the control socket is closed: {error}"),
        }
        let [_, stop] = fds.map(|fd| !fd.revents().is_empty());
        if stop {
            return;
        }
        match listener.accept() {
            Ok((mut stream, _)) => {
                if let Err(error) = converse(&mut stream, &answer) {
                    log::debug!("control socket: {error}");
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                _ => {
                    // Files have run out, most likely; the client still waits, so without a pause this would spin.
                    log::debug!("control socket: cannot accept: {error}");
                    thread::sleep(Duration::from_millis(100));
                }
            },
        }
    }
}

fn converse(stream: &mut UnixStream, answer: impl Fn(Value) -> Value) -> io::Result<()> {
    // Accepted sockets do not inherit the listener's mode on Linux; said for the reader.
    stream.set_nonblocking(false)?;
    let question = line::read(stream, LARGEST_QUESTION, Instant::now() + PATIENCE)?;
    // A probe whether somebody answers here, as above.
    if question.is_empty() {
        return Ok(());
    }
    let answer = match serde_json::from_slice(&question) {
        Ok(question) => answer(question),
        Err(error) => json!({ "error": format!("the question is no JSON: {error}") }),
    };
    line::write(stream, &answer.to_string(), Instant::now() + PATIENCE)
}
