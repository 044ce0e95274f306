//! Counters that the data path writes and the metrics endpoint reads. All relaxed: they order nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What one ServicePort of one family has carried. Counters only grow, except `active`.
#[derive(Debug, Default)]
pub struct ServiceCounters {
    /// Client connections accepted; for UDP, flows begun.
    pub accepted: Counter,
    /// Connections or flows alive now.
    pub active: Gauge,
    /// Bytes from clients to endpoints.
    pub received_bytes: Counter,
    /// Bytes from endpoints to clients.
    pub sent_bytes: Counter,
    /// Attempts after the first within one client connection.
    pub retries: Counter,
    /// Attempts that an endpoint refused.
    pub connect_refused: Counter,
    /// Attempts that took longer than their step of the ladder.
    pub connect_timeout: Counter,
    /// Attempts that were not made, as they would have led back here.
    pub connect_loop: Counter,
    /// Attempts that failed otherwise (unreachable, no port left).
    pub connect_other: Counter,
    /// Client connections given up after every attempt failed.
    pub failed: Counter,
    /// Time from accept to a connected endpoint, summed, in microseconds; divide by `connected`.
    pub(crate) connect_micros: Counter,
    /// Connections that reached an endpoint.
    pub connected: Counter,
}

impl ServiceCounters {
    /// Records how long it took to reach an endpoint.
    pub fn connected_after(&self, elapsed: Duration) {
        self.connected.add(1);
        self.connect_micros.add(elapsed.as_micros() as u64);
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more.
    pub(crate) fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub(crate) fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Requests to the apiserver (`rest_client_requests_total`). A lock will do: there are a few requests a minute.
#[derive(Debug, Default)]
pub struct RequestCounters {
    host: String,
    requests: Mutex<BTreeMap<(Option<u16>, &'static str), u64>>,
    durations: Mutex<BTreeMap<&'static str, RequestDurations>>,
}

/// How long answers took to begin, one method (`rest_client_request_duration_seconds`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RequestDurations {
    /// How many took no longer than each of [`RequestDurations::BOUNDS`].
    pub(crate) buckets: [u64; 12],
    /// How many altogether.
    pub(crate) count: u64,
    /// Their sum.
    pub(crate) sum: Duration,
}

impl RequestDurations {
    /// client-go's, in seconds.
    pub(crate) const BOUNDS: [f64; 12] = [
        0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
    ];

    fn observe(&mut self, took: Duration) {
        for (bound, bucket) in Self::BOUNDS.iter().zip(&mut self.buckets) {
            *bucket += u64::from(took.as_secs_f64() <= *bound);
        }
        self.count += 1;
        self.sum += took;
    }
}

impl RequestCounters {
    /// Counters for this apiserver, `host:port`.
    pub(crate) fn new(host: String) -> Self {
        Self {
            host,
            requests: Mutex::default(),
            durations: Mutex::default(),
        }
    }

    /// Label `host`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// One more, and how long it took. `code` is HTTP's; None if it did not come to an answer.
    pub(crate) fn add(&self, code: Option<u16>, method: &'static str, took: Duration) {
        let mut durations = self
            .durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        durations.entry(method).or_default().observe(took);
        drop(durations);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((code, method)).or_default() += 1;
    }

    /// Label `code` (`<error>` without an answer, as in client-go), label `method`, and how many.
    pub fn get(&self) -> Vec<(String, &'static str, u64)> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let label = |code: Option<u16>| code.map_or("<error>".to_string(), |code| code.to_string());
        requests
            .iter()
            .map(|((code, method), count)| (label(*code), *method, *count))
            .collect()
    }

    /// Label `verb`, and how long its requests took.
    pub(crate) fn durations(&self) -> Vec<(&'static str, RequestDurations)> {
        let durations = self
            .durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        durations
            .iter()
            .map(|(verb, took)| (*verb, *took))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_and_timed() {
        let counters = RequestCounters::new("10.0.0.1:6443".into());
        counters.add(Some(200), "GET", Duration::from_millis(30));
        counters.add(Some(200), "GET", Duration::from_secs(3));
        counters.add(None, "GET", Duration::from_secs(90));
        let rows = [
            ("<error>".to_owned(), "GET", 1),
            ("200".to_owned(), "GET", 2),
        ];
        assert_eq!(counters.get(), rows);
        let took = RequestDurations {
            buckets: [0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2],
            count: 3,
            sum: Duration::from_millis(93_030),
        };
        assert_eq!(counters.durations(), [("GET", took)]);
    }
}
