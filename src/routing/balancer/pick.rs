//! One endpoint, chosen for one client, and what becomes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Balancer;
use super::outcome::{Cause, Outcome};
use crate::types::counters::ServiceCounters;

/// An endpoint that a client is being sent to. Whoever holds it says what came of it: [`connected`](Self::connected),
/// [`failed`](Self::failed), and, by dropping it, that the client is gone from there. It reports to the balancer that
/// chose it, whatever its listener has become since.
#[derive(Debug)]
pub(crate) struct Pick {
    endpoint: SocketAddr,
    balancer: Arc<Balancer>,
    counters: Arc<ServiceCounters>,
    failed: bool,
}

impl Pick {
    /// For the balancer's ServicePort.
    pub(in crate::routing) fn new(
        endpoint: SocketAddr,
        balancer: &Arc<Balancer>,
        counters: &Arc<ServiceCounters>,
    ) -> Self {
        Self {
            endpoint,
            balancer: Arc::clone(balancer),
            counters: Arc::clone(counters),
            failed: false,
        }
    }

    /// Where the client goes.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// Those of the ServicePort.
    pub(crate) fn counters(&self) -> &Arc<ServiceCounters> {
        &self.counters
    }

    /// The endpoint answers.
    pub(crate) fn connected(&self) {
        self.balancer.report(self.endpoint, Outcome::Connected);
    }

    /// It does not.
    pub(crate) fn failed(mut self, cause: Cause, now: Instant) {
        match cause {
            Cause::Refused => self.counters.connect_refused.add(1),
            Cause::TimedOut => self.counters.connect_timeout.add(1),
            Cause::Loop | Cause::Circle => self.counters.connect_loop.add(1),
            Cause::Unreachable | Cause::NoPort => self.counters.connect_other.add(1),
        }
        self.failed = true;
        let outcome = Outcome::Failed(cause, now);
        self.balancer.report(self.endpoint, outcome);
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        if !self.failed {
            self.balancer.report(self.endpoint, Outcome::Gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::EndpointList;

    #[test]
    fn each_cause_is_counted_and_held_against_the_endpoint_or_not() {
        let endpoint = SocketAddr::from(([10, 0, 0, 1], 80));
        let other = SocketAddr::from(([10, 0, 0, 2], 80));
        let of = EndpointList::from(&[endpoint, other][..]);
        let rows = [
            (Cause::Refused, [1, 0, 0, 0], true),
            (Cause::TimedOut, [0, 1, 0, 0], true),
            (Cause::Loop, [0, 0, 1, 0], true),
            (Cause::Circle, [0, 0, 1, 0], false),
            (Cause::Unreachable, [0, 0, 0, 1], true),
            (Cause::NoPort, [0, 0, 0, 1], false),
        ];
        for (cause, expect, penalised) in rows {
            let (balancer, counters, now) = (Arc::default(), Arc::default(), Instant::now());
            let pick = || Pick::new(endpoint, &balancer, &counters);
            let is_passed_over = || {
                let mut next = (0..2).map(|_| balancer.choose(&of, [0; 4].into(), None, &[], now));
                next.all(|next| next == Some(other))
            };
            drop(pick());
            assert!(!is_passed_over());
            pick().failed(cause, now);
            let counted = [
                counters.connect_refused.get(),
                counters.connect_timeout.get(),
                counters.connect_loop.get(),
                counters.connect_other.get(),
            ];
            assert_eq!(
                (counted, is_passed_over()),
                (expect, penalised),
                "{cause:?}"
            );
            pick().connected();
            assert!(!is_passed_over());
        }
    }
}
