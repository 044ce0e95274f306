//! Who holds which address and port, over all Services.

use std::collections::hash_map::Entry as Held;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::context::Context;
use super::entry::{PortEntry, ServiceEntry};
use super::nets::{Net, Nets};
use super::{BindKey, Capture, Delta, Frontend, FrontendKind, Scope};
use crate::types::{Complaint, IpFamily, News, Protocol, ServicePortName, Subject};

/// All frontends of all Services by what they would be bound to, and everything that is to be routed to the portal.
#[derive(Debug, Default)]
pub(super) struct Index {
    claims: HashMap<BindKey, Claims>,
    /// Where these are.
    nets: Nets,
    /// With the number of reasons for each.
    captures: HashMap<Capture, usize>,
}

/// A frontend that wants an address and port.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) frontend: Arc<Frontend>,
    /// Without, clients are refused.
    pub(super) has_any: bool,
}

/// Nearly always one. More than one is a conflict: the first holds the address, the others are reported.
#[derive(Debug)]
struct Claims {
    first: Claim,
    others: Vec<Claim>,
}

impl Claim {
    /// The order of precedence: a property of the claims, not of who came first.
    fn rank(&self) -> (u8, &ServicePortName) {
        let kind = match self.frontend.kind {
            FrontendKind::ClusterIp => 0,
            FrontendKind::LoadBalancerIp => 1,
            FrontendKind::ExternalIp => 2,
            FrontendKind::NodePort => 3,
        };
        (kind, &self.frontend.route.name)
    }

    /// False where the kernel is to refuse everyone.
    pub(super) fn is_open(&self) -> bool {
        // Sources outside a filter meet silence even where all others are refused, which takes a socket.
        self.has_any || self.frontend.policy.allow.is_some()
    }

    /// What is bound for it.
    fn binding(&self) -> Option<&Arc<Frontend>> {
        let carried = match self.frontend.route.name.protocol {
            Protocol::Tcp | Protocol::Udp => true,
            Protocol::Sctp => false,
        };
        (self.is_open() && carried).then_some(&self.frontend)
    }
}

impl Claims {
    fn add(&mut self, claim: Claim) {
        if claim.rank() < self.first.rank() {
            self.others
                .insert(0, std::mem::replace(&mut self.first, claim));
        } else {
            let at = self
                .others
                .partition_point(|other| other.rank() < claim.rank());
            self.others.insert(at, claim);
        }
    }

    /// Removes one; false if none is left then.
    fn remove(&mut self, frontend: &Arc<Frontend>) -> bool {
        let is_it = |claim: &Claim| Arc::ptr_eq(&claim.frontend, frontend);
        if is_it(&self.first) {
            if self.others.is_empty() {
                return false;
            }
            self.first = self.others.remove(0);
        } else if let Some(at) = self.others.iter().position(is_it) {
            self.others.remove(at);
        }
        true
    }

    /// Those that go away empty-handed. A ServicePort that claims an address twice over holds it.
    fn conflicts(&self, key: BindKey) -> impl Iterator<Item = Complaint> {
        let holder = &self.first.frontend;
        let losers = self.others.iter().map(|claim| &claim.frontend);
        losers
            .filter(|loser| loser.route.name != holder.route.name)
            .map(move |loser| {
                let what = format!(
                    "{} {} of port {} is taken: it is {} of {}",
                    loser.kind.as_str(),
                    key.addr,
                    loser.route.name,
                    holder.kind.as_str(),
                    holder.route.name
                );
                Complaint::new(Subject::service(&loser.route.name.service), what)
            })
    }
}

impl Index {
    /// Who holds this address and port.
    pub(super) fn holder(&self, key: &BindKey) -> Option<&Claim> {
        self.claims.get(key).map(|claims| &claims.first)
    }

    /// Whether this is routed to the portal.
    pub(super) fn is_captured(&self, capture: &Capture) -> bool {
        self.captures.contains_key(capture)
    }

    /// Whether a frontend has an address in this network.
    pub(super) fn has_listener_in(&self, net: Net) -> bool {
        self.nets.contains(net)
    }

    pub(super) fn captures(&self) -> impl Iterator<Item = Capture> {
        self.captures.keys().copied()
    }

    pub(super) fn bindings(&self) -> impl Iterator<Item = (BindKey, &Arc<Frontend>)> {
        self.claims
            .iter()
            .filter_map(|(key, claims)| Some((*key, claims.first.binding()?)))
    }

    /// Conflicts over this address and port.
    pub(super) fn conflicts(&self, key: BindKey) -> impl Iterator<Item = Complaint> {
        let claims = self.claims.get(&key);
        claims
            .into_iter()
            .flat_map(move |claims| claims.conflicts(key))
    }

    /// The listener there is.
    pub(super) fn binding(&self, key: &BindKey) -> Option<&Arc<Frontend>> {
        self.holder(key)?.binding()
    }

