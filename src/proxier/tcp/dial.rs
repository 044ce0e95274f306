//! Finding an endpoint that answers, for one client.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::Interest;
use mio::net::TcpStream;
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};

use crate::proxier::shortage::is_shortage;
use crate::proxier::slab::SlabKey;
use crate::proxier::subject::Subject;
use crate::proxier::turn::Turn;
use crate::routing::{Cause, Frontend, Pick};
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
    /// Where an attempt is under way.
    pick: Option<Pick>,
    tried: Vec<SocketAddr>,
    timed_out: bool,
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
            pick: None,
            tried: Vec::new(),
            timed_out: false,
        }
    }

    /// Chooses an endpoint and begins to connect to it.
    pub(crate) fn dial(&mut self, turn: &Turn<'_>, key: SlabKey) -> Dialled {
        let client = self.client.ip();
        let Some(pick) = self.frontend.pick(client, &self.tried, turn.now) else {
            return Dialled::NoEndpoint;
        };
        let endpoint = pick.endpoint();
        // All have been tried. One that was silent may yet speak; one that refused will again.
        if self.tried.contains(&endpoint) && !self.timed_out {
            return Dialled::NoEndpoint;
        }
        self.pick = Some(pick);
        let route = &self.frontend.route;
        if turn.shared.is_own(endpoint, Protocol::Tcp) {
            log::debug!("{}: endpoint {endpoint} is a listener of ours", route.name);
            self.failed(Cause::Loop, turn.now);
            return Dialled::Failed;
        }
        match connect(turn, key, endpoint) {
            Ok(stream) => {
                if !self.tried.is_empty() {
                    route.counters.retries.add(1);
                }
                Dialled::Attempting(stream)
            }
            Err(error) if is_shortage(&error) => Dialled::OutOfFiles(error),
            Err(error) => {
                self.failed(cause_of(&error), turn.now);
                Dialled::Failed
            }
        }
    }

    /// The attempt is over.
    pub(crate) fn failed(&mut self, cause: Cause, now: Instant) {
        let Some(pick) = self.pick.take() else {
            return;
        };
        self.timed_out |= cause == Cause::TimedOut;
        self.tried.push(pick.endpoint());
        pick.failed(cause, now);
    }

    /// The endpoint is connected. Gives the pick to whoever keeps the connection.
    pub(crate) fn connected(&mut self, now: Instant) -> Option<Pick> {
        let pick = self.pick.take()?;
        pick.connected();
        let elapsed = now.saturating_duration_since(self.accepted_at);
        pick.counters().connected_after(elapsed);
        Some(pick)
    }
}

/// Why an endpoint was of no use, by the kernel's word.
pub(crate) fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::Refused,
        io::ErrorKind::TimedOut => Cause::TimedOut,
        io::ErrorKind::AddrNotAvailable => Cause::NoPort,
        _ => Cause::Unreachable,
    }
}

/// In this thread's network namespace.
fn connect(turn: &Turn<'_>, key: SlabKey, endpoint: SocketAddr) -> io::Result<TcpStream> {
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
    turn.registry.register(&mut stream, token, INTERESTS)?;
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
