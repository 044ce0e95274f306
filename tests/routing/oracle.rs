//! A second opinion, written straight from the reference's sections 2.2 to 2.7 and as slow as it likes. It shares no code with
//! the table: lists are sets of strings, rules stand in the order of the text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use portico::routing::{DetectLocal, Flow, VirtualIps};
use portico::types::{
    Endpoint, IpFamily, NamespacedName, Protocol, Service, ServicePort, ServiceType, TrafficPolicy,
};

use super::generate::Case;
use super::world::net;

type Set = BTreeSet<String>;

/// Section 2.5's outputs.
#[derive(Debug, Default, PartialEq)]
pub struct Lists {
    pub cluster: Set,
    pub local: Set,
    pub all: Set,
    pub has_any: bool,
}

/// What happens to a connection: verdict, endpoints, ServicePort and kind of frontend.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub verdict: &'static str,
    pub endpoints: Set,
    pub whose: Option<(String, &'static str)>,
}

fn family(ip: IpAddr) -> IpFamily {
    if ip.is_ipv4() {
        IpFamily::V4
    } else {
        IpFamily::V6
    }
}

fn is_proxied(case: &Case, service: &Service) -> bool {
    let labelled = service.proxy_name.as_deref();
    !service.headless
        && service.kind != ServiceType::ExternalName
        && labelled == case.settings.service_proxy_name.as_deref()
}

fn in_family(ips: &[IpAddr], of: IpFamily) -> Vec<IpAddr> {
    ips.iter()
        .copied()
        .filter(|ip| family(*ip) == of && !is_special(*ip))
        .collect()
}

/// Nobody may have these as virtual IPs.
fn is_special(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_multicast() || ip.is_unspecified()
}

fn is_external_local(service: &Service) -> bool {
    service.external_traffic_policy == TrafficPolicy::Local
        && match service.kind {
            ServiceType::LoadBalancer | ServiceType::NodePort => true,
            ServiceType::ClusterIp => !service.external_ips.is_empty(),
            ServiceType::ExternalName => false,
        }
}

fn uses(service: &Service, port: &ServicePort, of: IpFamily) -> (bool, bool) {
    let has = |ips: &[IpAddr]| ips.iter().any(|ip| family(*ip) == of);
    let external =
        port.node_port != 0 || has(&service.external_ips) || has(&service.load_balancer_ips);
    let internal_local = service.internal_traffic_policy == TrafficPolicy::Local;
    (
        !internal_local || external,
        internal_local || (is_external_local(service) && external),
    )
}

/// Section 2.4: by `ip:port`; the first stays unless the new one is not terminating.
fn endpoints(
    case: &Case,
    service: &Service,
    port: &ServicePort,
    of: IpFamily,
) -> BTreeMap<String, Endpoint> {
    let mut found: BTreeMap<String, Endpoint> = BTreeMap::new();
    for slice in case
        .world
        .slices
        .get(&service.name)
        .iter()
        .flat_map(|slices| slices.iter())
    {
        for subset in slice.subsets.iter().filter(|subset| subset.family == of) {
            for number in &subset.ports {
                if (&number.name, number.protocol) != (&port.name, port.protocol) {
                    continue;
                }
                for endpoint in &subset.endpoints {
                    let link_local = endpoint.ip.to_string().starts_with("169.254.");
                    if family(endpoint.ip) != of || endpoint.ip.is_loopback() || link_local {
                        continue;
                    }
                    let key = SocketAddr::new(endpoint.ip, number.port).to_string();
                    if !found.contains_key(&key) || !endpoint.conditions.terminating {
                        found.insert(key, endpoint.clone());
                    }
                }
            }
        }
    }
    found
}

/// Section 2.5, line by line.
pub fn categorize(case: &Case, service: &Service, port: &ServicePort, of: IpFamily) -> Lists {
    let endpoints = endpoints(case, service, port, of);
    let (uses_cluster, uses_local) = uses(service, port, of);
    let us = &*case.settings.node_name;
    let zone = case
        .world
        .node
        .as_ref()
        .and_then(|node| node.zone.as_deref())
        .unwrap_or("");
    if endpoints.is_empty() {
        return Lists::default();
    }
    let select = |wanted: &dyn Fn(&Endpoint) -> bool| -> Set {
        endpoints
            .iter()
            .filter(|(_, e)| wanted(e))
            .map(|(key, _)| key.clone())
            .collect()
    };
    let ready = |e: &Endpoint| e.conditions.ready;
    let fallback = |e: &Endpoint| e.conditions.serving && e.conditions.terminating;
    let is_local = |e: &Endpoint| !us.is_empty() && e.node.as_deref() == Some(us);
    let zones = |e: &Endpoint| hint_names(e, |hints| &hints.zones);
    let nodes = |e: &Endpoint| hint_names(e, |hints| &hints.nodes);

    let all_ready: Vec<&Endpoint> = endpoints.values().filter(|e| ready(e)).collect();
    let hinted = |names: &dyn Fn(&Endpoint) -> Set, us: &str| {
        !all_ready.is_empty()
            && all_ready.iter().all(|e| !names(e).is_empty())
            && all_ready.iter().any(|e| names(e).contains(us))
    };
    let mode = if hinted(&nodes, us) {
        "node"
    } else if hinted(&zones, zone) {
        "zone"
    } else {
        ""
    };
    let available = |e: &Endpoint| match mode {
        "node" => nodes(e).contains(us),
        "zone" => zones(e).contains(zone),
        _ => true,
    };
    let mut lists = Lists::default();
    if uses_cluster {
        lists.cluster = select(&|e| ready(e) && available(e));
        if lists.cluster.is_empty() {
            lists.cluster = select(&fallback);
        }
        lists.has_any = !lists.cluster.is_empty();
    }
    if !uses_local {
        lists.all = lists.cluster.clone();
        return lists;
    }
    lists.has_any |= endpoints.values().any(|e| ready(e) || fallback(e));
    lists.local = select(&|e| is_local(e) && ready(e));
    if lists.local.is_empty() {
        lists.local = select(&|e| is_local(e) && !ready(e) && fallback(e));
    }
    lists.all = lists.cluster.union(&lists.local).cloned().collect();
    lists
}

