//! Endpoints that are listeners of ours. The data path never goes there, and each Service that has some is reported.
//!
//! A change of a Service's endpoints may make a loop, and a listener that appears may turn an endpoint of any Service into one. To
//! look each endpoint up would cost more than the rest of the change, and to look at every Service what all of them cost. So the
//! networks of all endpoints are kept, and those of all listeners: nearly always these are others.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::entry::{Entry, PortEntry};
use super::{BindKey, Delta, Problem, Table};
use crate::types::NamespacedName;

/// What is known about loops.
#[derive(Debug, Default)]
pub(super) struct Loops {
    /// Services that have some, with what has been said of them.
    found: BTreeMap<NamespacedName, Vec<Problem>>,
    /// Networks of endpoints, counted by Services.
    endpoints: Nets,
}

/// Networks, and how many reasons there are for each.
#[derive(Debug, Default)]
pub(super) struct Nets(HashMap<Net, usize>);

/// The first 16 bits of an IPv4 address, the first 48 of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Net {
    V4([u8; 2]),
    V6([u16; 3]),
}

impl Net {
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, _, _] = ip.octets();
                Self::V4([a, b])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, ..] = ip.segments();
                Self::V6([a, b, c])
            }
        }
    }
}

impl Nets {
    pub(super) fn add(&mut self, net: Net) {
        *self.0.entry(net).or_default() += 1;
    }

    pub(super) fn remove(&mut self, net: Net) {
        if let Slot::Occupied(mut count) = self.0.entry(net) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    pub(super) fn contains(&self, net: Net) -> bool {
        self.0.contains_key(&net)
    }
}

impl Loops {
    /// One Service is replaced by another state of it.
    pub(super) fn replaced(&mut self, old: Option<&Entry>, new: Option<&Entry>) {
        for net in new.map(nets).unwrap_or_default() {
            self.endpoints.add(net);
        }
        for net in old.map(nets).unwrap_or_default() {
            self.endpoints.remove(net);
        }
    }

    /// What is wrong with this Service.
    pub(super) fn of(&self, service: &NamespacedName) -> &[Problem] {
        self.found.get(service).map_or(&[], |problems| problems)
    }
}

impl Table {
    /// Looks for loops again where they may have come or gone: in these Services, and wherever an endpoint is where a listener
    /// has appeared.
    pub(super) fn look_for_loops(
        &mut self,
        mut services: BTreeSet<NamespacedName>,
        appeared: &[BindKey],
        delta: &mut Delta,
    ) {
        services.extend(self.loops.found.keys().cloned());
        services.extend(self.met_by(appeared));
        for name in services {
            let after = self.entries.get(&name).map(|entry| self.loops_of(entry));
            let after = after.unwrap_or_default();
            let before = self.loops.found.remove(&name).unwrap_or_default();
            let differs = |from: &[Problem], to: &[Problem]| -> Vec<Problem> {
                let news = to.iter().filter(|problem| !from.contains(problem));
                news.cloned().collect()
            };
            delta.problems.extend(differs(&before, &after));
            delta.resolved.extend(differs(&after, &before));
            if !after.is_empty() {
                self.loops.found.insert(name, after);
            }
        }
        delta.problems.sort_unstable();
        delta.resolved.sort_unstable();
    }

    /// Services with an endpoint where one of these listeners is.
    fn met_by(&self, appeared: &[BindKey]) -> BTreeSet<NamespacedName> {
        if appeared.is_empty() {
            return BTreeSet::new();
        }
        let is_near = |ip: &IpAddr| self.loops.endpoints.contains(Net::of(*ip));
        let host_is_near = self.context.host_addresses().iter().any(is_near);
        let (mut exact, mut wildcard) = (HashSet::new(), HashSet::new());
        for BindKey { addr, protocol, .. } in appeared {
            if addr.ip().is_unspecified() {
                wildcard.extend(host_is_near.then_some((addr.port(), *protocol)));
            } else {
                exact.extend(is_near(&addr.ip()).then_some((*addr, *protocol)));
            }
        }
        if exact.is_empty() && wildcard.is_empty() {
            return BTreeSet::new();
        }
        let is_met = |port: &PortEntry| {
            let protocol = port.route.name.protocol;
            endpoints(port).any(|endpoint| {
                exact.contains(&(endpoint, protocol))
                    || wildcard.contains(&(endpoint.port(), protocol))
                        && self.context.is_host_address(endpoint.ip())
            })
        };
        let entries = self.entries.iter();
        let met = entries.filter(|(_, entry)| entry.ports.iter().any(is_met));
        met.map(|(name, _)| name.clone()).collect()
    }

    fn loops_of(&self, entry: &Entry) -> Vec<Problem> {
        let host = self.context.host_addresses();
        let is_near = |net: &Net| {
            self.index.has_listener_in(*net) || host.iter().any(|ip| Net::of(*ip) == *net)
        };
        if !nets(entry).iter().any(is_near) {
            return Vec::new();
        }
        let loops = entry.ports.iter().filter_map(|port| {
            let name = &port.route.name;
            let own = |at| Some((at, self.own_listener(at, name.protocol)?));
            let loops: BTreeMap<_, _> = endpoints(port).filter_map(own).collect();
            let (endpoint, own) = loops.first_key_value()?;
            let more = match loops.len() {
                1 => String::new(),
                all => format!(" (and {} more)", all - 1),
            };
            let (kind, whose) = (own.kind.as_str(), &own.route.name);
            let message = format!(
                "port {name}: endpoint {endpoint} is not used, as it would be a loop: it is a {kind} of {whose}{more}"
            );
            Some(Problem {
                service: entry.service.name.clone(),
                message: message.into(),
            })
        });
        loops.collect()
    }
}

/// Many are in both lists.
fn endpoints(port: &PortEntry) -> impl Iterator<Item = SocketAddr> {
    port.route.cluster.iter().chain(port.route.local.iter())
}

/// The networks of a Service's endpoints.
fn nets(entry: &Entry) -> Vec<Net> {
    let mut nets = Vec::new();
    for endpoint in entry.ports.iter().flat_map(endpoints) {
        let net = Net::of(endpoint.ip());
        // Few and mostly the same: nothing is sorted.
        if !nets.contains(&net) {
            nets.push(net);
        }
    }
    nets
}
