//! From slices to the endpoints of one ServicePort in one family.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::categorize::Candidate;
use super::context::{Context, is_link_local};
use crate::types::{Endpoint, EndpointSlice, IpFamily, Protocol, Subset};

/// What the slices say.
#[derive(Debug, Default)]
pub(super) struct Collected<'a> {
    /// Sorted by address, without duplicates.
    pub(super) candidates: Vec<Candidate<'a>>,
    /// Those that no connection may be sent to, in the slices' order.
    pub(super) refused: Vec<(SocketAddr, Refusal)>,
}

/// Why an address cannot be an endpoint. What is here would let whoever writes slices reach services of this host that
/// listen on its own addresses only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unspecified,
    Loopback,
    LinkLocal,
    Multicast,
    OtherFamily,
}

impl Refusal {
    pub(super) fn of(ip: IpAddr, family: IpFamily) -> Option<Self> {
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        // An IPv4 address in IPv6 clothes is none of either family.
        if IpFamily::of(ip) != family || ip.to_canonical() != ip {
            Some(Self::OtherFamily)
        } else if ip.is_unspecified() {
            Some(Self::Unspecified)
        } else if ip.is_loopback() {
            Some(Self::Loopback)
        } else if is_link_local(ip) {
            Some(Self::LinkLocal)
        } else if ip.is_multicast() || broadcast {
            Some(Self::Multicast)
        } else {
            None
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Multicast => "a multicast or broadcast address",
            Self::OtherFamily => "not of the address family it is listed for",
        })
    }
}

/// The endpoints of the port with this name and protocol.
pub(super) fn collect<'a>(
    slices: &'a [Arc<EndpointSlice>],
    (family, port, protocol): (IpFamily, &str, Protocol),
    context: &Context,
) -> Collected<'a> {
    let mut found = Collected::default();
    for subset in subsets(slices, family) {
        let ports = subset
            .ports
            .iter()
            .filter(|p| *p.name == *port && p.protocol == protocol);
        for number in ports.map(|port| port.port) {
            for endpoint in &subset.endpoints {
                let address = SocketAddr::new(endpoint.ip, number);
                match Refusal::of(endpoint.ip, family) {
                    Some(refusal) => found.refused.push((address, refusal)),
                    None => found.candidates.push(candidate(endpoint, address, context)),
                }
            }
        }
    }
    deduplicate(&mut found.candidates);
    found
}

/// Distinct addresses of ready endpoints on our node, over all ports: what healthCheckNodePort reports.
pub(super) fn count_local_ready(
    slices: &[Arc<EndpointSlice>],
    family: IpFamily,
    context: &Context,
) -> usize {
    let mut ips: Vec<IpAddr> = subsets(slices, family)
        .filter(|subset| !subset.ports.is_empty())
        .flat_map(|subset| &subset.endpoints)
        .filter(|e| e.conditions.ready && context.is_our_node(e.node.as_deref()))
        .map(|endpoint| endpoint.ip)
        .filter(|ip| Refusal::of(*ip, family).is_none())
        .collect();
    ips.sort_unstable();
    ips.dedup();
    ips.len()
}

fn subsets(slices: &[Arc<EndpointSlice>], family: IpFamily) -> impl Iterator<Item = &Subset> {
    slices
        .iter()
        .flat_map(|slice| &slice.subsets)
        .filter(move |subset| subset.family == family)
}

fn candidate<'a>(endpoint: &'a Endpoint, address: SocketAddr, context: &Context) -> Candidate<'a> {
    Candidate {
        address,
        conditions: endpoint.conditions,
        local: context.is_our_node(endpoint.node.as_deref()),
        hints: endpoint.hints.as_deref(),
    }
}

/// While an endpoint moves between slices it is in both: the one that is not terminating counts.
fn deduplicate(candidates: &mut Vec<Candidate<'_>>) {
    candidates.sort_by_key(|candidate| candidate.address);
    candidates.dedup_by(|next, kept| {
        let same = next.address == kept.address;
        if same && !next.conditions.terminating {
            *kept = *next;
        }
        same
    });
}
