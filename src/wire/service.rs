//! core/v1 Service.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::lenient::{Field, List, Nested, Struct, Text};
use super::meta::{Identity, Item, ItemError, Meta, first, parse};
use super::{Interner, Kind, parse_cidr, parse_ip};
use crate::types::{
    IpFamily, Problem, Problems, Protocol, Service, ServicePort, ServiceType, TrafficPolicy,
};

/// `sessionAffinityConfig.clientIP.timeoutSeconds` where it is not given.
const DEFAULT_AFFINITY_SECONDS: i64 = 10_800;
const MAX_AFFINITY_SECONDS: i64 = 86_400;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawService<'a> {
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    metadata: Nested<Meta<'a>>,
    #[serde(borrow)]
    spec: Nested<Spec<'a>>,
    #[serde(borrow)]
    status: Nested<RawServiceStatus<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    #[serde(borrow, rename = "clusterIP")]
    cluster_ip: Text<'a>,
    #[serde(borrow, rename = "clusterIPs")]
    cluster_ips: List<Cow<'a, str>>,
    #[serde(borrow)]
    ip_families: List<Cow<'a, str>>,
    #[serde(borrow)]
    ports: List<Struct<Port<'a>>>,
    #[serde(borrow)]
    session_affinity: Text<'a>,
    session_affinity_config: Nested<AffinityConfig>,
    #[serde(borrow)]
    external_traffic_policy: Text<'a>,
    #[serde(borrow)]
    internal_traffic_policy: Text<'a>,
    health_check_node_port: Field<i64>,
    #[serde(borrow, rename = "externalIPs")]
    external_ips: List<Cow<'a, str>>,
    #[serde(borrow)]
    load_balancer_source_ranges: List<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Port<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    protocol: Text<'a>,
    port: Field<i64>,
    node_port: Field<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Nested<ClientIpConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClientIpConfig {
    timeout_seconds: Field<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawServiceStatus<'a> {
    #[serde(borrow)]
    load_balancer: Nested<LoadBalancer<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer<'a> {
    #[serde(borrow)]
    ingress: List<Struct<Ingress<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ingress<'a> {
    #[serde(borrow)]
    ip: Text<'a>,
    #[serde(borrow)]
    ip_mode: Text<'a>,
}

