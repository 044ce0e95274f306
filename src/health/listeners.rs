//! The sockets that questions arrive on: opened when wanted, tried again when they could not be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::routes::Role;
use crate::types::IpFamily;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A listener's purpose and address.
pub(super) type Site = (Role, SocketAddr);

/// What is open, and what should be.
#[derive(Default)]
pub(super) struct ServerSockets {
    wanted: BTreeSet<Site>,
    open: HashMap<Token, Open>,
    /// With the reason, as logged.
    failed: BTreeMap<Site, String>,
}

struct Open {
    site: Site,
    socket: TcpListener,
}

/// The addresses to listen on for one that is configured: a wildcard stands for both families, as Go's does.
pub(super) fn expand(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    let wildcards = IpFamily::ALL.map(IpFamily::unspecified);
    wildcards
        .map(|ip| SocketAddr::new(ip, address.port()))
        .into()
}

impl ServerSockets {
    /// Closes what is not wanted any more. Call [`open`](Self::open) afterwards.
    pub(super) fn want(&mut self, wanted: BTreeSet<Site>) {
        // A socket that is dropped leaves the poll by itself.
        self.open.retain(|_, open| wanted.contains(&open.site));
        self.failed.retain(|site, _| wanted.contains(site));
        self.wanted = wanted;
    }

    /// Opens what is wanted and not open. Returns what could not be opened; only a new reason is logged.
    pub(super) fn open(
        &mut self,
        registry: &Registry,
        mut token: impl FnMut() -> Token,
    ) -> Vec<(Site, io::Error)> {
        let open: BTreeSet<&Site> = self.open.values().map(|open| &open.site).collect();
        let missing = self.wanted.iter().filter(|site| !open.contains(site));
        let missing: Vec<Site> = missing.cloned().collect();
        let mut failures = Vec::new();
        for site in missing {
            let token = token();
            match listen(site.1, registry, token) {
                Ok(Some(socket)) => {
                    if self.failed.remove(&site).is_some() {
                        log::info!("{}: listening on {} after all", name(&site.0), site.1);
                    }
                    self.open.insert(token, Open { site, socket });
                }
                // This machine has no such family.
                Ok(None) => {
                    self.wanted.remove(&site);
                }
                Err(error) => {
                    if self.report(&site, &error) {
                        failures.push((site, error));
                    }
                }
            }
        }
        failures
    }

    /// Logs a failure unless it is known; true if it was not.
    fn report(&mut self, site: &Site, error: &io::Error) -> bool {
        let reason = error.to_string();
        let news = self.failed.get(site) != Some(&reason);
        if news {
            let (role, address) = site;
            log::warn!(
                "{}: cannot listen on {address}: {error}; trying again",
                name(role)
            );
        }
        self.failed.insert(site.clone(), reason);
        news
    }

    /// Something that is wanted could not be opened.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// The listener of a token.
    pub(super) fn get(&self, token: Token) -> Option<(&Role, &TcpListener)> {
        let open = self.open.get(&token)?;
        Some((&open.site.0, &open.socket))
    }

    /// Every listener's token.
    pub(super) fn tokens(&self) -> Vec<Token> {
        self.open.keys().copied().collect()
    }

    /// Where a role is served now; ports are real ones.
    pub(super) fn addresses(&self, role: &Role) -> Vec<SocketAddr> {
        let open = self.open.values().filter(|open| open.site.0 == *role);
        let mut addresses: Vec<SocketAddr> = open
            .filter_map(|open| open.socket.local_addr().ok())
            .collect();
        addresses.sort_unstable();
        addresses
    }
}

/// What messages call a role.
pub(super) fn name(role: &Role) -> String {
    match role {
        Role::Healthz => "healthz".into(),
        Role::Metrics => "metrics".into(),
        Role::HealthCheck(service, _) => format!("service {service}: healthCheckNodePort"),
    }
}

/// None: a wildcard of a family that this machine does not have.
fn listen(
    address: SocketAddr,
    registry: &Registry,
    token: Token,
) -> io::Result<Option<TcpListener>> {
    let socket = match bind(address) {
        Ok(socket) => socket,
        Err(error) if address.ip().is_unspecified() && no_such_family(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut listener = TcpListener::from_std(socket.into());
    registry.register(&mut listener, token, Interest::READABLE)?;
    Ok(Some(listener))
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn no_such_family(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}
