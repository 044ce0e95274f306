//! The whole routing state, and how it follows the cluster's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::context::Context;
use super::entry::{NoLocalEndpoints, Placement, ServiceEntry};
use super::index::{Index, Journal};
use super::loops::{Around, Loops};
use super::nodeport_addresses::NodePortIps;
use super::{BindKey, Capture, Delta, Frontend, Inputs, Route, Settings};
use crate::types::{Complaint, IpFamily, NamespacedName, News, PerFamily, Subject};

/// The whole routing state: what every address and port leads to.
#[derive(Debug)]
pub struct Table {
    pub(super) settings: Settings,
    pub(super) context: Context,
    pub(super) entries: HashMap<NamespacedName, ServiceEntry>,
    pub(super) index: Index,
    pub(super) loops: Loops,
    /// Sums over all entries.
    no_local_endpoints: PerFamily<NoLocalEndpoints>,
    /// Services that go on with what they had, until when.
    held: BTreeMap<NamespacedName, Instant>,
}

impl Table {
    /// An empty table.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            context: Context::default(),
            entries: HashMap::new(),
            index: Index::default(),
            loops: Loops::default(),
            no_local_endpoints: PerFamily::default(),
            held: BTreeMap::new(),
        }
    }

    /// Other settings; in force from the next update on, which will then be a `rebuild`.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Takes over new states of the named Services or of their slices. Costs what these Services cost, unless something
    /// else in `inputs` differs from last time too: then it is a `rebuild`.
    pub fn update<'a>(
        &mut self,
        inputs: &Inputs<'_>,
        changed: impl Iterator<Item = &'a NamespacedName>,
    ) -> Delta {
        let context = Context::new(&self.settings, inputs);
        if context != self.context {
            return self.rebuild(inputs);
        }
        let mut change = Differences::default();
        // Once each: before and after are compared by Service.
        let changed: BTreeSet<_> = changed.collect();
        for name in &changed {
            self.replace(name, inputs, &mut change);
        }
        let (mut delta, appeared) = change.finish(&self.index);
        let changed = changed.into_iter().cloned().collect();
        delta
            .news
            .append(self.look_for_loops(Some(changed), &appeared));
        delta
    }

    /// Takes over everything in `inputs`. The delta still says only what is different.
    pub fn rebuild(&mut self, inputs: &Inputs<'_>) -> Delta {
        let mut change = Differences::default();
        let context = Context::new(&self.settings, inputs);
        let before = std::mem::replace(&mut self.context, context);
        for range in &self.context.ranges {
            self.index.hold(Capture::Range(*range), &mut change.journal);
        }
        for range in &before.ranges {
            self.index
                .release(Capture::Range(*range), &mut change.journal);
        }
        let is_gone = |name: &&NamespacedName| inputs.services.objects.get(*name).is_none();
        let gone: Vec<_> = self.entries.keys().filter(is_gone).cloned().collect();
        let present = inputs.services.objects.iter().map(|(name, _)| name);
        for name in gone.iter().chain(present) {
            self.replace(name, inputs, &mut change);
        }
        let (mut delta, _) = change.finish(&self.index);
        delta.news.append(self.look_for_loops(None, &[]));
        delta
    }

    fn look_for_loops(
        &mut self,
        services: Option<Vec<NamespacedName>>,
        appeared: &[BindKey],
    ) -> News {
        let around = Around {
            entries: &self.entries,
            index: &self.index,
            context: &self.context,
        };
        self.loops.look(around, services, appeared)
    }

    /// Works out one Service again.
    fn replace(&mut self, name: &NamespacedName, inputs: &Inputs<'_>, change: &mut Differences) {
        let old = self.entries.remove(name);
        let slices = inputs.slices.objects.get(name);
        let new = inputs.services.objects.get(name).map(|service| {
            let settings = (&self.settings, inputs.now);
            ServiceEntry::new(service, slices, settings, &self.context, old.as_ref())
        });
        // The new claims come first, so that what both share is never free in between.
        if let Some(new) = &new {
            self.index.claim(new, &mut change.journal);
        }
        if let Some(old) = &old {
            self.index.withdraw(old, &mut change.journal);
        }
        self.loops.replaced(old.as_ref(), new.as_ref());
        change.count(name, old.as_ref(), new.as_ref());
        let lacking = |entry: Option<&ServiceEntry>| {
            entry
                .map(ServiceEntry::no_local_endpoints)
                .unwrap_or_default()
        };
        let (before, after) = (lacking(old.as_ref()), lacking(new.as_ref()));
        for (family, after) in after.iter() {
            let (sum, before) = (self.no_local_endpoints.get_mut(family), before.get(family));
            sum.internal += after.internal;
            sum.internal -= before.internal;
            sum.external += after.external;
            sum.external -= before.external;
        }
        match new.as_ref().and_then(ServiceEntry::held_until) {
            Some(until) => self.held.insert(name.clone(), until),
            None => self.held.remove(name),
        };
        if let Some(new) = new {
            self.entries.insert(name.clone(), new);
        }
    }

    /// When a Service is to be worked out again though nothing has come, if one is.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.held.values().min().copied()
    }

    /// The Services for which it is time.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = &NamespacedName> {
        let held = self.held.iter();
        held.filter_map(move |(name, until)| (*until <= now).then_some(name))
    }

    /// Every listener there should be now.
    pub fn bindings(&self) -> impl Iterator<Item = (BindKey, &Arc<Frontend>)> {
        self.index.bindings()
    }

    /// Everything that should be routed to the portal now.
    pub fn captures(&self) -> impl Iterator<Item = Capture> {
        self.index.captures()
    }

    /// Every ServicePort in each family, for metrics.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.entries
            .values()
            .flat_map(|entry| &entry.ports)
            .map(|port| &port.route)
    }

    /// How many ServicePorts have policy Local and endpoints, but none on this node.
    pub fn no_local_endpoints(&self) -> PerFamily<NoLocalEndpoints> {
        self.no_local_endpoints
    }

    /// Everything that is wrong now, sorted.
    pub fn complaints(&self) -> Vec<Complaint> {
        let entries = self.entries.values();
        let mut complaints: Vec<_> = entries
            .flat_map(|entry| self.complaints_of(entry))
            .collect();
        complaints.sort_unstable();
        complaints.dedup();
        complaints
    }

    /// What is wrong with one Service.
    pub(super) fn complaints_of(&self, entry: &ServiceEntry) -> Vec<Complaint> {
        let service = &entry.service.name;
        let frontends = entry.ports.iter().flat_map(|port| &port.frontends);
        let conflicts = frontends
            .filter_map(Placement::key)
            .flat_map(|key| self.index.conflicts(key));
        let subject = Subject::service(service);
        let mut complaints: Vec<_> = entry
            .complaints
            .iter()
            .chain(conflicts.filter(|conflict| conflict.subject == subject))
            .chain(self.loops.of(service).cloned())
            .collect();
        complaints.dedup();
        complaints
    }

    /// On which addresses node ports are served, as far as the last inputs say; healthCheckNodePort follows it too.
    pub(crate) fn node_port_ips(&self, family: IpFamily) -> NodePortIps {
        self.context.node_ports.get(family).clone()
    }
}

