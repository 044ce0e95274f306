//! The table's rules one by one, where neither upstream's cases nor the oracle say enough.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use portico::routing::{
    BindKey, Capture, Delta, DetectLocal, Flow, FrontendKind, HealthCheck, NoLocalEndpoints,
    NodePortAddresses, Scope, Settings, Table, Verdict, VirtualIps,
};
use portico::types::{
    Complaint, Conditions, IpFamily, NamespacedName, PerFamily, Protocol, Service, ServiceType,
    TrafficPolicy,
};

use super::world::*;

const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;

/// `ns/name` with TCP port 80 at this clusterIP, and two endpoints, the second on our node.
fn add_web(world: &mut World, name: &str, cluster_ip: &str, change: impl FnOnce(&mut Service)) {
    let mut web = service(name, &[cluster_ip], vec![port("", TCP, 80, 0)]);
    change(&mut web);
    let endpoints = vec![
        endpoint("10.0.0.1", Some("n2")),
        endpoint("10.0.0.2", Some("us")),
    ];
    let slices = vec![slice(name, 1, IpFamily::V4, &[("", TCP, 8080)], endpoints)];
    world.add(web, slices);
}

fn settings() -> Settings {
    Settings {
        node_name: "us".into(),
        ..Settings::default()
    }
}

fn world() -> World {
    World {
        node: Some(node("us", None, &["192.168.0.2"], &[])),
        host_addresses: ["192.168.0.2", "127.0.0.1"].map(ip).into(),
        ..World::default()
    }
}

fn key(scope: Scope, addr: &str, protocol: Protocol) -> BindKey {
    BindKey {
        scope,
        addr: addr.parse().expect(addr),
        protocol,
    }
}

fn bound(table: &Table) -> BTreeSet<BindKey> {
    table.bindings().map(|(key, _)| key).collect()
}

fn captured(table: &Table) -> BTreeSet<Capture> {
    table.captures().collect()
}

fn complaints(table: &Table) -> Vec<String> {
    table.complaints().iter().map(ToString::to_string).collect()
}

fn verdict(table: &Table, from: &str, to: &str) -> Verdict {
    table
        .decide(&Flow::parse(from, to).expect("a flow"))
        .verdict
}

fn name(text: &str) -> NamespacedName {
    NamespacedName::parse(text).expect(text)
}

#[test]
fn frontends_are_bound_and_captured_where_they_belong() {
    let mut world = world();
    world.service_cidrs = vec![net("172.30.0.0/16")];
    add_web(&mut world, "ns/web", "172.30.0.1", |web| {
        web.kind = ServiceType::LoadBalancer;
        web.ports[0].node_port = 30080;
        web.external_ips = ["192.168.0.2", "1.2.3.4"].map(ip).into();
        web.load_balancer_ips = ["5.6.7.8"].map(ip).into();
    });
    let table = world.table(&settings());
    let portal = ["172.30.0.1:80", "1.2.3.4:80", "5.6.7.8:80"].map(|a| key(Scope::Portal, a, TCP));
    let host = ["192.168.0.2:80", "0.0.0.0:30080"].map(|a| key(Scope::Host, a, TCP));
    assert_eq!(bound(&table), portal.into_iter().chain(host).collect());
    let external = |addr: &str| Capture::Port(addr.parse().expect(addr), TCP);
    let expect = [
        Capture::Address(ip("172.30.0.1")),
        external("1.2.3.4:80"),
        external("5.6.7.8:80"),
        Capture::Range(net("172.30.0.0/16")),
    ];
    assert_eq!(captured(&table), expect.into());

    // Beside another proxy its Services' range is not ours.
    let beside = Settings {
        service_proxy_name: Some("mine".into()),
        ..settings()
    };
    assert_eq!(captured(&world.table(&beside)), [].into());

    let without = Settings {
        virtual_ips: VirtualIps::HostAddressesOnly,
        ..settings()
    };
    let table = world.table(&without);
    assert_eq!(bound(&table), host.into());
    assert_eq!(
        (captured(&table), complaints(&table)),
        ([].into(), Vec::new())
    );
    assert_eq!(
        verdict(&table, "10.0.0.9", "172.30.0.1:80"),
        Verdict::NotMatched
    );
}

