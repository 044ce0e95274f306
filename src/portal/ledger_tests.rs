use super::*;

const NETNS: Layout = Layout::Netns { policy: true };

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn whole(text: &str) -> Capture {
    Capture::Address(ip(text))
}

fn port(text: &str) -> Capture {
    Capture::Port(text.parse().unwrap(), Protocol::Tcp)
}

fn range(text: &str) -> Capture {
    Capture::Range(text.parse().unwrap())
}

fn inner(text: &str) -> Object {
    Object::Inner(ip(text))
}

fn route(text: &str) -> Object {
    Object::Route(text.parse().unwrap())
}

#[test]
fn delivery_comes_first_and_goes_last() {
    let mut ledger = Ledger::new(NETNS);
    let now = Instant::now();
    let both = [whole("10.0.0.1"), whole("10.0.0.2")];
    let added = ledger.apply(&both, &[], now);
    assert_eq!(
        added,
        [
            Op::Add(inner("10.0.0.1")),
            Op::Add(inner("10.0.0.2")),
            Op::Add(route("10.0.0.1/32")),
            Op::Add(route("10.0.0.2/32")),
        ]
    );
    assert!(!both.iter().any(|capture| ledger.lingers(capture)));
    assert_eq!(ledger.apply(&[], &both, now), []);
    assert!(both.iter().all(|capture| ledger.lingers(capture)));
    assert_eq!(ledger.tick(now + LINGER - Duration::from_nanos(1)), []);
    assert_eq!(
        ledger.tick(now + LINGER),
        [
            Op::Remove(route("10.0.0.1/32")),
            Op::Remove(route("10.0.0.2/32")),
            Op::Remove(inner("10.0.0.1")),
            Op::Remove(inner("10.0.0.2")),
        ]
    );
    assert_eq!(ledger.objects().count(), 0);
    assert_eq!(ledger.next_deadline(), None);
}

#[test]
fn a_capture_that_comes_back_in_time_changes_nothing() {
    let mut ledger = Ledger::new(NETNS);
    let now = Instant::now();
    let capture = [whole("10.0.0.1")];
    assert_eq!(ledger.apply(&capture, &[], now).len(), 2);
    assert_eq!(ledger.apply(&[], &capture, now), []);
    assert_eq!(ledger.next_deadline(), Some(now + LINGER));
    assert_eq!(ledger.apply(&capture, &[], now + LINGER / 2), []);
    assert_eq!(ledger.next_deadline(), None);
    assert_eq!(ledger.tick(now + 2 * LINGER), []);
    // One Service gives the address up and another takes it, in one change.
    assert_eq!(ledger.apply(&capture, &capture, now), []);
    assert_eq!(ledger.next_deadline(), None);
}

#[test]
fn inside_a_range_a_gone_address_ends_in_the_hole() {
    let mut ledger = Ledger::new(NETNS);
    let now = Instant::now();
    ledger.apply(&[range("10.0.0.0/16"), whole("10.0.0.1")], &[], now);
    ledger.apply(&[], &[whole("10.0.0.1")], now);
    assert_eq!(
        ledger.tick(now + LINGER),
        [
            Op::Remove(route("10.0.0.1/32")),
            Op::Remove(inner("10.0.0.1"))
        ]
    );
    let mut left: Vec<String> = ledger.objects().map(|o| format!("{o:?}")).collect();
    left.sort();
    assert_eq!(left, ["InnerHole(10.0.0.0/16)", "Route(10.0.0.0/16)"]);
    // The range itself does not linger.
    assert_eq!(ledger.apply(&[], &[range("10.0.0.0/16")], now).len(), 2);
}

#[test]
fn ports_of_one_address_share_its_delivery() {
    let mut ledger = Ledger::new(NETNS);
    let now = Instant::now();
    let (http, https) = (port("192.0.2.1:80"), port("192.0.2.1:443"));
    let ops = ledger.apply(&[http, https], &[], now);
    assert_eq!(ops.len(), 3);
    assert_eq!(ops.first(), Some(&Op::Add(inner("192.0.2.1"))));
    ledger.apply(&[], &[http], now);
    assert_eq!(ledger.tick(now + LINGER).len(), 1);
    ledger.apply(&[], &[https], now);
    assert_eq!(ledger.tick(now + LINGER).len(), 2);
}

