//! Sources, stores, listeners: what many sources say becomes one state, told whole and told once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use portico::config::store::PATIENCE;
use portico::config::{
    Broadcaster, EndpointsConfig, EndpointsStore, Handler, Mux, NodeConfig, ServiceConfig,
    ServiceStore,
};
use portico::types::*;

use crate::util::rng::{Rng, seeds};

const SOON: Duration = Duration::from_secs(10);

/// A Service that differs from others of its name by `version`.
pub fn service(name: &str, version: u8) -> Service {
    Service {
        name: NamespacedName::new("shop", name),
        kind: ServiceType::ClusterIp,
        headless: false,
        labelled_headless: false,
        cluster_ips: [Ipv4Addr::new(10, 96, 0, version).into()].into(),
        ports: [].into(),
        session_affinity: None,
        external_traffic_policy: TrafficPolicy::Cluster,
        internal_traffic_policy: TrafficPolicy::Cluster,
        health_check_node_port: 0,
        external_ips: [].into(),
        load_balancer_ips: [].into(),
        source_ranges: [].into(),
        proxy_name: None,
        problems: Problems::default(),
    }
}

fn slice(name: &str, of: &str, version: u16) -> EndpointSlice {
    let port = EndpointPort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port: version,
    };
    EndpointSlice {
        name: NamespacedName::new("shop", name),
        service: NamespacedName::new("shop", of),
        subsets: [Subset {
            family: IpFamily::V4,
            ports: [port].into(),
            endpoints: [].into(),
        }]
        .into(),
        last_change_trigger_time: None,
        problems: Problems::default(),
    }
}

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("shop", name)
}

/// The names in a list of changed keys, sorted; panics on duplicates.
fn names(changed: &[NamespacedName]) -> Vec<&str> {
    let names: BTreeSet<&str> = changed.iter().map(NamespacedName::name).collect();
    assert_eq!(names.len(), changed.len(), "duplicates in {changed:?}");
    names.into_iter().collect()
}

/// `name=version` of every Service in a snapshot.
fn shown(snapshot: &Snapshot<std::sync::Arc<Service>>) -> Vec<String> {
    let mut all: Vec<String> = snapshot
        .objects
        .iter()
        .map(|(key, service)| format!("{}={}", key.name(), version_of(service)))
        .collect();
    all.sort();
    all
}

fn version_of(service: &Service) -> u8 {
    match service.cluster_ips.first() {
        Some(std::net::IpAddr::V4(ip)) => ip.octets()[3],
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_store_merges_by_rank_and_tells_what_changed() {
    use Update::{Add, Remove, Set, Unavailable};
    // (source, update, every object afterwards, changed keys or None when nothing is told)
    type Row = (
        usize,
        Update<Service>,
        &'static [&'static str],
        Option<&'static [&'static str]>,
    );
    let s = service;
    let rows: Vec<Row> = vec![
        (
            1,
            Set(vec![s("a", 1), s("b", 1)]),
            &["a=1", "b=1"],
            Some(&["a", "b"]),
        ),
        (0, Set(vec![s("a", 2)]), &["a=2", "b=1"], Some(&["a"])), // the first source wins
        (1, Add(s("a", 3)), &["a=2", "b=1"], None),               // hidden
        (0, Add(s("a", 2)), &["a=2", "b=1"], None),               // equal
        (0, Add(s("c", 1)), &["a=2", "b=1", "c=1"], Some(&["c"])),
        (0, Remove(key("a")), &["a=3", "b=1", "c=1"], Some(&["a"])), // what was hidden shows
        (0, Remove(key("a")), &["a=3", "b=1", "c=1"], None),         // unknown there
        (0, Unavailable, &["a=3", "b=1", "c=1"], None),
        (
            1,
            Set(vec![s("b", 1), s("d", 1)]),
            &["b=1", "c=1", "d=1"],
            Some(&["a", "d"]),
        ),
        (
            1,
            Set(vec![s("d", 1), s("b", 1)]),
            &["b=1", "c=1", "d=1"],
            None,
        ), // order means nothing
        // Equal to what it hides: told only because two of them say it, and then because they do not any more.
        (0, Add(s("b", 1)), &["b=1", "c=1", "d=1"], Some(&[])),
        (1, Remove(key("b")), &["b=1", "c=1", "d=1"], Some(&[])),
        (
            0,
            Set(vec![s("e", 1), s("e", 2)]),
            &["d=1", "e=2"],
            Some(&["b", "c", "e"]),
        ), // the last of two wins
        (0, Set(vec![]), &["d=1"], Some(&["e"])),
        (7, Add(s("x", 1)), &["d=1"], None), // no such source
    ];
    let now = Instant::now();
    let mut store = ServiceStore::new(2, now);
    let mut last = Snapshot::default();
    for (row, (source, update, objects, changed)) in rows.into_iter().enumerate() {
        store.apply(source, update);
        // Past the patience: being synced is another table's matter.
        let told = store.take(now + PATIENCE);
        if let Some(told) = &told {
            last = told.snapshot.clone();
        }
        assert_eq!(shown(&last), objects, "row {row}");
        assert_eq!(
            told.as_ref().map(|told| names(&told.changed)),
            changed.map(<[_]>::to_vec),
            "row {row}"
        );
    }
}

