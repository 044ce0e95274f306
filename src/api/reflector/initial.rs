//! How long a server may take to say that the objects at a watch's beginning are complete. Pure.

use std::time::{Duration, Instant};

/// A server that is silent for so long has nothing more to send, and does not say so: it does not know watch-list.
const IDLE: Duration = Duration::from_secs(10);
/// What takes longer than this is asked for as a list, which comes compressed.
const WHOLE: Duration = Duration::from_secs(30);
/// Events of a large cluster come without pauses, but for those that the network makes.
const PAUSE: Duration = Duration::from_millis(250);

/// The time that is left for the initial events.
pub(super) struct Initial {
    began: Instant,
    idle: Duration,
}

impl Initial {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            idle: Duration::ZERO,
        }
    }

    /// When the next event must have come.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        // Not so soon that the wait for it would not count.
        let idle = now + IDLE.saturating_sub(self.idle).max(2 * PAUSE);
        idle.min(self.began + WHOLE)
    }

    /// An event has come, after so long a wait.
    pub(super) fn waited(&mut self, waited: Duration) {
        if waited > PAUSE {
            self.idle += waited;
        }
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.began + WHOLE || self.idle >= IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When it is over, with an event after each of these waits.
    fn ends(wait: Duration) -> Duration {
        let start = Instant::now();
        let (mut now, mut initial) = (start, Initial::new(start));
        while !initial.is_over(now) {
            let next = now + wait;
            let deadline = initial.deadline(now);
            initial.waited(wait.min(deadline - now));
            now = next.min(deadline);
        }
        now - start
    }

    #[test]
    fn silence_counts_and_a_stream_of_events_has_its_time() {
        let rows = [
            // Nothing at all.
            (3_600_000, 10_000),
            // Changes now and then, or a bookmark each minute.
            (60_000, 10_000),
            (1000, 10_000),
            (300, 10_200),
            (9_900, 10_400),
            // A large cluster.
            (10, 30_000),
        ];
        for (wait, expect) in rows {
            let ended = ends(Duration::from_millis(wait)).as_millis();
            assert!(ended.abs_diff(expect) <= 300, "{wait}: {ended}");
        }
    }
}