    /// Whose listener a connection to this endpoint would reach. The data path never goes there: it would be a loop.
    pub(super) fn own_listener(
        &self,
        endpoint: SocketAddr,
        protocol: Protocol,
        context: &Context,
    ) -> Option<&Frontend> {
        let at = |scope, addr| {
            let key = BindKey {
                scope,
                addr,
                protocol,
            };
            self.binding(&key).map(|frontend| &**frontend)
        };
        let wildcard = SocketAddr::new(IpFamily::of(endpoint.ip()).unspecified(), endpoint.port());
        let on_host = context.is_host_address(endpoint.ip());
        at(Scope::Portal, endpoint)
            .or_else(|| at(Scope::Host, endpoint))
            .or_else(|| at(Scope::Host, wildcard).filter(|_| on_host))
    }

    /// Everything that a Service claimed is free again.
    pub(super) fn withdraw(&mut self, entry: &ServiceEntry, journal: &mut Journal) {
        for placement in entry.ports.iter().flat_map(|port| &port.frontends) {
            if let Some(key) = placement.key() {
                journal.touch_binding(key, self);
                if let Held::Occupied(mut claims) = self.claims.entry(key) {
                    if !claims.get_mut().remove(&placement.frontend) {
                        claims.remove();
                        self.nets.remove(Net::of(key.addr.ip()));
                    }
                }
            }
            if let Some(capture) = placement.capture() {
                self.release(capture, journal);
            }
        }
    }

    /// A Service claims its addresses and ports.
    pub(super) fn claim(&mut self, entry: &ServiceEntry, journal: &mut Journal) {
        for PortEntry {
            has_any, frontends, ..
        } in &entry.ports
        {
            for placement in frontends {
                if let Some(key) = placement.key() {
                    journal.touch_binding(key, self);
                    let frontend = placement.frontend.clone();
                    let claim = Claim {
                        frontend,
                        has_any: *has_any,
                    };
                    match self.claims.entry(key) {
                        Held::Occupied(mut claims) => claims.get_mut().add(claim),
                        Held::Vacant(slot) => {
                            self.nets.add(Net::of(key.addr.ip()));
                            slot.insert(Claims {
                                first: claim,
                                others: Vec::new(),
                            });
                        }
                    }
                }
                if let Some(capture) = placement.capture() {
                    self.hold(capture, journal);
                }
            }
        }
    }

    /// One more reason to route this to the portal.
    pub(super) fn hold(&mut self, capture: Capture, journal: &mut Journal) {
        journal.touch_capture(capture, self);
        *self.captures.entry(capture).or_default() += 1;
    }

    /// One reason less.
    pub(super) fn release(&mut self, capture: Capture, journal: &mut Journal) {
        journal.touch_capture(capture, self);
        if let Held::Occupied(mut count) = self.captures.entry(capture) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What was so before the changes of one update: at its end only real differences become part of the delta.
#[derive(Debug, Default)]
pub(super) struct Journal {
    bindings: HashMap<BindKey, Option<Arc<Frontend>>>,
    captures: HashMap<Capture, bool>,
    /// What was wrong about the Services and addresses concerned, and what is.
    pub(super) wrong_before: BTreeSet<Complaint>,
    pub(super) wrong_after: BTreeSet<Complaint>,
}

impl Journal {
    fn touch_binding(&mut self, key: BindKey, index: &Index) {
        if let Held::Vacant(slot) = self.bindings.entry(key) {
            slot.insert(index.binding(&key).cloned());
            self.wrong_before.extend(index.conflicts(key));
        }
    }

    fn touch_capture(&mut self, capture: Capture, index: &Index) {
        self.captures
            .entry(capture)
            .or_insert_with(|| index.is_captured(&capture));
    }

    /// Adds the differences to a delta, in an order that does not depend on hashing. Returns where there was no listener.
    pub(super) fn finish(mut self, index: &Index, delta: &mut Delta) -> Vec<BindKey> {
        let mut appeared = Vec::new();
        for (key, before) in self.bindings {
            self.wrong_after.extend(index.conflicts(key));
            let after = index.binding(&key);
            if before.as_ref().map(Arc::as_ptr) != after.map(Arc::as_ptr) {
                delta.bindings.push((key, after.cloned()));
            }
            if before.is_none() && after.is_some() {
                appeared.push(key);
            }
        }
        delta
            .bindings
            .sort_unstable_by_key(|(key, frontend)| (frontend.is_some(), *key));
        for (capture, before) in self.captures {
            match (before, index.is_captured(&capture)) {
                (false, true) => delta.captures_added.push(capture),
                (true, false) => delta.captures_removed.push(capture),
                (true, true) | (false, false) => (),
            }
        }
        delta.captures_added.sort_unstable();
        delta.captures_removed.sort_unstable();
        delta.news = News::between(&self.wrong_before, &self.wrong_after);
        appeared
    }
}
