//! What the sync thread counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::types::counters::Counter;
use crate::types::{IpFamily, PerFamily};

/// kube-proxy's numbers about its own work, and a few of ours. Everything may be written and read at any time.
#[derive(Debug)]
pub struct SyncMetrics {
    /// The families that have series; the numbers about syncs are the same in each, as one sync is about both.
    pub(super) families: Vec<IpFamily>,
    pub(super) sync_duration: Histogram,
    /// Of these, the syncs of everything, and those of some Services.
    pub(super) full_sync_duration: Histogram,
    pub(super) partial_sync_duration: Histogram,
    pub(super) last_sync: Number,
    pub(super) last_queued: Number,
    pub(super) services: ChangeCounts,
    pub(super) per_family: PerFamily<OfFamily>,
    pub(super) listeners_open: Number,
    pub(super) listeners_failed: Number,
    pub(super) healthz: AnswerCounts,
    pub(super) livez: AnswerCounts,
    /// AnswerCounts of the metrics server's own /healthz, for /metrics/slis.
    pub(super) pings: Pings,
    pub(super) started: SystemTime,
}

/// What each family has numbers of its own for.
#[derive(Debug)]
pub(super) struct OfFamily {
    pub(super) network_programming: Histogram,
    pub(super) endpoints: ChangeCounts,
    pub(super) no_local_internal: Number,
    pub(super) no_local_external: Number,
}

