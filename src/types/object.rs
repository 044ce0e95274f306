//! The objects that a proxy follows, of four kinds.

use std::fmt;

use super::{NamespacedName, Problems};

/// A Kubernetes object that sources deliver and stores keep.
pub trait Object: PartialEq + Send + Sync + 'static {
    /// Which kind it is of.
    const KIND: ObjectKind;

    /// Its key within the kind.
    fn name(&self) -> &NamespacedName;

    /// What was wrong with it and left out.
    fn problems(&self) -> &Problems;
}

/// A kind of object. The two versions of EndpointSlice are one, and core/v1 Endpoints count as it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ObjectKind {
    Service,
    EndpointSlice,
    Node,
    ServiceCidr,
}

impl ObjectKind {
    /// The API's `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
