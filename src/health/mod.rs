//! What others may ask over HTTP: /healthz, /livez, /readyz, healthCheckNodePorts, /metrics and its neighbours.
//!
//! One thread serves every listener ([`HealthServer`]); what it answers is kept in values that the rest of the program
//! writes: [`ProxyHealth`], [`SyncMetrics`], and closures ([`Sources`]) for what is asked for only when somebody scrapes.
//! Statuses, bodies and names are kube-proxy's.

mod connection;
mod exposition;
mod healthz;
pub mod http;
mod lines;
mod listeners;
mod metrics;
mod ping;
mod process;
mod routes;
mod server;
mod standing;
mod zpages;

pub use exposition::{RestDurations, RestRequests, Sources};
pub use healthz::{HealthCheck, Now, ProxyHealth};
pub use metrics::SyncMetrics;
pub use server::{BindError, HealthServer, ListenFailed, ServerName, ServerSettings};
pub use standing::Standing;
