//! discovery.k8s.io EndpointSlice, v1 and v1beta1.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::lenient::{Field, List, Nested, Struct, Text};
use super::meta::{Annotations, Identity, Item, ItemError, Meta, first, parse};
use super::service::{address, protocol, required_port};
use super::{Interner, Kind};
use crate::types::{
    Conditions, Endpoint, EndpointPort, EndpointSlice, Hints, IpFamily, NamespacedName, Problem,
    Problems, Subset,
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSlice<'a> {
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    metadata: Nested<Meta<'a>>,
    #[serde(borrow)]
    address_type: Text<'a>,
    #[serde(borrow)]
    ports: List<Struct<Port<'a>>>,
    #[serde(borrow)]
    endpoints: List<Struct<RawEndpoint<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Port<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) protocol: Text<'a>,
    pub(crate) port: Field<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawEndpoint<'a> {
    #[serde(borrow)]
    addresses: List<Cow<'a, str>>,
    conditions: Nested<RawConditions>,
    #[serde(borrow)]
    node_name: Text<'a>,
    /// v1beta1's place for the node name.
    #[serde(borrow)]
    topology: Nested<RawTopology<'a>>,
    #[serde(borrow)]
    hints: Nested<RawHints<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawConditions {
    ready: Field<bool>,
    serving: Field<bool>,
    terminating: Field<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawTopology<'a> {
    #[serde(borrow, rename = "kubernetes.io/hostname")]
    hostname: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawHints<'a> {
    #[serde(borrow)]
    for_zones: List<Struct<Named<'a>>>,
    #[serde(borrow)]
    for_nodes: List<Struct<Named<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

pub(super) fn decode(
    text: &str,
    interner: &mut Interner,
) -> Result<Item<EndpointSlice>, ItemError> {
    let raw: RawSlice = parse(text)?;
    let identity = Identity::of(&raw.kind, raw.metadata, Kind::EndpointSlice)?;
    let mut problems = Problems::default();
    let address_type = raw
        .address_type
        .take(format_args!("addressType"), &mut problems);
    let family = match address_type.as_deref() {
        Some("IPv4") => IpFamily::V4,
        Some("IPv6") => IpFamily::V6,
        // Not for a proxy. (The second is v1beta1's.)
        Some("FQDN" | "IP") => return Ok(identity.item(Ok(None))),
        Some(other) => {
            let problem = Problem::new("addressType", format_args!("{other} is unknown"));
            return Ok(identity.item(Err(problem)));
        }
        None => {
            let problem = first(problems, Problem::new("addressType", "missing"));
            return Ok(identity.item(Err(problem)));
        }
    };
    identity.meta.check(&mut problems);
    // As asked of an apiserver: no proxy reads these.
    if identity.meta.is_labelled_headless() {
        return Ok(identity.item(Ok(None)));
    }
    let service = match &identity.meta.labels {
        Field::Present(Struct(labels)) => match &labels.service_name {
            Field::Present(name) if !name.is_empty() && !name.contains('/') => {
                Some(NamespacedName::new(identity.name.namespace(), name))
            }
            Field::Present(_) | Field::Absent | Field::Wrong(_) => None,
        },
        Field::Absent | Field::Wrong(_) => None,
    };
    let Some(service) = service else {
        let problem = first(
            problems,
            Problem::new(
                "metadata.labels[kubernetes.io/service-name]",
                "missing, so it belongs to no Service",
            ),
        );
        return Ok(identity.item(Err(problem)));
    };
    let subset = Subset {
        family,
        ports: ports(raw.ports, "ports", interner, &mut problems, Unnamed::Skip),
        endpoints: endpoints(raw.endpoints, family, interner, &mut problems),
    };
    let slice = EndpointSlice {
        name: identity.name.clone(),
        service,
        subsets: Box::new([subset]),
        last_change_trigger_time: trigger_time(&identity.meta, &mut problems),
        problems,
    };
    Ok(identity.item(Ok(Some(slice))))
}

/// What a port without a name is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unnamed {
    /// Not for us: in an EndpointSlice the unnamed port has the name "".
    Skip,
    /// The unnamed port: in Endpoints.
    Keep,
}

pub(super) fn ports(
    list: List<Struct<Port<'_>>>,
    path: &str,
    interner: &mut Interner,
    problems: &mut Problems,
    unnamed: Unnamed,
) -> Box<[EndpointPort]> {
    let list = list
        .take(format_args!("{path}"), problems)
        .unwrap_or_default();
    let mut ports = Vec::with_capacity(list.len());
    for (i, port) in list.into_iter().enumerate() {
        let Some(Struct(port)) = port.take(format_args!("{path}[{i}]"), problems) else {
            continue;
        };
        let name = port.name.take(format_args!("{path}[{i}].name"), problems);
        if name.is_none() && unnamed == Unnamed::Skip {
            problems.add(format_args!("{path}[{i}].name"), "missing");
            continue;
        }
        let number = required_port(port.port, format_args!("{path}[{i}].port"), problems);
        let protocol = protocol(
            port.protocol,
            format_args!("{path}[{i}].protocol"),
            problems,
        );
        if let (Some(port), Some(protocol)) = (number, protocol) {
            ports.push(EndpointPort {
                name: interner.intern(name.as_deref().unwrap_or_default()),
                protocol,
                port,
            });
        }
    }
    ports.into()
}

