//! Services, with only the fields that a proxy reads.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{IpFamily, NamespacedName, Object, ObjectKind, Problems, Protocol};

/// A Service (core/v1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `metadata.namespace`, `metadata.name`.
    pub name: NamespacedName,
    /// `spec.type`.
    pub kind: ServiceType,
    /// `spec.clusterIP` is `None` or absent: nothing to proxy.
    pub headless: bool,
    /// The label `service.kubernetes.io/headless` is there, whatever its value: no proxy serves it.
    pub labelled_headless: bool,
    /// The clusterIP of each family that the Service has, by kube-proxy's rule: `spec.clusterIP` where `spec.ipFamilies` is
    /// empty, else the address in `spec.clusterIPs` that stands where the family stands in `spec.ipFamilies`.
    pub cluster_ips: Box<[IpAddr]>,
    /// `spec.ports`, valid ones only.
    pub ports: Box<[ServicePort]>,
    /// `spec.sessionAffinity: ClientIP` with its sliding `timeoutSeconds` (10800 when absent); None without affinity.
    pub session_affinity: Option<Duration>,
    /// `spec.externalTrafficPolicy`, as written; whether it has an effect is routing's to say.
    pub external_traffic_policy: TrafficPolicy,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.healthCheckNodePort`; 0 if there is none.
    pub health_check_node_port: u16,
    /// `spec.externalIPs`, valid ones only, both families.
    pub external_ips: Box<[IpAddr]>,
    /// `status.loadBalancer.ingress[].ip` with ipMode VIP or none given.
    pub load_balancer_ips: Box<[IpAddr]>,
    /// `spec.loadBalancerSourceRanges`, valid ones only, both families.
    pub source_ranges: Box<[IpNet]>,
    /// The label `service.kubernetes.io/service-proxy-name`; its mere presence takes the Service away from a default proxy.
    pub proxy_name: Option<Box<str>>,
    /// What was wrong with this object and left out.
    pub problems: Problems,
}

impl Service {
    /// The clusterIP of this family, if the Service has one there.
    pub(crate) fn cluster_ip(&self, family: IpFamily) -> Option<IpAddr> {
        self.cluster_ips
            .iter()
            .copied()
            .find(|ip| IpFamily::of(*ip) == family)
    }
}

impl Object for Service {
    const KIND: ObjectKind = ObjectKind::Service;

    fn name(&self) -> &NamespacedName {
        &self.name
    }

    fn problems(&self) -> &Problems {
        &self.problems
    }
}

/// `spec.ports[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty for the unnamed port.
    pub name: Arc<str>,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// 1 to 65535.
    pub port: u16,
    /// 0 if there is none. Served whatever the Service's type says.
    pub node_port: u16,
}

/// `spec.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// `spec.externalTrafficPolicy`, `spec.internalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TrafficPolicy {
    Cluster,
    Local,
}
