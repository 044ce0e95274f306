//! The vocabulary that every layer shares: Kubernetes' names for Kubernetes' things, as parsed values.
//!
//! No serde, no I/O, no clock. Wire formats become these types in [`crate::wire`] and nowhere else.

mod binding;
mod complaint;
pub mod counters;
pub(crate) mod cow_map;
mod endpoints;
mod name;
mod node;
mod object;
mod portal_kind;
mod problem;
mod protocol;
mod service;
mod snapshot;
mod text;
mod update;

pub use binding::{BindKey, Capture, Scope};
pub use complaint::{Complaint, Complaints, News, Subject};
pub(crate) use cow_map::CowMap;
pub use endpoints::{Conditions, Endpoint, EndpointPort, EndpointSlice, Hints, Subset};
pub use name::{NamespacedName, ServicePortName};
pub use node::{Node, ServiceCidr};
pub use object::{Object, ObjectKind};
pub use portal_kind::PortalKind;
pub use problem::{Problem, Problems};
pub use protocol::{IpFamily, PerFamily, Protocol};
pub use service::{Service, ServicePort, ServiceType, TrafficPolicy};
pub use snapshot::{Broadcast, Slices, Snapshot};
pub(crate) use text::{decode_text, one_line};
pub use update::{Relist, Update};
