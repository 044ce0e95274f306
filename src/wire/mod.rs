//! The only place where API objects have serde derives: JSON becomes [`crate::types`] here and nowhere else.
//!
//! Lenient by field and by item: what a proxy does not read is skipped without being kept; a field of the wrong type or out
//! of range costs that field and is named in the object's `problems`; an object without an identity, or without what gives
//! it a meaning, costs that object. Neither ends a list or a watch.
//!
//! - [`list`] decodes a LIST response from a reader, item by item: memory grows with what is kept.
//! - [`Events`] decodes a WATCH stream, event by event.
//! - [`manifests`] decodes a file of manifests, JSON or YAML, object by object; [`yaml::documents`] parses a whole text.

mod endpoints;
mod frame;
mod intern;
mod ip;
mod lenient;
mod manifest;
mod meta;
mod node;
mod outline;
mod service;
mod slice;
mod status;
mod stream;
pub mod yaml;

pub use intern::Interner;
pub(crate) use ip::{parse_cidr, parse_ip};
pub use manifest::{Manifests, Object, manifests};
pub use meta::{Item, ItemError};
pub(crate) use status::Status;
pub(crate) use stream::StreamError;
pub use stream::{Event, Events, ListMeta, list};

use crate::types::{EndpointSlice, NamespacedName, Node, ObjectKind, Service, ServiceCidr};

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
    fn key(self, namespace: Option<&str>, name: &str) -> Option<NamespacedName> {
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

/// An object that can be decoded from one of the kinds on the wire.
pub trait Decode: crate::types::Object + Sized {
    /// Decodes one object. `kind` says what the text is (core/v1 Endpoints become an [`EndpointSlice`], too).
    fn decode(kind: Kind, text: &str, interner: &mut Interner) -> Result<Item<Self>, ItemError>;
}

impl Decode for Service {
    fn decode(_: Kind, text: &str, interner: &mut Interner) -> Result<Item<Self>, ItemError> {
        service::decode(text, interner)
    }
}

impl Decode for EndpointSlice {
    fn decode(kind: Kind, text: &str, interner: &mut Interner) -> Result<Item<Self>, ItemError> {
        match kind {
            Kind::Endpoints => endpoints::decode(text, interner),
            Kind::EndpointSlice | Kind::Service | Kind::Node | Kind::ServiceCidr => {
                slice::decode(text, interner)
            }
        }
    }
}

impl Decode for Node {
    fn decode(_: Kind, text: &str, _: &mut Interner) -> Result<Item<Self>, ItemError> {
        node::decode_node(text)
    }
}

impl Decode for ServiceCidr {
    fn decode(_: Kind, text: &str, _: &mut Interner) -> Result<Item<Self>, ItemError> {
        node::decode_service_cidr(text)
    }
}

#[cfg(test)]
mod tests;
