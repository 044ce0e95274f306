//! The listeners of a worker, and the set of sockets that are our own.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::Socket;

use super::tokens::{Key, Slab, Subject};
use super::{Change, ListenerId};
use crate::routing::Frontend;
use crate::types::Protocol;

/// The TCP listeners of one worker. Every worker has all of them, over the same sockets: whichever worker is awake
/// accepts, and an idle one never waits for a busy one.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    listeners: Slab<Listener>,
    by_id: HashMap<ListenerId, Key>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Arc<Socket>,
    /// Where its connections go.
    pub(crate) frontend: Arc<Frontend>,
    /// There may be more to accept, and its turn comes without an event.
    pub(crate) queued: bool,
}

/// What an attempt to accept came to.
#[derive(Debug)]
pub(crate) enum Next {
    /// A client.
    Client(OwnedFd, SocketAddr),
    /// Nobody waits.
    Nobody,
    /// This client is gone already, or cannot be had; there may be others.
    Gone,
    /// The listener itself is of no use, or files ran out.
    Failed(Errno),
}

impl Listeners {
    /// Begins to watch a listener.
    pub(crate) fn open(
        &mut self,
        registry: &Registry,
        id: ListenerId,
        socket: Arc<Socket>,
        frontend: Arc<Frontend>,
    ) -> io::Result<()> {
        self.close(registry, id);
        let fd = socket.as_raw_fd();
        let listener = Listener {
            socket,
            frontend,
            queued: false,
        };
        let key = self
            .listeners
            .insert(listener)
            .map_err(|_| io::Error::other("too many listeners"))?;
        self.by_id.insert(id, key);
        let token = Subject::Listener(key).token();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// Gives a listener's future connections another frontend.
    pub(crate) fn replace(&mut self, id: ListenerId, frontend: &Arc<Frontend>) {
        let key = self.by_id.get(&id);
        if let Some(listener) = key.and_then(|key| self.listeners.get_mut(*key)) {
            listener.frontend = Arc::clone(frontend);
        }
    }

    /// Forgets a listener. The socket closes when the last worker, and whoever else has it, has done so.
    pub(crate) fn close(&mut self, registry: &Registry, id: ListenerId) {
        let key = self.by_id.remove(&id);
        if let Some(listener) = key.and_then(|key| self.listeners.remove(key)) {
            // While others hold the socket epoll would go on to report it.
            let fd = listener.socket.as_raw_fd();
            if let Err(error) = registry.deregister(&mut SourceFd(&fd)) {
                log::debug!("cannot stop watching a listener: {error}");
            }
        }
    }

    /// Forgets all of them.
    pub(crate) fn close_all(&mut self, registry: &Registry) {
        let ids: Vec<_> = self.by_id.keys().copied().collect();
        ids.into_iter().for_each(|id| self.close(registry, id));
    }

    /// The listener of this name.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Listener> {
        self.listeners.get_mut(key)
    }
}

impl Listener {
    /// Accepts one client.
    pub(crate) fn accept(&self) -> Next {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match acceptfrom_with(&self.socket, flags) {
            Ok((socket, Some(client))) => match SocketAddr::try_from(client) {
                Ok(client) => Next::Client(socket, client),
                Err(_) => Next::Gone,
            },
            Ok((_, None)) => Next::Gone,
            Err(Errno::WOULDBLOCK) => Next::Nobody,
            Err(error @ (Errno::INVAL | Errno::BADF | Errno::NOTSOCK | Errno::OPNOTSUPP)) => {
                Next::Failed(error)
            }
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                Next::Failed(error)
            }
            // accept(2): errors of the network that are already pending on the new socket; like a client that left.
            Err(_) => Next::Gone,
        }
    }
}

/// Every socket that clients reach us on, to keep traffic from going in circles.
#[derive(Debug, Default)]
pub(crate) struct OwnSockets {
    open: HashMap<ListenerId, (SocketAddr, Protocol)>,
    /// Listeners on each address: two may share one for a moment, in different namespaces.
    bound: HashMap<(SocketAddr, Protocol), u32>,
    host: Arc<[IpAddr]>,
}

impl OwnSockets {
    /// Follows a change.
    pub(crate) fn note(&mut self, change: &Change) {
        match change {
            Change::Open {
                id, protocol, addr, ..
            } => {
                self.close(*id);
                self.open.insert(*id, (*addr, *protocol));
                *self.bound.entry((*addr, *protocol)).or_default() += 1;
            }
            Change::Close { id } => self.close(*id),
            Change::HostAddresses(addresses) => self.host = Arc::clone(addresses),
            Change::Replace { .. } => {}
        }
    }

    fn close(&mut self, id: ListenerId) {
        let Some(key) = self.open.remove(&id) else {
            return;
        };
        if let Some(count) = self.bound.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.bound.remove(&key);
            }
        }
    }

    /// What is sent to this endpoint would reach one of our listeners.
    pub(crate) fn contains(&self, endpoint: SocketAddr, protocol: Protocol) -> bool {
        if self.bound.contains_key(&(endpoint, protocol)) {
            return true;
        }
        let ip = endpoint.ip();
        let wildcard = match ip {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        let wildcard = SocketAddr::new(wildcard, endpoint.port());
        self.bound.contains_key(&(wildcard, protocol))
            && (ip.is_loopback() || ip.is_unspecified() || self.host.contains(&ip))
    }
}
