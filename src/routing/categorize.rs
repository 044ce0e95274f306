//! Which endpoints of a ServicePort are used on this node: kube-proxy's CategorizeEndpoints.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::types::{Conditions, Hints};

/// One endpoint of one ServicePort.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Address and port.
    pub address: SocketAddr,
    /// Ready, serving, terminating.
    pub conditions: Conditions,
    /// It is on our node.
    pub local: bool,
    /// For which zones and nodes the control plane means it.
    pub hints: Option<&'a Hints>,
}

impl Candidate<'_> {
    /// May be used where nothing is ready: it is on its way out, but still answers.
    pub(crate) fn is_fallback(&self) -> bool {
        !self.conditions.ready && self.conditions.serving && self.conditions.terminating
    }

    fn zones(&self) -> &[Arc<str>] {
        self.hints.map_or(&[], |hints| &hints.zones)
    }

    fn nodes(&self) -> &[Arc<str>] {
        self.hints.map_or(&[], |hints| &hints.nodes)
    }
}

/// Where we are, for hints.
#[derive(Clone, Copy, Debug)]
pub struct Whereabouts<'a> {
    /// Our Node's name.
    pub node: &'a str,
    /// Its zone; empty without the label.
    pub zone: &'a str,
    /// Whether hints for nodes are looked at (upstream's gate PreferSameTrafficDistribution, on in the newest releases).
    pub node_hints: bool,
}

/// Which lists a ServicePort's frontends need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uses {
    /// Some frontend has policy Cluster, or the short cut.
    pub cluster: bool,
    /// Some frontend has policy Local.
    pub local: bool,
}

/// Whether the control plane's hints narrow down the cluster list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// They do not.
    Anywhere,
    /// To endpoints meant for our zone.
    SameZone,
    /// To endpoints meant for our node.
    SameNode,
}

/// The endpoints in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Categorized {
    /// For policy Cluster; None where no frontend has it.
    pub cluster: Option<Vec<SocketAddr>>,
    /// For policy Local; None where no frontend has it.
    pub local: Option<Vec<SocketAddr>>,
    /// A usable endpoint exists anywhere in the cluster: without one clients are refused, with one but none in the list they
    /// meet silence.
    pub has_any: bool,
    /// How hints were applied.
    pub(crate) topology: Topology,
}

impl Categorized {
    /// Everything that connections may reach from this node.
    pub fn all(&self) -> Vec<SocketAddr> {
        let mut all: Vec<_> = self
            .cluster
            .iter()
            .chain(&self.local)
            .flatten()
            .copied()
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Sorts the endpoints of one ServicePort, without duplicates, into the lists in use. Lists keep the order of `endpoints`.
pub fn categorize(endpoints: &[Candidate<'_>], uses: Uses, place: Whereabouts<'_>) -> Categorized {
    let topology = if uses.cluster {
        topology(endpoints, place)
    } else {
        Topology::Anywhere
    };
    let cluster = uses.cluster.then(|| cluster(endpoints, topology, place));
    let local = uses.local.then(|| local(endpoints));
    let has_any = match &cluster {
        Some(cluster) if !uses.local => !cluster.is_empty(),
        _ => endpoints
            .iter()
            .any(|e| e.conditions.ready || e.is_fallback()),
    };
    Categorized {
        cluster,
        local,
        has_any,
        topology,
    }
}

fn cluster(
    endpoints: &[Candidate<'_>],
    topology: Topology,
    place: Whereabouts<'_>,
) -> Vec<SocketAddr> {
    let ready = select(endpoints, |e| {
        e.conditions.ready && is_meant(e, topology, place)
    });
    if ready.is_empty() {
        select(endpoints, |e| e.is_fallback())
    } else {
        ready
    }
}

/// Hints play no part here.
fn local(endpoints: &[Candidate<'_>]) -> Vec<SocketAddr> {
    let ready = select(endpoints, |e| e.local && e.conditions.ready);
    if ready.is_empty() {
        select(endpoints, |e| e.local && e.is_fallback())
    } else {
        ready
    }
}

fn select(
    endpoints: &[Candidate<'_>],
    is_chosen: impl Fn(&Candidate<'_>) -> bool,
) -> Vec<SocketAddr> {
    endpoints
        .iter()
        .filter(|e| is_chosen(e))
        .map(|e| e.address)
        .collect()
}

/// All or nothing: one ready endpoint without a hint, and hints of that kind are not used. Unready ones do not matter.
fn topology(endpoints: &[Candidate<'_>], place: Whereabouts<'_>) -> Topology {
    let all_hinted = |topology| {
        let mut ready = endpoints.iter().filter(|e| e.conditions.ready).peekable();
        ready.peek().is_some() && ready.all(|e| has_hint(e, topology))
    };
    let one_for_us = |topology| {
        endpoints
            .iter()
            .any(|e| e.conditions.ready && is_meant(e, topology, place))
    };
    let kinds = [
        (Topology::SameNode, place.node_hints),
        (Topology::SameZone, true),
    ];
    kinds
        .into_iter()
        .find(|(topology, enabled)| *enabled && all_hinted(*topology) && one_for_us(*topology))
        .map_or(Topology::Anywhere, |(topology, _)| topology)
}

fn has_hint(endpoint: &Candidate<'_>, topology: Topology) -> bool {
    match topology {
        Topology::Anywhere => true,
        Topology::SameZone => !endpoint.zones().is_empty(),
        Topology::SameNode => !endpoint.nodes().is_empty(),
    }
}

fn is_meant(endpoint: &Candidate<'_>, topology: Topology, place: Whereabouts<'_>) -> bool {
    let names =
        |list: &[Arc<str>], us: &str| !us.is_empty() && list.iter().any(|name| **name == *us);
    match topology {
        Topology::Anywhere => true,
        Topology::SameZone => names(endpoint.zones(), place.zone),
        Topology::SameNode => names(endpoint.nodes(), place.node),
    }
}