pub(super) fn decode(text: &str, interner: &mut Interner) -> Result<Item<Service>, ItemError> {
    let raw: RawService = parse(text)?;
    let identity = Identity::of(&raw.kind, raw.metadata, Kind::Service)?;
    let mut problems = Problems::default();
    let Some(Struct(spec)) = raw.spec.take(format_args!("spec"), &mut problems) else {
        return Ok(identity.item(Err(first(problems, Problem::new("spec", "missing")))));
    };
    identity.meta.check(&mut problems);
    let (headless, cluster_ips) = cluster_ips(
        spec.cluster_ip,
        spec.cluster_ips,
        spec.ip_families,
        &mut problems,
    );
    let labels = match &identity.meta.labels {
        Field::Present(Struct(labels)) => Some(labels),
        Field::Absent | Field::Wrong(_) => None,
    };
    let service = Service {
        name: identity.name.clone(),
        kind: service_type(spec.r#type, &mut problems),
        headless,
        labelled_headless: identity.meta.is_labelled_headless(),
        cluster_ips,
        ports: ports(spec.ports, interner, &mut problems),
        session_affinity: affinity(
            spec.session_affinity,
            spec.session_affinity_config,
            &mut problems,
        ),
        external_traffic_policy: policy(
            spec.external_traffic_policy,
            "spec.externalTrafficPolicy",
            &mut problems,
        ),
        internal_traffic_policy: policy(
            spec.internal_traffic_policy,
            "spec.internalTrafficPolicy",
            &mut problems,
        ),
        health_check_node_port: port_or_zero(
            spec.health_check_node_port,
            format_args!("spec.healthCheckNodePort"),
            &mut problems,
        ),
        external_ips: addresses(spec.external_ips, "spec.externalIPs", &mut problems),
        load_balancer_ips: load_balancer_ips(raw.status, &mut problems),
        source_ranges: source_ranges(spec.load_balancer_source_ranges, &mut problems),
        proxy_name: labels.and_then(|labels| match &labels.service_proxy_name {
            // Whatever its value, the label's presence counts.
            Field::Absent => None,
            Field::Present(name) => Some(name.as_ref().into()),
            Field::Wrong(_) => Some("".into()),
        }),
        problems,
    };
    Ok(identity.item(Ok(Some(service))))
}

fn service_type(text: Text<'_>, problems: &mut Problems) -> ServiceType {
    let text = text.take(format_args!("spec.type"), problems);
    match text.as_deref() {
        None | Some("" | "ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => ServiceType::ExternalName,
        Some(other) => {
            problems.add("spec.type", format_args!("{other} is unknown"));
            ServiceType::ClusterIp
        }
    }
}

/// Whether the Service is headless, and its clusterIP in each family (kube-proxy's GetClusterIPByFamily).
fn cluster_ips(
    cluster_ip: Text<'_>,
    cluster_ips: List<Cow<'_, str>>,
    families: List<Cow<'_, str>>,
    problems: &mut Problems,
) -> (bool, Box<[IpAddr]>) {
    let cluster_ip = cluster_ip.take(format_args!("spec.clusterIP"), problems);
    let Some(cluster_ip) = cluster_ip.filter(|ip| !ip.is_empty() && ip != "None") else {
        return (true, Box::default());
    };
    let families = strings(families, "spec.ipFamilies", problems);
    for (i, name) in &families {
        if !IpFamily::ALL.iter().any(|family| name == family.as_str()) {
            problems.add(
                format_args!("spec.ipFamilies[{i}]"),
                format_args!("{name} is unknown"),
            );
        }
    }
    let mut cluster_ips = strings(cluster_ips, "spec.clusterIPs", problems);
    if families.is_empty() {
        let ip = address(&cluster_ip, format_args!("spec.clusterIP"), problems);
        return (false, ip.into_iter().collect());
    }
    if cluster_ips.is_empty() {
        // What the apiserver would have filled in, had the manifest passed through one.
        cluster_ips.push((0, cluster_ip));
    } else {
        // Not used, but meant.
        address(&cluster_ip, format_args!("spec.clusterIP"), problems);
    }
    let mut ips = Vec::new();
    for family in IpFamily::ALL {
        let position = |(index, name): &(usize, Cow<'_, str>)| {
            (name == family.as_str() && *index < cluster_ips.len()).then_some(*index)
        };
        let Some(index) = families.iter().find_map(position) else {
            continue;
        };
        let Some((_, text)) = cluster_ips.iter().find(|(i, _)| *i == index) else {
            continue;
        };
        match address(text, format_args!("spec.clusterIPs[{index}]"), problems) {
            Some(ip) if IpFamily::of(ip) == family => ips.push(ip),
            Some(ip) => problems.add(
                format_args!("spec.clusterIPs[{index}]"),
                format_args!("{ip} is not {family}"),
            ),
            None => {}
        }
    }
    (false, ips.into())
}

fn ports(
    list: List<Struct<Port<'_>>>,
    interner: &mut Interner,
    problems: &mut Problems,
) -> Box<[ServicePort]> {
    let list = list
        .take(format_args!("spec.ports"), problems)
        .unwrap_or_default();
    let mut ports: Vec<ServicePort> = Vec::with_capacity(list.len());
    for (i, port) in list.into_iter().enumerate() {
        let Some(Struct(port)) = port.take(format_args!("spec.ports[{i}]"), problems) else {
            continue;
        };
        let Some(port) = service_port(port, i, interner, problems) else {
            continue;
        };
        let same =
            |other: &ServicePort| (&other.name, other.protocol) == (&port.name, port.protocol);
        if ports.iter().any(same) {
            let (name, protocol) = (&port.name, port.protocol);
            problems.add(
                format_args!("spec.ports[{i}]"),
                format_args!("there is a {protocol} port named {name:?} already"),
            );
            continue;
        }
        ports.push(port);
    }
    ports.into()
}

fn service_port(
    port: Port<'_>,
    i: usize,
    interner: &mut Interner,
    problems: &mut Problems,
) -> Option<ServicePort> {
    let protocol = protocol(
        port.protocol,
        format_args!("spec.ports[{i}].protocol"),
        problems,
    );
    let number = required_port(port.port, format_args!("spec.ports[{i}].port"), problems);
    let node_port = port_or_zero(
        port.node_port,
        format_args!("spec.ports[{i}].nodePort"),
        problems,
    );
    let name = port
        .name
        .take(format_args!("spec.ports[{i}].name"), problems);
    Some(ServicePort {
        name: interner.intern(name.as_deref().unwrap_or_default()),
        protocol: protocol?,
        port: number?,
        node_port,
    })
}

/// `protocol`: TCP when absent, None when it is none.
pub(super) fn protocol(
    text: Text<'_>,
    path: fmt::Arguments<'_>,
    problems: &mut Problems,
) -> Option<Protocol> {
    match text {
        Field::Absent => Some(Protocol::Tcp),
        Field::Present(text) if text.is_empty() => Some(Protocol::Tcp),
        Field::Present(text) => {
            let protocol = Protocol::parse(&text);
            if protocol.is_none() {
                problems.add(path, format_args!("{text} is no protocol"));
            }
            protocol
        }
        wrong @ Field::Wrong(_) => {
            wrong.take(path, problems);
            None
        }
    }
}

/// A port from 1 to 65535. Its absence and 0 are problems, too.
pub(super) fn required_port(
    field: Field<i64>,
    path: fmt::Arguments<'_>,
    problems: &mut Problems,
) -> Option<u16> {
    match field {
        Field::Absent => {
            problems.add(path, "missing");
            None
        }
        Field::Wrong(_) => {
            field.take(path, problems);
            None
        }
        Field::Present(number) => {
            let port = u16::try_from(number).ok().filter(|port| *port != 0);
            if port.is_none() {
                problems.add(path, format_args!("{number} is no port"));
            }
            port
        }
    }
}

/// A port where 0 means none.
fn port_or_zero(field: Field<i64>, path: fmt::Arguments<'_>, problems: &mut Problems) -> u16 {
    match field {
        Field::Present(0) => 0,
        Field::Absent => 0,
        other => required_port(other, path, problems).unwrap_or(0),
    }
}

fn affinity(
    kind: Text<'_>,
    config: Nested<AffinityConfig>,
    problems: &mut Problems,
) -> Option<Duration> {
    let kind = kind.take(format_args!("spec.sessionAffinity"), problems);
    match kind.as_deref() {
        None | Some("" | "None") => return None,
        Some("ClientIP") => {}
        Some(other) => {
            problems.add("spec.sessionAffinity", format_args!("{other} is unknown"));
            return None;
        }
    }
    let config = config.take(format_args!("spec.sessionAffinityConfig"), problems);
    let client_ip = config.and_then(|Struct(config)| {
        let path = format_args!("spec.sessionAffinityConfig.clientIP");
        config.client_ip.take(path, problems)
    });
    let seconds = client_ip.and_then(|Struct(config)| {
        let path = format_args!("spec.sessionAffinityConfig.clientIP.timeoutSeconds");
        config.timeout_seconds.take(path, problems)
    });
    let seconds = match seconds {
        None => DEFAULT_AFFINITY_SECONDS,
        Some(seconds) if (1..=MAX_AFFINITY_SECONDS).contains(&seconds) => seconds,
        Some(seconds) => {
            problems.add(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                format_args!(
                    "{seconds} is not between 1 and \
                 {MAX_AFFINITY_SECONDS}"
                ),
            );
            DEFAULT_AFFINITY_SECONDS
        }
    };
    Some(Duration::from_secs(seconds.unsigned_abs()))
}

fn policy(text: Text<'_>, path: &str, problems: &mut Problems) -> TrafficPolicy {
    let text = text.take(format_args!("{path}"), problems);
    match text.as_deref() {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            problems.add(path, format_args!("{other} is unknown"));
            TrafficPolicy::Cluster
        }
    }
}

/// The strings of a list, with their positions; others are reported.
fn strings<'a>(
    list: List<Cow<'a, str>>,
    path: &str,
    problems: &mut Problems,
) -> Vec<(usize, Cow<'a, str>)> {
    let list = list
        .take(format_args!("{path}"), problems)
        .unwrap_or_default();
    let mut strings = Vec::with_capacity(list.len());
    for (i, element) in list.into_iter().enumerate() {
        let text = element.take(format_args!("{path}[{i}]"), problems);
        strings.extend(text.map(|text| (i, text)));
    }
    strings
}

