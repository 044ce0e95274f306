//! From many sources to one state of each kind, as kube-proxy's `pkg/proxy/config`.
//!
//! A source (an apiserver's reflector, a [`FileSource`](sources::FileSource)) writes [`Update`](crate::types::Update)s into its
//! own channel of a [`Mux`]. One thread a kind merges the channels into a [`Store`] and hands snapshots to the listeners of
//! a [`Broadcaster`]: late ones are told at once, slow ones are told the newest.
//!
//! ```
//! use portico::config::{Mux, NodeConfig};
//! use portico::types::Update;
//!
//! let mut mux = Mux::default();
//! let source = mux.channel("api");
//! let nodes = NodeConfig::start(mux).unwrap();
//! let subscription = nodes.subscribe();
//! source.send(Update::Set(Vec::new())).unwrap();
//! subscription.signal().recv().unwrap();
//! assert!(subscription.take().unwrap().snapshot.synced);
//! ```

mod broadcaster;
mod kind;
mod merge;
mod mux;
pub mod sources;
pub mod store;

pub use broadcaster::{Broadcaster, Handler, Subscription};
pub use kind::{Endpoints, Kind, Nodes, Services};
pub(crate) use merge::ServiceCidrConfig;
pub use merge::{Config, EndpointsConfig, NodeConfig, ServiceConfig};
pub use mux::Mux;
pub use store::{EndpointsStore, ServiceStore, Store};
