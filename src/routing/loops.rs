//! Endpoints that are listeners of ours. The data path never goes there, and each Service that has some is reported.
//!
//! A change of a Service's endpoints may make a loop, and a listener that appears may turn an endpoint of any Service into one. To
//! look each endpoint up would cost more than the rest of the change, and to look at every Service what all of them cost. So the
//! networks of all endpoints are kept, and those of all listeners: nearly always these are others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::context::Context;
use super::entry::{PortEntry, ServiceEntry};
use super::index::Index;
use super::nets::{Net, Nets};
use crate::types::{BindKey, Complaint, NamespacedName, News, Subject};

/// With so many new listeners at once, near endpoints, it is quicker to look at every Service.
const MANY: usize = 16;

/// What is known about loops. There are few or none, and few networks: lists will do.
#[derive(Debug, Default)]
pub(super) struct Loops {
    /// What has been said, by Service.
    found: BTreeMap<NamespacedName, BTreeSet<Complaint>>,
    /// Networks of endpoints, counted by Services.
    endpoints: Nets,
}

/// What loops are looked for in.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) entries: &'a HashMap<NamespacedName, ServiceEntry>,
    pub(super) index: &'a Index,
    pub(super) context: &'a Context,
}

impl Loops {
    /// One Service is replaced by another state of it.
    pub(super) fn replaced(&mut self, old: Option<&ServiceEntry>, new: Option<&ServiceEntry>) {
        for net in new.map(nets).unwrap_or_default() {
            self.endpoints.add(net);
        }
        for net in old.map(nets).unwrap_or_default() {
            self.endpoints.remove(net);
        }
    }

    /// What is wrong with this Service.
    pub(super) fn of(&self, service: &NamespacedName) -> impl Iterator<Item = &Complaint> {
        self.found.get(service).into_iter().flatten()
    }

    /// Looks for loops again where they may have come or gone: in these Services (None: in all), and wherever an endpoint is
    /// where a listener has appeared.
    pub(super) fn look(
        &mut self,
        around: Around<'_>,
        services: Option<Vec<NamespacedName>>,
        appeared: &[BindKey],
    ) -> News {
        let before = std::mem::take(&mut self.found);
        let services = services.and_then(|mut services| {
            services.extend(before.keys().cloned());
            services.extend(self.met_by(around, appeared)?);
            services.sort_unstable();
            services.dedup();
            Some(services)
        });
        let mut after = BTreeMap::new();
        let mut look = |entry: &ServiceEntry| {
            let found = around.loops_of(entry);
            if !found.is_empty() {
                after.insert(entry.service.name.clone(), found);
            }
        };
        match services {
            Some(services) => {
                let entries = services.iter().filter_map(|name| around.entries.get(name));
                entries.for_each(&mut look);
            }
            None => around.entries.values().for_each(&mut look),
        }
        let all = |found: &BTreeMap<_, BTreeSet<Complaint>>| -> BTreeSet<Complaint> {
            found.values().flatten().cloned().collect()
        };
        let news = News::between(&all(&before), &all(&after));
        self.found = after;
        news
    }

    /// Services with an endpoint where one of these listeners is. None: that is for each of them to see.
    fn met_by(&self, around: Around<'_>, appeared: &[BindKey]) -> Option<Vec<NamespacedName>> {
        if appeared.is_empty() {
            return Some(Vec::new());
        }
        let is_near = |ip: &IpAddr| self.endpoints.contains(Net::of(*ip));
        let host_is_near = around.context.host_addresses().iter().any(is_near);
        let near = appeared.iter().filter(|key| match key.addr.ip() {
            ip if ip.is_unspecified() => host_is_near,
            ip => is_near(&ip),
        });
        let near: Vec<&BindKey> = near.take(MANY + 1).collect();
        if near.is_empty() || near.len() > MANY {
            return near.is_empty().then(Vec::new);
        }
        let is_at = |key: &BindKey, endpoint: &SocketAddr| match key.addr.ip() {
            ip if ip.is_unspecified() => {
                endpoint.port() == key.addr.port() && around.context.is_host_address(endpoint.ip())
            }
            _ => *endpoint == key.addr,
        };
        let is_met = |port: &PortEntry| {
            let of_protocol = |key: &&&BindKey| key.protocol == port.route.name.protocol;
            let mut keys = near.iter().filter(of_protocol);
            keys.any(|key| endpoints(port).any(|endpoint| is_at(key, &endpoint)))
        };
        let entries = around.entries.iter();
        let met = entries.filter(|(_, entry)| entry.ports.iter().any(is_met));
        Some(met.map(|(name, _)| name.clone()).collect())
    }
}

impl Around<'_> {
    fn loops_of(self, entry: &ServiceEntry) -> BTreeSet<Complaint> {
        let mut found = BTreeSet::new();
        let host = self.context.host_addresses();
        let is_near = |net: &Net| {
            self.index.has_listener_in(*net) || host.iter().any(|ip| Net::of(*ip) == *net)
        };
        if !nets(entry).iter().any(is_near) {
            return found;
        }
        for port in &entry.ports {
            let name = &port.route.name;
            let mut first = None;
            let mut loops = Vec::new();
            for endpoint in endpoints(port) {
                if let Some(own) = self
                    .index
                    .own_listener(endpoint, name.protocol, self.context)
                {
                    first.get_or_insert((endpoint, own));
                    if !loops.contains(&endpoint) {
                        loops.push(endpoint);
                    }
                }
            }
            let Some((endpoint, own)) = first else {
                continue;
            };
            let more = match loops.len() {
                1 => String::new(),
                all => format!(" (and {} more)", all - 1),
            };
            let (kind, whose) = (own.kind.as_str(), &own.route.name);
            let what = format!(
                "port {name}: endpoint {endpoint} is not used, as it would be a loop: it is a {kind} of {whose}{more}"
            );
            let subject = Subject::service(&entry.service.name);
            found.insert(Complaint::new(subject, what));
        }
        found
    }
}

/// Many are in both lists.
fn endpoints(port: &PortEntry) -> impl Iterator<Item = SocketAddr> {
    port.route.cluster.iter().chain(port.route.local.iter())
}

/// The networks of a Service's endpoints.
fn nets(entry: &ServiceEntry) -> Vec<Net> {
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