fn endpoints(
    list: List<Struct<RawEndpoint<'_>>>,
    family: IpFamily,
    interner: &mut Interner,
    problems: &mut Problems,
) -> Box<[Endpoint]> {
    let list = list
        .take(format_args!("endpoints"), problems)
        .unwrap_or_default();
    let mut endpoints = Vec::with_capacity(list.len());
    for (i, raw) in list.into_iter().enumerate() {
        let Some(Struct(raw)) = raw.take(format_args!("endpoints[{i}]"), problems) else {
            continue;
        };
        let Some(ip) = first_address(raw.addresses, i, family, problems) else {
            continue;
        };
        let node = node_name(raw.node_name, raw.topology, i, problems);
        endpoints.push(Endpoint {
            ip,
            conditions: conditions(raw.conditions, i, problems),
            node: node.map(|name| interner.intern(&name)),
            hints: hints(raw.hints, i, interner, problems),
        });
    }
    endpoints.into()
}

/// `addresses[0]`: the others are not used.
fn first_address(
    addresses: List<Cow<'_, str>>,
    i: usize,
    family: IpFamily,
    problems: &mut Problems,
) -> Option<IpAddr> {
    let addresses = addresses.take(format_args!("endpoints[{i}].addresses"), problems);
    let Some(first) = addresses.and_then(|list| list.into_iter().next()) else {
        problems.add(format_args!("endpoints[{i}].addresses"), "none");
        return None;
    };
    let text = first.take(format_args!("endpoints[{i}].addresses[0]"), problems)?;
    let ip = address(&text, format_args!("endpoints[{i}].addresses[0]"), problems)?;
    if IpFamily::of(ip) != family {
        problems.add(
            format_args!("endpoints[{i}].addresses[0]"),
            format_args!("{ip} is not {family}"),
        );
        return None;
    }
    Some(ip)
}

/// What is not said is true ("unknown"); what cannot be read is not: nobody has said that the endpoint is ready.
fn conditions(raw: Nested<RawConditions>, i: usize, problems: &mut Problems) -> Conditions {
    let (unknown, unreadable) = (Conditions::READY, Conditions::NOT_READY);
    let absent = if raw.is_wrong() { unreadable } else { unknown };
    let raw = raw.take(format_args!("endpoints[{i}].conditions"), problems);
    let Some(Struct(raw)) = raw else {
        return absent;
    };
    let mut get = |field: Field<bool>, name: &str, unknown: bool| {
        let absent = unknown && !field.is_wrong();
        let value = field.take(format_args!("endpoints[{i}].conditions.{name}"), problems);
        value.unwrap_or(absent)
    };
    Conditions {
        ready: get(raw.ready, "ready", true),
        // Unknown means true, not "as ready".
        serving: get(raw.serving, "serving", true),
        terminating: get(raw.terminating, "terminating", false),
    }
}

fn node_name<'a>(
    node_name: Text<'a>,
    topology: Nested<RawTopology<'a>>,
    i: usize,
    problems: &mut Problems,
) -> Option<Cow<'a, str>> {
    let name = node_name.take(format_args!("endpoints[{i}].nodeName"), problems);
    let name = name.or_else(|| {
        let topology = topology.take(format_args!("endpoints[{i}].topology"), problems);
        let Struct(topology) = topology?;
        topology.hostname.take(
            format_args!("endpoints[{i}].topology[kubernetes.io/hostname]"),
            problems,
        )
    });
    name.filter(|name| !name.is_empty())
}

fn hints(
    raw: Nested<RawHints<'_>>,
    i: usize,
    interner: &mut Interner,
    problems: &mut Problems,
) -> Option<Box<Hints>> {
    let Struct(raw) = raw.take(format_args!("endpoints[{i}].hints"), problems)?;
    let mut names = |list: List<Struct<Named<'_>>>, field: &str| -> Box<[Arc<str>]> {
        let path = format!("endpoints[{i}].hints.{field}");
        let list = list.take(format_args!("{path}"), problems);
        let mut names = Vec::new();
        for (j, named) in list.unwrap_or_default().into_iter().enumerate() {
            let named = named.take(format_args!("{path}[{j}]"), problems);
            let name = named.and_then(|Struct(named)| {
                named.name.take(format_args!("{path}[{j}].name"), problems)
            });
            // A hint for nobody is a hint all the same.
            names.push(interner.intern(name.as_deref().unwrap_or_default()));
        }
        names.into()
    };
    let zones = names(raw.for_zones, "forZones");
    let nodes = names(raw.for_nodes, "forNodes");
    (!zones.is_empty() || !nodes.is_empty()).then(|| Box::new(Hints { zones, nodes }))
}

/// The annotation that says when the change happened which this object is the outcome of.
pub(super) fn trigger_time(meta: &Meta<'_>, problems: &mut Problems) -> Option<SystemTime> {
    let Field::Present(Struct(Annotations {
        last_change_trigger_time: Field::Present(text),
        ..
    })) = &meta.annotations
    else {
        return None;
    };
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    if time.is_none() {
        problems.add(
            "metadata.annotations[endpoints.kubernetes.io/last-change-trigger-time]",
            format_args!("{text:?} is no time"),
        );
    }
    time.map(SystemTime::from)
}
