//! Random states of a cluster: few names, few addresses, so that things meet.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use portico::routing::{DetectLocal, Flow, NodePortAddresses, Settings, VirtualIps};
use portico::types::{
    Conditions, Endpoint, EndpointSlice, IpFamily, NamespacedName, Protocol, Service, ServiceType,
    TrafficPolicy,
};

use super::world::*;
use crate::util::rng::Rng;

const NODES: [&str; 3] = ["us", "n2", "n3"];
const ZONES: [&str; 3] = ["a", "b", "c"];
const SERVICES: [&str; 5] = ["ns1/a", "ns1/b", "ns2/a", "ns2/c", "kube-system/dns"];
const PORT_NAMES: [&str; 3] = ["", "http", "dns"];
const PROTOCOLS: [Protocol; 4] = [Protocol::Tcp, Protocol::Udp, Protocol::Tcp, Protocol::Sctp];
const PORTS: [u16; 3] = [53, 80, 30080];
const NODE_PORTS: [u16; 3] = [0, 30053, 30080];
const CLUSTER_IPS: [[&str; 4]; 2] = [
    ["172.30.0.1", "172.30.0.2", "172.30.0.3", "172.30.0.4"],
    ["fd00:96::1", "fd00:96::2", "fd00:96::3", "fd00:96::4"],
];
/// A host address, a foreign one, a clusterIP, one in the service range, one that nobody may have.
const OTHER_IPS: [[&str; 6]; 2] = [
    [
        "192.168.0.2",
        "192.168.1.2",
        "1.2.3.4",
        "172.30.0.1",
        "172.30.0.9",
        "127.0.0.1",
    ],
    [
        "2001:db8::2",
        "2001:db8:1::2",
        "2600::1",
        "fd00:96::1",
        "fd00:96::9",
        "ff02::1",
    ],
];
const ENDPOINTS: [[&str; 7]; 2] = [
    [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.4",
        "10.0.0.5",
        "169.254.0.1",
        "fd00:10::1",
    ],
    [
        "fd00:10::1",
        "fd00:10::2",
        "fd00:10::3",
        "fd00:10::4",
        "fd00:10::5",
        "::1",
        "10.0.0.1",
    ],
];
const SOURCES: [[&str; 7]; 2] = [
    [
        "10.0.0.1",
        "10.9.9.9",
        "192.168.0.2",
        "127.0.0.1",
        "203.0.113.2",
        "203.0.113.130",
        "1.2.3.4",
    ],
    [
        "fd00:10::1",
        "fd00:10::99",
        "2001:db8::2",
        "::1",
        "2600:5200::1",
        "2600:5200::ffff",
        "2600::1",
    ],
];
const RANGES: [&str; 5] = [
    "203.0.113.0/25",
    "192.168.0.0/24",
    "10.0.0.0/16",
    "2600:5200::/120",
    "2001:db8::/64",
];
const NODE_PORT_ADDRESSES: [&[&str]; 6] = [
    &[],
    &["primary"],
    &["localhost", "192.168.1.0/24"],
    &["all"],
    &["10.0.0.0/8"],
    &["192.168.0.0/23", "::1/128"],
];

fn one<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    *rng.choose(of)
}

/// What is set, with the form that `NodePortAddresses` keeps to itself.
#[derive(Clone, Debug)]
pub struct Case {
    pub settings: Settings,
    pub node_port_addresses: &'static [&'static str],
    pub world: World,
}

pub fn case(rng: &mut Rng) -> Case {
    let (settings, node_port_addresses) = settings(rng);
    let mut world = World::default();
    for name in &SERVICES[..1 + rng.below(5)] {
        let name = NamespacedName::parse(name).expect("good");
        world
            .services
            .insert(name.clone(), random_service(rng, &name).into());
        let slices = (0..1 + rng.below(4)).map(|n| random_slice(rng, &name, n));
        world.set_slices(&name, slices.collect());
    }
    change_surroundings(rng, &mut world);
    Case {
        settings,
        node_port_addresses,
        world,
    }
}

fn settings(rng: &mut Rng) -> (Settings, &'static [&'static str]) {
    let node_port_addresses = one(rng, &NODE_PORT_ADDRESSES);
    let detect_local = match rng.below(4) {
        0 => DetectLocal::Off,
        1 => DetectLocal::NodeCidr,
        2 => DetectLocal::Cidrs(vec![net("10.0.0.0/8")]),
        _ => DetectLocal::Cidrs(vec![net("10.0.0.0/8"), net("fd00:10::/64")]),
    };
    let settings = Settings {
        external_ips: true,
        node_name: if rng.one_in(10) { "" } else { NODES[0] }.into(),
        node_ip: rng.one_in(10).then(|| ip("192.168.1.2")),
        detect_local,
        nodeport_addresses: NodePortAddresses::parse(node_port_addresses).expect("good"),
        localhost_nodeports: !rng.one_in(4),
        service_proxy_name: rng.one_in(10).then(|| "other".into()),
        virtual_ips: if rng.one_in(6) {
            VirtualIps::HostAddressesOnly
        } else {
            VirtualIps::Captured
        },
        // What is held depends on what was: its own tests have it.
        hold: Duration::ZERO,
    };
    (settings, node_port_addresses)
}

