//! How long to wait after a failure: client-go's reflector backoff, and the randomness that it needs.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(800);
const CAP: Duration = Duration::from_secs(30);
/// This long without a failure, and the next one counts as the first again.
const RESET: Duration = Duration::from_secs(120);

/// 0.8 s, 1.6 s, 3.2 s ... 30 s, each up to doubled at random so that a thousand nodes do not come back as one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// How long to wait now. `random` is in `0.0..1.0`.
    pub(crate) fn next(&mut self, now: Instant, random: f64) -> Duration {
        let quiet = |last: Instant| now.saturating_duration_since(last) >= RESET;
        if self.last.is_some_and(quiet) {
            self.failures = 0;
        }
        self.last = Some(now);
        let delay = FIRST.saturating_mul(1 << self.failures.min(6)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(1.0 + random.clamp(0.0, 1.0))
    }
}

/// SplitMix64. What needs randomness here (jitter) needs no secrecy.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Every seed is good.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        let delays: Vec<u128> = (0..8).map(|_| backoff.next(now, 0.0).as_millis()).collect();
        assert_eq!(
            delays,
            [800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]
        );
    }

    #[test]
    fn jitter_at_most_doubles() {
        let mut random = Random::new(1);
        for _ in 0..1000 {
            let delay = Backoff::default().next(Instant::now(), random.unit());
            assert!((FIRST..FIRST * 2).contains(&delay), "{delay:?}");
        }
    }

    #[test]
    fn two_quiet_minutes_reset_it_and_less_does_not() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        backoff.next(now, 0.0);
        now += Duration::from_secs(119);
        assert_eq!(backoff.next(now, 0.0), FIRST * 2);
        now += Duration::from_secs(119);
        assert_eq!(backoff.next(now, 0.0), FIRST * 4);
        now += Duration::from_secs(120);
        assert_eq!(backoff.next(now, 0.0), FIRST);
    }
}
