//! A seeded simulation: a table that changes at random over a kernel that refuses at random. What must always hold is looked
//! at after each action, and at the end, with a kernel that refuses nothing any more, all that is wanted is there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use socket2::{Domain, Socket, Type};

use super::retry::FIRST_RETRY;
use super::{Plan, PlanAction, PlanInput, WantedListener};
use crate::portal::{self, BindError};
use crate::proxier::{ListenerChange, ListenerId};
use crate::routing::{Balancer, EndpointList, Frontend, FrontendKind, Route, SourcePolicy, Target};
use crate::types::{BindKey, Capture, IpFamily, NamespacedName, Protocol, Scope, ServicePortName};

#[path = "../../tests/util/rng.rs"]
#[allow(dead_code, clippy::duplicate_mod)]
mod rng;

use rng::{Rng, seeds};

const PERIOD: Duration = Duration::from_secs(30);

type Allow = Option<Arc<[IpNet]>>;

/// What the plan works on, as far as the plan can see.
struct World {
    rng: Rng,
    now: Instant,
    /// What the routing table wants.
    bindings: BTreeMap<BindKey, Arc<Frontend>>,
    captures: BTreeSet<Capture>,
    /// What there is.
    sockets: BTreeMap<BindKey, Allow>,
    served: BTreeMap<ListenerId, (BindKey, Arc<Frontend>)>,
    captured: BTreeSet<Capture>,
    /// One in so many attempts fails; 0: none.
    refusing: usize,
    /// Listeners that were asked for since the table wants them.
    attempted: BTreeSet<BindKey>,
    /// Every id that was ever given out.
    ids: HashSet<ListenerId>,
    /// Stands for all sockets: the plan only hands it on.
    socket: Arc<Socket>,
}

