//! The thread `health`: one event loop for every listener and every client. It sleeps while nobody asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use mio::{Events, Interest, Poll, Token, Waker};

use super::connection::{Connection, Step};
use super::exposition::Sources;
use super::healthz::{HealthCheck, Now, ProxyHealth};
use super::listeners::{ServerSockets, Site, expand, name};
use super::metrics::SyncMetrics;
use super::routes::{Answerer, Role};
use crate::types::{IpFamily, NamespacedName};

/// Between two attempts to open a listener, or to accept when files have run out.
const RETRY: Duration = Duration::from_secs(5);
/// Clients at a time. One more takes the site of the one whose time is over first.
const MOST_CLIENTS: usize = 128;
const WAKER: Token = Token(0);

/// Where to listen, and what to answer from.
pub struct ServerSettings {
    /// /healthz and /livez; None: not served. A wildcard stands for both families.
    pub healthz: Option<SocketAddr>,
    /// /metrics, /proxyMode, /configz; None: not served.
    pub metrics: Option<SocketAddr>,
    /// An address that cannot be bound is an error, not a reason to try again.
    pub bind_address_hard_fail: bool,
    /// Shared with the sync thread.
    pub health: Arc<Mutex<ProxyHealth>>,
    /// Shared with the sync thread.
    pub sync_metrics: Arc<SyncMetrics>,
    /// Asked at each scrape.
    pub sources: Sources,
    /// The KubeProxyConfiguration in effect, for /configz.
    pub configuration: serde_json::Value,
    /// Every flag with the value in effect, for /flagz; None: that is not served.
    pub flags: Option<Vec<(String, String)>>,
    /// /statusz is served.
    pub statusz: bool,
    /// Told of each address that cannot be listened on, once for each reason.
    pub listen_failed: ListenFailed,
}

/// See [`ServerSettings::listen_failed`].
pub type ListenFailed = Box<dyn Fn(ServerName<'_>, SocketAddr, &io::Error) + Send>;

/// Which server an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerName<'a> {
    /// /healthz and /livez.
    Healthz,
    /// /metrics and its neighbours.
    Metrics,
    /// The healthCheckNodePort of this Service.
    HealthCheck(&'a NamespacedName),
}

/// Why the server cannot be started.
#[derive(Debug)]
pub enum BindError {
    /// An address cannot be bound, and `--bind-address-hard-fail` says that this is final.
    Bind {
        /// `healthz` or `metrics`.
        server: String,
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel gives no thread or no epoll.
    Start(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind {
                server,
                address,
                error,
            } => {
                write!(f, "{server}: cannot listen on {address}: {error}")
            }
            Self::Start(error) => write!(f, "cannot start the thread health: {error}"),
        }
    }
}

impl std::error::Error for BindError {}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        Self::Start(error)
    }
}

/// The running server. Dropping it stops the thread and waits for it.
pub struct HealthServer {
    /// Dropped to stop the thread.
    orders: Option<Sender<Order>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    healthz: Vec<SocketAddr>,
    metrics: Vec<SocketAddr>,
}

enum Order {
    HealthChecks(Vec<(NamespacedName, Option<HealthCheck>)>),
    NodePortAddresses(Vec<IpAddr>),
}