#[test]
fn node_ports_are_bound_to_the_addresses_that_were_asked_for() {
    let mut world = world();
    world.host_addresses.push(ip("192.168.7.7"));
    add_web(&mut world, "ns/web", "172.30.0.1", |web| {
        web.ports[0].node_port = 30080
    });
    let bound = |entries: &[&str], localhost_nodeports| {
        let nodeport_addresses = NodePortAddresses::parse(entries).expect("good");
        let table = world.table(&Settings {
            nodeport_addresses,
            localhost_nodeports,
            ..settings()
        });
        let host = table
            .bindings()
            .map(|(key, _)| key)
            .filter(|key| key.scope == Scope::Host);
        let mut addresses: Vec<String> = host.map(|key| key.addr.to_string()).collect();
        addresses.sort_unstable();
        addresses.join(" ")
    };
    assert_eq!(bound(&[], true), "0.0.0.0:30080");
    assert_eq!(bound(&[], false), "192.168.0.2:30080 192.168.7.7:30080");
    assert_eq!(bound(&["primary"], true), "192.168.0.2:30080");
    assert_eq!(bound(&["localhost"], true), "127.0.0.1:30080");
    assert_eq!(bound(&["localhost"], false), "");
    assert_eq!(bound(&["192.168.7.0/24"], true), "192.168.7.7:30080");
}

#[test]
fn a_node_local_dns_address_is_left_alone() {
    let mut world = world();
    world.host_addresses.push(ip("172.30.0.10"));
    add_web(&mut world, "kube-system/dns", "172.30.0.10", |_| ());
    let table = world.table(&settings());
    assert_eq!((bound(&table), captured(&table)), ([].into(), [].into()));
    assert_eq!(
        verdict(&table, "10.0.0.9", "172.30.0.10:80"),
        Verdict::NotMatched
    );
    let [problem] = &complaints(&table)[..] else {
        panic!("{:?}", complaints(&table))
    };
    assert!(
        problem.contains("clusterIP 172.30.0.10 is left alone"),
        "{problem}"
    );

    let without = Settings {
        virtual_ips: VirtualIps::HostAddressesOnly,
        ..settings()
    };
    assert_eq!(
        bound(&world.table(&without)),
        [key(Scope::Host, "172.30.0.10:80", TCP)].into()
    );
}

#[test]
fn of_two_services_with_one_address_the_same_one_has_it_whoever_came_first() {
    let loser =
        "Service ns/a: externalIP 1.2.3.4:80 of port ns/a is taken: it is loadBalancerIP of ns/b";
    let add_a = |world: &mut World| {
        add_web(world, "ns/a", "172.30.0.1", |a| {
            a.external_ips = ["1.2.3.4"].map(ip).into()
        });
    };
    let add_b = |world: &mut World| {
        add_web(world, "ns/b", "172.30.0.2", |b| {
            b.load_balancer_ips = ["1.2.3.4"].map(ip).into()
        });
    };
    for order in [[0, 1], [1, 0]] {
        let (mut world, mut table) = (world(), Table::new(settings()));
        world.feed(|inputs| table.rebuild(inputs));
        let mut deltas = Vec::new();
        for which in order {
            if which == 0 {
                add_a(&mut world)
            } else {
                add_b(&mut world)
            }
            let changed = name(["ns/a", "ns/b"][which]);
            deltas.push(world.feed(|inputs| table.update(inputs, [changed].iter())));
        }
        let holder = table.decide(&Flow::parse("10.0.0.9", "1.2.3.4:80").expect("a flow"));
        assert_eq!(holder.frontend, Some(FrontendKind::LoadBalancerIp));
        assert_eq!(complaints(&table), [loser]);
        assert_eq!(deltas[1].news.new.len(), 1, "{:?}", deltas[1]);

        // The holder goes: the other one takes over, and the problem is gone.
        world.services.remove(&name("ns/b"));
        let delta = world.feed(|inputs| table.update(inputs, [name("ns/b")].iter()));
        assert_eq!(delta.news.resolved.len(), 1);
        let key = key(Scope::Portal, "1.2.3.4:80", TCP);
        let (_, now) = delta
            .bindings
            .iter()
            .find(|(bound, _)| *bound == key)
            .expect("rebound");
        assert_eq!(
            now.as_ref().expect("bound").route.name.service,
            name("ns/a")
        );
        // Both had wanted it routed: it stays so.
        assert_eq!(delta.captures_removed, [Capture::Address(ip("172.30.0.2"))]);
    }
}