/// The differences that one update makes.
#[derive(Debug, Default)]
struct Differences {
    journal: Journal,
    delta: Delta,
}

impl Differences {
    fn count(
        &mut self,
        name: &NamespacedName,
        old: Option<&ServiceEntry>,
        new: Option<&ServiceEntry>,
    ) {
        let wrong = |entry: Option<&ServiceEntry>| {
            entry.map_or_else(BTreeSet::new, |entry| entry.complaints.uncounted())
        };
        self.journal.wrong_before.append(&mut wrong(old));
        self.journal.wrong_after.append(&mut wrong(new));
        let health_check = new.and_then(|new| new.health_check);
        if old.and_then(|old| old.health_check) != health_check {
            self.delta.health_checks.push((name.clone(), health_check));
        }
        let is_same_service = match (old, new) {
            (Some(old), Some(new)) => old.service == new.service,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.delta.services_changed += usize::from(!is_same_service);
        let routes = |entry: Option<&ServiceEntry>| -> Vec<*const Route> {
            entry
                .map_or(&[][..], |e| &e.ports)
                .iter()
                .map(|p| Arc::as_ptr(&p.route))
                .collect()
        };
        self.delta.endpoints_changed += usize::from(routes(old) != routes(new));
    }

    /// The delta, and where listeners have appeared.
    fn finish(mut self, index: &Index) -> (Delta, Vec<BindKey>) {
        let appeared = self.journal.finish(index, &mut self.delta);
        self.delta
            .health_checks
            .sort_unstable_by(|a, b| a.0.cmp(&b.0));
        (self.delta, appeared)
    }
}