impl HealthServer {
    /// Binds what can be bound, then starts the thread.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn start(settings: ServerSettings) -> Result<Self, BindError> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let (orders, inbox) = unbounded();
        let configz = serde_json::json!({ "kubeproxy.config.k8s.io": settings.configuration });
        let mut server = Server {
            poll,
            inbox,
            listeners: ServerSockets::default(),
            clients: HashMap::new(),
            fixed: fixed(settings.healthz, settings.metrics),
            checks: BTreeMap::new(),
            node_port_addresses: Vec::new(),
            retry_at: None,
            listen_failed: settings.listen_failed,
            starved: false,
            next_token: WAKER.0 + 1,
            answers: Answerer {
                health: settings.health,
                metrics: settings.sync_metrics,
                sources: settings.sources,
                configz: configz.to_string(),
                flags: settings.flags,
                statusz: settings.statusz,
            },
        };
        let failures = server.open_wanted(Instant::now());
        if settings.bind_address_hard_fail {
            if let Some(((role, address), error)) = failures.into_iter().next() {
                let server = name(&role);
                return Err(BindError::Bind {
                    server,
                    address,
                    error,
                });
            }
        }
        let healthz = server.listeners.addresses(&Role::Healthz);
        let metrics = server.listeners.addresses(&Role::Metrics);
        let thread = thread::Builder::new()
            .name("health".into())
            .spawn(|| server.run())?;
        Ok(Self {
            orders: Some(orders),
            waker,
            thread: Some(thread),
            healthz,
            metrics,
        })
    }

    /// Starts, changes or (None) stops healthCheckNodePorts.
    pub fn set_health_checks(&self, changes: Vec<(NamespacedName, Option<HealthCheck>)>) {
        self.tell(Order::HealthChecks(changes));
    }

    /// The addresses that healthCheckNodePorts listen on: those of `--nodeport-addresses`. Empty: all of both families, as
    /// at first.
    pub fn set_node_port_addresses(&self, addresses: Vec<IpAddr>) {
        self.tell(Order::NodePortAddresses(addresses));
    }

    /// Where /healthz was bound at the start.
    pub fn healthz_addresses(&self) -> &[SocketAddr] {
        &self.healthz
    }

    /// Where /metrics was bound at the start.
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.metrics
    }

    fn tell(&self, command: Order) {
        let sent = self.orders.as_ref().map(|orders| orders.send(command));
        if !matches!(sent, Some(Ok(()))) || self.waker.wake().is_err() {
            log::error!("the thread health is gone; health checks are not answered any more");
        }
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.orders = None;
        if self.waker.wake().is_ok() {
            if let Some(thread) = self.thread.take() {
                // Only a panic can make this fail, and it has been reported where it happened.
                let _ = thread.join();
            }
        }
    }
}

fn fixed(healthz: Option<SocketAddr>, metrics: Option<SocketAddr>) -> Vec<Site> {
    let roles = [(Role::Healthz, healthz), (Role::Metrics, metrics)];
    let sites = roles
        .into_iter()
        .filter_map(|(role, address)| Some((role, address?)));
    sites
        .flat_map(|(role, address)| {
            expand(address)
                .into_iter()
                .map(move |one| (role.clone(), one))
        })
        .collect()
}

struct Server {
    poll: Poll,
    inbox: Receiver<Order>,
    listeners: ServerSockets,
    clients: HashMap<Token, Visitor>,
    /// ServerSockets that do not come and go.
    fixed: Vec<Site>,
    checks: BTreeMap<NamespacedName, HealthCheck>,
    /// Empty: all.
    node_port_addresses: Vec<IpAddr>,
    /// When to try again what failed.
    retry_at: Option<Instant>,
    listen_failed: ListenFailed,
    /// Accepting has failed, and nothing has been accepted since.
    starved: bool,
    next_token: usize,
    answers: Answerer,
}

struct Visitor {
    connection: Connection,
    role: Role,
}

impl Server {
    fn run(mut self) {
        let mut events = Events::with_capacity(64);
        loop {
            let timeout = self
                .deadline()
                .map(|at| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    log::error!("health: cannot wait for clients any more: {error}");
                    return;
                }
            }
            let now = Instant::now();
            for event in &events {
                match event.token() {
                    WAKER => {
                        if !self.obey(now) {
                            return;
                        }
                    }
                    token if self.clients.contains_key(&token) => self.serve(token, now),
                    token => self.accept(token, now),
                }
            }
            self.tick(now);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let clients = self
            .clients
            .values()
            .map(|client| client.connection.deadline);
        clients.chain(self.retry_at).min()
    }

