//! One decoder for each kind, by what comes of it.

use super::{Interner, Item, ItemError, Kind, endpoints, node, service, slice};
use crate::types::{EndpointSlice, Node, Service, ServiceCidr};

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
