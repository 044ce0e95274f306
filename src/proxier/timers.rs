//! Deadlines. Pure: the caller says what time it is.
//!
//! A heap whose entries are never taken out early: whoever no longer waits for an entry says so by
//! [`Timers::abandon`], and a `live` closure tells entries still waited for from abandoned ones. Abandoned entries wake nobody, and
//! they never outnumber the others: connections come and go ten thousand times a second with deadlines of an hour.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Deadlines, each with a name of what waits for it.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
    abandoned: usize,
}

/// Below this many entries tidying up costs more than it frees.
const FEW: usize = 64;

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            abandoned: 0,
        }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Adds a deadline.
    pub(crate) fn arm(&mut self, deadline: Instant, key: K) {
        self.heap.push(Reverse((deadline, key)));
    }

    /// One armed deadline is no longer waited for: from now on `live` is false for it.
    pub(crate) fn abandon(&mut self, live: impl Fn(K, Instant) -> bool) {
        self.abandoned += 1;
        if self.heap.len() > FEW && self.abandoned > self.heap.len() / 2 {
            self.heap.retain(|Reverse((at, key))| live(*key, *at));
            self.abandoned = 0;
            if self.heap.capacity() / 4 > self.heap.len().max(FEW) {
                self.heap.shrink_to(2 * self.heap.len());
            }
        }
    }

    /// The earliest deadline that is still waited for.
    pub(crate) fn next(&mut self, live: impl Fn(K, Instant) -> bool) -> Option<Instant> {
        while let Some(Reverse((at, key))) = self.heap.peek() {
            if live(*key, *at) {
                return Some(*at);
            }
            self.heap.pop();
            self.abandoned = self.abandoned.saturating_sub(1);
        }
        None
    }

    /// Takes out one deadline that has passed and is still waited for.
    pub(crate) fn pop_expired(
        &mut self,
        now: Instant,
        live: impl Fn(K, Instant) -> bool,
    ) -> Option<(K, Instant)> {
        if self.next(live)? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((at, key))| (key, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::time::Duration;

    use crate::proxier::rng::seeds;

    /// Every deadline still waited for fires once, in order, not early; none of the others does.
    #[test]
    fn simulation_against_a_map() {
        seeds(256, |mut rng| {
            let start = Instant::now();
            let mut now = start;
            let mut timers = Timers::default();
            let mut model: HashMap<u32, Instant> = HashMap::new();
            for key in 0..2000u32 {
                match rng.below(4) {
                    0 | 1 => {
                        let deadline = now + Duration::from_millis(rng.below(5000) as u64);
                        model.insert(key, deadline);
                        timers.arm(deadline, key);
                    }
                    2 => {
                        if let Some(gone) = model.keys().copied().min() {
                            model.remove(&gone);
                            timers.abandon(|key, at| model.get(&key) == Some(&at));
                        }
                    }
                    _ => now += Duration::from_millis(rng.below(40) as u64),
                }
                while let Some((key, at)) =
                    timers.pop_expired(now, |key, at| model.get(&key) == Some(&at))
                {
                    assert!(at <= now);
                    assert_eq!(model.values().min(), Some(&at));
                    model.remove(&key);
                }
                let next = timers.next(|key, at| model.get(&key) == Some(&at));
                assert_eq!(next, model.values().min().copied());
                assert!(next.is_none_or(|next| next > now));
                let entries = timers.heap.len();
                assert!(entries <= FEW + 2 * model.len() + 1, "{entries}");
            }
        });
    }
}