/// ChangeCounts of one kind of objects.
#[derive(Debug, Default)]
pub(super) struct ChangeCounts {
    pub(super) total: Counter,
    pub(super) pending: Number,
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
pub(super) struct AnswerCounts {
    pub(super) good: Counter,
    pub(super) bad: Counter,
}

impl SyncMetrics {
    /// All zero. `started` is when the process was, `families` are those that this machine knows.
    pub fn new(started: SystemTime, families: Vec<IpFamily>) -> Self {
        Self {
            families,
            sync_duration: Histogram::new(&SYNC_BOUNDS),
            full_sync_duration: Histogram::new(&SYNC_BOUNDS),
            partial_sync_duration: Histogram::new(&SYNC_BOUNDS),
            last_sync: Number::default(),
            last_queued: Number::default(),
            services: ChangeCounts::default(),
            per_family: PerFamily::new(|_| OfFamily {
                network_programming: Histogram::new(&NETWORK_PROGRAMMING_BOUNDS),
                endpoints: ChangeCounts::default(),
                no_local_internal: Number::default(),
                no_local_external: Number::default(),
            }),
            listeners_open: Number::default(),
            listeners_failed: Number::default(),
            healthz: AnswerCounts::default(),
            livez: AnswerCounts::default(),
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
    pub fn endpoint_changes(&self, family: IpFamily, count: usize) {
        let endpoints = &self.per_family.get(family).endpoints;
        endpoints.total.add(count as u64);
        endpoints.pending.add(count as f64);
    }

    /// A sync was asked for.
    pub(crate) fn queued(&self, now: SystemTime) {
        self.last_queued.set(seconds_since_epoch(now));
    }

    /// A sync is done, of everything or of some Services: nothing is pending any more.
    pub fn synced(&self, took: Duration, everything: bool, now: SystemTime) {
        let of_its_kind = match everything {
            true => &self.full_sync_duration,
            false => &self.partial_sync_duration,
        };
        for histogram in [&self.sync_duration, of_its_kind] {
            histogram.observe(took.as_secs_f64());
        }
        self.last_sync.set(seconds_since_epoch(now));
        self.services.pending.set(0.0);
        for (_, of_family) in self.per_family.iter() {
            of_family.endpoints.pending.set(0.0);
        }
    }

    /// From the annotation on an EndpointSlice to the end of the sync that carried it out.
    pub(crate) fn network_programming(&self, family: IpFamily, took: Duration) {
        let of_family = self.per_family.get(family);
        of_family.network_programming.observe(took.as_secs_f64());
    }

    /// Services with policy Local that have endpoints, but none here.
    pub(crate) fn no_local_endpoints(&self, family: IpFamily, internal: usize, external: usize) {
        let of_family = self.per_family.get(family);
        of_family.no_local_internal.set(internal as f64);
        of_family.no_local_external.set(external as f64);
    }

    /// Listeners that are open, and those that could not be opened.
    pub(crate) fn listeners(&self, open: usize, failed: usize) {
        self.listeners_open.set(open as f64);
        self.listeners_failed.set(failed as f64);
    }
}

impl AnswerCounts {
    pub(super) fn count(&self, good: bool) {
        if good { &self.good } else { &self.bad }.add(1);
    }
}

pub(super) fn seconds_since_epoch(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// 0.001, and then twice as much each time.
const SYNC_BOUNDS: [f64; 15] = {
    let mut bounds = [0.001; 15];
    let mut i = 1;
    while i < bounds.len() {
        bounds[i] = 2.0 * bounds[i - 1];
        i += 1;
    }
    bounds
};

/// 0, 0.25, 0.5, 1 to 59 in steps of 1, 60 to 115 in steps of 5, 120 to 300 in steps of 30.
const NETWORK_PROGRAMMING_BOUNDS: [f64; 81] = {
    let mut bounds = [0.0; 81];
    let mut i = 1;
    while i < bounds.len() {
        let step = match i {
            1 | 2 => 0.25,
            3 => 0.5,
            4..=62 => 1.0,
            63..=74 => 5.0,
            _ => 30.0,
        };
        bounds[i] = bounds[i - 1] + step;
        i += 1;
    }
    bounds
};

/// A number that may be set.
#[derive(Debug, Default)]
pub(super) struct Number(AtomicU64);

impl Number {
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
pub(super) struct Histogram {
    bounds: &'static [f64],
    observed: Mutex<Observed>,
}

#[derive(Debug, Default)]
struct Observed {
    /// By bound, not cumulative; what is above the last bound is in `count` alone.
    buckets: Box<[u64]>,
    count: u64,
    sum: f64,
}

/// A histogram as it is shown.
#[derive(Debug, PartialEq)]
pub(super) struct Reading {
    /// Upper bound, and how many were no more than it.
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) count: u64,
    pub(super) sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let observed = Observed {
            buckets: bounds.iter().map(|_| 0).collect(),
            ..Observed::default()
        };
        Self {
            bounds,
            observed: Mutex::new(observed),
        }
    }

    fn observe(&self, value: f64) {
        let mut observed = self.lock();
        let mut buckets = self.bounds.iter().zip(&mut observed.buckets);
        if let Some((_, count)) = buckets.find(|(bound, _)| value <= **bound) {
            *count += 1;
        }
        observed.count += 1;
        observed.sum += value;
    }

    pub(super) fn read(&self) -> Reading {
        let observed = self.lock();
        let mut so_far = 0;
        let buckets = self.bounds.iter().zip(&observed.buckets);
        let cumulative = buckets.map(|(bound, count)| {
            so_far += count;
            (*bound, so_far)
        });
        Reading {
            buckets: cumulative.collect(),
            count: observed.count,
            sum: observed.sum,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_kube_proxys() {
        let metrics = SyncMetrics::new(SystemTime::UNIX_EPOCH, Vec::new());
        let sync = metrics.sync_duration.bounds;
        let doubling = (0..15).map(|power| 0.001 * f64::from(1 << power));
        assert_eq!(sync, doubling.collect::<Vec<_>>());
        for family in IpFamily::ALL {
            let bounds = metrics.per_family.get(family).network_programming.bounds;
            let steps = (1..60)
                .chain((60..120).step_by(5))
                .chain((120..=300).step_by(30));
            let expect = [0.0, 0.25, 0.5].into_iter().chain(steps.map(f64::from));
            assert_eq!(bounds, expect.collect::<Vec<_>>());
        }
    }

    #[test]
    fn observations_fall_into_their_bucket() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let expect = Reading {
            buckets: vec![(1.0, 2), (2.0, 3)],
            count: 4,
            sum: 12.0,
        };
        assert_eq!(histogram.read(), expect);
    }
}
