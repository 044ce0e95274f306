//! One Service as explain sees it: worked out again from the state that the table was made from.

use std::net::SocketAddr;

use crate::routing::Table;
use crate::routing::categorize::{Candidate, Categorized, Topology, Uses, categorize};
use crate::routing::collect::{Collected, collect};
use crate::routing::entry::{PortEntry, ServiceEntry};
use crate::routing::policy::Policies;

/// One ServicePort in one family.
pub(super) struct PortView<'a> {
    pub(super) port: &'a PortEntry,
    pub(super) lists: Categorized,
    pub(super) all: Vec<SocketAddr>,
    pub(super) endpoints: Vec<EndpointView>,
}

/// One endpoint, with what becomes of it.
pub(super) struct EndpointView {
    pub(super) address: SocketAddr,
    pub(super) used: bool,
    pub(super) reason: String,
}

/// The ports of a Service.
pub(super) fn ports<'a>(
    table: &'a Table,
    entry: &'a ServiceEntry,
) -> impl Iterator<Item = PortView<'a>> {
    entry
        .ports
        .iter()
        .filter_map(|port| view(table, entry, port))
}

fn view<'a>(
    table: &'a Table,
    entry: &'a ServiceEntry,
    port: &'a PortEntry,
) -> Option<PortView<'a>> {
    let (context, route) = (&table.context, &port.route);
    let name = &route.name;
    let is_it = |p: &&crate::types::ServicePort| p.name == name.port && p.protocol == name.protocol;
    let service_port = entry.service.ports.iter().find(is_it)?;
    let uses = Policies::new(context, &entry.service, route.family).uses(service_port);
    let slices = entry.slices.as_deref().unwrap_or_default();
    let found = collect(slices, (route.family, &name.port, name.protocol), context);
    let (lists, mut endpoints) = match port.held_until {
        Some(_) => held(port, uses),
        None => {
            let lists = categorize(&found.candidates, uses, context.place());
            let endpoints = endpoints(&found, &lists, uses);
            (lists, endpoints)
        }
    };
    for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.used) {
        if let Some(own) = table
            .index
            .own_listener(endpoint.address, name.protocol, context)
        {
            let (kind, whose) = (own.kind.as_str(), &own.route.name);
            endpoint.used = false;
            endpoint.reason = format!("{}, but a loop: it is a {kind} of {whose}", endpoint.reason);
        }
    }
    Some(PortView {
        port,
        all: lists.all(),
        lists,
        endpoints,
    })
}

/// A port that goes on with what it had.
fn held(port: &PortEntry, uses: Uses) -> (Categorized, Vec<EndpointView>) {
    let lists = Categorized {
        cluster: uses.cluster.then(|| port.route.cluster.to_vec()),
        local: uses.local.then(|| port.route.local.to_vec()),
        has_any: port.has_any,
        topology: Topology::Anywhere,
    };
    let all = lists.all().into_iter();
    let endpoints = all.map(|address| EndpointView {
        address,
        used: true,
        reason: "as before for a moment: Service and slices do not agree about the port yet".into(),
    });
    (lists, endpoints.collect())
}

fn endpoints(found: &Collected<'_>, lists: &Categorized, uses: Uses) -> Vec<EndpointView> {
    let candidates = found.candidates.iter().map(|candidate| {
        let within = |list: &Option<Vec<SocketAddr>>| {
            list.as_ref()
                .is_some_and(|list| list.binary_search(&candidate.address).is_ok())
        };
        let (in_cluster, in_local) = (within(&lists.cluster), within(&lists.local));
        let used = in_cluster || in_local;
        let reason = if used {
            why_used(candidate, uses, in_cluster, in_local)
        } else {
            why_not_used(candidate, lists, uses).to_owned()
        };
        EndpointView {
            address: candidate.address,
            used,
            reason,
        }
    });
    let refused = found.refused.iter().map(|(address, refusal)| EndpointView {
        address: *address,
        used: false,
        reason: format!("refused: it is {refusal}"),
    });
    let mut endpoints: Vec<_> = candidates.chain(refused).collect();
    endpoints.sort_by_key(|endpoint| endpoint.address);
    endpoints
}

fn why_used(candidate: &Candidate<'_>, uses: Uses, in_cluster: bool, in_local: bool) -> String {
    let mut reason = if candidate.conditions.ready {
        "ready".to_owned()
    } else {
        "terminating but still serving, as none is ready".to_owned()
    };
    if candidate.local {
        reason.push_str(", on this node");
    }
    if uses.cluster && uses.local && in_cluster != in_local {
        reason.push_str(if in_cluster {
            "; for policy Cluster only"
        } else {
            "; for policy Local only"
        });
    }
    reason
}

fn why_not_used(candidate: &Candidate<'_>, lists: &Categorized, uses: Uses) -> &'static str {
    if !candidate.conditions.ready {
        return match (
            candidate.conditions.terminating,
            candidate.conditions.serving,
        ) {
            (false, _) => "not ready",
            (true, false) => "terminating, not serving any more",
            (true, true) if !candidate.local && !uses.cluster => {
                "terminating, and not on this node"
            }
            (true, true) => "terminating, and others are ready",
        };
    }
    if !uses.cluster {
        return "ready, but not on this node as internalTrafficPolicy Local wants";
    }
    match lists.topology {
        Topology::SameNode => "ready, but hinted for other nodes",
        Topology::SameZone => "ready, but hinted for other zones",
        Topology::Anywhere => "ready, but not on this node",
    }
}