/// Something about our node, this host or the service ranges.
pub fn change_surroundings(rng: &mut Rng, world: &mut World) {
    let zone = one(rng, &[None, Some("a"), Some("b"), Some("")]);
    world.node = (!rng.one_in(8)).then(|| {
        node(
            "us",
            zone,
            &["192.168.0.2", "2001:db8::2"],
            &["10.0.0.0/24", "fd00:10::/64"],
        )
    });
    // A taint is for load balancers to see: nothing here depends on it.
    if let Some(node) = &mut world.node {
        node.eligible = rng.one_in(2);
    }
    world.host_addresses = ["192.168.0.2", "127.0.0.1", "::1", "2001:db8::2"]
        .map(ip)
        .into();
    for sometimes in ["192.168.1.2", "2001:db8:1::2", "172.30.0.4"] {
        if rng.one_in(4) {
            world.host_addresses.push(ip(sometimes));
        }
    }
    world.service_cidrs = match rng.below(3) {
        0 => Vec::new(),
        1 => vec![net("172.30.0.0/16")],
        _ => vec![net("172.30.0.0/16"), net("fd00:96::/112")],
    };
}

/// One Service changes, appears or vanishes; says which.
pub fn change_service(rng: &mut Rng, world: &mut World) -> NamespacedName {
    let name = NamespacedName::parse(one(rng, &SERVICES)).expect("good");
    if rng.one_in(6) {
        world.services.remove(&name);
    } else {
        let service = random_service(rng, &name);
        world.services.insert(name.clone(), service.into());
    }
    name
}

/// The slices of one Service change; says of which.
pub fn change_slices(rng: &mut Rng, world: &mut World) -> NamespacedName {
    let name = NamespacedName::parse(one(rng, &SERVICES)).expect("good");
    if rng.one_in(6) {
        world.slices.remove(&name);
    } else {
        let slices = (0..rng.below(4))
            .map(|n| random_slice(rng, &name, n))
            .collect();
        world.set_slices(&name, slices);
    }
    name
}

/// Makes endpoints of a Service addresses and ports that may be some Service's.
pub fn bend_back(rng: &mut Rng, world: &mut World) -> NamespacedName {
    let name = NamespacedName::parse(one(rng, &SERVICES)).expect("good");
    let mut slices: Vec<EndpointSlice> = (0..2).map(|n| random_slice(rng, &name, n)).collect();
    for subset in slices.iter_mut().flat_map(|slice| &mut slice.subsets) {
        let family = usize::from(subset.family == IpFamily::V6);
        for endpoint in &mut subset.endpoints {
            let virtual_or_ours = [one(rng, &CLUSTER_IPS[family]), OTHER_IPS[family][0]];
            endpoint.ip = ip(one(rng, &virtual_or_ours));
        }
        for port in &mut subset.ports {
            port.port = one(rng, &[53, 80, 30053, 30080]);
        }
    }
    world.set_slices(&name, slices);
    name
}

fn random_service(rng: &mut Rng, name: &NamespacedName) -> Service {
    let ports = 1 + rng.below(3);
    let ports: Vec<_> = PORT_NAMES[..ports]
        .iter()
        .map(|name| {
            port(
                name,
                one(rng, &PROTOCOLS),
                one(rng, &PORTS),
                one(rng, &NODE_PORTS),
            )
        })
        .collect();
    let families: &[usize] = one(rng, &[&[0][..], &[1], &[0, 1], &[0, 1]]);
    let cluster_ips: Vec<&str> = families
        .iter()
        .map(|f| one(rng, &CLUSTER_IPS[*f]))
        .collect();
    let mut service = service(&name.to_string(), &cluster_ips, ports);
    let kinds = [
        ServiceType::ClusterIp,
        ServiceType::NodePort,
        ServiceType::LoadBalancer,
    ];
    service.kind = if rng.one_in(12) {
        ServiceType::ExternalName
    } else {
        one(rng, &kinds)
    };
    service.headless = rng.one_in(12);
    if service.headless {
        service.cluster_ips = Box::default();
    }
    let policy = |local| {
        if local {
            TrafficPolicy::Local
        } else {
            TrafficPolicy::Cluster
        }
    };
    service.internal_traffic_policy = policy(rng.one_in(3));
    service.external_traffic_policy = policy(rng.one_in(2));
    service.session_affinity = rng
        .one_in(3)
        .then(|| Duration::from_secs(rng.below(3) as u64 + 1));
    service.health_check_node_port = one(rng, &[0, 32000]);
    service.external_ips = some_ips(rng);
    service.load_balancer_ips = some_ips(rng);
    service.source_ranges = (0..rng.below(3)).map(|_| net(one(rng, &RANGES))).collect();
    service.proxy_name = rng.one_in(8).then(|| "other".into());
    if rng.one_in(10) {
        service.problems.add("spec.ports[3].port", "0");
    }
    service
}