#[test]
fn layouts_and_their_objects() {
    let addr = "192.0.2.1:80".parse().unwrap();
    let rule = Object::Rule(addr, Protocol::Tcp);
    let net = "10.0.0.0/16".parse().unwrap();
    let no_policy = Layout::Netns { policy: false };
    for (layout, capture, expected) in [
        (
            no_policy,
            port("192.0.2.1:80"),
            vec![inner("192.0.2.1"), route("192.0.2.1/32")],
        ),
        (
            Layout::Host { policy: true },
            port("192.0.2.1:80"),
            vec![rule],
        ),
        (
            Layout::Host { policy: false },
            port("192.0.2.1:80"),
            vec![Object::Local(addr.ip())],
        ),
        (
            Layout::Host { policy: true },
            whole("fd00::1"),
            vec![Object::Local(ip("fd00::1"))],
        ),
        (
            Layout::Host { policy: true },
            range("10.0.0.0/16"),
            vec![Object::Hole(net)],
        ),
    ] {
        let ops = Ledger::new(layout).apply(&[capture], &[], Instant::now());
        let expected: Vec<Op> = expected.into_iter().map(Op::Add).collect();
        assert_eq!(ops, expected, "{layout:?} {capture:?}");
    }
}

#[test]
fn what_the_kernel_refuses_is_forgotten_whole() {
    let mut ledger = Ledger::new(NETNS);
    let now = Instant::now();
    ledger.apply(&[whole("10.0.0.1"), whole("10.0.0.2")], &[], now);
    let failed = HashSet::from([route("10.0.0.1/32")]);
    let (revoked, ops) = ledger.revoke(&failed);
    assert_eq!(revoked, [whole("10.0.0.1")]);
    assert_eq!(ops, [Op::Remove(inner("10.0.0.1"))]);
    assert!(!ledger.delivers(ip("10.0.0.1")) && ledger.delivers(ip("10.0.0.2")));
    // It may be asked for again.
    assert_eq!(ledger.apply(&[whole("10.0.0.1")], &[], now).len(), 2);
}

/// The kernel, as far as the ledger knows it, and what it should hold by a second, simpler reckoning.
struct Model {
    layout: Layout,
    kernel: HashSet<Object>,
    active: HashSet<Capture>,
    given_up: HashMap<Capture, Instant>,
}

impl Model {
    fn carry_out(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Add(object) => assert!(self.kernel.insert(*object), "{object:?} twice"),
                Op::Remove(object) => assert!(self.kernel.remove(object), "{object:?} not there"),
            }
            // Nothing is ever led into the namespace that is not delivered there.
            for object in &self.kernel {
                let led = match object {
                    Object::Route(net) if net.prefix_len() == net.max_prefix_len() => net.addr(),
                    Object::Rule(addr, _) if matches!(self.layout, Layout::Netns { .. }) => {
                        addr.ip()
                    }
                    _ => continue,
                };
                assert!(
                    self.kernel.contains(&Object::Inner(led)),
                    "{op:?} strands {object:?}"
                );
            }
        }
    }

    fn expected(&self, now: Instant) -> HashSet<Object> {
        let lingering = self.given_up.iter().filter(|(_, at)| now < **at + LINGER);
        let captures = self
            .active
            .iter()
            .chain(lingering.map(|(capture, _)| capture));
        captures
            .flat_map(|capture| objects(self.layout, capture))
            .collect()
    }
}

#[test]
fn random_changes_leave_what_a_model_expects() {
    let layouts = [
        NETNS,
        Layout::Netns { policy: false },
        Layout::Host { policy: true },
        Layout::Host { policy: false },
    ];
    for seed in 0..200u64 {
        let layout = layouts[seed as usize % layouts.len()];
        let mut state = seed;
        let mut below = move |n: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        let mut ledger = Ledger::new(layout);
        let (kernel, active, given_up) = Default::default();
        let mut model = Model {
            layout,
            kernel,
            active,
            given_up,
        };
        let mut now = Instant::now();
        for step in 0..200 {
            now += Duration::from_secs(below(20));
            let ops = ledger.tick(now);
            model.carry_out(&ops);
            if below(10) == 0 {
                // Another process goes on with it.
                ledger = Ledger::resume(layout, &ledger.held(now), now);
            }
            let mut random = || match below(5) {
                0 => range(&format!("10.{}.0.0/16", below(2))),
                1 | 2 if below(2) == 0 => whole(&format!("fd00::{}", below(3))),
                1 | 2 => whole(&format!("10.0.0.{}", below(4))),
                _ => port(&format!("10.0.0.{}:{}", below(4), below(3))),
            };
            let remove: Vec<Capture> = (0..3).map(|_| random()).collect();
            let add: Vec<Capture> = (0..3).map(|_| random()).collect();
            for capture in &remove {
                if model.active.remove(capture) && !matches!(capture, Capture::Range(_)) {
                    model.given_up.insert(*capture, now);
                }
            }
            for capture in &add {
                model.given_up.remove(capture);
                model.active.insert(*capture);
            }
            let ops = ledger.apply(&add, &remove, now);
            model.carry_out(&ops);
            let expected = model.expected(now);
            assert_eq!(model.kernel, expected, "seed {seed}, step {step}");
            assert_eq!(ledger.objects().copied().collect::<HashSet<_>>(), expected);
        }
    }
}
