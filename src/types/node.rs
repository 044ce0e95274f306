//! Cluster-scoped objects: our Node, and ServiceCIDRs.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{NamespacedName, Object, ObjectKind, Problems};

/// A Node (core/v1); of all nodes only ours is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: NamespacedName,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Box<str>>,
    /// `status.addresses`: InternalIPs, then ExternalIPs, in the object's order.
    pub addresses: Box<[IpAddr]>,
    /// `spec.podCIDRs`, else `spec.podCIDR`.
    pub pod_cidrs: Box<[IpNet]>,
    /// No taint `ToBeDeletedByClusterAutoscaler` and no `metadata.deletionTimestamp`: /healthz may answer 200.
    pub eligible: bool,
    /// What was wrong with this object and left out.
    pub problems: Problems,
}

impl Object for Node {
    const KIND: ObjectKind = ObjectKind::Node;

    fn name(&self) -> &NamespacedName {
        &self.name
    }

    fn problems(&self) -> &Problems {
        &self.problems
    }
}

/// A ServiceCIDR (networking.k8s.io): ranges that clusterIPs are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// `metadata.name`.
    pub(crate) name: NamespacedName,
    /// `spec.cidrs`.
    pub cidrs: Box<[IpNet]>,
    /// As for a Node.
    pub(crate) problems: Problems,
}

impl Object for ServiceCidr {
    const KIND: ObjectKind = ObjectKind::ServiceCidr;

    fn name(&self) -> &NamespacedName {
        &self.name
    }

    fn problems(&self) -> &Problems {
        &self.problems
    }
}