#[test]
fn bad_objects_are_named_and_leave_others_serving() {
    let mut world = world();
    add_web(&mut world, "ns/good", "172.30.0.1", |_| ());
    let bad = |world: &mut World, name: &str, change: &dyn Fn(&mut Service)| {
        add_web(world, name, "172.30.0.2", |service| change(service));
    };
    bad(&mut world, "ns/bad-1", &|service| {
        service
            .problems
            .add("spec.ports[1].port", "-1 is not a port");
    });
    bad(&mut world, "ns/bad-2", &|service| {
        service.external_ips = ["127.0.0.1", "224.0.0.1", "0.0.0.0"].map(ip).into();
    });
    bad(&mut world, "ns/bad-3", &|service| {
        let ports = [
            port("", TCP, 81, 0),
            port("", TCP, 82, 0),
            port("s", Protocol::Sctp, 83, 0),
        ];
        service.ports = ports.into();
    });
    bad(&mut world, "ns/bad-4", &|service| {
        service.kind = ServiceType::LoadBalancer;
        service.external_traffic_policy = TrafficPolicy::Local;
    });
    bad(&mut world, "ns/bad-5", &|_| ());
    let addresses = [
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
    ];
    let endpoints = addresses.map(|address| endpoint(address, None)).into();
    let mut refused = slice("ns/bad-5", 1, IpFamily::V4, &[("", TCP, 80)], endpoints);
    let what = "\"x\" is not an IP address";
    refused.problems.add("endpoints[6].addresses[0]", what);
    world.set_slices(&name("ns/bad-5"), vec![refused]);

    let table = world.table(&settings());
    assert_eq!(
        verdict(&table, "10.0.0.9", "172.30.0.1:80"),
        Verdict::Endpoints
    );
    assert_eq!(
        verdict(&table, "10.0.0.9", "172.30.0.2:81"),
        Verdict::Endpoints
    );
    let complaints = complaints(&table);
    for expect in [
        "ns/bad-1: spec.ports[1].port: -1 is not a port",
        "ns/bad-2: externalIP 127.0.0.1 is not served: it is a loopback address",
        "ns/bad-2: externalIP 224.0.0.1 is not served: it is a multicast",
        "ns/bad-2: externalIP 0.0.0.0 is not served: it is an unspecified address",
        "ns/bad-3: port ns/bad-3/TCP: listed twice",
        "ns/bad-3: port ns/bad-3:s/SCTP: SCTP is not served",
        "ns/bad-4: spec.healthCheckNodePort: 0",
        "EndpointSlice ns/bad-5-1: endpoints[6].addresses[0]",
        "ns/bad-5: port ns/bad-5: endpoint 127.0.0.1:80 is refused: it is a loopback address (and 5 more)",
    ] {
        assert!(
            complaints.iter().any(|said| said.contains(expect)),
            "{expect}: {complaints:#?}"
        );
    }
    let explained = explain_service(&table, &name("ns/bad-5"));
    assert_eq!(explained["ports"][0]["hasAny"], false);
    for endpoint in list(&explained["ports"][0]["endpoints"]) {
        assert!(
            text(endpoint, "reason").starts_with("refused: it is "),
            "{endpoint}"
        );
    }
}

