//! When to try again what failed.

use std::time::{Duration, Instant};

/// The first wait; each one after it is twice as long, up to a bound.
pub(crate) const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The timer of all that failed.
#[derive(Debug)]
pub(super) struct Retry {
    at: Option<Instant>,
    delay: Duration,
    most: Duration,
}

impl Retry {
    /// Waits grow up to `most`.
    pub(super) fn new(most: Duration) -> Self {
        Self {
            at: None,
            delay: FIRST_RETRY,
            most: most.max(FIRST_RETRY),
        }
    }

    /// When it is time, if anything has failed.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Arms the timer unless it is armed; each time for twice as long.
    pub(super) fn arm(&mut self, now: Instant) {
        if self.at.is_none() {
            self.at = Some(now + self.delay);
            self.delay = (self.delay * 2).min(self.most);
        }
    }

    /// True, once, when it is time.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }

    /// Nothing has failed any more, or there is hope: the next wait is the first again.
    pub(super) fn reset(&mut self) {
        (self.at, self.delay) = (None, FIRST_RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_anew() {
        let begin = Instant::now();
        let mut retry = Retry::new(Duration::from_secs(5));
        let mut now = begin;
        for seconds in [1, 2, 4, 5, 5] {
            retry.arm(now);
            retry.arm(now + Duration::from_millis(1));
            let at = now + Duration::from_secs(seconds);
            assert_eq!(retry.at(), Some(at), "armed once");
            assert!(!retry.take_due(at - Duration::from_millis(1)));
            assert!(retry.take_due(at) && !retry.take_due(at));
            now = at;
        }
        retry.reset();
        retry.arm(now);
        assert_eq!(retry.at(), Some(now + FIRST_RETRY));
        // A period shorter than the first wait does not shorten that.
        let mut retry = Retry::new(Duration::ZERO);
        retry.arm(now);
        assert_eq!(retry.at(), Some(now + FIRST_RETRY));
    }
}
