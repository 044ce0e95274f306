//! SIGTERM and SIGINT as events.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::thread;

use crossbeam_channel::Sender;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Starts the thread `signals`, which calls for an event for each signal; it ends with the receiver of the events.
///
/// # Errors
/// When the kernel gives no socket pair or no thread.
pub(super) fn spawn<E: Send + 'static>(events: Sender<E>, event: fn() -> E) -> io::Result<()> {
    let (mut reader, writer) = UnixStream::pair()?;
    pipe::register(SIGTERM, writer.try_clone()?)?;
    pipe::register(SIGINT, writer)?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut byte = [0];
            while reader.read_exact(&mut byte).is_ok() && events.send(event()).is_ok() {}
        })?;
    Ok(())
}