#[test]
fn an_endpoint_that_is_a_frontend_is_a_loop_and_not_used() {
    let mut world = world();
    add_web(&mut world, "ns/a", "172.30.0.1", |service| {
        service.ports[0].node_port = 30080;
    });
    let loops = [
        ("172.30.0.1", 80),
        ("172.30.0.2", 80),
        ("192.168.0.2", 30080),
    ];
    let add = |world: &mut World, name: &str, cluster_ip: &str, addresses: &[(&str, u16)]| {
        let one = |(n, (address, port)): (usize, &(&str, u16))| {
            let endpoints = vec![endpoint(address, None)];
            slice(name, n, IpFamily::V4, &[("", TCP, *port)], endpoints)
        };
        let web = service(name, &[cluster_ip], vec![port("", TCP, 80, 0)]);
        world.add(web, addresses.iter().enumerate().map(one).collect());
    };
    add(&mut world, "ns/only", "172.30.0.2", &loops);
    let some = [&loops[..], &[("10.0.0.7", 80), ("172.30.0.1", 81)]].concat();
    add(&mut world, "ns/some", "172.30.0.3", &some);
    let table = world.table(&settings());
    let decide = |to: &str| explain_flow(&table, Flow::parse("10.0.0.9", to).expect("a flow"));
    let only = decide("172.30.0.2:80");
    assert_eq!(only["verdict"], "reject", "{only}");
    assert!(text(&only, "reason").contains("would be a loop"), "{only}");
    // A port that no Service has is somebody else's matter: the kernel refuses it.
    let some = decide("172.30.0.3:80");
    assert_eq!(sorted(&some["endpoints"]), ["10.0.0.7:80", "172.30.0.1:81"]);
    let explained = explain_service(&table, &name("ns/some"));
    let endpoints = list(&explained["ports"][0]["endpoints"]).iter();
    let unused: Vec<&str> = endpoints
        .filter(|endpoint| endpoint["used"] == false)
        .map(|endpoint| text(endpoint, "reason"))
        .collect();
    assert_eq!(
        unused,
        [
            "ready, but a loop: it is a clusterIP of ns/a",
            "ready, but a loop: it is a clusterIP of ns/only",
            "ready, but a loop: it is a nodePort of ns/a",
        ]
    );
}

#[test]
fn a_loop_is_a_problem_from_when_it_appears_to_its_end() {
    let mut world = world();
    // Pods, a node and virtual IPs are in networks of their own; the endpoint at 172.30.0.1 is there before that Service is.
    let addresses = ["10.0.0.1", "192.168.0.2", "172.30.0.1"].map(|ip| endpoint(ip, None));
    let ports = [("", TCP, 80)];
    let slices = vec![slice("ns/web", 1, IpFamily::V4, &ports, addresses.to_vec())];
    let web = service("ns/web", &["172.30.0.9"], vec![port("", TCP, 80, 0)]);
    world.add(web, slices);
    let mut table = world.table(&settings());
    let mut now = |world: &World, changed: &str| {
        let delta = world.feed(|inputs| table.update(inputs, [name(changed)].iter()));
        let said = |complaints: &[Complaint]| complaints.iter().map(ToString::to_string).collect();
        let both: [Vec<String>; 2] = [said(&delta.news.new), said(&delta.news.resolved)];
        let explained = explain_service(&table, &name("ns/web"));
        (both, list(&explained["problems"]).len())
    };
    let said = |message: &str| {
        let message = format!("Service ns/web: port ns/web: endpoint {message}");
        vec![message.replace("...", " is not used, as it would be a loop: it is a ")]
    };
    let none = Vec::new;
    assert_eq!(now(&world, "ns/web"), ([none(), none()], 0));

    add_web(&mut world, "ns/a", "172.30.0.1", |_| ());
    let first = said("172.30.0.1:80...clusterIP of ns/a");
    assert_eq!(now(&world, "ns/a"), ([first.clone(), none()], 1));
    assert_eq!(now(&world, "ns/web"), ([none(), none()], 1), "once");

    // A node port listens at a wildcard address; it is another reason.
    add_web(&mut world, "ns/b", "172.30.0.2", |service| {
        service.ports[0].node_port = 80;
    });
    let both = said("172.30.0.1:80...clusterIP of ns/a (and 1 more)");
    assert_eq!(now(&world, "ns/b"), ([both.clone(), first], 1));

    world.services.remove(&name("ns/a"));
    let other = said("192.168.0.2:80...nodePort of ns/b");
    assert_eq!(now(&world, "ns/a"), ([other.clone(), both], 1));
    world.services.remove(&name("ns/web"));
    assert_eq!(now(&world, "ns/web"), ([none(), other], 0));
}

#[test]
fn a_thousand_problems_are_summed_up() {
    let mut world = world();
    add_web(&mut world, "ns/web", "172.30.0.1", |web| {
        for n in 0..1000 {
            web.problems.add(format_args!("spec.ports[{n}].port"), "0");
        }
    });
    let complaints = complaints(&world.table(&settings()));
    assert!(complaints.len() < 30, "{}", complaints.len());
    let rest = "Service ns/web: and 990 more like it";
    assert!(complaints.iter().any(|said| said == rest), "{complaints:?}");
}

