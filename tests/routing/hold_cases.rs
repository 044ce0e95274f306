//! A Service's port and its slices' port arrive apart: in between what was served goes on, for a moment.

use std::time::{Duration, Instant};

use portico::routing::{Flow, Settings, Table};
use portico::types::{Endpoint, EndpointSlice, IpFamily, NamespacedName, Protocol, Service};

use super::world::*;
use crate::util::rng::{Rng, seeds};

const TCP: Protocol = Protocol::Tcp;
const HOLD: Duration = Duration::from_secs(1);

fn web(ports: &[(&str, u16)]) -> Service {
    let ports = ports
        .iter()
        .map(|(name, number)| port(name, TCP, *number, 0));
    service("ns/web", &["172.30.0.1"], ports.collect())
}

fn slices(ports: &[(&str, u16)], endpoints: Vec<Endpoint>) -> Vec<EndpointSlice> {
    let ports: Vec<_> = ports
        .iter()
        .map(|(name, number)| (*name, TCP, *number))
        .collect();
    vec![slice("ns/web", 1, IpFamily::V4, &ports, endpoints)]
}

fn endpoints(addresses: &[&str]) -> Vec<Endpoint> {
    addresses
        .iter()
        .map(|address| endpoint(address, None))
        .collect()
}

fn settings() -> Settings {
    Settings {
        hold: HOLD,
        ..Settings::default()
    }
}

/// A table that follows a world through time.
struct Follower {
    world: World,
    table: Table,
    start: Instant,
}

impl Follower {
    fn new(service: Service, slices: Vec<EndpointSlice>) -> Self {
        let start = Instant::now();
        let mut world = World::with(service, slices);
        world.now = Some(start);
        let table = world.table(&settings());
        Self {
            world,
            table,
            start,
        }
    }

    fn name() -> NamespacedName {
        NamespacedName::new("ns", "web")
    }

    fn update(&mut self, after: Duration) {
        self.world.now = Some(self.start + after);
        let table = &mut self.table;
        self.world
            .feed(|inputs| table.update(inputs, [Self::name()].iter()));
    }

    fn all(&self, port: u16) -> Vec<String> {
        let flow = Flow::parse("10.9.9.9", &format!("172.30.0.1:{port}")).expect("a flow");
        sorted(&explain_flow(&self.table, flow)["endpoints"])
    }

    /// It is what a table would be that had never known anything else.
    fn is_fresh(&self) -> bool {
        let fresh = self.world.table(&settings());
        let of = |table: &Table| explain_service(table, &Self::name());
        of(&self.table) == of(&fresh)
    }
}

#[test]
fn what_was_served_goes_on_only_while_the_other_half_is_missing() {
    let http = [("http", 80)];
    let both = ["10.0.0.1:8080", "10.0.0.2:8080"];
    let one = ["10.0.0.1", "10.0.0.2"];
    let none: &[&str] = &[];
    type Change = fn(&mut World);
    let rename_service: Change = |world| world.add_service(web(&[("web", 80)]));
    let rename_slices: Change = |world| {
        let slices = slices(&[("web", 9090)], endpoints(&["10.0.0.1", "10.0.0.2"]));
        world.set_slices(&Follower::name(), slices);
    };
    let replace: Change = |world| {
        let slices = slices(&[("web", 9090)], endpoints(&["10.0.0.2", "10.0.0.3"]));
        world.set_slices(&Follower::name(), slices);
    };
    let scale_down: Change = |world| {
        world.set_slices(&Follower::name(), slices(&[], Vec::new()));
    };
    let not_ready: Change = |world| {
        let mut all = endpoints(&["10.0.0.1", "10.0.0.2"]);
        for endpoint in &mut all {
            endpoint.conditions.ready = false;
        }
        world.set_slices(&Follower::name(), slices(&[("http", 8080)], all));
    };
    let move_port: Change = |world| world.add_service(web(&[("web", 81)]));
    let rows: [(&str, Change, u16, &[&str]); 6] = [
        ("the Service first", rename_service, 80, &both),
        ("the slices first", rename_slices, 80, &both),
        (
            "an endpoint that is gone is not kept",
            replace,
            80,
            &both[1..],
        ),
        ("none are none", scale_down, 80, none),
        ("not ready is not ready", not_ready, 80, none),
        ("another number is another port", move_port, 81, none),
    ];
    for (what, change, port, expect) in rows {
        let mut follower = Follower::new(web(&http), slices(&[("http", 8080)], endpoints(&one)));
        assert_eq!(follower.all(80), both, "{what}");
        change(&mut follower.world);
        follower.update(Duration::ZERO);
        assert_eq!(follower.all(port), expect, "{what}");
        let held = follower.table.next_deadline();
        assert_eq!(
            held,
            (!expect.is_empty()).then(|| follower.start + HOLD),
            "{what}"
        );
        // Another update does not make it longer.
        follower.update(HOLD / 2);
        assert_eq!(follower.table.next_deadline(), held, "{what}");
        let due = |follower: &Follower, after| follower.table.due(follower.start + after).count();
        assert_eq!(due(&follower, HOLD / 2), 0, "{what}");
        assert_eq!(due(&follower, HOLD), usize::from(held.is_some()), "{what}");
        follower.update(HOLD);
        assert_eq!(follower.all(port), none, "{what}");
        assert!(
            follower.is_fresh() && follower.table.next_deadline().is_none(),
            "{what}"
        );
    }
}

/// Some of several ports get new names, Service and slices in any order and with other updates in between.
#[test]
fn a_renamed_port_never_goes_without() {
    const NUMBERS: [u16; 3] = [80, 81, 82];
    let names = |rng: &mut Rng| -> Vec<String> {
        let version = rng.below(1000);
        NUMBERS
            .iter()
            .map(|number| format!("p{number}-{version}"))
            .collect()
    };
    let of = |names: &[String], more: u16| -> Vec<(String, u16)> {
        let named = names.iter().cloned().zip(NUMBERS);
        named.map(|(name, number)| (name, number + more)).collect()
    };
    fn borrowed(ports: &[(String, u16)]) -> Vec<(&str, u16)> {
        ports
            .iter()
            .map(|(name, number)| (&**name, *number))
            .collect()
    }
    seeds(200, |mut rng| {
        let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
        let first = names(&mut rng);
        let mut follower = Follower::new(
            web(&borrowed(&of(&first, 0))),
            slices(&borrowed(&of(&first, 8000)), endpoints(&addresses)),
        );
        for round in 0..5u32 {
            let began = HOLD * 3 * round;
            let next = names(&mut rng);
            let service = web(&borrowed(&of(&next, 0)));
            let slices = slices(&borrowed(&of(&next, 8000)), endpoints(&addresses));
            let service_first = rng.one_in(2);
            let steps = 1 + rng.below(3) as u32;
            for step in 0..steps {
                match service_first {
                    true => follower.world.add_service(service.clone()),
                    false => follower.world.set_slices(&Follower::name(), slices.clone()),
                }
                follower.update(began + HOLD * step / 4);
                for number in NUMBERS {
                    assert_eq!(follower.all(number).len(), 3, "{number}");
                }
            }
            follower.world.add_service(service);
            follower.world.set_slices(&Follower::name(), slices);
            follower.update(began + HOLD * steps / 4);
            assert!(follower.is_fresh());
            assert_eq!(follower.table.next_deadline(), None);
        }
    });
}
