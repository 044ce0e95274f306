//! Carries out what routing decided: addresses to the portal, sockets from the portal to the proxier.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use socket2::Socket;

use crate::portal::{self, BindError, BindSpec, Portal};
use crate::proxier::{ListenerChange, ListenerId, Proxier};
use crate::routing::{Flow, Frontend, Kernel, Table};
use crate::types::{BindKey, Capture, Complaint, Complaints, Subject};

/// A listener that could not be opened, or an address that could not be captured, is tried again after this long at
/// first, then after twice as long each time, up to the sync period.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Listeners that are made at once.
const PORTION: usize = 512;

/// Every listener of ours, open or waiting to be, and every address that could not be captured yet.
pub(super) struct Listeners {
    portal: Portal,
    proxier: Arc<Proxier>,
    open: HashMap<BindKey, Open>,
    failed: BTreeMap<BindKey, Failed>,
    failed_captures: HashSet<Capture>,
    /// Why each address could not be captured, as logged.
    told: HashMap<Capture, String>,
    next_id: u64,
    retry: Retry,
}

struct Open {
    id: ListenerId,
    socket: Arc<Socket>,
    allow: Option<Arc<[IpNet]>>,
}

struct Failed {
    frontend: Arc<Frontend>,
    error: String,
}

/// When to try again what failed.
struct Retry {
    at: Option<Instant>,
    delay: Duration,
    most: Duration,
}

impl Retry {
    /// Arms the timer unless it is armed; each time for twice as long.
    fn arm(&mut self, now: Instant) {
        if self.at.is_none() {
            self.at = Some(now + self.delay);
            self.delay = (self.delay * 2).min(self.most);
        }
    }

    fn reset(&mut self) {
        (self.at, self.delay) = (None, FIRST_RETRY);
    }
}

impl Listeners {
    /// `sync_period` bounds the time between two attempts at something that failed.
    pub(super) fn new(portal: Portal, proxier: Arc<Proxier>, sync_period: Duration) -> Self {
        let retry = Retry {
            at: None,
            delay: FIRST_RETRY,
            most: sync_period.max(FIRST_RETRY),
        };
        Self {
            portal,
            proxier,
            open: HashMap::new(),
            failed: BTreeMap::new(),
            failed_captures: HashSet::new(),
            told: HashMap::new(),
            next_id: 0,
            retry,
        }
    }

    /// The portal, for its events and for this host's addresses.
    pub(super) fn portal(&self) -> &Portal {
        &self.portal
    }

    /// See [`Portal::unacknowledged`].
    pub(super) fn unacknowledged(&self) -> Option<usize> {
        self.portal.unacknowledged()
    }