fn addresses(list: List<Cow<'_, str>>, path: &str, problems: &mut Problems) -> Box<[IpAddr]> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for (i, text) in strings(list, path, problems) {
        let ip = address(&text, format_args!("{path}[{i}]"), problems);
        ips.extend(ip.filter(|ip| !ips.contains(ip)));
    }
    ips.into()
}

/// An address, or a problem.
pub(super) fn address(
    text: &str,
    path: fmt::Arguments<'_>,
    problems: &mut Problems,
) -> Option<IpAddr> {
    let ip = parse_ip(text);
    if ip.is_none() {
        problems.add(path, format_args!("{text:?} is no IP address"));
    }
    ip
}

fn load_balancer_ips(
    status: Nested<RawServiceStatus<'_>>,
    problems: &mut Problems,
) -> Box<[IpAddr]> {
    let ingress = status
        .take(format_args!("status"), problems)
        .and_then(|Struct(status)| {
            let path = format_args!("status.loadBalancer");
            status.load_balancer.take(path, problems)
        })
        .and_then(|Struct(balancer)| {
            let path = format_args!("status.loadBalancer.ingress");
            balancer.ingress.take(path, problems)
        });
    let mut ips: Vec<IpAddr> = Vec::new();
    for (i, ingress) in ingress.unwrap_or_default().into_iter().enumerate() {
        let ingress = ingress.take(format_args!("status.loadBalancer.ingress[{i}]"), problems);
        let Some(Struct(ingress)) = ingress else {
            continue;
        };
        let mode = ingress.ip_mode.take(
            format_args!("status.loadBalancer.ingress[{i}].ipMode"),
            problems,
        );
        let text = ingress.ip.take(
            format_args!("status.loadBalancer.ingress[{i}].ip"),
            problems,
        );
        // With ipMode Proxy the traffic is to go out to the load balancer.
        let ours = match mode.as_deref() {
            None | Some("" | "VIP") => true,
            Some("Proxy") => false,
            Some(other) => {
                problems.add(
                    format_args!("status.loadBalancer.ingress[{i}].ipMode"),
                    format_args!("{other} is unknown"),
                );
                false
            }
        };
        if let Some(text) = text.filter(|text| ours && !text.is_empty()) {
            let ip = address(
                &text,
                format_args!("status.loadBalancer.ingress[{i}].ip"),
                problems,
            );
            ips.extend(ip.filter(|ip| !ips.contains(ip)));
        }
    }
    ips.into()
}

fn source_ranges(list: List<Cow<'_, str>>, problems: &mut Problems) -> Box<[IpNet]> {
    let path = "spec.loadBalancerSourceRanges";
    let mut ranges = Vec::new();
    for (i, text) in strings(list, path, problems) {
        match parse_cidr(text.trim()) {
            Some(range) => ranges.push(range),
            None => problems.add(
                format_args!("{path}[{i}]"),
                format_args!("{text:?} is no CIDR"),
            ),
        }
    }
    ranges.into()
}
