//! The one thread that turns snapshots into sockets, as kube-proxy's `syncProxyRules`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender};

use super::complaints;
use super::listeners::Listeners;
use super::observers::Observers;
use super::world::{Changes, World};
use crate::health::Standing;
use crate::portal::PortalEvent;
use crate::routing::{Delta, ExplainRequest, Table, explain};
use crate::types::counters::ServiceCounters;
use crate::types::{Complaint, Complaints, IpFamily, PerFamily, ServicePortName, Subject};

/// A question about the routing table, with where the answer goes.
pub(super) enum Question {
    /// `portico explain`.
    Explain(ExplainRequest, Sender<String>),
    /// A scrape: what every ServicePort has carried.
    Counters(Sender<Vec<ServicePortCounters>>),
    /// A probe: whether the thread is alive. Whoever serves probes learns it from the observers.
    Alive,
}

/// A ServicePort of one family with its counters.
pub(super) type ServicePortCounters = (ServicePortName, IpFamily, Arc<ServiceCounters>);

/// The thread's state.
pub(super) struct Sync {
    pub(super) world: World,
    pub(super) table: Table,
    pub(super) listeners: Listeners,
    pub(super) observers: Observers,
    pub(super) questions: Receiver<Question>,
    /// Disconnected: stop.
    pub(super) stop: Receiver<()>,
    pub(super) pace: Pace,
}

/// kube-proxy's minSyncPeriod, where the user has set it: at most one sync in this time.
#[derive(Debug, Default)]
pub(super) struct Pace {
    min_period: Option<Duration>,
    last: Option<Instant>,
}

impl Pace {
    pub(super) fn new(min_period: Option<Duration>) -> Self {
        Self {
            min_period,
            last: None,
        }
    }

    /// When the next sync may start.
    fn ready_at(&self, now: Instant) -> Instant {
        match (self.last, self.min_period) {
            (Some(last), Some(period)) => last + period,
            (None, _) | (_, None) => now,
        }
    }
}

impl Sync {
    /// Runs until told to stop; returns what is to be shut down.
    pub(super) fn run(mut self) -> Listeners {
        let mut changes = Changes {
            everything: true,
            ..Changes::default()
        };
        let mut started = false;
        self.refresh_host_addresses();
        while self.wait(&changes) {
            self.collect(&mut changes);
            let now = Instant::now();
            changes.keys.extend(self.table.due(now).cloned());
            let due = self.world.received_whole()
                && !changes.is_empty()
                && now >= self.pace.ready_at(now);
            if due {
                self.sync(std::mem::take(&mut changes), now);
            }
            let first = due && !started;
            started |= due;
            let retried = self.listeners.next_deadline().is_some_and(|at| at <= now);
            self.listeners.tick(now);
            let asked = self.answer_questions();
            if due || retried || asked {
                self.stand(started);
            }
            if first {
                let services = self.world.service_count();
                self.observers.started(services, &self.listeners);
            }
        }
        self.listeners
    }

