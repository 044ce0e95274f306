//! The listeners of a worker, and the set of sockets that are our own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Change, ListenerId};
use crate::types::Protocol;

/// Every socket that clients reach us on, to keep traffic from going in circles.
#[derive(Debug, Default)]
pub struct OwnSockets {
    open: HashMap<ListenerId, (SocketAddr, Protocol)>,
    /// Listeners on each address: two may share one for a moment, in different namespaces.
    bound: HashMap<(SocketAddr, Protocol), u32>,
    host: Arc<[IpAddr]>,
}

impl OwnSockets {
    /// Follows a change.
    pub fn note(&mut self, change: &Change) {
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
    pub fn contains(&self, endpoint: SocketAddr, protocol: Protocol) -> bool {
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
