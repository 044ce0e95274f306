//! Pure: from Services, endpoints and the node to what each frontend does. No I/O, no clock, no randomness.
//!
//! [`Table`] holds the whole state and answers both questions asked of it: what changes for the sockets when an object
//! changes ([`Delta`]), and what happens to one connection ([`Decision`]). The live data path follows the same
//! [`Frontend`] values, so what explain says is what a connection gets.

mod balancer;
pub mod categorize;
mod collect;
mod context;
mod decide;
mod delta;
mod endpoint_list;
mod entry;
pub mod explain;
mod flow;
mod frontend;
mod hold;
mod index;
mod loops;
mod nets;
mod nodeport_addresses;
mod policy;
mod table;

pub use crate::types::{BindKey, Capture, Scope};
pub use balancer::Balancer;
pub(crate) use balancer::{Cause, Pick};
pub(crate) use decide::Decision;
pub(crate) use decide::Kernel;
pub use decide::{Perfect, Verdict};
pub use delta::{Delta, DetectLocal, HealthCheck, Inputs, Settings, VirtualIps};
pub use endpoint_list::EndpointList;
pub use entry::NoLocalEndpoints;
pub use explain::{ExplainRequest, Filter, OutputFormat, Query};
pub use flow::Flow;
pub use frontend::{Frontend, FrontendKind, Route, SourcePolicy, Target};
pub(crate) use nodeport_addresses::InvalidNodePortAddress;
pub use nodeport_addresses::NodePortAddresses;
pub(crate) use nodeport_addresses::NodePortIps;
pub use table::Table;