fn hint_names(
    endpoint: &Endpoint,
    of: impl Fn(&portico::types::Hints) -> &[std::sync::Arc<str>],
) -> Set {
    let hints = endpoint.hints.as_deref();
    hints
        .map(|hints| of(hints).iter().map(|name| name.to_string()).collect())
        .unwrap_or_default()
}

struct Frontend<'a> {
    rank: u8,
    kind: &'static str,
    service: &'a Service,
    port: &'a ServicePort,
}

impl Frontend<'_> {
    fn precedence(&self) -> (u8, &NamespacedName, &str, Protocol) {
        (
            self.rank,
            &self.service.name,
            &self.port.name,
            self.port.protocol,
        )
    }
}

fn is_host_address(case: &Case, ip: IpAddr) -> bool {
    ip.is_loopback() || case.world.host_addresses.contains(&ip)
}

fn node_ip(case: &Case, of: IpFamily) -> Option<IpAddr> {
    let mut known: Vec<IpAddr> = case.settings.node_ip.into_iter().collect();
    known.extend(
        case.world
            .node
            .iter()
            .flat_map(|node| node.addresses.iter().copied()),
    );
    known.extend(
        case.world
            .host_addresses
            .iter()
            .copied()
            .filter(|ip| !ip.is_loopback()),
    );
    known.into_iter().find(|ip| family(*ip) == of)
}

/// Section 2.7: on which listener a connection to this address meets node ports.
fn node_port_listener(case: &Case, ip: IpAddr) -> Option<Listener> {
    let of = family(ip);
    let mut cidrs: Vec<IpNet> = Vec::new();
    for entry in case.node_port_addresses {
        match *entry {
            "primary" => {
                let known = IpFamily::ALL
                    .into_iter()
                    .filter_map(|family| node_ip(case, family));
                cidrs.extend(known.map(IpNet::from));
            }
            "localhost" => cidrs.extend([net("127.0.0.0/8"), net("::1/128")]),
            "all" => cidrs.extend([net("0.0.0.0/0"), net("::/0")]),
            cidr => cidrs.push(net(cidr)),
        }
    }
    cidrs.retain(|cidr| family(cidr.addr()) == of);
    let match_all = cidrs.is_empty() || cidrs.iter().any(|cidr| cidr.prefix_len() == 0);
    let with_loopback = case.settings.localhost_nodeports;
    if !is_host_address(case, ip) || (ip.is_loopback() && !with_loopback) {
        None
    } else if match_all && with_loopback {
        Some(Listener::Wildcard)
    } else {
        let matches = match_all || cidrs.iter().any(|cidr| cidr.contains(&ip));
        matches.then_some(Listener::Exact)
    }
}

/// What the kernel looks for: first a socket on the very address, then one on the wildcard address.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Listener {
    Exact,
    Wildcard,
}

