//! One turn of a worker's loop, as its parts see it.

use std::net::SocketAddr;
use std::time::Instant;

use mio::Registry;

use super::shared::Shared;
use crate::routing::Cause;
use crate::types::ServicePortName;

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

impl Turn<'_> {
    /// An endpoint was of no use for a client. That clients go in circles is said once of each ServicePort, until there has been
    /// nothing of the kind for a while.
    pub(crate) fn report(
        &self,
        cause: Cause,
        name: &ServicePortName,
        client: SocketAddr,
        endpoint: SocketAddr,
    ) {
        log::debug!("{name}: endpoint {endpoint} {cause}");
        if cause == Cause::Circle && self.shared.circles.is_news(name, self.now) {
            log::warn!(
                "{name}: clients go in circles through proxies, and are refused when they have come through too many: \
                 the last one came from {client} and would have gone on to {endpoint}"
            );
        }
    }
}
