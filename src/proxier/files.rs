//! How many open files the data path may have, and how many it has. It counts; it opens nothing.
//!
//! A client is accepted only while there are files for both of its sockets, so that no accepted client holds the file that
//! another needs to reach its endpoint. The last files of the limit are not the data path's at all: probes, scrapes, explain,
//! sources and the portal go on when traffic has taken everything else. And of the data path's own, the last sixteenth goes to
//! ServicePorts that hold little, so that a Service whose clients take all they can get does not keep out the others'.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A client's socket and its endpoint's.
pub(crate) const PER_CONNECTION: usize = 2;
/// What is left to others, however large or small the limit.
const RESERVE: (usize, usize) = (8, 128);
/// With fewer files than this the data path keeps none back for anybody.
const FEW: usize = 256;

/// Files of the data path: listeners, sessions, flows, pipes.
#[derive(Debug, Default)]
pub(crate) struct Files {
    budget: AtomicUsize,
    held: Held,
}

/// On a cache line of its own: every worker writes it at each connection.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Held(AtomicUsize);

/// Some of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct FileLease {
    files: Arc<Files>,
    count: usize,
}

impl Files {
    /// Sets what there is: of a limit of the process, of which others have so many in use.
    pub(crate) fn set_budget(&self, limit: usize, in_use_by_others: usize) {
        let reserve = (limit / 16).clamp(RESERVE.0, RESERVE.1);
        let budget = limit.saturating_sub(in_use_by_others + reserve);
        self.budget.store(budget, Ordering::Relaxed);
    }

    /// What the data path may have.
    pub(crate) fn budget(&self) -> usize {
        self.budget.load(Ordering::Relaxed)
    }

    /// What it has.
    pub(crate) fn held(&self) -> usize {
        self.held.0.load(Ordering::Relaxed)
    }

    /// What is left of it.
    pub(crate) fn free(&self) -> usize {
        self.budget().saturating_sub(self.held())
    }

    /// How many listeners there may be: a quarter is left to traffic.
    pub(crate) fn for_listeners(&self) -> usize {
        let budget = self.budget();
        budget - budget / 4
    }

    /// One more connection may begin that goes to a ServicePort which has so many.
    pub(crate) fn admits(&self, connections: u64) -> bool {
        let (free, spare) = (self.free(), self.spare());
        let holds_little = connections < spare as u64 / 8;
        free >= PER_CONNECTION && (free > spare || holds_little)
    }

    /// There are so few that nobody gets any for what can be done without.
    pub(crate) fn are_scarce(&self) -> bool {
        self.free() <= self.spare()
    }

    /// More than half is in use: whatever takes so many may be going in circles.
    pub(crate) fn are_strained(&self) -> bool {
        self.free() < self.budget() / 2
    }

    /// Counts files that were opened.
    pub(crate) fn take(&self, count: usize) {
        self.held.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts files that were closed.
    pub(crate) fn give(&self, count: usize) {
        self.held.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Counts files for as long as the lease lives.
    pub(crate) fn lease(self: &Arc<Self>, count: usize) -> FileLease {
        self.take(count);
        FileLease {
            files: Arc::clone(self),
            count,
        }
    }

    fn spare(&self) -> usize {
        match self.budget() {
            budget if budget < FEW => 0,
            budget => budget / 16,
        }
    }
}

impl Drop for FileLease {
    fn drop(&mut self) {
        self.files.give(self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(limit: usize, in_use: usize) -> Arc<Files> {
        let files = Arc::<Files>::default();
        files.set_budget(limit, in_use);
        files
    }

    #[test]
    fn others_keep_a_reserve_and_traffic_a_quarter() {
        let rows = [
            (20_000, 40, 19_832, 14_874),
            (2_000, 30, 1_845, 1_384),
            (96, 30, 58, 44),
            (16, 30, 0, 0),
        ];
        for (limit, in_use, budget, listeners) in rows {
            let files = files(limit, in_use);
            let found = (files.budget(), files.free(), files.for_listeners());
            assert_eq!(found, (budget, budget, listeners), "limit {limit}");
        }
    }

    #[test]
    fn a_connection_has_both_its_files_or_waits() {
        let files = files(96, 30);
        let mut connections = 0;
        while files.admits(connections) {
            files.take(PER_CONNECTION);
            connections += 1;
        }
        assert_eq!(connections, 29);
        files.give(1);
        assert!(!files.admits(0));
        files.give(1);
        assert!(files.admits(connections));
    }

    #[test]
    fn the_last_sixteenth_is_for_those_who_hold_little() {
        let files = files(2_000, 30);
        let (budget, spare) = (1_845_usize, 1_845_usize / 16);
        let mut hog = 0;
        while files.admits(hog) {
            files.take(PER_CONNECTION);
            hog += 1;
        }
        assert!(files.are_scarce());
        assert_eq!(hog as usize, (budget - spare).div_ceil(PER_CONNECTION));
        // Many others still get something, each of them a little, until there is nothing.
        let mut others = Vec::new();
        for _ in 0..100 {
            let mut other = 0;
            while files.admits(other) {
                files.take(PER_CONNECTION);
                other += 1;
            }
            others.push(other);
        }
        assert_eq!(others.iter().sum::<u64>() as usize, spare / PER_CONNECTION);
        assert!(
            others[..4].iter().all(|other| *other == spare as u64 / 8),
            "{others:?}"
        );
        // One of the others' ends: another's may begin, and the hog's may not.
        files.give(PER_CONNECTION);
        assert!(files.admits(0) && !files.admits(hog));
    }

    #[test]
    fn a_lease_gives_back() {
        let files = files(96, 30);
        let lease = files.lease(3);
        assert_eq!((files.held(), files.free()), (3, 55));
        drop(lease);
        assert_eq!(files.held(), 0);
        assert!(!files.are_strained());
        files.take(30);
        assert!(files.are_strained());
    }
}
