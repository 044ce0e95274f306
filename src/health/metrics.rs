//! What the sync thread counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::types::counters::Counter;

/// kube-proxy's numbers about its own work, and a few of ours. Everything may be written and read at any time.
#[derive(Debug)]
pub struct SyncMetrics {
    pub(super) sync_duration: Histogram,
    pub(super) network_programming: Histogram,
    pub(super) last_sync: Value,
    pub(super) last_queued: Value,
    pub(super) services: Changes,
    pub(super) endpoints: Changes,
    pub(super) no_local_internal: Value,
    pub(super) no_local_external: Value,
    pub(super) listeners_open: Value,
    pub(super) listeners_failed: Value,
    pub(super) healthz: Answers,
    pub(super) livez: Answers,
    /// Answers of the metrics server's own /healthz, for /metrics/slis.
    pub(super) pings: Pings,
    pub(super) started: SystemTime,
}

/// Changes of one kind of objects.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) total: Counter,
    pub(super) pending: Value,
}

/// Since the start, or since somebody set it back.
#[derive(Debug, Default)]
pub(super) struct Pings(AtomicU64);

impl Pings {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Probes answered, by status.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) good: Counter,
    pub(super) bad: Counter,
}

impl SyncMetrics {
    /// All zero. `started` is when the process was.
    pub fn new(started: SystemTime) -> Self {
        Self {
            sync_duration: Histogram::new((0..15).map(|power| 0.001 * f64::from(1 << power))),
            network_programming: Histogram::new(network_programming_buckets()),
            last_sync: Value::default(),
            last_queued: Value::default(),
            services: Changes::default(),
            endpoints: Changes::default(),
            no_local_internal: Value::default(),
            no_local_external: Value::default(),
            listeners_open: Value::default(),
            listeners_failed: Value::default(),
            healthz: Answers::default(),
            livez: Answers::default(),
            pings: Pings::default(),
            started,
        }
    }

    /// Services changed; a sync will be needed.
    pub fn service_changes(&self, count: usize) {
        self.services.total.add(count as u64);
        self.services.pending.add(count as f64);
    }

    /// Endpoints of this many Services changed; a sync will be needed.
    pub fn endpoint_changes(&self, count: usize) {
        self.endpoints.total.add(count as u64);
        self.endpoints.pending.add(count as f64);
    }

    /// A sync was asked for.
    pub fn queued(&self, now: SystemTime) {
        self.last_queued.set(seconds_since_epoch(now));
    }

    /// A sync is done: nothing is pending any more.
    pub fn synced(&self, took: Duration, now: SystemTime) {
        self.sync_duration.observe(took.as_secs_f64());
        self.last_sync.set(seconds_since_epoch(now));
        self.services.pending.set(0.0);
        self.endpoints.pending.set(0.0);
    }

    /// From the annotation on an EndpointSlice to the end of the sync that carried it out.
    pub fn network_programming(&self, took: Duration) {
        self.network_programming.observe(took.as_secs_f64());
    }

    /// Services with policy Local that have endpoints, but none here.
    pub fn no_local_endpoints(&self, internal: usize, external: usize) {
        self.no_local_internal.set(internal as f64);
        self.no_local_external.set(external as f64);
    }

    /// Listeners that are open, and those that could not be opened.
    pub fn listeners(&self, open: usize, failed: usize) {
        self.listeners_open.set(open as f64);
        self.listeners_failed.set(failed as f64);
    }
}

impl Answers {
    pub(super) fn count(&self, good: bool) {
        if good { &self.good } else { &self.bad }.add(1);
    }
}

pub(super) fn seconds_since_epoch(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// 0, 0.25, 0.5, 1 to 59 in steps of 1, 60 to 115 in steps of 5, 120 to 300 in steps of 30.
fn network_programming_buckets() -> impl Iterator<Item = f64> {
    let steps = (1..60)
        .chain((60..120).step_by(5))
        .chain((120..=300).step_by(30));
    [0.0, 0.25, 0.5].into_iter().chain(steps.map(f64::from))
}

/// A number that may be set.
#[derive(Debug, Default)]
pub(super) struct Value(AtomicU64);

impl Value {
    pub(super) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// One writer at a time: the sync thread.
    fn add(&self, value: f64) {
        self.set(self.get() + value);
    }

    pub(super) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Observations in buckets, each with its upper bound.
#[derive(Debug)]
pub(super) struct Histogram(Mutex<Observed>);

#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// Bound and count, not cumulative; what is above the last bound is in `count` alone.
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) count: u64,
    pub(super) sum: f64,
}

impl Histogram {
    fn new(bounds: impl Iterator<Item = f64>) -> Self {
        let buckets = bounds.map(|bound| (bound, 0)).collect();
        Self(Mutex::new(Observed {
            buckets,
            ..Observed::default()
        }))
    }

    fn observe(&self, value: f64) {
        let mut observed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = observed
            .buckets
            .iter_mut()
            .find(|(bound, _)| value <= *bound);
        if let Some((_, count)) = bucket {
            *count += 1;
        }
        observed.count += 1;
        observed.sum += value;
    }

    pub(super) fn read(&self) -> Observed {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_kube_proxys() {
        let metrics = SyncMetrics::new(SystemTime::UNIX_EPOCH);
        let bounds = |histogram: &Histogram| -> Vec<f64> {
            histogram
                .read()
                .buckets
                .iter()
                .map(|(bound, _)| *bound)
                .collect()
        };
        let sync = bounds(&metrics.sync_duration);
        assert_eq!(
            (sync.len(), sync.first(), sync.last()),
            (15, Some(&0.001), Some(&16.384))
        );
        let programming = bounds(&metrics.network_programming);
        assert_eq!(programming.len(), 3 + 59 + 12 + 7);
        assert!(programming.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(programming.last(), Some(&300.0));
    }

    #[test]
    fn observations_fall_into_their_bucket() {
        let histogram = Histogram::new([1.0, 2.0].into_iter());
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let observed = histogram.read();
        assert_eq!(observed.buckets, [(1.0, 2), (2.0, 1)]);
        assert_eq!((observed.count, observed.sum), (4, 12.0));
    }
}