/// Sections 2.2 and 2.3: whose address and port this is.
fn frontend<'a>(case: &'a Case, flow: &Flow) -> Option<Frontend<'a>> {
    let (ip, of) = (flow.to.ip(), family(flow.to.ip()));
    let on_host = is_host_address(case, ip);
    let captured = case.settings.virtual_ips == VirtualIps::Captured;
    let mut found = Vec::new();
    for service in case
        .world
        .services
        .values()
        .filter(|service| is_proxied(case, service))
    {
        let Some(cluster_ip) = service.cluster_ips.iter().find(|ip| family(**ip) == of) else {
            continue;
        };
        for port in service
            .ports
            .iter()
            .filter(|port| port.protocol == flow.protocol)
        {
            let mut add = |rank, kind, listener| {
                let frontend = Frontend {
                    rank,
                    kind,
                    service,
                    port,
                };
                found.push((listener, frontend));
            };
            if port.port == flow.to.port() {
                if ip == *cluster_ip && on_host != captured {
                    add(0, "clusterIP", Listener::Exact);
                }
                if in_family(&service.load_balancer_ips, of).contains(&ip) && (on_host || captured)
                {
                    add(1, "loadBalancerIP", Listener::Exact);
                }
                if in_family(&service.external_ips, of).contains(&ip) && (on_host || captured) {
                    add(2, "externalIP", Listener::Exact);
                }
            }
            let listener = node_port_listener(case, ip);
            if let Some(listener) =
                listener.filter(|_| port.node_port != 0 && port.node_port == flow.to.port())
            {
                add(3, "nodePort", listener);
            }
        }
    }
    found.sort_by(|(_, a), (_, b)| a.precedence().cmp(&b.precedence()));
    let mut first = |wanted| {
        let at = found.iter().position(|(listener, _)| *listener == wanted)?;
        Some(found.remove(at).1)
    };
    let (exact, wildcard) = (first(Listener::Exact), first(Listener::Wildcard));
    // A frontend that refuses everyone has no socket: on an address of this host the wildcard one takes over.
    let is_refused = |frontend: &Frontend<'_>| {
        let Frontend {
            service,
            port,
            kind,
            ..
        } = frontend;
        let filtered = *kind == "loadBalancerIP"
            && service
                .source_ranges
                .iter()
                .any(|range| family(range.addr()) == of);
        !filtered && !categorize(case, service, port, of).has_any
    };
    match (exact, wildcard) {
        (Some(exact), Some(wildcard)) if is_refused(&exact) && !is_refused(&wildcard) => {
            Some(wildcard)
        }
        (exact, wildcard) => exact.or(wildcard),
    }
}

fn is_local_source(case: &Case, from: IpAddr) -> bool {
    let pod_cidrs = case
        .world
        .node
        .iter()
        .flat_map(|node| node.pod_cidrs.iter());
    is_host_address(case, from)
        || match &case.settings.detect_local {
            DetectLocal::Off => false,
            DetectLocal::Cidrs(cidrs) => cidrs.iter().any(|cidr| cidr.contains(&from)),
            DetectLocal::NodeCidr => pod_cidrs.clone().any(|cidr| cidr.contains(&from)),
        }
}

/// Section 2.6.
pub fn decide(case: &Case, flow: &Flow) -> Outcome {
    let Some(frontend) = frontend(case, flow) else {
        return Outcome {
            verdict: without_frontend(case, flow),
            endpoints: Set::new(),
            whose: None,
        };
    };
    let Frontend {
        service,
        port,
        kind,
        ..
    } = frontend;
    let mut name = service.name.to_string();
    if !port.name.is_empty() {
        name = format!("{name}:{}", port.name);
    }
    let outcome = |verdict, endpoints| Outcome {
        verdict,
        endpoints,
        whose: Some((name.clone(), kind)),
    };
    let of = family(flow.to.ip());
    let lists = categorize(case, service, port, of);
    if kind == "loadBalancerIP" {
        let ranges: Vec<_> = service
            .source_ranges
            .iter()
            .filter(|net| family(net.addr()) == of)
            .collect();
        let inside = |ip: IpAddr| ranges.iter().any(|range| range.contains(&ip));
        let itself = flow.from == flow.to.ip() && node_ip(case, of).is_some_and(inside);
        if !ranges.is_empty() && !inside(flow.from) && !itself {
            return outcome("drop", Set::new());
        }
    }
    if !lists.has_any {
        return outcome("reject", Set::new());
    }
    let local = match kind {
        "clusterIP" => service.internal_traffic_policy == TrafficPolicy::Local,
        _ => is_external_local(service) && !is_local_source(case, flow.from),
    };
    let endpoints = if local { lists.local } else { lists.cluster };
    let verdict = if endpoints.is_empty() {
        "drop"
    } else {
        "endpoints"
    };
    outcome(verdict, endpoints)
}

fn without_frontend(case: &Case, flow: &Flow) -> &'static str {
    let ip = flow.to.ip();
    if is_host_address(case, ip) || case.settings.virtual_ips != VirtualIps::Captured {
        return "not-matched";
    }
    let mut proxied = case
        .world
        .services
        .values()
        .filter(|service| is_proxied(case, service));
    if proxied.any(|service| service.cluster_ips.contains(&ip)) {
        return "reject";
    }
    let in_range = case
        .world
        .service_cidrs
        .iter()
        .any(|range| range.contains(&ip));
    // An external IP in the service range: with its port the rest of it is the portal's, which has no listener there.
    let taken_in_part = case
        .world
        .services
        .values()
        .filter(|service| is_proxied(case, service))
        .filter(|service| {
            service
                .cluster_ips
                .iter()
                .any(|of| family(*of) == family(ip))
        })
        .filter(|service| {
            service
                .ports
                .iter()
                .any(|port| port.protocol != Protocol::Sctp)
        })
        .any(|service| {
            service.external_ips.contains(&ip) || service.load_balancer_ips.contains(&ip)
        });
    if in_range && taken_in_part && case.settings.service_proxy_name.is_none() {
        return "reject";
    }
    if in_range && case.settings.service_proxy_name.is_none() {
        "drop"
    } else {
        "not-matched"
    }
}
