//! The set of sockets that are our own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::change::{ListenerChange, ListenerId};
use crate::types::{IpFamily, Protocol};

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
    pub(crate) fn note(&mut self, change: &ListenerChange) {
        match change {
            ListenerChange::Open {
                id, protocol, addr, ..
            } => {
                self.close(*id);
                self.open.insert(*id, (*addr, *protocol));
                *self.bound.entry((*addr, *protocol)).or_default() += 1;
            }
            ListenerChange::Close { id } => self.close(*id),
            ListenerChange::Replace { .. } => {}
        }
    }

    /// The addresses of this host: an endpoint there on the port of a wildcard listener would be a loop.
    pub(crate) fn set_host_addresses(&mut self, addresses: Arc<[IpAddr]>) {
        self.host = addresses;
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
        let wildcard = SocketAddr::new(IpFamily::of(ip).unspecified(), endpoint.port());
        self.bound.contains_key(&(wildcard, protocol))
            && (ip.is_loopback() || ip.is_unspecified() || self.host.contains(&ip))
    }
}
