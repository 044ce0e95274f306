//! A Service and its EndpointSlices arrive apart. While a port is without endpoints only because its other half has not come,
//! it is served from where it was served before, for a moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::categorize::{Categorized, Topology, Uses};
use super::endpoint_list::EndpointList;
use super::entry::{PortEntry, ServiceEntry};
use crate::types::{Endpoint, EndpointSlice, IpFamily, ServicePort, Subset};

/// What a port goes on with.
pub(super) struct Held {
    pub(super) endpoints: Categorized,
    /// So long at most; it does not grow with further updates.
    pub(super) until: Instant,
}

/// What this port, which the slices do not know, goes on with, if there is anything.
pub(super) fn held(
    slices: &[Arc<EndpointSlice>],
    (family, port): (IpFamily, &ServicePort),
    uses: Uses,
    old: Option<&ServiceEntry>,
    (now, longest): (Instant, Duration),
) -> Option<Held> {
    let old = served_before(old?, port, family)?;
    let until = old.held_until.unwrap_or(now + longest);
    if now >= until || !other_half_is_missing(slices, family, port) {
        return None;
    }
    // Only where the slices still have the endpoint itself, if by another port.
    let lives = |address: &SocketAddr| {
        let mut endpoints = listed(slices, family).flat_map(|subset| &subset.endpoints);
        endpoints.any(|endpoint| endpoint.ip == address.ip() && is_usable(endpoint))
    };
    let rest = |list: &EndpointList| list.iter().filter(lives).collect::<Vec<_>>();
    let (cluster, local) = (rest(&old.route.cluster), rest(&old.route.local));
    if cluster.is_empty() && local.is_empty() {
        return None;
    }
    let endpoints = Categorized {
        cluster: uses.cluster.then_some(cluster),
        local: uses.local.then_some(local),
        has_any: true,
        topology: Topology::Anywhere,
    };
    Some(Held { endpoints, until })
}

/// The same port by its number: its name may be what has changed.
fn served_before<'a>(
    old: &'a ServiceEntry,
    port: &ServicePort,
    family: IpFamily,
) -> Option<&'a PortEntry> {
    let is_it = |known: &&ServicePort| (known.port, known.protocol) == (port.port, port.protocol);
    let known = old.service.ports.iter().find(is_it)?;
    old.ports.iter().find(|entry| {
        let name = &entry.route.name;
        entry.route.family == family && (&name.port, name.protocol) == (&known.name, known.protocol)
    })
}

/// The slices list endpoints, but none of them by this port.
fn other_half_is_missing(
    slices: &[Arc<EndpointSlice>],
    family: IpFamily,
    port: &ServicePort,
) -> bool {
    let knows = |subset: &Subset| {
        let mut ports = subset.ports.iter();
        ports.any(|known| known.name == port.name && known.protocol == port.protocol)
    };
    let mut listed = listed(slices, family).peekable();
    listed.peek().is_some() && !listed.any(knows)
}

/// Subsets with endpoints: one without has no ports either, and says that there are none.
fn listed(slices: &[Arc<EndpointSlice>], family: IpFamily) -> impl Iterator<Item = &Subset> {
    let subsets = slices.iter().flat_map(|slice| &slice.subsets);
    subsets.filter(move |subset| subset.family == family && !subset.endpoints.is_empty())
}

fn is_usable(endpoint: &Endpoint) -> bool {
    endpoint.conditions.ready || endpoint.conditions.serving
}
