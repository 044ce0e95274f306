//! Finding an endpoint that answers, for one client.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::Interest;
use mio::net::TcpStream;
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};

use crate::proxier::shortage::Shortage;
use crate::proxier::tokens::{Key, Subject};
use crate::proxier::worker::Context;
use crate::routing::Frontend;
use crate::types::Protocol;

/// What is needed only until an endpoint is connected.
#[derive(Debug)]
pub(crate) struct Dialling {
    /// Where the client may go; as it was when the client came.
    pub(crate) frontend: Arc<Frontend>,
    /// Who it is.
    pub(crate) client: SocketAddr,
    /// When it came.
    pub(crate) accepted_at: Instant,
    endpoint: Option<SocketAddr>,
    tried: Vec<SocketAddr>,
    timed_out: bool,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The endpoint said no.
    Refused,
    /// It said nothing for as long as it may.
    TimedOut,
    /// It cannot be reached, or must not: it would be a loop.
    Other,
    /// It was not asked: this host has no local port left for it.
    NoPort,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused a connection",
            Self::TimedOut => "did not answer in time",
            Self::Other => "cannot be connected to",
            Self::NoPort => "was not tried: this host has no local port left for it",
        })
    }
}

/// What came of trying to begin an attempt.
#[derive(Debug)]
pub(crate) enum Dialled {
    /// A connection is under way.
    Attempting(TcpStream),
    /// There are no files left.
    OutOfFiles(io::Error),
    /// It failed at once.
    Failed,
    /// No endpoint is worth an attempt.
    NoEndpoint,
}

impl Dialling {
    /// Nothing was tried yet.
    pub(crate) fn new(frontend: Arc<Frontend>, client: SocketAddr, accepted_at: Instant) -> Self {
        Self {
            frontend,
            client,
            accepted_at,
            endpoint: None,
            tried: Vec::new(),
            timed_out: false,
        }
    }

    /// Chooses an endpoint and begins to connect to it.
    pub(crate) fn dial(&mut self, context: &Context<'_>, key: Key) -> Dialled {
        let route = &self.frontend.route;
        let client = self.client.ip();
        let endpoints = self.frontend.endpoints(client);
        let picked =
            route
                .balancer
                .pick(endpoints, client, route.affinity, &self.tried, context.now);
        let Some(endpoint) = picked else {
            return Dialled::NoEndpoint;
        };
        // All have been tried. One that was silent may yet speak; one that refused will again.
        if self.tried.contains(&endpoint) && !self.timed_out {
            return Dialled::NoEndpoint;
        }
        self.endpoint = Some(endpoint);
        if context.shared.is_own(endpoint, Protocol::Tcp) {
            log::debug!("{}: endpoint {endpoint} is a listener of ours", route.name);
            self.failed(Failure::Other, context.now);
            return Dialled::Failed;
        }
        match connect(context, key, endpoint) {
            Ok(stream) => {
                if !self.tried.is_empty() {
                    route.counters.retries.add(1);
                }
                Dialled::Attempting(stream)
            }
            Err(error) if Shortage::is_behind(&error) => Dialled::OutOfFiles(error),
            Err(error) => {
                self.failed(Failure::of(&error), context.now);
                Dialled::Failed
            }
        }
    }

    /// The attempt is over.
    pub(crate) fn failed(&mut self, failure: Failure, now: Instant) {
        let Some(endpoint) = self.endpoint.take() else {
            return;
        };
        let (name, counters) = (&self.frontend.route.name, &self.frontend.route.counters);
        log::debug!("{name}: endpoint {endpoint} {failure}");
        match failure {
            Failure::Refused => counters.connect_refused.add(1),
            Failure::TimedOut => counters.connect_timeout.add(1),
            Failure::Other | Failure::NoPort => counters.connect_other.add(1),
        }
        self.timed_out |= failure == Failure::TimedOut;
        if failure != Failure::NoPort {
            self.frontend.route.balancer.failed(endpoint, now);
        }
        self.tried.push(endpoint);
    }

    /// The endpoint is connected.
    pub(crate) fn succeeded(self, now: Instant) {
        let route = &self.frontend.route;
        if let Some(endpoint) = self.endpoint {
            route.balancer.succeeded(endpoint);
        }
        let elapsed = now.saturating_duration_since(self.accepted_at);
        route.counters.connected_after(elapsed);
    }
}

impl Failure {
    /// By the kernel's word.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::AddrNotAvailable => Self::NoPort,
            _ => Self::Other,
        }
    }
}

/// In this thread's network namespace.
fn connect(context: &Context<'_>, key: Key, endpoint: SocketAddr) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(endpoint), kind, None)?;
    socket.set_tcp_nodelay(true)?;
    // The handshake's last ACK waits for the client's first bytes, which are mostly here already: a packet saved.
    socket.set_tcp_quickack(false)?;
    match socket.connect(&endpoint.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            return Err(error);
        }
        Ok(()) | Err(_) => {}
    }
    let mut stream = TcpStream::from_std(socket.into());
    let token = Subject::Endpoint(key).token();
    context.registry.register(&mut stream, token, INTERESTS)?;
    Ok(stream)
}

/// Completes the handshake now: there is nothing to send to the endpoint, which may have to speak first.
pub(crate) fn acknowledge(endpoint: &TcpStream) {
    // It fails on a connection that is gone already.
    let _ = SockRef::from(endpoint).set_tcp_quickack(true);
}

/// Registered once and never changed: with edge-triggered events, an interest that is not wanted costs nothing.
/// Priority: to learn of urgent data, at which reads stop short.
pub(crate) const INTERESTS: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);
