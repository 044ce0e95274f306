//! core/v1 Node and networking.k8s.io ServiceCIDR.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::lenient::{Field, List, Nested, Shape, Struct, Text};
use super::meta::{Identity, Item, ItemError, Meta, parse};
use super::service::address;
use super::{Kind, parse_cidr};
use crate::types::{Node, Problems, ServiceCidr};

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
    let identity = Identity::of(&raw.kind, raw.metadata, Kind::Node)?;
    let mut problems = Problems::default();
    identity.meta.check(&mut problems);
    let spec = raw.spec.take(format_args!("spec"), &mut problems);
    let Struct(spec) = spec.unwrap_or_default();
    let status = raw.status.take(format_args!("status"), &mut problems);
    let Struct(status) = status.unwrap_or_default();
    let zone = match &identity.meta.labels {
        Field::Present(Struct(labels)) => match &labels.zone {
            Field::Present(zone) if !zone.is_empty() => Some(zone.as_ref().into()),
            Field::Present(_) | Field::Absent | Field::Wrong(_) => None,
        },
        Field::Absent | Field::Wrong(_) => None,
    };
    let mut pod_cidrs = cidrs(spec.pod_cidrs, "spec.podCIDRs", &mut problems);
    let pod_cidr = spec
        .pod_cidr
        .take(format_args!("spec.podCIDR"), &mut problems);
    if let Some(text) = pod_cidr.filter(|text| pod_cidrs.is_empty() && !text.is_empty()) {
        pod_cidrs.extend(cidr(&text, format_args!("spec.podCIDR"), &mut problems));
    }
    let deleting = !matches!(identity.meta.deletion_timestamp, Field::Absent);
    let node = Node {
        name: identity.name.clone(),
        zone,
        addresses: host_addresses(status.addresses, &mut problems),
        pod_cidrs: pod_cidrs.into(),
        eligible: !is_tainted(spec.taints, &mut problems) && !deleting,
        problems,
    };
    Ok(identity.item(Ok(Some(node))))
}

fn is_tainted(taints: List<Struct<Taint<'_>>>, problems: &mut Problems) -> bool {
    let mut tainted = false;
    for (path, Struct(taint)) in elements(taints, "spec.taints", problems) {
        let key = taint.key.take(format_args!("{path}.key"), problems);
        tainted |= key.is_some_and(|key| key == TO_BE_DELETED);
    }
    tainted
}

/// InternalIPs, then ExternalIPs (kube-proxy's GetNodeHostIPs). Hostnames and DNS names stand in the same list.
fn host_addresses(list: List<Struct<NodeAddress<'_>>>, problems: &mut Problems) -> Box<[IpAddr]> {
    let (mut internal, mut external) = (Vec::new(), Vec::new());
    for (path, Struct(raw)) in elements(list, "status.addresses", problems) {
        let kind = raw.r#type.take(format_args!("{path}.type"), problems);
        let text = raw.address.take(format_args!("{path}.address"), problems);
        let ips = match kind.as_deref() {
            Some("InternalIP") => &mut internal,
            Some("ExternalIP") => &mut external,
            Some(_) | None => continue,
        };
        let text = text.unwrap_or_default();
        ips.extend(address(&text, format_args!("{path}.address"), problems));
    }
    internal.append(&mut external);
    internal.into()
}

pub(super) fn decode_service_cidr(text: &str) -> Result<Item<ServiceCidr>, ItemError> {
    let raw: RawServiceCidr = parse(text)?;
    let identity = Identity::of(&raw.kind, raw.metadata, Kind::ServiceCidr)?;
    let mut problems = Problems::default();
    let spec = raw.spec.take(format_args!("spec"), &mut problems);
    let Struct(spec) = spec.unwrap_or_default();
    let cidr = ServiceCidr {
        name: identity.name.clone(),
        cidrs: cidrs(spec.cidrs, "spec.cidrs", &mut problems).into(),
        problems,
    };
    Ok(identity.item(Ok(Some(cidr))))
}

/// What is good of a list, each with its path.
fn elements<T: Shape>(list: List<T>, path: &str, problems: &mut Problems) -> Vec<(String, T)> {
    let list = list.take(format_args!("{path}"), problems);
    let mut good = Vec::new();
    for (i, element) in list.unwrap_or_default().into_iter().enumerate() {
        let path = format!("{path}[{i}]");
        let element = element.take(format_args!("{path}"), problems);
        good.extend(element.map(|element| (path, element)));
    }
    good
}

fn cidrs(list: List<Cow<'_, str>>, path: &str, problems: &mut Problems) -> Vec<IpNet> {
    let mut cidrs = Vec::new();
    for (path, text) in elements(list, path, problems) {
        cidrs.extend(cidr(&text, format_args!("{path}"), problems));
    }
    cidrs
}

fn cidr(text: &str, path: fmt::Arguments<'_>, problems: &mut Problems) -> Option<IpNet> {
    let cidr = parse_cidr(text);
    if cidr.is_none() {
        problems.add(path, format_args!("{text:?} is no CIDR"));
    }
    cidr
}
