//! What a worker is told.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::change::ListenerChange;
use crate::routing::Frontend;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Mail {
    /// Listeners come, change and go; one allocation for all workers.
    Changes(Arc<[ListenerChange]>),
    /// A connection that another worker accepted while it had more than its share.
    Accepted(Accepted),
    /// Close every listener.
    StopAccepting,
    /// Keep this until the last of the sessions that there are now has ended.
    Mark(Arc<Sender<()>>),
    /// End every session, and tell both sides.
    HangUp,
    /// Return from the loop; what is still open is reset.
    Shutdown,
}

/// A client's connection that has no session yet.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The client's socket.
    pub(crate) socket: OwnedFd,
    /// Its address.
    pub(crate) client: SocketAddr,
    /// Where it may go.
    pub(crate) frontend: Arc<Frontend>,
    /// When it was accepted.
    pub(crate) at: Instant,
}
