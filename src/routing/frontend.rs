//! What the data path needs to know of one listener.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::{Balancer, EndpointList, Pick};
use crate::types::counters::ServiceCounters;
use crate::types::{IpFamily, ServicePortName};

/// By which of its addresses a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum FrontendKind {
    ClusterIp,
    ExternalIp,
    LoadBalancerIp,
    NodePort,
}

impl FrontendKind {
    /// As explain and the logs name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "clusterIP",
            Self::ExternalIp => "externalIP",
            Self::LoadBalancerIp => "loadBalancerIP",
            Self::NodePort => "nodePort",
        }
    }
}

/// What one listener does with a connection. Immutable; an update replaces the whole value.
#[derive(Debug)]
pub struct Frontend {
    /// For logs and metrics.
    pub kind: FrontendKind,
    /// The ServicePort behind it, shared by all its frontends.
    pub route: Arc<Route>,
    /// Who gets what.
    pub policy: SourcePolicy,
}

impl Frontend {
    /// The endpoints that a client may be sent to. Never asked for a source that `policy.allow` excludes: the kernel
    /// has dropped it.
    pub fn endpoints(&self, source: IpAddr) -> &EndpointList {
        match self.policy.target(source) {
            Target::Cluster => &self.route.cluster,
            Target::Local => &self.route.local,
        }
    }

    /// Chooses where a client goes; see [`Balancer::choose`].
    pub(crate) fn pick(&self, client: IpAddr, tried: &[SocketAddr], now: Instant) -> Option<Pick> {
        let Route {
            balancer,
            counters,
            affinity,
            ..
        } = &*self.route;
        let endpoints = self.endpoints(client);
        let endpoint = balancer.choose(endpoints, client, *affinity, tried, now)?;
        Some(Pick::new(endpoint, balancer, counters))
    }
}

/// What a frontend does with a connection by its source address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePolicy {
    /// Sources that are heard; all others meet silence (DROP), by a filter on the listener. None: everyone is heard.
    pub allow: Option<Arc<[IpNet]>>,
    /// The short cut of externalTrafficPolicy Local: local pods and this host get cluster endpoints all the same.
    pub short_cut: Arc<[IpNet]>,
    /// What everyone else gets.
    pub target: Target,
}

impl SourcePolicy {
    /// Whether this source is heard at all.
    pub fn allows(&self, source: IpAddr) -> bool {
        let contains = |nets: &Arc<[IpNet]>| nets.iter().any(|net| net.contains(&source));
        self.allow.as_ref().is_none_or(contains)
    }

    /// Which list of endpoints this source is served from.
    pub(crate) fn target(&self, source: IpAddr) -> Target {
        match self.target {
            Target::Local if self.short_cut.iter().any(|net| net.contains(&source)) => {
                Target::Cluster
            }
            target => target,
        }
    }
}

/// The two lists of endpoints that a ServicePort can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Target {
    Cluster,
    Local,
}

/// One ServicePort in one family: where its connections may go. Immutable, but for the balancer and the counters, which
/// are shared with the Route that replaces this one when endpoints change.
#[derive(Debug)]
pub struct Route {
    /// `ns/name:port`
    pub name: ServicePortName,
    /// IPv4 or IPv6.
    pub family: IpFamily,
    /// Endpoints for policy Cluster, sorted; empty where that list is not in use.
    pub cluster: EndpointList,
    /// Endpoints on this node for policy Local, sorted; empty where that list is not in use.
    pub local: EndpointList,
    /// `sessionAffinity: ClientIP` with its sliding timeout.
    pub affinity: Option<Duration>,
    /// Rotation, affinity and penalties.
    pub balancer: Arc<Balancer>,
    /// What this ServicePort has carried.
    pub counters: Arc<ServiceCounters>,
}
