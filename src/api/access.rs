//! How to reach the apiserver, for all of our connections: the kubeconfig as it is now, the credentials, and what all of
//! them know of the server.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::client::Client;
use super::contact::Contacts;
use super::credentials::{Credentials, Presented};
use super::error::Error;
use super::kubeconfig::{Config, User};
use crate::types::counters::RequestCounters;

/// How often the kubeconfig is looked at again, when there is something to ask; and when what was asked was refused.
const RECHECK: Duration = Duration::from_secs(50);
const RECHECK_IN_DOUBT: Duration = Duration::from_secs(1);

/// How the user says where the apiserver is.
#[derive(Clone, Debug, Default)]
pub struct AccessOptions {
    /// `--kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `--master`: replaces the kubeconfig's server.
    pub master: Option<String>,
    /// `--insecure-token-over-http`
    pub insecure_token_over_http: bool,
}

/// What a client needs to talk to the apiserver. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    shared: Arc<Shared>,
    /// How long a connection may be silent, if not the default.
    stall: Option<Duration>,
}

struct Shared {
    /// Where the configuration comes from, if from a file that may change.
    file: Option<(PathBuf, Option<String>)>,
    insecure_token_over_http: bool,
    current: Mutex<Current>,
    requests: Arc<RequestCounters>,
    contacts: Contacts,
}

/// What the configuration says now.
struct Current {
    config: Arc<Config>,
    credentials: Arc<Credentials>,
    read: Instant,
    /// What has been said about it last.
    warned: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({})", self.server())
    }
}

impl Access {
    /// Reads the kubeconfig, or what a pod has instead, and checks it as far as that goes without a connection.
    pub fn load(options: &AccessOptions) -> Result<Self, Error> {
        let path = options.kubeconfig.clone();
        let path = path.filter(|path| !path.as_os_str().is_empty());
        let master = options.master.clone();
        let master = master.filter(|master| !master.is_empty());
        let config = match (&path, &master) {
            (Some(path), master) => Config::from_file(path, master.as_deref())?,
            (None, Some(master)) => Config::from_master(master)?,
            (None, None) => {
                log::info!(
                    "neither --kubeconfig nor --master is set: using the pod's service account"
                );
                Config::in_cluster()?
            }
        };
        let current = Current {
            config: Arc::new(confidential(config, options.insecure_token_over_http)),
            credentials: Arc::default(),
            read: Instant::now(),
            warned: String::new(),
        };
        let access = Self {
            shared: Arc::new(Shared {
                file: path.map(|path| (path, master)),
                insecure_token_over_http: options.insecure_token_over_http,
                requests: Arc::new(RequestCounters::new(current.config.server.authority())),
                current: Mutex::new(current),
                contacts: Contacts::default(),
            }),
            stall: None,
        };
        // Certificates that cannot work are told now.
        Client::new(&access)?;
        access.remark();
        Ok(access)
    }

    /// With another limit on silence than three minutes.
    pub fn with_stall(mut self, limit: Duration) -> Self {
        self.stall = Some(limit);
        self
    }

    /// The apiserver's base URL, for messages.
    pub fn server(&self) -> String {
        self.lock().config.server.to_string()
    }

    /// The apiserver's address, if its URL has one and not a name.
    pub fn server_ip(&self) -> Option<IpAddr> {
        self.lock().config.server.ip()
    }

    /// What has been asked so far (`rest_client_requests_total`).
    pub fn requests(&self) -> &Arc<RequestCounters> {
        &self.shared.requests
    }

    pub(super) fn contacts(&self) -> &Contacts {
        &self.shared.contacts
    }

    pub(super) fn stall(&self) -> Option<Duration> {
        self.stall
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        let current = &self.shared.current;
        current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration and the credentials for a request; `in_doubt`: the last one was refused or not possible.
    pub(super) fn current(&self, in_doubt: bool) -> (Arc<Config>, Arc<Credentials>) {
        let mut current = self.lock();
        let age = match in_doubt {
            true => RECHECK_IN_DOUBT,
            false => RECHECK,
        };
        if let Some((path, master)) = &self.shared.file {
            if current.read.elapsed() >= age {
                current.read = Instant::now();
                let read = Config::from_file(path, master.as_deref());
                let read =
                    read.map(|read| confidential(read, self.shared.insecure_token_over_http));
                current.take_over(read);
            }
        }
        (
            Arc::clone(&current.config),
            Arc::clone(&current.credentials),
        )
    }

    /// The apiserver does not take what was presented (any more).
    pub(super) fn forget(&self, presented: &Presented) {
        let credentials = Arc::clone(&self.lock().credentials);
        credentials.forget(presented);
    }

    /// Says it, if it has not just been said.
    pub(super) fn warn(&self, what: String) {
        self.lock().warn(what);
    }

    /// What the user should know although the configuration can be used.
    fn remark(&self) {
        for remark in &self.lock().config.remarks {
            log::warn!("{remark}");
        }
    }
}

impl Current {
    /// What the file says now, unless it cannot be used.
    fn take_over(&mut self, read: Result<Config, Error>) {
        let mut read = match read {
            Ok(read) => read,
            Err(error) => return self.warn(format!("{error}; going on with what was read before")),
        };
        if read.server != self.config.server {
            let (old, new) = (&self.config.server, &read.server);
            let what = format!(
                "the kubeconfig's server is {new} now: start portico again to go there; going on with {old}"
            );
            self.warn(what);
            read.server = self.config.server.clone();
        }
        if read == *self.config {
            return;
        }
        log::info!("the kubeconfig has changed: going on with what it says now");
        if read.user != self.config.user {
            self.credentials = Arc::default();
        }
        self.config = Arc::new(read);
    }

    fn warn(&mut self, what: String) {
        if self.warned != what {
            log::warn!("{what}");
            self.warned = what;
        }
    }
}

/// Without what everybody on the way could read.
fn confidential(mut config: Config, insecure_token_over_http: bool) -> Config {
    if config.is_overheard() && config.user.has_secret_headers() && !insecure_token_over_http {
        config.remarks.push(format!(
            "no token is sent to {}: over http everybody on the way could read it (use https, or --insecure-token-over-http)",
            config.server
        ));
        config.user = User::default();
    }
    config
}
