//! A table that follows changes is the table that is made from their result, and its deltas are what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use portico::routing::{BindKey, Capture, Delta, Frontend, HealthCheck, Table};
use portico::types::{Complaint, NamespacedName};

use super::generate;
use crate::util::rng::seeds;

/// What a listener of deltas has done so far.
#[derive(Debug, Default, PartialEq)]
struct Replay {
    bindings: BTreeMap<BindKey, String>,
    captures: BTreeSet<Capture>,
    health_checks: BTreeMap<NamespacedName, HealthCheck>,
    complaints: BTreeSet<Complaint>,
}

/// A frontend's meaning.
fn meaning(frontend: &Frontend) -> String {
    let Frontend {
        kind,
        route,
        policy,
    } = frontend;
    let (name, family) = (&route.name, route.family);
    let (cluster, local, affinity) = (&route.cluster, &route.local, route.affinity);
    format!("{kind:?} {name:?} {family} {cluster:?} {local:?} {affinity:?} {policy:?}")
}

impl Replay {
    fn apply(&mut self, delta: Delta) {
        for (key, frontend) in delta.bindings {
            let before = match &frontend {
                Some(frontend) => self.bindings.insert(key, meaning(frontend)),
                None => self.bindings.remove(&key),
            };
            assert_ne!(
                before,
                frontend.map(|f| meaning(&f)),
                "no change of {key:?}"
            );
        }
        for capture in delta.captures_added {
            assert!(self.captures.insert(capture), "{capture:?} twice");
        }
        for capture in delta.captures_removed {
            assert!(self.captures.remove(&capture), "{capture:?} unknown");
        }
        for (name, health_check) in delta.health_checks {
            let before = match health_check {
                Some(health_check) => self.health_checks.insert(name, health_check),
                None => self.health_checks.remove(&name),
            };
            assert_ne!(before, health_check);
        }
        for complaint in delta.news.new {
            assert!(
                self.complaints.insert(complaint.clone()),
                "{complaint} twice"
            );
        }
        for complaint in delta.news.resolved {
            assert!(self.complaints.remove(&complaint), "{complaint} unknown");
        }
    }

    fn assert_is(&self, table: &Table) {
        let bindings = table
            .bindings()
            .map(|(key, frontend)| (key, meaning(frontend)))
            .collect();
        assert_eq!(self.bindings, bindings);
        assert_eq!(self.captures, table.captures().collect());
        assert_eq!(self.complaints, table.complaints().into_iter().collect());
    }
}

#[test]
fn updates_lead_to_the_state_that_a_rebuild_makes() {
    let loops = AtomicUsize::new(0);
    seeds(100, |mut rng| {
        let case = generate::case(&mut rng);
        let mut world = case.world;
        let mut table = Table::new(case.settings.clone());
        let mut replay = Replay::default();
        replay.apply(world.feed(|inputs| table.rebuild(inputs)));
        for _ in 0..25 {
            let mut changed = Vec::new();
            for _ in 0..1 + rng.below(3) {
                changed.push(match rng.below(4) {
                    0 | 1 => generate::change_service(&mut rng, &mut world),
                    2 => generate::bend_back(&mut rng, &mut world),
                    _ => generate::change_slices(&mut rng, &mut world),
                });
            }
            if rng.one_in(8) {
                generate::change_surroundings(&mut rng, &mut world);
            }
            // Being told of something that did not change, or twice, does no harm.
            changed.extend(
                world
                    .services
                    .keys()
                    .filter(|_| rng.one_in(10))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
            replay.apply(world.feed(|inputs| table.update(inputs, changed.iter())));
            replay.assert_is(&table);

            let mut fresh = Replay::default();
            let mut other = Table::new(case.settings.clone());
            fresh.apply(world.feed(|inputs| other.rebuild(inputs)));
            assert_eq!(replay, fresh);
            let is_loop = |it: &&Complaint| it.problem.what.contains("a loop");
            let found = replay.complaints.iter().filter(is_loop).count();
            loops.fetch_add(found, Ordering::Relaxed);
            assert_eq!(table.no_local_endpoints(), other.no_local_endpoints());
        }
        let nothing = world.feed(|inputs| table.rebuild(inputs));
        assert!(nothing.is_empty(), "{nothing:?}");
    });
    let replayed = std::env::var("PORTICO_SEED").is_ok();
    assert!(replayed || loops.into_inner() > 100, "loops are among it");
}

#[test]
fn what_stays_keeps_its_counters_and_rotation() {
    seeds(40, |mut rng| {
        let case = generate::case(&mut rng);
        let mut world = case.world;
        let mut table = Table::new(case.settings.clone());
        world.feed(|inputs| table.rebuild(inputs));
        let known = |table: &Table| -> BTreeMap<String, _> {
            let named = |route: &Arc<portico::routing::Route>| {
                let identity = (Arc::as_ptr(&route.counters), Arc::as_ptr(&route.balancer));
                (format!("{:?} {}", route.name, route.family), identity)
            };
            table.routes().map(named).collect()
        };
        let before = known(&table);
        for _ in 0..5 {
            let changed = generate::change_slices(&mut rng, &mut world);
            world.feed(|inputs| table.update(inputs, [changed].iter()));
        }
        generate::change_surroundings(&mut rng, &mut world);
        world.feed(|inputs| table.rebuild(inputs));
        assert_eq!(before, known(&table));
    });
}
