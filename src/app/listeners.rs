//! Carries out what the plan says: sockets and routes by the portal, connections by the proxier.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::portal::{self, BindError, BindSpec, Portal};
use crate::proxier::Proxier;
use crate::routing::{Flow, Frontend, Kernel, Table};
use crate::sync::{Plan, PlanAction, PlanInput, WantedListener};
use crate::types::{BindKey, Capture, Complaint, Complaints, PortalKind, Subject};

/// Every listener of ours, open or waiting to be, and every address that is captured or could not be.
pub(super) struct Listeners {
    plan: Plan,
    hands: Hands,
}

/// Those who do what the plan says.
struct Hands {
    portal: Portal,
    proxier: Arc<Proxier>,
}

impl Listeners {
    /// `sync_period` bounds the time between two attempts at something that failed.
    pub(super) fn new(portal: Portal, proxier: Arc<Proxier>, sync_period: Duration) -> Self {
        Self {
            plan: Plan::new(sync_period),
            hands: Hands { portal, proxier },
        }
    }

    /// The portal, for its events and for this host's addresses.
    pub(super) fn portal(&self) -> &Portal {
        &self.hands.portal
    }

    /// See [`Portal::unacknowledged`].
    pub(super) fn unacknowledged(&self) -> Option<usize> {
        self.portal().unacknowledged()
    }

    /// Listeners that are open now.
    pub(super) fn open_count(&self) -> usize {
        self.plan.open_count()
    }

    /// Listeners that could not be opened.
    pub(super) fn failed_count(&self) -> usize {
        self.plan.unopened().count()
    }

    /// What the kernel did not do for us, and what is in our way; for explain.
    pub(super) fn complain(&self, table: &Table, complaints: &mut Complaints) {
        let portal = self.portal();
        let fell_back = portal.fell_back().iter();
        complaints.extend(fell_back.map(|(kind, why)| of_portal(*kind, &why.to_string())));
        let obstacles = portal.obstacles().into_iter();
        complaints.extend(obstacles.map(|what| of_portal(portal.kind(), &what)));
        let unopened = self.plan.unopened().map(|(key, frontend, why)| {
            let (name, BindKey { addr, protocol, .. }) = (&frontend.route.name, key);
            let what = format!("{name}: cannot listen on {addr}/{protocol}: {why}");
            Complaint::new(Subject::service(&name.service), what)
        });
        let uncaptured = self.plan.uncaptured().flat_map(|(capture, why)| {
            let services = table.services_behind(capture).into_iter();
            services.map(move |service| Complaint::new(Subject::service(service), why))
        });
        let mut all: Vec<Complaint> = unopened.chain(uncaptured).collect();
        all.sort_unstable();
        complaints.extend(all);
    }

    /// Makes the kernel and the proxier agree with the routing table, which has changed.
    pub(super) fn apply(
        &mut self,
        bindings: Vec<(BindKey, Option<Arc<Frontend>>)>,
        captures_added: Vec<Capture>,
        captures_removed: Vec<Capture>,
        now: Instant,
    ) {
        let changed = PlanInput::Changed {
            bindings,
            captures_added,
            captures_removed,
        };
        self.run(changed, now);
    }

    /// Tries again what failed, and lets the portal forget addresses whose time is over.
    pub(super) fn tick(&mut self, now: Instant) {
        self.portal().tick(now);
        self.run(PlanInput::Tick, now);
    }

    /// When [`tick`](Self::tick) has something to do, if ever.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.plan.deadline(), self.portal().next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Something happened that may let what failed succeed: try again soon.
    pub(super) fn retry_soon(&mut self, now: Instant) {
        self.run(PlanInput::Hope, now);
    }

    /// This host's addresses changed: an endpoint that is one of them with a node port of ours is a loop.
    pub(super) fn host_addresses(&self, addresses: Arc<[IpAddr]>) {
        self.hands.proxier.set_host_addresses(addresses);
    }

    /// Closes every listener: who comes now is refused.
    pub(super) fn stop_listening(&mut self) {
        self.hands.proxier.stop_accepting();
        // Its sockets go with it.
        self.plan = Plan::new(Duration::ZERO);
    }

    /// Gives the kernel back what is ours.
    pub(super) fn shut(self) -> Result<(), portal::Error> {
        self.hands.portal.close().map(drop)
    }

    fn run(&mut self, input: PlanInput, now: Instant) {
        let Self { plan, hands } = self;
        plan.run(input, now, |action| hands.carry_out(action, now));
    }
}

impl Hands {
    /// Does it; what came of it is the next input.
    fn carry_out(&self, action: PlanAction, now: Instant) -> Option<PlanInput> {
        match action {
            PlanAction::Tell(changes) => {
                self.proxier.apply(changes);
                None
            }
            PlanAction::Open(mut wanted) => {
                // The last files are for connections.
                let room = self.proxier.listeners_left().min(wanted.len());
                let left_out = wanted.split_off(room);
                let left_out = left_out.into_iter().map(|wanted| (wanted, Err(no_files())));
                let specs: Vec<BindSpec> = wanted.iter().map(spec).collect();
                let sockets = self.portal.bind(&specs);
                let made = wanted.into_iter().zip(sockets);
                Some(PlanInput::Opened(made.chain(left_out).collect()))
            }
            PlanAction::Filter(wanted, socket) => {
                let allow = wanted.frontend.policy.allow.as_deref();
                let result = self.portal.refilter(&socket, allow);
                Some(PlanInput::Filtered(wanted, result))
            }
            PlanAction::Capture { add, remove } => Some(PlanInput::Captured {
                refused: self.portal.apply(&add, &remove, now),
                asked: add,
            }),
            PlanAction::Say(notice) => {
                match notice.is_good() {
                    true => log::info!("{notice}"),
                    false => log::warn!("{notice}"),
                }
                None
            }
        }
    }
}

/// Why a listener is left out.
fn no_files() -> BindError {
    let what = "left out: the files that are left are for connections (raise the limit of open files: LimitNOFILE, ulimit -n)";
    io::Error::other(what).into()
}

fn spec(wanted: &WantedListener) -> BindSpec {
    BindSpec {
        key: wanted.key,
        allow: wanted.frontend.policy.allow.clone(),
    }
}

fn of_portal(kind: PortalKind, what: &str) -> Complaint {
    Complaint::new(Subject::Other(format!("portal {kind}").into()), what)
}

impl Kernel for Listeners {
    fn lingers(&self, flow: &Flow) -> bool {
        self.portal().lingers(flow.to, flow.protocol)
    }

    fn delivers(&self, ip: IpAddr) -> bool {
        self.portal().delivers(ip)
    }

    fn not_bound(&self, key: &BindKey) -> Option<&str> {
        self.plan.why_not_open(key)
    }

    fn not_captured(&self, capture: &Capture) -> Option<&str> {
        self.plan.why_not_captured(capture)
    }
}
