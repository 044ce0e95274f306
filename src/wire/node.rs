//! core/v1 Node and networking.k8s.io ServiceCIDR.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::lenient::{Field, List, Nested, Struct, Text};
use super::meta::{Identity, Item, ItemError, Meta, Scope, parse};
use super::{Kind, parse_cidr, parse_ip};
use crate::types::{Node, ServiceCidr};

/// The cluster autoscaler is about to delete the node: load balancers should look elsewhere.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawNode<'a> {
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    metadata: Nested<Meta<'a>>,
    #[serde(borrow)]
    spec: Nested<NodeSpec<'a>>,
    #[serde(borrow)]
    status: Nested<NodeStatus<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec<'a> {
    #[serde(borrow, rename = "podCIDR")]
    pod_cidr: Text<'a>,
    #[serde(borrow, rename = "podCIDRs")]
    pod_cidrs: List<Cow<'a, str>>,
    #[serde(borrow)]
    taints: List<Struct<Taint<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taint<'a> {
    #[serde(borrow)]
    key: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus<'a> {
    #[serde(borrow)]
    addresses: List<Struct<NodeAddress<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAddress<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    #[serde(borrow)]
    address: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawServiceCidr<'a> {
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    metadata: Nested<Meta<'a>>,
    #[serde(borrow)]
    spec: Nested<ServiceCidrSpec<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServiceCidrSpec<'a> {
    #[serde(borrow)]
    cidrs: List<Cow<'a, str>>,
}

pub(super) fn decode_node(text: &str) -> Result<Item<Node>, ItemError> {
    let raw: RawNode = parse(text)?;
    let identity = Identity::of(&raw.kind, raw.metadata, Kind::Node, Scope::Cluster)?;
    let Struct(spec) = raw.spec.ok().unwrap_or_default();
    let Struct(status) = raw.status.ok().unwrap_or_default();
    let zone = match &identity.meta.labels {
        Field::Present(Struct(labels)) => match &labels.zone {
            Field::Present(zone) if !zone.is_empty() => Some(zone.as_ref().into()),
            Field::Present(_) | Field::Absent | Field::Wrong(_) => None,
        },
        Field::Absent | Field::Wrong(_) => None,
    };
    let tainted = elements(spec.taints)
        .any(|Struct(taint)| taint.key.ok().is_some_and(|key| key == TO_BE_DELETED));
    let mut pod_cidrs: Vec<IpNet> = cidrs(spec.pod_cidrs);
    if pod_cidrs.is_empty() {
        pod_cidrs.extend(spec.pod_cidr.ok().and_then(|cidr| parse_cidr(&cidr)));
    }
    let deleting = !matches!(identity.meta.deletion_timestamp, Field::Absent);
    let node = Node {
        name: identity.name.clone(),
        zone,
        addresses: host_addresses(status.addresses),
        pod_cidrs: pod_cidrs.into(),
        eligible: !tainted && !deleting,
    };
    Ok(identity.item(Ok(Some(node))))
}

/// InternalIPs, then ExternalIPs (kube-proxy's GetNodeHostIPs). Hostnames and DNS names stand in the same list.
fn host_addresses(list: List<Struct<NodeAddress<'_>>>) -> Box<[IpAddr]> {
    let (mut internal, mut external) = (Vec::new(), Vec::new());
    for Struct(raw) in elements(list) {
        let Some(ip) = raw.address.ok().and_then(|text| parse_ip(&text)) else {
            continue;
        };
        match raw.r#type.ok().as_deref() {
            Some("InternalIP") => internal.push(ip),
            Some("ExternalIP") => external.push(ip),
            Some(_) | None => {}
        }
    }
    internal.append(&mut external);
    internal.into()
}

pub(super) fn decode_service_cidr(text: &str) -> Result<Item<ServiceCidr>, ItemError> {
    let raw: RawServiceCidr = parse(text)?;
    let identity = Identity::of(&raw.kind, raw.metadata, Kind::ServiceCidr, Scope::Cluster)?;
    let Struct(spec) = raw.spec.ok().unwrap_or_default();
    let cidr = ServiceCidr {
        name: identity.name.clone(),
        cidrs: cidrs(spec.cidrs).into(),
    };
    Ok(identity.item(Ok(Some(cidr))))
}

fn elements<T>(list: List<T>) -> impl Iterator<Item = T> {
    list.ok()
        .unwrap_or_default()
        .into_iter()
        .filter_map(Field::ok)
}

fn cidrs(list: List<Cow<'_, str>>) -> Vec<IpNet> {
    elements(list)
        .filter_map(|text| parse_cidr(&text))
        .collect()
}
