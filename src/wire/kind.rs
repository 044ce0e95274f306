//! The kinds of objects on the wire.

use crate::types::{NamespacedName, ObjectKind};

/// A kind of object on the wire. EndpointSlice stands for both versions of it: they differ in a field that both readers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Service,
    EndpointSlice,
    Endpoints,
    Node,
    ServiceCidr,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 5] = [
        Self::Service,
        Self::EndpointSlice,
        Self::Endpoints,
        Self::Node,
        Self::ServiceCidr,
    ];

    /// `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }

    /// The API group; empty for core.
    pub fn group(self) -> &'static str {
        match self {
            Self::Service | Self::Endpoints | Self::Node => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::ServiceCidr => "networking.k8s.io",
        }
    }

    /// What an object of this kind is found by; None if its name is none. A manifest may leave the namespace to the default one,
    /// as with kubectl.
    pub(super) fn key(self, namespace: Option<&str>, name: &str) -> Option<NamespacedName> {
        let namespace = match self {
            Self::Service | Self::EndpointSlice | Self::Endpoints => namespace.unwrap_or("default"),
            Self::Node | Self::ServiceCidr => "",
        };
        let is_name = |name: &str| !name.contains(|c: char| c == '/' || c.is_control());
        (!name.is_empty() && is_name(name) && is_name(namespace))
            .then(|| NamespacedName::new(namespace, name))
    }
}

impl From<Kind> for ObjectKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Service => Self::Service,
            Kind::EndpointSlice | Kind::Endpoints => Self::EndpointSlice,
            Kind::Node => Self::Node,
            Kind::ServiceCidr => Self::ServiceCidr,
        }
    }
}
