//! Helpers shared by the subjects: waiting, seeds, and (each in its own file) the apiserver, backends and namespaces.

#![allow(dead_code)]

pub mod apiserver;
pub mod backend;
pub mod netns;
pub mod rng;

use std::time::{Duration, Instant};

/// Polls until `check` gives a value; panics with `what` once `limit` has passed.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