#[test]
fn an_oversized_service_takes_no_more_than_its_share() {
    let mut world = world();
    add_web(&mut world, "ns/good", "172.30.0.1", |_| ());
    add_web(&mut world, "ns/huge", "172.30.0.2", |web| {
        web.ports = (1..=20_000)
            .map(|n| port(&format!("p{n}"), TCP, n, 0))
            .collect();
        let external = (0..20_000u32).map(|n| std::net::Ipv4Addr::from(0x0b00_0000 + n).into());
        web.external_ips = external.collect();
    });
    let table = world.table(&settings());
    assert!(table.captures().count() < 17_000);
    assert_eq!(
        verdict(&table, "10.0.0.9", "172.30.0.1:80"),
        Verdict::Endpoints
    );
    let [problem] = &complaints(&table)[..] else {
        panic!("{:?}", complaints(&table))
    };
    assert!(
        problem.contains("ns/huge: too many addresses and ports"),
        "{problem}"
    );
}

#[test]
fn health_checks_count_distinct_ready_addresses_of_our_node() {
    let mut world = world();
    let mut web = service(
        "ns/web",
        &["172.30.0.1", "fd00:96::1"],
        vec![port("a", TCP, 80, 0), port("b", TCP, 81, 0)],
    );
    web.kind = ServiceType::LoadBalancer;
    web.external_traffic_policy = TrafficPolicy::Local;
    web.health_check_node_port = 32000;
    let mut terminating = endpoint("10.0.0.4", Some("us"));
    terminating.conditions = Conditions {
        ready: false,
        serving: true,
        terminating: true,
    };
    let v4 = vec![
        endpoint("10.0.0.1", Some("us")),
        endpoint("10.0.0.2", Some("us")),
        endpoint("10.0.0.3", Some("n2")),
        terminating,
    ];
    let v6 = vec![endpoint("fd00:10::1", Some("us"))];
    let of_port = |number, name, family, endpoints| {
        slice(
            "ns/web",
            number,
            family,
            &[(name, TCP, 8080 + number as u16)],
            endpoints,
        )
    };
    world.add(
        web,
        vec![
            of_port(1, "a", IpFamily::V4, v4.clone()),
            of_port(2, "b", IpFamily::V4, v4),
            of_port(3, "a", IpFamily::V6, v6),
        ],
    );
    let mut table = Table::new(settings());
    let delta = world.feed(|inputs| table.rebuild(inputs));
    let expect = HealthCheck {
        port: 32000,
        local_v4: 2,
        local_v6: 1,
    };
    assert_eq!(delta.health_checks, [(name("ns/web"), Some(expect))]);
    world.services.clear();
    let delta = world.feed(|inputs| table.update(inputs, [name("ns/web")].iter()));
    assert_eq!(delta.health_checks, [(name("ns/web"), None)]);
}

#[test]
fn ports_that_want_a_local_endpoint_in_vain_are_counted_by_policy() {
    let mut world = world();
    let local = |web: &mut Service| {
        web.kind = ServiceType::NodePort;
        web.internal_traffic_policy = TrafficPolicy::Local;
        web.external_traffic_policy = TrafficPolicy::Local;
        for port in &mut web.ports {
            port.node_port = 30080;
        }
    };
    add_web(&mut world, "ns/web", "172.30.0.1", local);
    add_web(&mut world, "ns/inside", "172.30.0.2", |inside| {
        inside.internal_traffic_policy = TrafficPolicy::Local;
        // Nothing from outside reaches it: the policy has no effect.
        inside.external_traffic_policy = TrafficPolicy::Local;
    });
    add_web(&mut world, "ns/anywhere", "172.30.0.3", |_| ());
    let mut table = world.table(&settings());
    let mut placed = |service: &str, node: Option<&str>| {
        let endpoints = node.map(|node| endpoint("10.0.0.1", Some(node)));
        let endpoints = endpoints.into_iter().collect();
        let slices = vec![slice(
            service,
            1,
            IpFamily::V4,
            &[("", TCP, 8080)],
            endpoints,
        )];
        world.set_slices(&name(service), slices);
        world.feed(|inputs| table.update(inputs, [name(service)].iter()));
        let lacking = table.no_local_endpoints();
        assert_eq!(*lacking.get(IpFamily::V6), NoLocalEndpoints::default());
        let lacking = lacking.get(IpFamily::V4);
        (lacking.internal, lacking.external)
    };
    for service in ["ns/web", "ns/inside", "ns/anywhere"] {
        assert_eq!(placed(service, None), (0, 0), "no endpoint anywhere");
    }
    assert_eq!(placed("ns/anywhere", Some("n2")), (0, 0));
    assert_eq!(placed("ns/inside", Some("n2")), (1, 0));
    assert_eq!(placed("ns/web", Some("n2")), (2, 1));
    assert_eq!(placed("ns/inside", Some("us")), (1, 1));
    assert_eq!(placed("ns/web", None), (0, 0));
    assert_eq!(placed("ns/web", Some("n2")), (1, 1));
    world.services.clear();
    world.feed(|inputs| table.rebuild(inputs));
    assert_eq!(table.no_local_endpoints(), PerFamily::default());
}