impl World {
    fn new(rng: Rng) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        Self {
            rng,
            now: Instant::now(),
            bindings: BTreeMap::new(),
            captures: BTreeSet::new(),
            sockets: BTreeMap::new(),
            served: BTreeMap::new(),
            captured: BTreeSet::new(),
            refusing: 0,
            attempted: BTreeSet::new(),
            ids: HashSet::new(),
            socket: Arc::new(socket),
        }
    }

    /// Another table than before, and how it differs.
    fn change(&mut self) -> PlanInput {
        let (mut closed, mut opened) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.rng.below(6) {
            let key = key(self.rng.below(12));
            let is_touched = closed.iter().chain(&opened).any(|(k, _)| *k == key);
            if is_touched {
                continue;
            }
            if self.bindings.contains_key(&key) && self.rng.one_in(3) {
                self.bindings.remove(&key);
                self.attempted.remove(&key);
                closed.push((key, None));
            } else {
                let frontend = frontend(&mut self.rng);
                self.bindings.insert(key, Arc::clone(&frontend));
                opened.push((key, Some(frontend)));
            }
        }
        let (mut added, mut removed) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..self.rng.below(3) {
            let capture = Capture::Address(key(self.rng.below(12)).addr.ip());
            if added.contains(&capture) || removed.contains(&capture) {
                continue;
            }
            match self.captures.remove(&capture) {
                true => removed.insert(capture),
                false => self.captures.insert(capture) && added.insert(capture),
            };
        }
        PlanInput::Changed {
            bindings: closed.into_iter().chain(opened).collect(),
            captures_added: added.into_iter().collect(),
            captures_removed: removed.into_iter().collect(),
        }
    }

    fn refuses(&mut self) -> bool {
        self.refusing > 0 && self.rng.one_in(self.refusing)
    }

    /// Plays portal and proxier.
    fn carry_out(&mut self, action: PlanAction) -> Option<PlanInput> {
        match action {
            PlanAction::Tell(changes) => {
                assert!(!changes.is_empty());
                changes.into_iter().for_each(|change| self.told(change));
                None
            }
            PlanAction::Open(wanted) => {
                assert!(!wanted.is_empty());
                Some(PlanInput::Opened(
                    wanted.into_iter().map(|w| self.open(w)).collect(),
                ))
            }
            PlanAction::Filter(wanted, _) => {
                let result = match self.refuses() {
                    true => Err(error(&mut self.rng)),
                    false => Ok(()),
                };
                if result.is_ok() {
                    let allow = wanted.frontend.policy.allow.clone();
                    assert!(
                        self.sockets.insert(wanted.key, allow).is_some(),
                        "it is open"
                    );
                }
                Some(PlanInput::Filtered(wanted, result))
            }
            PlanAction::Capture { add, remove } => Some(self.capture(add, &remove)),
            PlanAction::Say(_) => None,
        }
    }

    fn open(&mut self, wanted: WantedListener) -> (WantedListener, Result<Arc<Socket>, BindError>) {
        self.attempted.insert(wanted.key);
        assert!(
            !self.sockets.contains_key(&wanted.key),
            "{:?} twice",
            wanted.key
        );
        if self.refuses() {
            let error = error(&mut self.rng);
            return (wanted, Err(error));
        }
        self.sockets
            .insert(wanted.key, wanted.frontend.policy.allow.clone());
        (wanted, Ok(Arc::clone(&self.socket)))
    }

    fn capture(&mut self, add: Vec<Capture>, remove: &[Capture]) -> PlanInput {
        for capture in remove {
            self.captured.remove(capture);
        }
        let mut refused = Vec::new();
        for capture in &add {
            // A client that follows the capture meets the listener, if there is one to be had.
            for key in self.bindings.keys() {
                let leads_there = *capture == Capture::Address(key.addr.ip());
                let known = self.sockets.contains_key(key) || self.attempted.contains(key);
                assert!(!leads_there || known, "{capture:?} before {key:?}");
            }
            if self.refuses() {
                let is = portal::Error::NotLocal(IpAddr::from([10, 0, 0, 1]));
                refused.push((*capture, is));
            } else {
                self.captured.insert(*capture);
            }
        }
        PlanInput::Captured {
            asked: add,
            refused,
        }
    }

    fn told(&mut self, change: ListenerChange) {
        match change {
            ListenerChange::Open {
                id,
                addr,
                protocol,
                frontend,
                ..
            } => {
                assert!(self.ids.insert(id), "{id:?} is new");
                let mut keys = self.sockets.keys();
                let key = keys.find(|key| (key.addr, key.protocol) == (addr, protocol));
                self.served.insert(id, (*key.unwrap(), frontend));
            }
            ListenerChange::Replace { id, frontend } => {
                self.served.get_mut(&id).unwrap().1 = frontend
            }
            ListenerChange::Close { id } => {
                let (key, _) = self.served.remove(&id).unwrap();
                self.sockets.remove(&key).unwrap();
            }
        }
        for (key, frontend) in self.served.values() {
            let heard = self.sockets.get(key).unwrap();
            assert_eq!(
                *heard, frontend.policy.allow,
                "nobody hears what its frontend does not say"
            );
        }
    }

    /// What holds between inputs.
    fn check(&self, plan: &Plan) {
        let served: BTreeMap<BindKey, &Arc<Frontend>> = self
            .served
            .values()
            .map(|(key, frontend)| (*key, frontend))
            .collect();
        assert_eq!(
            served.len(),
            self.sockets.len(),
            "a socket for each listener"
        );
        assert_eq!(plan.open_count(), served.len());
        for (key, frontend) in &self.bindings {
            match served.get(key) {
                Some(serving) => {
                    assert!(
                        Arc::ptr_eq(serving, frontend),
                        "{key:?} follows the newest frontend"
                    );
                    assert_eq!(plan.why_not_open(key), None);
                }
                None => assert!(plan.why_not_open(key).is_some(), "{key:?} is known to fail"),
            }
        }
        assert!(served.keys().all(|key| self.bindings.contains_key(key)));
        assert_eq!(plan.unopened().count() + served.len(), self.bindings.len());
        for capture in &self.captures {
            let known = plan.why_not_captured(capture).is_some();
            assert_ne!(self.captured.contains(capture), known, "{capture:?}");
        }
        assert!(self.captured.is_subset(&self.captures));
        assert_eq!(
            plan.uncaptured().count() + self.captured.len(),
            self.captures.len()
        );
        let lacking = served.len() < self.bindings.len() || self.captured != self.captures;
        let wait = plan
            .deadline()
            .map(|at| at.saturating_duration_since(self.now));
        assert_eq!(
            wait.is_some(),
            lacking,
            "what failed is tried again, and nothing else"
        );
        assert!(wait.is_none_or(|wait| wait <= PERIOD), "{wait:?}");
    }
}

fn key(number: usize) -> BindKey {
    BindKey {
        scope: Scope::Portal,
        addr: SocketAddr::from(([10, 96, 0, (number % 4) as u8], 80 + number as u16)),
        protocol: [Protocol::Tcp, Protocol::Udp][number % 2],
    }
}

