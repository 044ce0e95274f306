//! The newest merged state of everything that routing looks at.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;

use super::complaints;
use super::feeds::Feeds;
use crate::config::Subscription;
use crate::routing::Inputs;
use crate::types::{
    Complaints, EndpointSlice, IpFamily, NamespacedName, News, Node, PerFamily, Service,
    ServiceCidr, Slices, Snapshot,
};

/// Subscriptions to the four kinds, with what they have said so far.
pub(super) struct World {
    services_told: Subscription<Arc<Service>>,
    slices_told: Subscription<Slices>,
    nodes_told: Subscription<Arc<Node>>,
    service_cidrs_told: Subscription<Arc<ServiceCidr>>,
    /// The key of our Node; None: the only one there is.
    node_key: Option<NamespacedName>,
    services: Snapshot<Arc<Service>>,
    slices: Snapshot<Slices>,
    node: Option<Arc<Node>>,
    service_cidrs: Vec<IpNet>,
    host_addresses: Vec<IpAddr>,
    /// The Node and the ServiceCIDRs have been received whole too; never waited for by the proxy.
    cluster_synced: [bool; 2],
    /// What is wrong with what the sources say and that no Service or slice carries, by kind: services, slices, nodes,
    /// ServiceCIDRs.
    complaints: [Complaints; 4],
}

/// What has changed since somebody last acted on it.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Services whose own object or whose slices changed; may hold a key twice.
    pub(super) keys: Vec<NamespacedName>,
    /// How many Service objects have changed.
    pub(super) services: usize,
    /// How many Services have other endpoints.
    pub(super) endpoints: PerFamily<usize>,
    /// The Node, this host's addresses or the ServiceCIDRs changed: every Service may mean something else now.
    pub(super) everything: bool,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.everything
    }
}

impl World {
    pub(super) fn new(feeds: &Feeds, node_name: &str, host_addresses: Vec<IpAddr>) -> Self {
        Self {
            services_told: feeds.services.subscribe(),
            slices_told: feeds.endpoints.subscribe(),
            nodes_told: feeds.nodes.subscribe(),
            service_cidrs_told: feeds.service_cidrs.subscribe(),
            node_key: (!node_name.is_empty()).then(|| NamespacedName::cluster_scoped(node_name)),
            services: Snapshot::default(),
            slices: Snapshot::default(),
            node: None,
            service_cidrs: Vec::new(),
            host_addresses,
            cluster_synced: [false; 2],
            complaints: Default::default(),
        }
    }

    /// The channels that become readable when there is something to [`collect`](Self::collect).
    pub(super) fn signals(&self) -> [&crossbeam_channel::Receiver<()>; 4] {
        [
            self.services_told.signal(),
            self.slices_told.signal(),
            self.nodes_told.signal(),
            self.service_cidrs_told.signal(),
        ]
    }

    /// Both kinds have been received whole: what is known may be acted upon.
    pub(super) fn received_whole(&self) -> bool {
        self.services.synced && self.slices.synced
    }

    /// Every kind has been: there is nothing more to come of the start.
    pub(super) fn received_everything(&self) -> bool {
        self.received_whole() && self.cluster_synced == [true; 2]
    }

    /// Our Node, once it is known.
    pub(super) fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    /// The slices of every Service.
    pub(super) fn slices(&self) -> &Snapshot<Slices> {
        &self.slices
    }

    /// What is wrong that no Service carries.
    pub(super) fn complaints(&self) -> Complaints {
        // Each kind has had its share.
        let mut all = Complaints::at_most(usize::MAX);
        for complaints in self.complaints.iter().chain([&self.of_slices_alone()]) {
            all.append(complaints);
        }
        all
    }

    /// What is wrong with slices whose Service is not there: with it, it is the Service's.
    fn of_slices_alone(&self) -> Complaints {
        let services = &self.services.objects;
        let alone = self.slices.objects.iter();
        let mut alone: Vec<_> = alone
            .filter(|(service, _)| services.get(service).is_none())
            .collect();
        alone.sort_unstable_by_key(|(service, _)| *service);
        let mut complaints = Complaints::default();
        for (service, slices) in alone {
            for slice in slices.iter() {
                let place = format!("there is no Service {service}");
                complaints.add_object(&**slice, Some(&place));
            }
        }
        complaints
    }

    /// How many Services there are, proxied or not.
    pub(super) fn service_count(&self) -> usize {
        self.services.objects.len()
    }