#[test]
fn silence_and_the_short_cut_are_filters_on_the_listener() {
    let mut world = world();
    let local = |web: &mut Service| {
        web.kind = ServiceType::LoadBalancer;
        web.external_traffic_policy = TrafficPolicy::Local;
        web.health_check_node_port = 32000;
        web.load_balancer_ips = ["1.2.3.4"].map(ip).into();
        web.source_ranges = ["10.0.0.0/16", "203.0.113.0/24"].map(net).into();
    };
    add_web(&mut world, "ns/web", "172.30.0.1", local);
    let remote = vec![endpoint("10.0.0.1", Some("n2"))];
    world.set_slices(
        &name("ns/web"),
        vec![slice("ns/web", 1, IpFamily::V4, &[("", TCP, 80)], remote)],
    );
    let detect_local = DetectLocal::Cidrs(vec![net("10.0.0.0/8")]);
    let settings = Settings {
        detect_local,
        ..settings()
    };
    let table = world.table(&settings);
    let vip = key(Scope::Portal, "1.2.3.4:80", TCP);
    let (_, frontend) = table
        .bindings()
        .find(|(key, _)| *key == vip)
        .expect("bound");
    // Local pods that are also in the source ranges.
    assert_eq!(
        frontend.policy.allow.as_deref(),
        Some(&[net("10.0.0.0/16")][..])
    );
    assert_eq!(
        verdict(&table, "10.0.0.9", "1.2.3.4:80"),
        Verdict::Endpoints
    );
    assert_eq!(verdict(&table, "10.1.0.9", "1.2.3.4:80"), Verdict::Drop);
    assert_eq!(verdict(&table, "203.0.113.2", "1.2.3.4:80"), Verdict::Drop);

    // Without any endpoint: silence for those outside the ranges, refusal for those inside, so there must be a socket.
    world.set_slices(&name("ns/web"), Vec::new());
    let table = world.table(&settings);
    assert_eq!(bound(&table), [vip].into());
    assert_eq!(
        verdict(&table, "203.0.113.2", "1.2.3.4:80"),
        Verdict::Reject
    );
    assert_eq!(verdict(&table, "10.1.0.9", "1.2.3.4:80"), Verdict::Drop);
    assert_eq!(
        verdict(&table, "10.1.0.9", "172.30.0.1:80"),
        Verdict::Reject
    );
}

