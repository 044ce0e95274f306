//! Which endpoints lead back to us.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::change::{ListenerChange, ListenerId};
use crate::routing::FrontendKind;
use crate::types::{IpFamily, Protocol};

/// kube-apiserver's default for --service-node-port-range. A port from another range is known by its listener.
const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// Whether what is sent to an endpoint may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoopRisk {
    /// A listener of ours is there.
    Certain,
    /// Its port is a node port: another node's proxy may listen there, and send it on to us.
    Possible,
    /// As far as known, a program listens there that is no proxy.
    None,
}

/// Every socket that clients reach us on, to keep traffic from going in circles.
#[derive(Debug, Default)]
pub(crate) struct OwnSockets {
    open: HashMap<ListenerId, OwnSocket>,
    /// Listeners on each address: two may share one for a moment, in different namespaces.
    bound: HashMap<(SocketAddr, Protocol), u32>,
    /// How many of them are at each node port.
    node_ports: HashMap<(u16, Protocol), u32>,
    host: Arc<[IpAddr]>,
}

#[derive(Clone, Copy, Debug)]
struct OwnSocket {
    bound: (SocketAddr, Protocol),
    is_node_port: bool,
}

impl OwnSocket {
    fn node_port(self) -> Option<(u16, Protocol)> {
        let (addr, protocol) = self.bound;
        self.is_node_port.then_some((addr.port(), protocol))
    }
}

impl OwnSockets {
    /// Follows a change.
    pub(crate) fn note(&mut self, change: &ListenerChange) {
        match change {
            ListenerChange::Open {
                id,
                protocol,
                addr,
                frontend,
                ..
            } => {
                self.close(*id);
                let socket = OwnSocket {
                    bound: (*addr, *protocol),
                    is_node_port: frontend.kind == FrontendKind::NodePort,
                };
                *self.bound.entry(socket.bound).or_default() += 1;
                if let Some(port) = socket.node_port() {
                    *self.node_ports.entry(port).or_default() += 1;
                }
                self.open.insert(*id, socket);
            }
            ListenerChange::Close { id } => self.close(*id),
            ListenerChange::Replace { .. } => {}
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// The addresses of this host: an endpoint there on the port of a wildcard listener would be a loop.
    pub(crate) fn set_host_addresses(&mut self, addresses: Arc<[IpAddr]>) {
        self.host = addresses;
    }

    fn close(&mut self, id: ListenerId) {
        if let Some(socket) = self.open.remove(&id) {
            one_less(&mut self.bound, socket.bound);
            if let Some(port) = socket.node_port() {
                one_less(&mut self.node_ports, port);
            }
        }
    }

    /// What to think of an endpoint.
    pub(crate) fn loop_risk(&self, endpoint: SocketAddr, protocol: Protocol) -> LoopRisk {
        let port = endpoint.port();
        if self.contains(endpoint, protocol) {
            LoopRisk::Certain
        } else if NODE_PORTS.contains(&port) || self.node_ports.contains_key(&(port, protocol)) {
            LoopRisk::Possible
        } else {
            LoopRisk::None
        }
    }

    /// What is sent to this endpoint would reach one of our listeners.
    fn contains(&self, endpoint: SocketAddr, protocol: Protocol) -> bool {
        if self.bound.contains_key(&(endpoint, protocol)) {
            return true;
        }
        let ip = endpoint.ip();
        let wildcard = SocketAddr::new(IpFamily::of(ip).unspecified(), endpoint.port());
        self.bound.contains_key(&(wildcard, protocol))
            && (ip.is_loopback() || ip.is_unspecified() || self.host.contains(&ip))
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}
