//! Finding an endpoint that answers, for one client.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::Interest;
use mio::net::TcpStream;
use socket2::SockRef;

use crate::proxier::outbound::{self, OutboundPolicy};
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
    pub(crate) fn dial(&mut self, turn: &Turn<'_>, key: SlabKey, client: &TcpStream) -> Dialled {
        let picked = self.frontend.pick(self.client.ip(), &self.tried, turn.now);
        let Some(pick) = picked else {
            return Dialled::NoEndpoint;
        };
        let endpoint = pick.endpoint();
        // All have been tried. One that was silent may yet speak; one that refused will again.
        if self.tried.contains(&endpoint) && !self.timed_out {
            return Dialled::NoEndpoint;
        }
        self.pick = Some(pick);
        let risk = turn.shared.loop_risk(endpoint, Protocol::Tcp);
        let arrived = || outbound::arrived_ttl(SockRef::from(client), self.client);
        let policy = match OutboundPolicy::new(risk, arrived) {
            Ok(policy) => policy,
            Err(cause) => {
                self.failed(turn, cause);
                return Dialled::Failed;
            }
        };
        match self.connect(turn, key, endpoint, policy) {
            Ok(stream) => {
                if !self.tried.is_empty() {
                    self.frontend.route.counters.retries.add(1);
                }
                Dialled::Attempting(stream)
            }
            Err(error) if is_shortage(&error) => Dialled::OutOfFiles(error),
            Err(error) => {
                self.failed(turn, outbound::cause_of(&error));
                Dialled::Failed
            }
        }
    }

    fn connect(
        &self,
        turn: &Turn<'_>,
        key: SlabKey,
        endpoint: SocketAddr,
        policy: OutboundPolicy,
    ) -> io::Result<TcpStream> {
        let socket = outbound::connect(self.client, endpoint, Protocol::Tcp, policy)?;
        let mut stream = TcpStream::from_std(socket.into());
        let token = Subject::Endpoint(key).token();
        turn.registry.register(&mut stream, token, INTERESTS)?;
        Ok(stream)
    }

    /// The attempt is over.
    pub(crate) fn failed(&mut self, turn: &Turn<'_>, cause: Cause) {
        let Some(pick) = self.pick.take() else {
            return;
        };
        self.timed_out |= cause == Cause::TimedOut;
        turn.report(
            cause,
            &self.frontend.route.name,
            self.client,
            pick.endpoint(),
        );
        self.tried.push(pick.endpoint());
        pick.failed(cause, turn.now);
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
