//! The apiserver as a source: list and watch over its REST API, one blocking thread for each resource.
//!
//! ```text
//!  Access (kubeconfig, credentials, what all connections know)
//!    └─ Client (ureq) ── Reflector thread ── Update{Set, Add, Remove, Unavailable} ──▶ channel
//!         │                │        ▲
//!         Dialer (TCP,     ▼        │ Decision
//!         proxy, TLS)     Machine (pure: which request next, from which version, after which wait)
//! ```
//!
//! - [`machine`]: the protocol; no sockets, no clock, no randomness of its own.
//! - [`list_watch`]: what is asked for; selectors, and what older servers know instead.
//! - [`backoff`]: how long to wait. [`outage`]: what is said meanwhile. [`contact`]: who wakes whom.
//! - [`client`]: HTTP, and the connections below it. [`tls`]: whom we trust.
//! - [`kubeconfig`]: what the user has written. [`credentials`]: what a request presents. [`access`]: both, as they are now.

mod access;
pub(crate) mod backoff;
pub mod client;
mod contact;
mod credentials;
mod error;
pub mod kubeconfig;
pub(crate) mod list_watch;
pub mod machine;
mod outage;
mod reflector;
mod tls;

pub use access::{Access, AccessOptions};
pub use client::Client;
pub(crate) use error::Error;
pub use list_watch::{Resource, Selection};
pub use reflector::spawn_reflector;