    /// Sleeps until there is something to do; false when it is to stop.
    fn wait(&self, changes: &Changes) -> bool {
        let mut select = Select::new();
        let stop = select.recv(&self.stop);
        for signal in self.world.signals() {
            select.recv(signal);
        }
        select.recv(&self.questions);
        select.recv(self.listeners.portal().events());
        let due = self.world.received_whole() && !changes.is_empty();
        let sync = due.then(|| self.pace.ready_at(Instant::now()));
        let deadline = [
            sync,
            self.listeners.next_deadline(),
            self.table.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min();
        let ready = match deadline {
            Some(deadline) => select.ready_deadline(deadline).ok(),
            None => Some(select.ready()),
        };
        ready != Some(stop)
    }

    /// Takes in everything that has arrived.
    fn collect(&mut self, changes: &mut Changes) {
        let (keys, services) = (changes.keys.len(), changes.services);
        let endpoints = changes.endpoints;
        let node_changed = self.world.collect(changes);
        if node_changed {
            self.observers.node(self.world.node());
        }
        let events: Vec<PortalEvent> = self.listeners.portal().events().try_iter().collect();
        for event in events {
            match event {
                PortalEvent::Addresses => {
                    if self.refresh_host_addresses() {
                        log::info!("this host's addresses changed");
                        changes.everything = true;
                    }
                    self.listeners.retry_soon(Instant::now());
                }
            }
        }
        let services = changes.services - services;
        let new = |family| changes.endpoints.get(family) - endpoints.get(family);
        let endpoints = PerFamily::new(new);
        if changes.keys.len() > keys {
            self.observers.queued(services, endpoints);
        }
    }

    /// Asks the portal which addresses this host has; true if they changed.
    fn refresh_host_addresses(&mut self) -> bool {
        let addresses = match self.listeners.portal().host_addresses() {
            Ok(addresses) => of_concern(addresses),
            Err(error) => {
                log::warn!("{error}");
                return false;
            }
        };
        let changed = self.world.set_host_addresses(addresses.clone());
        if changed {
            self.listeners.host_addresses(addresses.into());
        }
        changed
    }

    fn sync(&mut self, mut changes: Changes, now: Instant) {
        changes.keys.sort_unstable();
        changes.keys.dedup();
        let delta = match changes.everything {
            true => self.table.rebuild(&self.world.inputs(now)),
            false => self
                .table
                .update(&self.world.inputs(now), changes.keys.iter()),
        };
        let Delta {
            bindings,
            captures_added,
            captures_removed,
            health_checks,
            news,
            ..
        } = delta;
        self.listeners
            .apply(bindings, captures_added, captures_removed, now);
        self.pace.last = Some(now);
        complaints::log(news);
        if changes.everything {
            self.observers.node_port_addresses(&self.table);
        }
        self.observers.synced(
            &self.world,
            &self.table,
            &changes,
            health_checks,
            &self.listeners,
            now,
        );
    }

    /// Says how far the proxy has come.
    fn stand(&mut self, started: bool) {
        let mut unopened = Complaints::default();
        self.listeners.complain(&self.table, &mut unopened);
        let portal = self.listeners.portal();
        let passed_over = portal.fell_back().iter();
        let standing = Standing {
            started,
            unopened: unopened.iter().map(|it| it.to_string()).collect(),
            notes: passed_over
                .map(|(kind, why)| {
                    format!("portal {}, as {kind} cannot work: {why}", portal.kind())
                })
                .collect(),
        };
        let (services, open) = (self.world.service_count(), self.listeners.open_count());
        self.observers.standing(standing, services, open);
    }

    /// Answers what has been asked; true if somebody wants to know how the proxy stands.
    fn answer_questions(&mut self) -> bool {
        let mut asked = false;
        let questions: Vec<Question> = self.questions.try_iter().collect();
        for question in questions {
            // Whoever asked may have gone away.
            let _ = match question {
                Question::Explain(request, answer) => {
                    let mut complaints = self.world.complaints();
                    if !self.world.received_whole() {
                        let subject = Subject::Other("portico".into());
                        let what = "Services and endpoints have not been received whole yet";
                        complaints.add(Complaint::new(subject, what));
                    }
                    self.listeners.complain(&self.table, &mut complaints);
                    let text = explain::answer(&self.table, &complaints, &request, &self.listeners);
                    answer.send(text).is_ok()
                }
                Question::Counters(answer) => answer.send(self.counters()).is_ok(),
                Question::Alive => {
                    self.observers.alive();
                    asked = true;
                    true
                }
            };
        }
        asked
    }

    fn counters(&self) -> Vec<ServicePortCounters> {
        let routes = self.table.routes();
        routes
            .map(|route| {
                (
                    route.name.clone(),
                    route.family,
                    Arc::clone(&route.counters),
                )
            })
            .collect()
    }
}

/// The addresses that decisions depend on: sorted, each once, without IPv6's link-local ones. Nothing can be served at one
/// of these, or be an endpoint there, without naming an interface; and every pod's link brings one and takes it along.
fn of_concern(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.retain(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
