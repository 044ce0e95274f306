//! How many sessions each worker has.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// Sessions of all workers.
#[derive(Debug)]
pub(crate) struct Loads {
    sessions: Box<[Load]>,
    idle: (Mutex<()>, Condvar),
    /// Somebody waits on `idle`: else the end of a session need not ask the kernel to wake anybody.
    is_awaited: AtomicBool,
}

/// Sessions of one worker. On a cache line of its own: every worker writes its own at each connection.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Load(AtomicUsize);

impl Loads {
    /// Nobody has any.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            sessions: (0..workers).map(|_| Load::default()).collect(),
            idle: Default::default(),
            is_awaited: AtomicBool::new(false),
        }
    }

    /// A worker has one session more.
    pub(crate) fn session_began(&self, worker: usize) {
        if let Some(load) = self.sessions.get(worker) {
            load.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A worker has one session less.
    pub(crate) fn session_ended(&self, worker: usize) {
        let Some(load) = self.sessions.get(worker) else {
            return;
        };
        // Either the waiter sees this count or this sees the waiter: each writes first, then reads, in one order for all.
        let last = load.0.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.is_awaited.load(Ordering::SeqCst) {
            drop(self.idle.0.lock().unwrap_or_else(PoisonError::into_inner));
            self.idle.1.notify_all();
        }
    }

    /// The worker with the fewest sessions, and how many fewer it has than this one.
    pub(crate) fn least_loaded(&self, than: usize) -> (usize, usize) {
        let load = |load: &Load| load.0.load(Ordering::Relaxed);
        let own = self.sessions.get(than).map_or(0, load);
        let loads = self.sessions.iter().map(load).enumerate();
        match loads.min_by_key(|(_, load)| *load) {
            Some((worker, load)) => (worker, own.saturating_sub(load)),
            None => (than, 0),
        }
    }

    /// Sessions of all workers.
    pub(crate) fn active(&self) -> usize {
        let load = |load: &Load| load.0.load(Ordering::SeqCst);
        self.sessions.iter().map(load).sum()
    }

    /// Waits until no worker has a session; false at the deadline.
    pub(crate) fn wait_idle(&self, deadline: Instant) -> bool {
        let mut guard = self.idle.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_awaited.store(true, Ordering::SeqCst);
        while self.active() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.idle.1.wait_timeout(guard, left);
            guard = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
