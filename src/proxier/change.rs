//! What the data path is told of listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use socket2::Socket;

use crate::routing::Frontend;
use crate::types::Protocol;

/// The identity of a listener, chosen by the caller; never reused while the listener is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u64);

/// A listener comes, changes or goes.
#[derive(Clone, Debug)]
pub enum ListenerChange {
    /// Serve a new listener.
    Open {
        /// Its identity in later changes.
        id: ListenerId,
        /// TCP: a listening socket. UDP: a bound one.
        protocol: Protocol,
        /// What it is bound to, possibly the wildcard address.
        addr: SocketAddr,
        /// Non-blocking; what accepted sockets inherit (TCP_NODELAY, keepalive) is already set; a UDP socket on the wildcard
        /// address reports each datagram's destination.
        socket: Arc<Socket>,
        /// Where its connections go.
        frontend: Arc<Frontend>,
    },
    /// Connections from now on follow this frontend. UDP flows to endpoints that it no longer offers end.
    Replace {
        /// Which listener.
        id: ListenerId,
        /// Where its connections go from now on.
        frontend: Arc<Frontend>,
    },
    /// No more connections; those that are under way go on. UDP flows end.
    Close {
        /// Which listener.
        id: ListenerId,
    },
}
