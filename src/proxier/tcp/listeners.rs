//! The TCP listeners of one worker.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::Socket;

use crate::proxier::change::ListenerId;
use crate::proxier::slab::{Slab, SlabKey};
use crate::proxier::subject::Subject;
use crate::routing::Frontend;

/// Every worker has all of them, over the same sockets: whichever worker is awake
/// accepts, and an idle one never waits for a busy one.
#[derive(Debug, Default)]
pub(crate) struct TcpListeners {
    listeners: Slab<TcpListener>,
    by_id: HashMap<ListenerId, SlabKey>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct TcpListener {
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
    Failed(io::Error),
}

impl TcpListeners {
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
        let listener = TcpListener {
            socket,
            frontend,
            queued: false,
        };
        let key = self
            .listeners
            .insert(listener)
            .map_err(|_| io::Error::other("too many listeners"))?;
        self.by_id.insert(id, key);
        let token = Subject::TcpListener(key).token();
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
    pub(crate) fn get_mut(&mut self, key: SlabKey) -> Option<&mut TcpListener> {
        self.listeners.get_mut(key)
    }
}

impl TcpListener {
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
                Next::Failed(error.into())
            }
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                Next::Failed(error.into())
            }
            // accept(2): errors of the network that are already pending on the new socket; like a client that left.
            Err(_) => Next::Gone,
        }
    }
}