fn some_ips(rng: &mut Rng) -> Box<[IpAddr]> {
    let count = rng.below(6).saturating_sub(2);
    (0..count)
        .map(|_| ip(OTHER_IPS[rng.below(2)][rng.below(6)]))
        .collect()
}

fn random_slice(rng: &mut Rng, service: &NamespacedName, number: usize) -> EndpointSlice {
    let family = rng.below(2);
    let endpoints = (0..rng.below(9))
        .map(|_| random_endpoint(rng, family))
        .collect();
    let mut ports = Vec::new();
    for name in PORT_NAMES {
        for protocol in PROTOCOLS {
            if !rng.one_in(4) && !ports.iter().any(|(n, p, _)| (*n, *p) == (name, protocol)) {
                ports.push((name, protocol, one(rng, &[8080, 8081])));
            }
        }
    }
    slice(
        &service.to_string(),
        number,
        IpFamily::ALL[family],
        &ports,
        endpoints,
    )
}

fn random_endpoint(rng: &mut Rng, family: usize) -> Endpoint {
    let mut endpoint = endpoint(ENDPOINTS[family][rng.below(7)], None);
    endpoint.node = (!rng.one_in(6)).then(|| (one(rng, &NODES)).into());
    endpoint.conditions = match rng.below(3) {
        0 => Conditions {
            ready: rng.one_in(2),
            serving: rng.one_in(2),
            terminating: rng.one_in(2),
        },
        1 => Conditions {
            ready: false,
            serving: true,
            terminating: true,
        },
        _ => Conditions::READY,
    };
    let some = |rng: &mut Rng, names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|_| rng.one_in(2)).collect()
    };
    if rng.below(4) > 0 {
        endpoint.hints = hints(&some(rng, &ZONES), &some(rng, &NODES));
    }
    endpoint
}

/// A connection that may be of interest to someone; mostly to a port that some Service has.
pub fn flow(rng: &mut Rng, world: &World) -> Flow {
    let family = rng.below(2);
    let services: Vec<&Service> = world.services.values().map(|service| &**service).collect();
    let of = (!services.is_empty() && !rng.one_in(4)).then(|| one(rng, &services));
    let (to, protocol) = match of {
        Some(service) => towards(rng, service, family),
        None => (anywhere(rng, family), one(rng, &PROTOCOLS)),
    };
    Flow {
        from: ip(one(rng, &SOURCES[family])),
        to,
        protocol,
    }
}

fn anywhere(rng: &mut Rng, family: usize) -> SocketAddr {
    let to = match rng.below(3) {
        0 => one(rng, &CLUSTER_IPS[family]),
        1 => one(rng, &OTHER_IPS[family]),
        _ => one(rng, &SOURCES[family]),
    };
    SocketAddr::new(ip(to), one(rng, &[53, 80, 30080, 30053, 443]))
}

fn towards(rng: &mut Rng, service: &Service, family: usize) -> (SocketAddr, Protocol) {
    let port = &service.ports[rng.below(service.ports.len())];
    let node_ips = [
        "192.168.0.2",
        "192.168.1.2",
        "127.0.0.1",
        "2001:db8::2",
        "::1",
    ]
    .map(ip);
    let (ips, number) = match rng.below(4) {
        0 => (&service.cluster_ips[..], port.port),
        1 => (&service.external_ips[..], port.port),
        2 => (&service.load_balancer_ips[..], port.port),
        _ => (&node_ips[..], port.node_port),
    };
    let is_family = |ip: &&IpAddr| IpFamily::of(**ip) == IpFamily::ALL[family];
    let ips: Vec<IpAddr> = ips.iter().filter(is_family).copied().collect();
    let to = if ips.is_empty() {
        anywhere(rng, family)
    } else {
        SocketAddr::new(one(rng, &ips), number)
    };
    (to, port.protocol)
}