#[test]
fn what_is_wrong_is_told_until_it_is_right() {
    let complaints = |texts: &[&str]| {
        let mut complaints = Complaints::default();
        let source = Subject::Other("source".into());
        complaints.extend(
            texts
                .iter()
                .map(|text| Complaint::new(source.clone(), text)),
        );
        Update::Complaints(complaints)
    };
    let all = |store: &mut ServiceStore, now| {
        let Some(told) = store.take(now) else {
            return "not told".to_owned();
        };
        let complaints = told.snapshot.complaints.iter();
        let said: Vec<String> = complaints
            .map(|complaint| match complaint.subject {
                Subject::Other(_) => complaint.problem.to_string(),
                Subject::Object(..) | Subject::Kind(_) => complaint.to_string(),
            })
            .collect();
        said.concat()
    };
    let now = Instant::now();
    let names = ["api".to_owned(), "file:/m".to_owned()];
    let mut store = ServiceStore::new(2, now).named(&names);
    let twice = "Service shop/a: defined by api and by file:/m; what api says is used";
    let rows = [
        (0, Update::Set(vec![service("a", 1)]), ""),
        (1, Update::Set(vec![service("b", 1)]), ""),
        (1, Update::Add(service("a", 1)), twice),
        (1, Update::Add(service("a", 2)), "not told"),
        (1, complaints(&["x"]), &format!("x{twice}")),
        (0, complaints(&["x", "y"]), &format!("xy{twice}")),
        (0, Update::Remove(key("a")), "xy"),
        (0, complaints(&["x", "y"]), "not told"),
        (0, complaints(&[]), "x"),
        (1, Update::Unavailable, "not told"),
        (1, complaints(&[]), ""),
    ];
    for (row, (source, update, expect)) in rows.into_iter().enumerate() {
        store.apply(source, update);
        assert_eq!(all(&mut store, now + PATIENCE), expect, "row {row}");
    }
    let many: Vec<String> = (0..1000).map(|n| format!("{n:04}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    store.apply(0, complaints(&many));
    let told = store.take(now).expect("told").snapshot.complaints;
    let last = told.iter().last().map(|it| it.to_string());
    assert_eq!(
        (told.iter().count(), last.as_deref()),
        (101, Some("source: and 900 more like it"))
    );
}

#[test]
fn changes_that_cancel_out_are_not_told() {
    let now = Instant::now();
    let mut store = ServiceStore::new(1, now);
    store.apply(0, Update::Set(vec![service("a", 1)]));
    assert!(store.take(now).is_some());
    store.apply(0, Update::Add(service("a", 2)));
    store.apply(0, Update::Add(service("b", 1)));
    store.apply(0, Update::Add(service("a", 1)));
    store.apply(0, Update::Remove(key("b")));
    assert!(store.take(now).is_none());
}

#[test]
fn a_list_that_says_the_same_keeps_the_objects_it_has() {
    let now = Instant::now();
    let mut store = ServiceStore::new(1, now);
    store.apply(0, Update::Set(vec![service("a", 1), service("b", 1)]));
    let before = store.take(now).unwrap().snapshot;
    store.apply(0, Update::Set(vec![service("b", 2), service("a", 1)]));
    let after = store.take(now).unwrap().snapshot;
    let pointer = |snapshot: &Snapshot<std::sync::Arc<Service>>, name| {
        std::sync::Arc::as_ptr(snapshot.objects.get(&key(name)).unwrap())
    };
    assert_eq!(pointer(&before, "a"), pointer(&after, "a"));
    assert_ne!(pointer(&before, "b"), pointer(&after, "b"));
}

#[test]
fn slices_are_grouped_by_service() {
    let now = Instant::now();
    let mut store = EndpointsStore::new(1, now);
    let view = |snapshot: &Snapshot<Slices>| -> Vec<String> {
        let mut all: Vec<String> = snapshot
            .objects
            .iter()
            .map(|(service, slices)| {
                let names: Vec<&str> = slices.iter().map(|slice| slice.name.name()).collect();
                format!("{}: {}", service.name(), names.join(" "))
            })
            .collect();
        all.sort();
        all
    };
    let mut check = |update, expect: &[&str], changed: &[&str]| {
        store.apply(0, update);
        let told = store.take(now).expect("something to tell");
        assert_eq!(view(&told.snapshot), expect);
        assert_eq!(names(&told.changed), changed);
    };
    let first = vec![
        slice("web-b", "web", 1),
        slice("web-a", "web", 1),
        slice("dns-a", "dns", 1),
    ];
    check(
        Update::Set(first),
        &["dns: dns-a", "web: web-a web-b"],
        &["dns", "web"],
    );
    check(
        Update::Add(slice("web-a", "web", 2)),
        &["dns: dns-a", "web: web-a web-b"],
        &["web"],
    );
    // The label changes: it leaves its old Service at once.
    check(
        Update::Add(slice("web-a", "dns", 2)),
        &["dns: dns-a web-a", "web: web-b"],
        &["dns", "web"],
    );
    check(
        Update::Remove(key("web-b")),
        &["dns: dns-a web-a"],
        &["web"],
    );
    let last = vec![slice("dns-a", "api", 1), slice("web-a", "dns", 2)];
    check(
        Update::Set(last),
        &["api: dns-a", "dns: web-a"],
        &["api", "dns"],
    );
}

#[test]
fn received_whole() {
    use Update::{Add, Set, Unavailable};
    enum Do {
        Say(usize, Update<Service>),
        End(usize),
        Nothing,
    }
    use Do::{End, Nothing, Say};
    // Steps of (milliseconds after the start, what happens, synced afterwards).
    type Steps = Vec<(u64, Do, bool)>;
    let tables: Vec<(&str, usize, Steps)> = vec![
        (
            "one source",
            1,
            vec![
                (0, Say(0, Add(service("a", 1))), false),
                (9000, Nothing, false),
                (9001, Say(0, Set(vec![])), true),
            ],
        ),
        (
            "every source delivers",
            2,
            vec![
                (10, Say(1, Set(vec![])), false),
                (20, Say(0, Set(vec![])), true),
            ],
        ),
        (
            "one is silent for five seconds",
            2,
            vec![
                (10, Say(1, Set(vec![])), false),
                (4999, Nothing, false),
                (5000, Nothing, true),
            ],
        ),
        (
            "unavailable is no delivery",
            2,
            vec![
                (10, Say(0, Unavailable), false),
                (20, Say(1, Set(vec![])), false),
                (5000, Nothing, true),
                (6000, Say(0, Unavailable), true),
            ],
        ),
        (
            "nobody has delivered: no amount of time will do",
            2,
            vec![
                (60_000, Say(0, Unavailable), false),
                (60_001, Say(1, Set(vec![])), true),
            ],
        ),
        (
            "an ended source is not waited for",
            2,
            vec![(10, Say(1, Set(vec![])), false), (20, End(0), true)],
        ),
        (
            "an end is no delivery",
            1,
            vec![(10, End(0), false), (9000, Nothing, false)],
        ),
    ];
    for (name, sources, steps) in tables {
        let start = Instant::now();
        let mut store = ServiceStore::new(sources, start);
        let mut synced = false;
        for (at, what, expect) in steps {
            match what {
                Say(source, update) => store.apply(source, update),
                End(source) => store.end(source),
                Nothing => {}
            }
            if let Some(told) = store.take(start + Duration::from_millis(at)) {
                synced = told.snapshot.synced;
            }
            assert_eq!(synced, expect, "{name} at {at}");
            assert!(
                !synced || store.deadline().is_none(),
                "{name}: a timer runs for nothing"
            );
        }
    }
}

/// What the store must agree with, written the slow and obvious way.
#[derive(Default)]
struct Model {
    sources: Vec<BTreeMap<NamespacedName, EndpointSlice>>,
    /// By source.
    incoming: Vec<BTreeMap<NamespacedName, EndpointSlice>>,
}

impl Model {
    fn apply(&mut self, source: usize, update: &Update<EndpointSlice>) {
        match update {
            Update::Set(all) => {
                self.sources[source] = named(all).collect();
                self.incoming[source].clear();
            }
            Update::Add(one) => {
                self.sources[source].insert(one.name.clone(), one.clone());
            }
            Update::Remove(key) => {
                self.sources[source].remove(key);
            }
            Update::Unavailable | Update::Complaints(_) => {}
            Update::Relist(Relist::Begin) => self.incoming[source].clear(),
            Update::Relist(Relist::Objects(some)) => self.incoming[source].extend(named(some)),
            Update::Relist(Relist::Gone(key)) => {
                self.incoming[source].remove(key);
            }
            Update::Relist(Relist::End) => {
                self.sources[source] = std::mem::take(&mut self.incoming[source]);
            }
        }
    }

    fn grouped(&self) -> BTreeMap<NamespacedName, Vec<EndpointSlice>> {
        let mut merged = BTreeMap::new();
        for source in self.sources.iter().rev() {
            merged.extend(source.clone());
        }
        let mut services: BTreeMap<NamespacedName, Vec<EndpointSlice>> = BTreeMap::new();
        for slice in merged.into_values() {
            services
                .entry(slice.service.clone())
                .or_default()
                .push(slice);
        }
        services
    }
}

fn named(all: &[EndpointSlice]) -> impl Iterator<Item = (NamespacedName, EndpointSlice)> {
    all.iter().map(|one| (one.name.clone(), one.clone()))
}

fn random_update(rng: &mut Rng) -> Update<EndpointSlice> {
    let one = |rng: &mut Rng| {
        let name = *rng.choose(&["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"]);
        let of = *rng.choose(&["web", "dns", "api"]);
        slice(name, of, 1 + rng.below(3) as u16)
    };
    let some = |rng: &mut Rng| (0..rng.below(9)).map(|_| one(rng)).collect();
    match rng.below(14) {
        0 => Update::Set(some(rng)),
        8 => Update::Relist(Relist::Begin),
        9..=10 => Update::Relist(Relist::Objects(some(rng))),
        11 => Update::Relist(Relist::Gone(one(rng).name)),
        12 => Update::Relist(Relist::End),
        1 => Update::Unavailable,
        2..=3 => Update::Remove(one(rng).name),
        _ => Update::Add(one(rng)),
    }
}

#[test]
fn random_updates_agree_with_the_model() {
    seeds(200, |mut rng| {
        let sources = 1 + rng.below(3);
        let now = Instant::now();
        let mut store = EndpointsStore::new(sources, now);
        let mut model = Model {
            sources: vec![BTreeMap::new(); sources],
            incoming: vec![BTreeMap::new(); sources],
        };
        let mut told = BTreeMap::new();
        for _ in 0..120 {
            for _ in 0..rng.below(4) {
                let (source, update) = (rng.below(sources), random_update(&mut rng));
                model.apply(source, &update);
                store.apply(source, update);
            }
            let expect = model.grouped();
            let keys: BTreeSet<&NamespacedName> = expect.keys().chain(told.keys()).collect();
            let differing: Vec<&str> = keys
                .into_iter()
                .filter(|key| expect.get(*key) != told.get(*key))
                .map(|key| key.name())
                .collect();
            match store.take(now) {
                Some(update) => {
                    assert_eq!(names(&update.changed), differing);
                    let objects = update.snapshot.objects.iter();
                    let found: BTreeMap<NamespacedName, Vec<EndpointSlice>> = objects
                        .map(|(key, slices)| {
                            (key.clone(), slices.iter().map(|s| (**s).clone()).collect())
                        })
                        .collect();
                    assert_eq!(found, expect);
                }
                None => assert!(differing.is_empty(), "{differing:?} was not told"),
            }
            told = expect;
        }
    });
}

/// A handler that passes on what it is told.
struct Tell(mpsc::Sender<Broadcast<u8>>);

impl Handler<u8> for Tell {
    fn on_update(&mut self, update: &Broadcast<u8>) {
        let _ = self.0.send(update.clone());
    }
}

fn broadcast(objects: &[(&str, u8)], changed: &[&str]) -> Broadcast<u8> {
    let mut snapshot = Snapshot::default();
    for (name, value) in objects {
        snapshot.objects.insert(key(name), *value);
    }
    Broadcast {
        snapshot,
        changed: changed.iter().map(|name| key(name)).collect(),
    }
}

#[test]
fn a_late_listener_is_told_everything_at_once() {
    let broadcaster = Broadcaster::default();
    let (early, early_told) = mpsc::channel();
    broadcaster.register(Box::new(Tell(early)));
    assert!(
        early_told.try_recv().is_err(),
        "nothing to tell before the first broadcast"
    );
    broadcaster.broadcast(&broadcast(&[("a", 1), ("b", 1)], &["a", "b"]));
    broadcaster.broadcast(&broadcast(&[("a", 2), ("b", 1)], &["a"]));
    let (late, late_told) = mpsc::channel();
    broadcaster.register(Box::new(Tell(late)));
    let told = late_told.try_recv().unwrap();
    assert_eq!(names(&told.changed), ["a", "b"]);
    assert_eq!(told.snapshot.objects.get(&key("a")), Some(&2));
    broadcaster.broadcast(&broadcast(&[("a", 2)], &["b"]));
    let counts = [early_told, late_told].map(|told| told.try_iter().count());
    assert_eq!(counts, [3, 1]);
}

#[test]
fn a_slow_subscriber_gets_the_newest_with_all_changes() {
    let broadcaster = Broadcaster::default();
    let subscription = broadcaster.subscribe();
    assert!(subscription.take().is_none());
    broadcaster.broadcast(&broadcast(&[("a", 1)], &["a"]));
    broadcaster.broadcast(&broadcast(&[("a", 2), ("b", 1)], &["a", "b"]));
    broadcaster.broadcast(&broadcast(&[("b", 1), ("c", 1)], &["a", "c"]));
    assert_eq!(subscription.signal().len(), 1);
    let told = subscription.take().unwrap();
    assert_eq!(names(&told.changed), ["a", "b", "c"]);
    assert_eq!(told.snapshot.objects.len(), 2);
    assert!(subscription.take().is_none());
    assert!(
        subscription.signal().is_empty(),
        "a signal without a letter"
    );
    broadcaster.broadcast(&broadcast(&[], &["b", "c"]));
    subscription.signal().recv_timeout(SOON).unwrap();
    assert_eq!(names(&subscription.take().unwrap().changed), ["b", "c"]);
    drop(broadcaster);
    assert!(
        subscription.signal().recv().is_err(),
        "the end is a disconnect"
    );
}

/// Waits for the next letter.
#[track_caller]
fn next<V>(subscription: &portico::config::Subscription<V>) -> Broadcast<V> {
    let deadline = Instant::now() + SOON;
    loop {
        subscription
            .signal()
            .recv_deadline(deadline)
            .expect("a letter in time");
        if let Some(letter) = subscription.take() {
            return letter;
        }
    }
}

#[test]
fn a_burst_is_told_as_one_change() {
    struct Count(mpsc::Sender<usize>);
    impl Handler<std::sync::Arc<Service>> for Count {
        fn on_update(&mut self, update: &Broadcast<std::sync::Arc<Service>>) {
            let _ = self.0.send(update.changed.len());
        }
    }
    let mut mux = Mux::default();
    // What is queued before the merge begins; one source's channel would not hold all of it.
    let sources: Vec<_> = (0..16).map(|n| mux.channel(&format!("s{n}"))).collect();
    for source in &sources {
        source.send(Update::Set(vec![])).unwrap();
    }
    for i in 0..1000 {
        sources[i % 16]
            .send(Update::Add(service(
                &format!("s{}", i % 250),
                (i / 250) as u8,
            )))
            .unwrap();
    }
    let config = ServiceConfig::start(mux).unwrap();
    let (sender, told) = mpsc::channel();
    config.register(Box::new(Count(sender)));
    assert_eq!(told.recv_timeout(SOON), Ok(250));
    sources[0].send(Update::Add(service("last", 1))).unwrap();
    assert_eq!(
        told.recv_timeout(SOON),
        Ok(1),
        "the burst was told in more than one piece"
    );
}

#[test]
fn sources_are_merged_and_outlive_their_channels() {
    let mut mux = Mux::default();
    let (api, file) = (mux.channel("api"), mux.channel("file:/x"));
    let config = ServiceConfig::start(mux).unwrap();
    let subscription = config.subscribe();
    file.send(Update::Set(vec![service("a", 2), service("b", 2)]))
        .unwrap();
    assert!(
        !next(&subscription).snapshot.synced,
        "api has not delivered"
    );
    api.send(Update::Set(vec![service("a", 1)])).unwrap();
    let told = next(&subscription);
    assert_eq!(
        (shown(&told.snapshot), told.snapshot.synced),
        (vec!["a=1".into(), "b=2".into()], true)
    );
    drop(api);
    file.send(Update::Remove(key("b"))).unwrap();
    assert_eq!(
        shown(&next(&subscription).snapshot),
        ["a=1"],
        "a source's end takes nothing away"
    );
    drop(file);
    drop(config);
    assert!(subscription.signal().recv_timeout(SOON).is_err());
}

#[test]
fn the_merge_thread_syncs_without_a_source_that_stays_silent() {
    let mut mux = Mux::default();
    let (_silent, file) = (mux.channel("api"), mux.channel("file:/x"));
    let begin = Instant::now();
    let config = EndpointsConfig::start(mux).unwrap();
    let subscription = config.subscribe();
    file.send(Update::Set(vec![slice("web-a", "web", 1)]))
        .unwrap();
    let told = next(&subscription);
    assert!(!told.snapshot.synced && told.changed.len() == 1);
    let told = next(&subscription);
    assert!(told.snapshot.synced && told.changed.is_empty() && told.snapshot.objects.len() == 1);
    assert!(begin.elapsed() >= PATIENCE);
}

#[test]
fn a_source_that_never_pauses_cannot_keep_listeners_waiting() {
    let mut mux = Mux::default();
    let source = mux.channel("api");
    let config = NodeConfig::start(mux).unwrap();
    let subscription = config.subscribe();
    let node = |version: u64| Node {
        problems: Problems::default(),
        name: NamespacedName::cluster_scoped("n"),
        zone: Some(version.to_string().into()),
        addresses: [].into(),
        pod_cidrs: [].into(),
        eligible: true,
    };
    let endless = std::thread::spawn(move || {
        (0..)
            .take_while(|version| source.send(Update::Add(node(*version))).is_ok())
            .count()
    });
    next(&subscription);
    next(&subscription);
    drop(config);
    assert!(
        endless.join().unwrap() > 1,
        "the merge thread's end is the sender's"
    );
}