    /// What routing reads.
    pub(super) fn inputs(&self, now: Instant) -> Inputs<'_> {
        Inputs {
            services: &self.services,
            slices: &self.slices,
            node: self.node.as_deref(),
            service_cidrs: &self.service_cidrs,
            host_addresses: &self.host_addresses,
            now,
        }
    }

    /// Takes over what has arrived, and adds it to `changes`. True if our Node is another than before.
    pub(super) fn collect(&mut self, changes: &mut Changes) -> bool {
        let mut node_changed = false;
        if let Some(update) = self.services_told.take() {
            self.services = update.snapshot;
            self.complain(0, Complaints::clone(&self.services.complaints));
            changes.services += update.changed.len();
            changes.keys.extend(update.changed);
        }
        if let Some(update) = self.slices_told.take() {
            let before = std::mem::replace(&mut self.slices, update.snapshot);
            for key in &update.changed {
                let of = |slices: &Snapshot<Slices>| slices.objects.get(key).cloned();
                let before = of(&before).unwrap_or_default();
                let after = of(&self.slices).unwrap_or_default();
                for family in families_changed(&before, &after) {
                    *changes.endpoints.get_mut(family) += 1;
                }
            }
            self.complain(1, Complaints::clone(&self.slices.complaints));
            changes.keys.extend(update.changed);
        }
        if let Some(update) = self.nodes_told.take() {
            self.cluster_synced[0] |= update.snapshot.synced;
            let nodes = &update.snapshot.objects;
            let node = match &self.node_key {
                Some(key) => nodes.get(key).cloned(),
                None if nodes.len() == 1 => nodes.iter().next().map(|(_, node)| node.clone()),
                None => None,
            };
            node_changed = node != self.node;
            self.node = node;
            let mut complaints = Complaints::clone(&update.snapshot.complaints);
            if let Some(node) = &self.node {
                complaints.add_object(&**node, None);
            }
            self.complain(2, complaints);
        }
        if let Some(update) = self.service_cidrs_told.take() {
            self.cluster_synced[1] |= update.snapshot.synced;
            let objects = update.snapshot.objects.iter();
            let mut ranges: Vec<IpNet> = objects
                .flat_map(|(_, object)| object.cidrs.to_vec())
                .collect();
            ranges.sort_unstable();
            ranges.dedup();
            changes.everything |= ranges != self.service_cidrs;
            self.service_cidrs = ranges;
            let mut complaints = Complaints::clone(&update.snapshot.complaints);
            for (_, object) in update.snapshot.objects.iter() {
                complaints.add_object(&**object, None);
            }
            self.complain(3, complaints);
        }
        changes.everything |= node_changed;
        node_changed
    }

    /// Takes over what is wrong about one kind, and logs what is new of it and what is over.
    fn complain(&mut self, kind: usize, complaints: Complaints) {
        if let Some(known) = self.complaints.get_mut(kind) {
            complaints::log(News::between(&known.uncounted(), &complaints.uncounted()));
            *known = complaints;
        }
    }

    /// Takes over this host's addresses; true if they are others than before.
    pub(super) fn set_host_addresses(&mut self, addresses: Vec<IpAddr>) -> bool {
        let changed = addresses != self.host_addresses;
        self.host_addresses = addresses;
        changed
    }
}

/// The families of which a Service has other slices than before.
fn families_changed(before: &Slices, after: &Slices) -> impl Iterator<Item = IpFamily> {
    IpFamily::ALL.into_iter().filter(move |family| {
        let of_family = |slice: &&Arc<EndpointSlice>| slice.is_of(*family);
        let (before, after) = (before.iter(), after.iter());
        before.filter(of_family).ne(after.filter(of_family))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Problems, Subset};

    fn slice(name: &str, families: &[IpFamily]) -> Arc<EndpointSlice> {
        let subset = |family: &IpFamily| Subset {
            family: *family,
            ports: Box::default(),
            endpoints: Box::default(),
        };
        Arc::new(EndpointSlice {
            name: NamespacedName::new("shop", name),
            service: NamespacedName::new("shop", "web"),
            subsets: families.iter().map(subset).collect(),
            last_change_trigger_time: None,
            problems: Problems::default(),
        })
    }

    #[test]
    fn a_change_counts_for_its_families() {
        use IpFamily::{V4, V6};
        let (four, six, both) = (slice("4", &[V4]), slice("6", &[V6]), slice("*", &[V4, V6]));
        let rows: [(&[_], &[_], &[IpFamily]); 6] = [
            (&[], &[&four], &[V4]),
            (&[&four, &six], &[&four], &[V6]),
            (&[&four, &six], &[&four, &slice("6", &[V6])], &[]),
            (&[&four], &[&slice("5", &[V4]), &six], &[V4, V6]),
            (&[&both], &[], &[V4, V6]),
            (&[&both], &[&slice("*", &[V6])], &[V4, V6]),
        ];
        for (i, (before, after, expect)) in rows.into_iter().enumerate() {
            let of = |slices: &[&Arc<EndpointSlice>]| -> Slices {
                slices.iter().map(|slice| Arc::clone(slice)).collect()
            };
            let changed: Vec<_> = families_changed(&of(before), &of(after)).collect();
            assert_eq!(changed, expect, "row {i}");
        }
    }
}
