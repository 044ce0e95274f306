//! Endpoints. EndpointSlices of either version and core/v1 Endpoints become one type at the door.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::{IpFamily, NamespacedName, Object, ObjectKind, Problems, Protocol};

/// One object that lists endpoints of one Service: an EndpointSlice (discovery.k8s.io), or an Endpoints (core/v1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The object's own key.
    pub name: NamespacedName,
    /// The Service it belongs to: label `kubernetes.io/service-name` in the slice's namespace; an Endpoints' own name.
    pub service: NamespacedName,
    /// One for an EndpointSlice; one for each subset and family of an Endpoints.
    pub subsets: Box<[Subset]>,
    /// Annotation `endpoints.kubernetes.io/last-change-trigger-time`.
    pub last_change_trigger_time: Option<SystemTime>,
    /// What was wrong with this object and left out.
    pub problems: Problems,
}

impl EndpointSlice {
    /// Whether it is about this family.
    pub(crate) fn is_of(&self, family: IpFamily) -> bool {
        self.subsets.iter().any(|subset| subset.family == family)
    }
}

impl Object for EndpointSlice {
    const KIND: ObjectKind = ObjectKind::EndpointSlice;

    fn name(&self) -> &NamespacedName {
        &self.name
    }

    fn problems(&self) -> &Problems {
        &self.problems
    }
}

/// Endpoints that share a family and a list of ports: every endpoint has every port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// `addressType`.
    pub family: IpFamily,
    /// Ports with a name and a number; matched to Service ports by (name, protocol), never by number.
    pub ports: Box<[EndpointPort]>,
    /// In the object's order.
    pub endpoints: Box<[Endpoint]>,
}

/// `ports[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// Empty for the unnamed port.
    pub name: Arc<str>,
    /// `ports[].protocol`, TCP when absent.
    pub protocol: Protocol,
    /// 1 to 65535.
    pub port: u16,
}

/// `endpoints[]`. A hundred thousand of these are kept: what is rare is boxed, what repeats is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses[0]`; only the first is used.
    pub ip: IpAddr,
    /// `conditions`.
    pub conditions: Conditions,
    /// `nodeName`.
    pub node: Option<Arc<str>>,
    /// `hints`, if any name is in them.
    pub hints: Option<Box<Hints>>,
}

/// `endpoints[].conditions`, with the API's defaults applied (ready and serving true, terminating false).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Conditions {
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

impl Conditions {
    /// What an endpoint without conditions is.
    pub const READY: Self = Self {
        ready: true,
        serving: true,
        terminating: false,
    };
    /// What `notReadyAddresses` of core/v1 Endpoints are.
    pub(crate) const NOT_READY: Self = Self {
        ready: false,
        serving: false,
        terminating: false,
    };
}

/// `endpoints[].hints`: for which zones and nodes the control plane means this endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `forZones[].name`
    pub zones: Box<[Arc<str>]>,
    /// `forNodes[].name`
    pub nodes: Box<[Arc<str>]>,
}