fn frontend(rng: &mut Rng) -> Arc<Frontend> {
    let nets: [&[IpNet]; 2] = [&[], &["10.0.0.0/8".parse().unwrap()]];
    let allow = match rng.below(3) {
        2 => None,
        at => Some(Arc::from(nets[at])),
    };
    let service = NamespacedName::new("shop", "web");
    Arc::new(Frontend {
        kind: FrontendKind::ClusterIp,
        route: Arc::new(Route {
            name: ServicePortName {
                service,
                port: "".into(),
                protocol: Protocol::Tcp,
            },
            family: IpFamily::V4,
            cluster: EndpointList::default(),
            local: EndpointList::default(),
            affinity: None,
            balancer: Arc::new(Balancer::default()),
            counters: Arc::default(),
        }),
        policy: SourcePolicy {
            allow,
            short_cut: Arc::default(),
            target: Target::Cluster,
        },
    })
}

fn error(rng: &mut Rng) -> BindError {
    let kinds = [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied];
    BindError::from(io::Error::from(*rng.choose(&kinds)))
}

#[test]
fn kernel_and_proxier_follow_the_table_whatever_fails() {
    seeds(300, |rng| {
        let mut world = World::new(rng);
        let mut plan = Plan::new(PERIOD);
        for _ in 0..40 {
            world.refusing = *world.rng.choose(&[0, 1, 2, 5]);
            world.now += Duration::from_millis(world.rng.below(3000) as u64);
            let input = match world.rng.below(4) {
                0 => PlanInput::Hope,
                1 => PlanInput::Tick,
                _ => world.change(),
            };
            let now = world.now;
            plan.run(input, now, |action| world.carry_out(action));
            world.check(&plan);
        }
        // All is well again: at the next attempt everything succeeds, and nothing is left to do.
        world.refusing = 0;
        if let Some(at) = plan.deadline() {
            world.now = at;
            plan.run(PlanInput::Tick, at, |action| world.carry_out(action));
        }
        world.check(&plan);
        assert_eq!(plan.deadline(), None);
        assert_eq!(
            (world.served.len(), &world.captured),
            (world.bindings.len(), &world.captures)
        );
    });
}

#[test]
fn attempts_grow_rare_and_hope_brings_the_next_one_near() {
    let mut world = World::new(Rng::new(1));
    let mut plan = Plan::new(PERIOD);
    world.refusing = 1;
    let change = world.change();
    plan.run(change, world.now, |action| world.carry_out(action));
    let mut waits = Vec::new();
    for _ in 0..7 {
        let at = plan.deadline().unwrap();
        waits.push((at - world.now).as_secs());
        world.now = at;
        plan.run(PlanInput::Tick, at, |action| world.carry_out(action));
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    plan.run(PlanInput::Hope, world.now, |action| world.carry_out(action));
    assert_eq!(plan.deadline(), Some(world.now + FIRST_RETRY));
}

#[test]
fn a_failure_is_told_once_for_each_reason_and_so_is_its_end() {
    let wanted = WantedListener {
        key: key(0),
        frontend: frontend(&mut Rng::new(2)),
    };
    let socket = World::new(Rng::new(3)).socket;
    let mut plan = Plan::new(PERIOD);
    let now = Instant::now();
    let mut said = |result: Result<(), io::ErrorKind>| {
        let result = result.map(|()| Arc::clone(&socket));
        let result = result.map_err(|kind| BindError::from(io::Error::from(kind)));
        let actions = plan.step(PlanInput::Opened(vec![(wanted.clone(), result)]), now);
        let news = actions.into_iter().filter_map(|action| match action {
            PlanAction::Say(news) => Some((news.is_good(), news.to_string())),
            _ => None,
        });
        news.collect::<Vec<_>>()
    };
    use io::ErrorKind::{AddrInUse, PermissionDenied};
    let bad = |text: &str| vec![(false, text.to_owned())];
    for (result, expect) in [
        (
            Err(AddrInUse),
            bad("shop/web: cannot listen on 10.96.0.0:80/TCP: address in use"),
        ),
        (Err(AddrInUse), vec![]),
        (
            Err(PermissionDenied),
            bad("shop/web: cannot listen on 10.96.0.0:80/TCP: permission denied"),
        ),
        (
            Ok(()),
            vec![(
                true,
                "shop/web: listens on 10.96.0.0:80/TCP after all".to_owned(),
            )],
        ),
    ] {
        assert_eq!(said(result), expect);
    }
}
