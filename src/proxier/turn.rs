//! One turn of a worker's loop, as its parts see it.

use std::time::Instant;

use mio::Registry;

use super::shared::Shared;

/// What a worker's parts need to know of it.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    /// The worker's number.
    pub(crate) worker: usize,
    /// Where sockets are registered.
    pub(crate) registry: &'a Registry,
    /// What it shares with the others.
    pub(crate) shared: &'a Shared,
    /// The time at the beginning of this turn.
    pub(crate) now: Instant,
}