#[test]
fn an_update_says_only_what_changed_and_shares_the_rest() {
    let mut world = world();
    for n in 0..50 {
        add_web(
            &mut world,
            &format!("ns/web-{n}"),
            &format!("172.30.0.{n}"),
            |_| (),
        );
    }
    let mut table = Table::new(settings());
    world.feed(|inputs| table.rebuild(inputs));
    let frontends = |table: &Table| -> BTreeSet<usize> {
        table
            .bindings()
            .map(|(_, frontend)| Arc::as_ptr(frontend) as usize)
            .collect()
    };
    let before = frontends(&table);
    let more = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        .map(|address| endpoint(address, None))
        .into();
    let changed = name("ns/web-7");
    world.set_slices(
        &changed,
        vec![slice("ns/web-7", 1, IpFamily::V4, &[("", TCP, 8080)], more)],
    );
    let delta = world.feed(|inputs| table.update(inputs, [changed].iter()));
    let [(bound, Some(frontend))] = &delta.bindings[..] else {
        panic!("{delta:?}")
    };
    assert_eq!(*bound, key(Scope::Portal, "172.30.0.7:80", TCP));
    assert_eq!(frontend.route.cluster.len(), 3);
    assert_eq!((delta.services_changed, delta.endpoints_changed), (0, 1));
    assert_eq!(frontends(&table).intersection(&before).count(), 49);

    // Nothing changed for anyone, whatever it is called.
    let delta = world.feed(|inputs| table.rebuild(inputs));
    assert!(delta.is_empty(), "{delta:?}");

    // Settings are followed by the next update.
    table.set_settings(Settings {
        virtual_ips: VirtualIps::HostAddressesOnly,
        ..settings()
    });
    let Delta {
        bindings,
        captures_removed,
        ..
    } = world.feed(|inputs| table.update(inputs, [].iter()));
    assert_eq!((bindings.len(), captures_removed.len()), (50, 50));
    assert!(bindings.iter().all(|(_, frontend)| frontend.is_none()));
}

#[test]
fn the_rotation_and_affinity_follow_the_table() {
    let mut world = world();
    add_web(&mut world, "ns/web", "172.30.0.1", |web| {
        web.session_affinity = Some(std::time::Duration::from_secs(10));
    });
    let mut table = Table::new(settings());
    world.feed(|inputs| table.rebuild(inputs));
    let now = std::time::Instant::now();
    let pick = |table: &Table| -> SocketAddr {
        let (_, frontend) = table.bindings().next().expect("bound");
        let client = ip("10.9.9.9");
        let route = &frontend.route;
        let endpoints = frontend.endpoints(client);
        route
            .balancer
            .choose(endpoints, client, route.affinity, &[], now)
            .expect("an endpoint")
    };
    let pinned = pick(&table);
    let gone = table
        .routes()
        .next()
        .expect("one")
        .cluster
        .iter()
        .find(|e| *e != pinned);
    let remaining = endpoint(&pinned.ip().to_string(), None);
    let new = endpoint("10.0.0.7", None);
    let ports = [("", TCP, 8080)];
    world.set_slices(
        &name("ns/web"),
        vec![slice(
            "ns/web",
            1,
            IpFamily::V4,
            &ports,
            vec![remaining, new],
        )],
    );
    world.feed(|inputs| table.update(inputs, [name("ns/web")].iter()));
    // Its endpoint is still there, so the client stays with it.
    assert_eq!(pick(&table), pinned);
    let new = vec![endpoint("10.0.0.7", None)];
    world.set_slices(
        &name("ns/web"),
        vec![slice("ns/web", 1, IpFamily::V4, &ports, new)],
    );
    world.feed(|inputs| table.update(inputs, [name("ns/web")].iter()));
    assert_ne!(Some(pick(&table)), gone);
    assert_eq!(pick(&table).ip(), ip("10.0.0.7"));
}

#[test]
fn udp_and_tcp_on_one_number_are_two_ports() {
    let mut world = world();
    let ports = vec![port("dns", UDP, 53, 0), port("dns-tcp", TCP, 53, 0)];
    let dns = service("kube-system/dns", &["172.30.0.10"], ports);
    let ports = [("dns", UDP, 5353), ("dns-tcp", TCP, 5354)];
    let endpoints = vec![endpoint("10.0.0.1", None)];
    world.add(
        dns,
        vec![slice("kube-system/dns", 1, IpFamily::V4, &ports, endpoints)],
    );
    let table = world.table(&settings());
    let decide = |to| {
        table
            .decide(&Flow::parse("10.0.0.9", to).expect("a flow"))
            .endpoints
    };
    assert_eq!(
        decide("172.30.0.10:53/UDP"),
        ["10.0.0.1:5353".parse().expect("good")]
    );
    assert_eq!(
        decide("172.30.0.10:53"),
        ["10.0.0.1:5354".parse().expect("good")]
    );
    assert_eq!(
        verdict(&table, "10.0.0.9", "172.30.0.10:80/UDP"),
        Verdict::Reject
    );
}
