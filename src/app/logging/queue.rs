//! Lines on their way to standard error. Whoever logs never waits for whoever reads: a line that finds no room is dropped and
//! counted.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

/// Bytes that may wait: thousands of lines, and little of a small machine's memory.
const MOST: usize = 256 << 10;

/// Where lines wait for the thread `log`.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines that found no room since this was last said.
    dropped: u64,
    /// The writer has taken something and is not done with it.
    writing: bool,
}

impl Queue {
    /// Starts the thread `log`, which writes what comes. It goes with the process. `dropped` is called when lines flow again
    /// after so many were dropped.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(super) fn start(dropped: impl Fn(u64) + Send + 'static) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let lines = Arc::clone(&queue);
        thread::Builder::new().name("log".into()).spawn(move || {
            loop {
                let (bytes, lost) = lines.take();
                // Said behind what was there before the gap; the queue is empty now, so there is room.
                if lost > 0 {
                    dropped(lost);
                }
                write(&bytes);
                lines.written();
            }
        })?;
        Ok(queue)
    }

    /// Adds a line, its line feed included, where there is room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > MOST {
            state.dropped += 1;
            return;
        }
        state.waiting.extend_from_slice(line);
        self.changed.notify_all();
    }

    /// Adds a line that must not be dropped: why the process ends.
    pub(super) fn push_always(&self, line: &[u8]) {
        self.lock().waiting.extend_from_slice(line);
        self.changed.notify_all();
    }

    /// Waits until everything is written, but no longer than this.
    pub(super) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        while state.writing || !state.waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for lines, and takes them all, with the number of those that found no room.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        let dropped = std::mem::take(&mut state.dropped);
        (std::mem::take(&mut state.waiting), dropped)
    }

    /// What was taken is written.
    fn written(&self) {
        self.lock().writing = false;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all of it, however long that takes; gives up when nobody can read it any more.
fn write(mut bytes: &[u8]) {
    let mut stderr = io::stderr().lock();
    while !bytes.is_empty() {
        match stderr.write(bytes) {
            Ok(0) => return,
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                // Another process that shares the file has made it so.
                ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
                    if poll(&mut fds, None).is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted() {
        let queue = Queue::default();
        let line = [b'x'; 1 << 10];
        for _ in 0..(MOST >> 10) + 3 {
            queue.push(&line);
        }
        queue.push_always(b"the end\n");
        let (bytes, dropped) = queue.take();
        assert_eq!((bytes.len(), dropped), (MOST + 8, 3));
        queue.push(b"again\n");
        assert_eq!(queue.take(), (b"again\n".to_vec(), 0));
    }

    #[test]
    fn a_flush_waits_for_the_writer_and_no_longer_than_it_may() {
        let queue = Queue::default();
        queue.flush(Duration::from_secs(60)); // There is nothing to wait for.
        queue.push(b"a line\n");
        let began = Instant::now();
        queue.flush(Duration::from_millis(20));
        assert!(began.elapsed() >= Duration::from_millis(20));
        queue.take();
        thread::scope(|scope| {
            let flushed = scope.spawn(|| queue.flush(Duration::from_secs(60)));
            queue.written();
            assert!(flushed.join().is_ok());
        });
    }
}
