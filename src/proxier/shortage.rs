//! Out of open files: a listener's clients wait in the kernel's backlog while a worker tries again at growing intervals,
//! instead of spinning on an accept that fails.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// First and last interval between attempts.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long files must have sufficed before that is said: at the brink, every connection that ends lets one in.
const QUIET: Duration = Duration::from_secs(5);

/// This error says that files, or the memory for them, have run out.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| short.contains(&error))
}

/// How long a worker lets those wait for whom there are no files.
#[derive(Debug)]
pub(crate) struct Pause {
    until: Option<Instant>,
    interval: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            until: None,
            interval: INTERVALS.0,
        }
    }
}

impl Pause {
    /// Files have run out: pause, longer if it happened just before.
    pub(crate) fn begin(&mut self, now: Instant) {
        if self.until.is_none_or(|until| until <= now) {
            self.until = Some(now + self.interval);
            self.interval = (self.interval * 2).min(INTERVALS.1);
        }
    }

    /// Who waits goes on waiting.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When to try again.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Forgets a pause that has passed.
    pub(crate) fn end(&mut self, now: Instant) {
        self.until.take_if(|until| *until <= now);
    }

    /// A file could be had: the next pause is a short one again.
    pub(crate) fn relax(&mut self) {
        self.interval = INTERVALS.0;
    }
}

/// What is said of a shortage, once when it begins and once when it ends.
#[derive(Debug, Default)]
pub(crate) struct ShortageLog {
    /// When files last ran out, from when that is said until it is said to be over.
    last: Mutex<Option<Instant>>,
    /// The same for those who need not know when.
    is_on: AtomicBool,
}

impl ShortageLog {
    /// Files have run out. Says so, unless that was said.
    pub(crate) fn ran_out(&self, now: Instant, why: &dyn fmt::Display) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.replace(now).is_none() {
            log::warn!("new connections wait until files are free (raise LimitNOFILE): {why}");
            self.is_on.store(true, Ordering::Relaxed);
        }
    }

    /// A file could be opened. Says so, if it was said that files had run out.
    pub(crate) fn suffice(&self, now: Instant) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        let long_ago = |at: &mut Instant| now.saturating_duration_since(*at) >= QUIET;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.take_if(long_ago).is_some() {
            self.is_on.store(false, Ordering::Relaxed);
            log::info!("files suffice again for new connections");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_it_lasts_and_start_over_after() {
        let mut pause = Pause::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pause.begin(now);
            pause.begin(now);
            assert!(pause.is_on(now));
            pause.end(now);
            let until = pause.until().unwrap();
            pauses.push((until - now).as_millis());
            now = until;
            assert!(!pause.is_on(now));
            pause.end(now);
            assert_eq!(pause.until(), None);
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        pause.relax();
        pause.begin(now);
        assert_eq!(pause.until(), Some(now + INTERVALS.0));
    }
}
