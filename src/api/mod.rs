//! The apiserver as a source: list and watch over its REST API, one blocking thread for each resource.
//!
//! ```text
//!  Access (kubeconfig, token, certificates)
//!    └─ Client (ureq) ── Reflector thread ── Update{Set, Add, Remove, Unavailable} ──▶ channel
//!                          │        ▲
//!                 Request  ▼        │ Decision
//!                         Machine (pure: which request next, from which version, after which wait)
//! ```
//!
//! - [`machine`]: the protocol; no sockets, no clock, no randomness of its own.
//! - [`list_watch`]: what is asked for; selectors, and what older servers know instead.
//! - [`backoff`]: how long to wait.
//! - [`client`]: HTTP, TLS, tokens. [`kubeconfig`]: where they come from.

pub(crate) mod backoff;
pub mod client;
mod error;
pub mod kubeconfig;
pub(crate) mod list_watch;
pub mod machine;
mod reflector;
mod tls;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::Uri;

pub use client::Client;
pub(crate) use error::Error;
pub use list_watch::{Resource, Selection};
pub use reflector::spawn_reflector;

use crate::types::counters::RequestCounters;
use kubeconfig::Config;

/// How the user says where the apiserver is.
#[derive(Clone, Debug, Default)]
pub struct AccessOptions {
    /// `--kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `--master`: replaces the kubeconfig's server.
    pub master: Option<String>,
}

/// What a client needs to talk to the apiserver. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    config: Arc<Config>,
    requests: Arc<RequestCounters>,
    /// The base of all URLs; with `tls-server-name` it has that name, since ureq checks the certificate against the URL.
    base: String,
    /// With `tls-server-name`: the real `host:port`.
    resolve_as: Option<String>,
    host_header: Option<String>,
    /// How long a connection may be silent, if not the default.
    stall: Option<Duration>,
}

impl Access {
    /// Reads the kubeconfig, or what a pod has instead, and checks it as far as that goes without a connection.
    pub fn load(options: &AccessOptions) -> Result<Self, Error> {
        let master = options
            .master
            .as_deref()
            .filter(|master| !master.is_empty());
        let config = match (&options.kubeconfig, master) {
            (Some(path), master) if !path.as_os_str().is_empty() => {
                Config::from_file(path, master)?
            }
            (_, Some(master)) => Config::from_master(master)?,
            (_, None) => {
                log::info!(
                    "neither --kubeconfig nor --master is set: using the pod's service account"
                );
                Config::in_cluster()?
            }
        };
        let access = Self::new(config)?;
        // Certificates that cannot work are told now.
        Client::new(&access)?;
        Ok(access)
    }

    fn new(config: Config) -> Result<Self, Error> {
        let uri: Uri = config
            .server
            .parse()
            .map_err(|error| Error::config(format_args!("{}: {error}", config.server)))?;
        let host = uri.host().unwrap_or_default();
        let default_port = match uri.scheme_str() {
            Some("https") => 443,
            Some(_) | None => 80,
        };
        let port = uri.port_u16().unwrap_or(default_port);
        let authority = format!("{host}:{port}");
        let path = uri.path().trim_end_matches('/');
        let renamed = config.tls_server_name.as_ref();
        let renamed = renamed.filter(|_| uri.scheme_str() == Some("https"));
        Ok(Self {
            base: match renamed {
                Some(name) => format!("https://{name}:{port}{path}"),
                None => config.server.clone(),
            },
            resolve_as: renamed.map(|_| authority.clone()),
            host_header: renamed.map(|_| authority.clone()),
            requests: Arc::new(RequestCounters::new(authority)),
            config: Arc::new(config),
            stall: None,
        })
    }

    /// With another limit on silence than three minutes.
    pub fn with_stall(mut self, limit: Duration) -> Self {
        self.stall = Some(limit);
        self
    }

    /// The apiserver's address, if its URL has one and not a name.
    pub(crate) fn server_ip(&self) -> Option<IpAddr> {
        let authority = self.requests.host();
        let host = authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host);
        host.trim_matches(['[', ']']).parse().ok()
    }

    /// What has been asked so far (`rest_client_requests_total`).
    pub fn requests(&self) -> &Arc<RequestCounters> {
        &self.requests
    }

    fn base(&self) -> &str {
        &self.base
    }
}