    /// Carries out what it is told; false when it is to stop.
    fn obey(&mut self, now: Instant) -> bool {
        let mut sites_changed = false;
        loop {
            match self.inbox.try_recv() {
                Ok(Order::HealthChecks(changes)) => {
                    for (service, check) in changes {
                        sites_changed |= self.set_check(service, check);
                    }
                }
                Ok(Order::NodePortAddresses(addresses)) => {
                    sites_changed |= self.node_port_addresses != addresses;
                    self.node_port_addresses = addresses;
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        if sites_changed {
            self.open_wanted(now);
        }
        true
    }

    /// True if listeners must change.
    fn set_check(&mut self, service: NamespacedName, check: Option<HealthCheck>) -> bool {
        let port = |check: Option<HealthCheck>| check.map(|check| check.port);
        let before = match check {
            Some(check) => self.checks.insert(service, check),
            None => self.checks.remove(&service),
        };
        port(before) != port(check)
    }

    fn open_wanted(&mut self, now: Instant) -> Vec<(Site, io::Error)> {
        let mut wanted: BTreeSet<Site> = self.fixed.iter().cloned().collect();
        for (service, check) in self.checks.iter().filter(|(_, check)| check.port != 0) {
            for address in self.check_addresses(check.port) {
                let family = IpFamily::of(address.ip());
                wanted.insert((Role::HealthCheck(service.clone(), family), address));
            }
        }
        self.listeners.want(wanted);
        self.open_missing(now)
    }

    fn check_addresses(&self, port: u16) -> Vec<SocketAddr> {
        if self.node_port_addresses.is_empty() {
            return expand(SocketAddr::new(IpFamily::V4.unspecified(), port));
        }
        let addresses = self.node_port_addresses.iter();
        addresses.map(|ip| SocketAddr::new(*ip, port)).collect()
    }

    fn open_missing(&mut self, now: Instant) -> Vec<(Site, io::Error)> {
        let next = &mut self.next_token;
        let token = || {
            *next += 1;
            Token(*next)
        };
        let failures = self.listeners.open(self.poll.registry(), token);
        for ((role, address), error) in &failures {
            let server = match role {
                Role::Healthz => ServerName::Healthz,
                Role::Metrics => ServerName::Metrics,
                Role::HealthCheck(service, _) => ServerName::HealthCheck(service),
            };
            (self.listen_failed)(server, *address, error);
        }
        if self.listeners.has_failed() {
            self.retry_at.get_or_insert(now + RETRY);
        }
        failures
    }

    fn accept(&mut self, listener: Token, now: Instant) {
        loop {
            let Some((role, socket)) = self.listeners.get(listener) else {
                return;
            };
            match socket.accept() {
                Ok((stream, _)) => {
                    let connection = Connection::new(stream, now);
                    let role = role.clone();
                    self.starved = false;
                    self.welcome(Visitor { connection, role });
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        // Files have run out, most likely. The clients that wait make no further event: come back.
                        if !self.starved {
                            log::warn!("{}: cannot accept: {error}", name(role));
                        }
                        self.starved = true;
                        self.retry_at.get_or_insert(now + RETRY);
                        return;
                    }
                },
            }
        }
    }

    fn welcome(&mut self, mut client: Visitor) {
        if self.clients.len() >= MOST_CLIENTS {
            let first = self
                .clients
                .iter()
                .min_by_key(|(_, client)| client.connection.deadline);
            let first = first.map(|(token, _)| *token);
            first.and_then(|token| self.clients.remove(&token));
        }
        self.next_token += 1;
        let token = Token(self.next_token);
        let both = Interest::READABLE | Interest::WRITABLE;
        let stream = &mut client.connection.stream;
        // On failure the client is let go: it will ask again.
        if self.poll.registry().register(stream, token, both).is_ok() {
            self.clients.insert(token, client);
        }
    }

    fn serve(&mut self, token: Token, now: Instant) {
        let Some(Visitor { connection, role }) = self.clients.get_mut(&token) else {
            return;
        };
        let check = match role {
            Role::HealthCheck(service, _) => self.checks.get(service).copied(),
            Role::Healthz | Role::Metrics => None,
        };
        let answers = &self.answers;
        let answer = |request: &_| answers.answer(role, check, request, Now::read());
        // What a client does to its connection is its own affair.
        if !matches!(connection.advance(now, answer), Ok(Step::Wait)) {
            self.clients.remove(&token);
        }
    }

    fn tick(&mut self, now: Instant) {
        self.clients
            .retain(|_, client| now < client.connection.deadline);
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            self.open_missing(now);
            for token in self.listeners.tokens() {
                self.accept(token, now);
            }
        }
    }
}
