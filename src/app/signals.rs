//! SIGTERM and SIGINT as events; SIGHUP, which ends nothing.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::thread;

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Starts the thread `signals`, which calls for an event for each signal that asks for the end; it ends with the receiver of
/// the events.
///
/// # Errors
/// When the kernel gives no socket pair or no thread.
pub(super) fn spawn<E: Send + 'static>(events: Sender<E>, event: fn() -> E) -> io::Result<()> {
    let (mut ends, writer) = UnixStream::pair()?;
    pipe::register(SIGTERM, writer.try_clone()?)?;
    pipe::register(SIGINT, writer)?;
    let (mut hangups, writer) = UnixStream::pair()?;
    pipe::register(SIGHUP, writer)?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            loop {
                let mut fds = [&ends, &hangups].map(|stream| PollFd::new(stream, PollFlags::IN));
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return log::error!("cannot wait for signals: {error}"),
                }
                let [end, hangup] = fds.map(|fd| !fd.revents().is_empty());
                if hangup && hangups.read_exact(&mut [0]).is_ok() {
                    log::info!(
                        "SIGHUP: nothing to do: manifests, tokens and certificates are followed as they change, and flags \
                         take a restart"
                    );
                }
                if end && (ends.read_exact(&mut [0]).is_err() || events.send(event()).is_err()) {
                    return;
                }
            }
        })?;
    Ok(())
}
