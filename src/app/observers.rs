//! Who is told how the syncs go: the log, the service manager, health and metrics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::listeners::Listeners;
use super::notify;
use super::world::{Changes, World};
use crate::health::{self, HealthServer, Now, ProxyHealth, Standing, SyncMetrics};
use crate::routing::{HealthCheck, Table};
use crate::types::{IpFamily, NamespacedName, Node, PerFamily};

/// The sync thread's audience.
pub(super) struct Observers {
    /// Those that are told about.
    families: Vec<IpFamily>,
    health: Arc<Mutex<ProxyHealth>>,
    metrics: Arc<SyncMetrics>,
    server: HealthServer,
    /// The newest last-change-trigger-time seen of each Service: each is measured once.
    triggers: HashMap<NamespacedName, PerFamily<Option<SystemTime>>>,
    /// Older triggers are another process's.
    began: SystemTime,
    /// What health and the service manager know, so that they are told of changes alone.
    standing: Standing,
    status: String,
}

impl Observers {
    pub(super) fn new(
        families: Vec<IpFamily>,
        health: Arc<Mutex<ProxyHealth>>,
        metrics: Arc<SyncMetrics>,
        server: HealthServer,
    ) -> Self {
        Self {
            families,
            health,
            metrics,
            server,
            triggers: HashMap::new(),
            began: SystemTime::now(),
            standing: Standing::default(),
            status: String::new(),
        }
    }

    /// How far the proxy has come; where that is another standing than before, it is passed on.
    pub(super) fn standing(&mut self, standing: Standing, services: usize, open: usize) {
        if standing.started {
            let mut status = format!("serving {services} Services on {open} listeners");
            match standing.unopened.len() {
                0 => {}
                count => status.push_str(&format!("; {count} not open, as portico explain shows")),
            }
            for note in &standing.notes {
                status.push_str("; ");
                status.push_str(note);
            }
            if status != self.status {
                notify::status(&status);
                self.status = status;
            }
        }
        if standing != self.standing {
            self.health().set_standing(standing.clone());
            self.standing = standing;
        }
    }

    /// The sync thread has been asked whether it is alive.
    pub(super) fn alive(&self) {
        self.health().answered();
    }

    /// Objects have changed and are not synced yet; how many of each kind since the last call.
    pub(super) fn queued(&self, services: usize, endpoints: PerFamily<usize>) {
        let now = Now::read();
        self.metrics.service_changes(services);
        for (family, changes) in endpoints.iter() {
            self.metrics.endpoint_changes(family, *changes);
        }
        self.metrics.queued(now.wall);
        let mut health = self.health();
        for family in &self.families {
            health.queued_update(*family, now);
        }
    }

    /// Our Node is another than before; without one it counts as eligible.
    pub(super) fn node(&self, node: Option<&Node>) {
        let eligible = node.is_none_or(|node| node.eligible);
        self.health().set_node_eligible(eligible);
    }

    /// A sync that began then is done.
    pub(super) fn synced(
        &mut self,
        world: &World,
        table: &Table,
        changes: &Changes,
        health_checks: Vec<(NamespacedName, Option<HealthCheck>)>,
        listeners: &Listeners,
        began: Instant,
    ) {
        let now = Now::read();
        self.metrics
            .synced(began.elapsed(), changes.everything, now.wall);
        let (open, failed) = (listeners.open_count(), listeners.failed_count());
        self.metrics.listeners(open, failed);
        for (family, lacking) in table.no_local_endpoints().iter() {
            let (internal, external) = (lacking.internal, lacking.external);
            self.metrics.no_local_endpoints(family, internal, external);
        }
        for family in &self.families {
            self.health().updated(*family, now);
        }
        self.measure_triggers(world, &changes.keys, now.wall);
        if !health_checks.is_empty() {
            let checks = health_checks.into_iter();
            let checks = checks.map(|(service, check)| (service, check.map(health_check)));
            self.server.set_health_checks(checks.collect());
        }
    }

    /// Where health check node ports are to answer: the addresses of `--nodeport-addresses`.
    pub(super) fn node_port_addresses(&self, table: &Table) {
        let mut addresses = Vec::new();
        for family in IpFamily::ALL {
            let ips = table.node_port_ips(family);
            match ips.match_all {
                true => addresses.push(family.unspecified()),
                false => addresses.extend(ips.ips),
            }
        }
        self.server.set_node_port_addresses(addresses);
    }

    /// The first sync is done: every port is open, or reported.
    pub(super) fn started(&self, services: usize, listeners: &Listeners) {
        let (open, failed) = (listeners.open_count(), listeners.failed_count());
        log::info!("{services} services: {open} listeners open, {failed} not");
        notify::ready();
    }

    /// `network_programming_duration_seconds`: from the controller's change to the sync that carried it out.
    fn measure_triggers(&mut self, world: &World, keys: &[NamespacedName], now: SystemTime) {
        for key in keys {
            let Some(slices) = world.slices().objects.get(key) else {
                self.triggers.remove(key);
                continue;
            };
            for family in IpFamily::ALL {
                let last = self.triggers.get(key).and_then(|last| *last.get(family));
                let last = last.unwrap_or(self.began);
                let new = slices
                    .iter()
                    .filter(|slice| slice.is_of(family))
                    .filter_map(|slice| slice.last_change_trigger_time)
                    .filter(|time| *time > last);
                for time in new {
                    if let Ok(took) = now.duration_since(time) {
                        self.metrics.network_programming(family, took);
                    }
                    let newest = self.triggers.entry(key.clone()).or_default();
                    let newest = newest.get_mut(family);
                    *newest = Some(time).max(*newest);
                }
            }
        }
    }

    fn health(&self) -> MutexGuard<'_, ProxyHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn health_check(check: HealthCheck) -> health::HealthCheck {
    let HealthCheck {
        port,
        local_v4,
        local_v6,
    } = check;
    health::HealthCheck {
        port,
        local_v4,
        local_v6,
    }
}