    /// Listeners that are open now.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Listeners that could not be opened, each with the reason.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&BindKey, &str)> {
        self.failed
            .iter()
            .map(|(key, failed)| (key, failed.error.as_str()))
    }

    /// What the kernel did not do for us; for explain.
    pub(super) fn complain(&self, table: &Table, complaints: &mut Complaints) {
        let unbound = self.failed.values().map(|failed| {
            let (name, error) = (&failed.frontend.route.name, &failed.error);
            Complaint::new(
                Subject::service(&name.service),
                format_args!("{name}: {error}"),
            )
        });
        let uncaptured = self.failed_captures.iter().flat_map(|capture| {
            let why = self.not_captured(capture).unwrap_or_default();
            let services = table.services_behind(capture).into_iter();
            services.map(move |service| Complaint::new(Subject::service(service), why))
        });
        let mut all: Vec<Complaint> = unbound.chain(uncaptured).collect();
        all.sort_unstable();
        complaints.extend(all);
    }

    /// Makes the kernel and the proxier agree with a Delta: first the sockets, then the addresses that lead to them, so that
    /// a client never meets an address without its listener; addresses that are no longer needed last.
    pub(super) fn apply(
        &mut self,
        bindings: Vec<(BindKey, Option<Arc<Frontend>>)>,
        captures_added: &[Capture],
        captures_removed: &[Capture],
        now: Instant,
    ) {
        let mut changes = Vec::new();
        let mut wanted = Vec::new();
        for (key, frontend) in bindings {
            match frontend {
                None => self.close(&key, &mut changes),
                Some(frontend) => match self.replace(&key, &frontend, &mut changes) {
                    true => {}
                    false => wanted.push((key, frontend)),
                },
            }
        }
        // Closed first: a listener may move to an address that another one leaves.
        self.tell(changes);
        self.open_all(wanted, now);
        self.capture(captures_added, captures_removed, now);
    }

    /// Tries again what failed, and lets the portal forget addresses whose time is over.
    pub(super) fn tick(&mut self, now: Instant) {
        self.portal.tick(now);
        if self.retry.at.is_none_or(|at| now < at) {
            return;
        }
        self.retry.at = None;
        let captures: Vec<Capture> = self.failed_captures.iter().copied().collect();
        self.capture(&captures, &[], now);
        let wanted = self
            .failed
            .iter()
            .map(|(key, failed)| (*key, failed.frontend.clone()))
            .collect();
        self.open_all(wanted, now);
        if self.failed.is_empty() && self.failed_captures.is_empty() {
            self.retry.reset();
        }
    }

    /// When [`tick`](Self::tick) has something to do, if ever.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.retry.at, self.portal.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Something happened that may let what failed succeed: try again soon.
    pub(super) fn retry_soon(&mut self, now: Instant) {
        self.retry.reset();
        if !(self.failed.is_empty() && self.failed_captures.is_empty()) {
            self.retry.arm(now);
        }
    }

    /// This host's addresses changed: an endpoint that is one of them with a node port of ours is a loop.
    pub(super) fn host_addresses(&self, addresses: Arc<[IpAddr]>) {
        self.proxier.set_host_addresses(addresses);
    }

    /// Gives the kernel back what is ours.
    pub(super) fn shut(self) -> Result<(), portal::Error> {
        self.portal.close().map(drop)
    }

    fn capture(&mut self, add: &[Capture], remove: &[Capture], now: Instant) {
        for capture in add.iter().chain(remove) {
            self.failed_captures.remove(capture);
        }
        if add.is_empty() && remove.is_empty() {
            return;
        }
        for (capture, error) in self.portal.apply(add, remove, now) {
            let error = error.to_string();
            // Once per reason, not once per attempt.
            if self.told.insert(capture, error.clone()).as_ref() != Some(&error) {
                log::warn!("{error}");
            }
            self.failed_captures.insert(capture);
            self.retry.arm(now);
        }
        for capture in remove {
            self.told.remove(capture);
        }
    }

    fn tell(&self, changes: Vec<ListenerChange>) {
        if !changes.is_empty() {
            self.proxier.apply(changes);
        }
    }

    fn close(&mut self, key: &BindKey, changes: &mut Vec<ListenerChange>) {
        self.failed.remove(key);
        if let Some(open) = self.open.remove(key) {
            changes.push(ListenerChange::Close { id: open.id });
        }
    }

    /// Gives an open listener its new frontend; false if it is to be opened (again).
    fn replace(
        &mut self,
        key: &BindKey,
        frontend: &Arc<Frontend>,
        changes: &mut Vec<ListenerChange>,
    ) -> bool {
        let Some(open) = self.open.get_mut(key) else {
            return false;
        };
        if open.allow != frontend.policy.allow {
            if let Err(error) = self
                .portal
                .refilter(&open.socket, frontend.policy.allow.as_deref())
            {
                // A listener that hears the wrong sources is worse than none.
                log::warn!(
                    "{}: {}: cannot change the source filter: {error}",
                    frontend.route.name,
                    key.addr
                );
                self.close(key, changes);
                return false;
            }
            open.allow.clone_from(&frontend.policy.allow);
        }
        changes.push(ListenerChange::Replace {
            id: open.id,
            frontend: Arc::clone(frontend),
        });
        true
    }

    /// In portions: workers take up some while others are being made, and what is needed on the way stays small.
    fn open_all(&mut self, wanted: Vec<(BindKey, Arc<Frontend>)>, now: Instant) {
        let mut wanted = wanted.into_iter();
        loop {
            let portion: Vec<_> = wanted.by_ref().take(PORTION).collect();
            if portion.is_empty() {
                return;
            }
            self.open_some(portion, now);
        }
    }

    fn open_some(&mut self, wanted: Vec<(BindKey, Arc<Frontend>)>, now: Instant) {
        let specs: Vec<BindSpec> = wanted
            .iter()
            .map(|(key, frontend)| BindSpec {
                key: *key,
                allow: frontend.policy.allow.clone(),
            })
            .collect();
        let sockets = self.portal.bind(&specs);
        let mut changes = Vec::with_capacity(wanted.len());
        for ((key, frontend), socket) in wanted.into_iter().zip(sockets) {
            match socket {
                Ok(socket) => changes.push(self.opened(key, frontend, socket)),
                Err(error) => self.not_opened(key, frontend, &error, now),
            }
        }
        self.tell(changes);
    }

    fn opened(
        &mut self,
        key: BindKey,
        frontend: Arc<Frontend>,
        socket: Arc<Socket>,
    ) -> ListenerChange {
        if self.failed.remove(&key).is_some() {
            log::info!(
                "{}: listening on {} {} after all",
                frontend.route.name,
                key.addr,
                key.protocol
            );
        }
        let id = ListenerId(self.next_id);
        self.next_id += 1;
        let allow = frontend.policy.allow.clone();
        self.open.insert(
            key,
            Open {
                id,
                socket: socket.clone(),
                allow,
            },
        );
        ListenerChange::Open {
            id,
            protocol: key.protocol,
            addr: key.addr,
            socket,
            frontend,
        }
    }

    fn not_opened(
        &mut self,
        key: BindKey,
        frontend: Arc<Frontend>,
        error: &BindError,
        now: Instant,
    ) {
        let error = error.to_string();
        // Once per reason, not once per attempt.
        if self
            .failed
            .get(&key)
            .is_none_or(|before| before.error != error)
        {
            log::warn!(
                "{}: cannot listen on {} {}: {error}",
                frontend.route.name,
                key.addr,
                key.protocol
            );
        }
        self.failed.insert(key, Failed { frontend, error });
        self.retry.arm(now);
    }
}

impl Kernel for Listeners {
    fn lingers(&self, flow: &Flow) -> bool {
        self.portal.lingers(flow.to, flow.protocol)
    }

    fn delivers(&self, ip: IpAddr) -> bool {
        self.portal.delivers(ip)
    }

    fn not_bound(&self, key: &BindKey) -> Option<&str> {
        self.failed.get(key).map(|failed| failed.error.as_str())
    }

    fn not_captured(&self, capture: &Capture) -> Option<&str> {
        let told = || self.told.get(capture).map(String::as_str);
        self.failed_captures.contains(capture).then(told).flatten()
    }
}
