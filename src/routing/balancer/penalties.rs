//! Endpoints that did not answer are passed over for a while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// For how long an endpoint is passed over after it has failed for the first time; doubles each time it fails again.
pub(super) const FIRST: Duration = Duration::from_secs(1);
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// Endpoints to which a connection could not be made, and none has been made since.
#[derive(Debug, Default)]
pub(super) struct Penalties(HashMap<SocketAddr, Penalty>);

#[derive(Clone, Copy, Debug)]
struct Penalty {
    until: Instant,
    length: Duration,
}

impl Penalties {
    /// How many endpoints have one, over or not.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// This endpoint is to be passed over now.
    pub(super) fn is_penalised(&self, endpoint: &SocketAddr, now: Instant) -> bool {
        let penalty = self.0.get(endpoint);
        penalty.is_some_and(|penalty| now < penalty.until)
    }

    /// A connection could not be made.
    pub(super) fn failed(&mut self, endpoint: SocketAddr, now: Instant) {
        self.0
            .entry(endpoint)
            .and_modify(|penalty| {
                // Connections that were under way when the first one failed say nothing new.
                if now >= penalty.until {
                    penalty.length = (penalty.length * 2).min(LONGEST);
                    penalty.until = now + penalty.length;
                }
            })
            .or_insert(Penalty {
                until: now + FIRST,
                length: FIRST,
            });
    }

    /// A connection was made: it is as good as any.
    pub(super) fn connected(&mut self, endpoint: &SocketAddr) {
        self.0.remove(endpoint);
    }

    /// Forgets endpoints that are no more.
    pub(super) fn retain(&mut self, is_endpoint: impl Fn(&SocketAddr) -> bool) {
        self.0.retain(|endpoint, _| is_endpoint(endpoint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_double_up_to_the_longest_and_start_small_after_a_success() {
        let endpoint = SocketAddr::from(([10, 0, 0, 1], 80));
        let mut penalties = Penalties::default();
        let mut now = Instant::now();
        let moment = Duration::from_millis(1);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let end = now + Duration::from_secs(seconds);
            penalties.failed(endpoint, now);
            // Failures within a penalty do not lengthen it.
            penalties.failed(endpoint, now + moment);
            assert!(penalties.is_penalised(&endpoint, end - moment));
            assert!(!penalties.is_penalised(&endpoint, end));
            now = end;
        }
        penalties.connected(&endpoint);
        assert_eq!(penalties.len(), 0);
        penalties.failed(endpoint, now);
        assert!(!penalties.is_penalised(&endpoint, now + FIRST));
    }
}
