//! Out of open files: clients wait in the kernel's backlog while this worker tries again at growing intervals, instead of
//! spinning on an accept that fails.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// First and last interval between attempts.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A worker's pause from accepting.
#[derive(Debug)]
pub(crate) struct Shortage {
    until: Option<Instant>,
    interval: Duration,
}

impl Default for Shortage {
    fn default() -> Self {
        Self {
            until: None,
            interval: INTERVALS.0,
        }
    }
}

impl Shortage {
    /// This error says that files, or the memory for them, have run out.
    pub(crate) fn is(error: Errno) -> bool {
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&error)
    }

    /// The same, of an error of the standard library's.
    pub(crate) fn is_behind(error: &io::Error) -> bool {
        Errno::from_io_error(error).is_some_and(Self::is)
    }

    /// Files have run out: pause, longer if it happened just before.
    pub(crate) fn begin(&mut self, now: Instant) {
        if self.until.is_none_or(|until| until <= now) {
            self.until = Some(now + self.interval);
            self.interval = (self.interval * 2).min(INTERVALS.1);
        }
    }

    /// Nothing shall be accepted now.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When to accept again.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Forgets a pause that has passed.
    pub(crate) fn end_pause(&mut self, now: Instant) {
        self.until.take_if(|until| *until <= now);
    }

    /// A file could be had: the next pause is a short one again.
    pub(crate) fn relax(&mut self) {
        self.interval = INTERVALS.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_it_lasts_and_start_over_after() {
        let mut shortage = Shortage::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            shortage.begin(now);
            shortage.begin(now);
            assert!(shortage.is_on(now));
            shortage.end_pause(now);
            let until = shortage.until().unwrap();
            pauses.push((until - now).as_millis());
            now = until;
            assert!(!shortage.is_on(now));
            shortage.end_pause(now);
            assert_eq!(shortage.until(), None);
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        shortage.relax();
        shortage.begin(now);
        assert_eq!(shortage.until(), Some(now + INTERVALS.0));
    }
}
