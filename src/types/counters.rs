//! Counters that the data path writes and the metrics endpoint reads. All relaxed: they order nothing.

use std::sync::atomic::{AtomicU64, Ordering};
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
    /// Attempts that failed otherwise (unreachable, no descriptors, a loop to ourselves).
    pub connect_other: Counter,
    /// Client connections given up after every attempt failed.
    pub failed: Counter,
    /// Time from accept to a connected endpoint, summed, in microseconds; divide by `connected`.
    pub connect_micros: Counter,
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
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
