//! What each frontend of a ServicePort does with a connection: section 2.6 of the semantics, as values.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::categorize::{Categorized, Uses};
use super::context::Context;
use super::{FrontendKind, SourcePolicy, Target};
use crate::types::{IpFamily, Service, ServicePort, ServiceType, TrafficPolicy};

/// The policies of one Service in one family.
#[derive(Debug)]
pub(super) struct Policies<'a> {
    context: &'a Context,
    family: IpFamily,
    internal_local: bool,
    external_local: bool,
    /// Only those of this family: if there are none after that, there is no restriction.
    source_ranges: Vec<IpNet>,
    has_external_address: bool,
}

impl<'a> Policies<'a> {
    pub(super) fn new(context: &'a Context, service: &Service, family: IpFamily) -> Self {
        let is_family = |ip: &IpAddr| IpFamily::of(*ip) == family;
        let ranges = service.source_ranges.iter().map(IpNet::trunc);
        Self {
            context,
            family,
            internal_local: service.internal_traffic_policy == TrafficPolicy::Local,
            external_local: is_external_local(service),
            source_ranges: ranges.filter(|net| is_family(&net.addr())).collect(),
            has_external_address: context.external_ips(service).iter().any(is_family)
                || service.load_balancer_ips.iter().any(is_family),
        }
    }

    /// Which lists of endpoints a port's frontends need.
    pub(super) fn uses(&self, port: &ServicePort) -> Uses {
        let external = self.has_external_address || port.node_port != 0;
        Uses {
            cluster: !self.internal_local || external,
            local: self.internal_local || (self.external_local && external),
        }
    }

    /// What the frontend of this kind and address does, given the endpoints there are.
    pub(super) fn of(
        &self,
        kind: FrontendKind,
        address: IpAddr,
        endpoints: &Categorized,
    ) -> SourcePolicy {
        let has_local = endpoints
            .local
            .as_ref()
            .is_some_and(|local| !local.is_empty());
        let silent_without_local = endpoints.has_any && !has_local;
        let none: Arc<[IpNet]> = Arc::default();
        match kind {
            FrontendKind::ClusterIp if self.internal_local => SourcePolicy {
                allow: silent_without_local.then(|| none.clone()),
                short_cut: none,
                target: Target::Local,
            },
            FrontendKind::ClusterIp => SourcePolicy {
                allow: None,
                short_cut: none,
                target: Target::Cluster,
            },
            FrontendKind::ExternalIp | FrontendKind::LoadBalancerIp | FrontendKind::NodePort => {
                let mut policy = self.external(silent_without_local);
                if kind == FrontendKind::LoadBalancerIp {
                    policy.allow = self.in_source_ranges(address, policy.allow);
                }
                policy
            }
        }
    }

    fn external(&self, silent_without_local: bool) -> SourcePolicy {
        if !self.external_local {
            return SourcePolicy {
                allow: None,
                short_cut: Arc::default(),
                target: Target::Cluster,
            };
        }
        let short_cut = self.context.short_cut.get(self.family).clone();
        SourcePolicy {
            allow: silent_without_local.then(|| short_cut.clone()),
            short_cut,
            target: Target::Local,
        }
    }

    /// Narrows `allow` down to the Service's loadBalancerSourceRanges.
    fn in_source_ranges(&self, vip: IpAddr, allow: Option<Arc<[IpNet]>>) -> Option<Arc<[IpNet]>> {
        if self.source_ranges.is_empty() {
            return allow;
        }
        let mut ranges = self.source_ranges.clone();
        // Where a load balancer's address is also assigned to the node, the node's own connections come from it.
        let node_ip = self.context.node_ips.get(self.family);
        if node_ip.is_some_and(|ip| ranges.iter().any(|range| range.contains(&ip))) {
            ranges.push(vip.into());
        }
        Some(match allow {
            Some(allow) => intersection(&allow, &ranges).into(),
            None => ranges.into(),
        })
    }
}

/// externalTrafficPolicy Local, where it has an effect at all.
pub(super) fn is_external_local(service: &Service) -> bool {
    let accessible = match service.kind {
        ServiceType::LoadBalancer | ServiceType::NodePort => true,
        ServiceType::ClusterIp => !service.external_ips.is_empty(),
        ServiceType::ExternalName => false,
    };
    accessible && service.external_traffic_policy == TrafficPolicy::Local
}

/// Two CIDRs are disjoint, or one is inside the other.
fn intersection(a: &[IpNet], b: &[IpNet]) -> Vec<IpNet> {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
    let mut both: Vec<IpNet> = pairs
        .filter_map(|(a, b)| {
            if a.contains(b) {
                Some(*b)
            } else if b.contains(a) {
                Some(*a)
            } else {
                None
            }
        })
        .collect();
    both.sort_unstable();
    both.dedup();
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_intersect() {
        let nets = |texts: &[&str]| -> Vec<IpNet> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let a = nets(&["10.0.0.0/8", "192.168.0.2/32", "fd00::/64"]);
        let b = nets(&["10.1.0.0/16", "192.168.0.0/24", "0.0.0.0/0"]);
        let expect = nets(&["10.0.0.0/8", "10.1.0.0/16", "192.168.0.2/32"]);
        assert_eq!(intersection(&a, &b), expect);
        assert_eq!(intersection(&b, &a), expect);
        assert_eq!(intersection(&a, &[]), []);
    }
}
