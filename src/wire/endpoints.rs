//! core/v1 Endpoints, for servers without EndpointSlices and for manifests.

use std::net::IpAddr;

use serde::Deserialize;

use super::lenient::{List, Nested, Struct, Text};
use super::meta::{Identity, Item, ItemError, Meta, parse};
use super::service::address;
use super::slice::{Port, Unnamed, ports, trigger_time};
use super::{Interner, Kind};
use crate::types::{Conditions, Endpoint, EndpointSlice, IpFamily, Problems, Subset};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawEndpoints<'a> {
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    metadata: Nested<Meta<'a>>,
    #[serde(borrow)]
    subsets: List<Struct<RawSubset<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSubset<'a> {
    #[serde(borrow)]
    addresses: List<Struct<RawAddress<'a>>>,
    #[serde(borrow)]
    not_ready_addresses: List<Struct<RawAddress<'a>>>,
    #[serde(borrow)]
    ports: List<Struct<Port<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawAddress<'a> {
    #[serde(borrow)]
    ip: Text<'a>,
    #[serde(borrow)]
    node_name: Text<'a>,
}

pub(super) fn decode(
    text: &str,
    interner: &mut Interner,
) -> Result<Item<EndpointSlice>, ItemError> {
    let raw: RawEndpoints = parse(text)?;
    let identity = Identity::of(&raw.kind, raw.metadata, Kind::Endpoints)?;
    let mut problems = Problems::default();
    identity.meta.check(&mut problems);
    if identity.meta.is_labelled_headless() {
        return Ok(identity.item(Ok(None)));
    }
    let list = raw.subsets.take(format_args!("subsets"), &mut problems);
    let mut subsets = Vec::new();
    for (i, raw) in list.unwrap_or_default().into_iter().enumerate() {
        let raw = raw.take(format_args!("subsets[{i}]"), &mut problems);
        if let Some(Struct(raw)) = raw {
            subset(raw, i, interner, &mut problems, &mut subsets);
        }
    }
    let slice = EndpointSlice {
        name: identity.name.clone(),
        service: identity.name.clone(),
        subsets: subsets.into(),
        last_change_trigger_time: trigger_time(&identity.meta, &mut problems),
        problems,
    };
    Ok(identity.item(Ok(Some(slice))))
}

/// One subset becomes one for each family that its addresses have.
fn subset(
    raw: RawSubset<'_>,
    i: usize,
    interner: &mut Interner,
    problems: &mut Problems,
    subsets: &mut Vec<Subset>,
) {
    let path = format!("subsets[{i}].ports");
    let ports = ports(raw.ports, &path, interner, problems, Unnamed::Keep);
    let mut endpoints = Vec::new();
    let lists = [
        (raw.addresses, "addresses", Conditions::READY),
        (
            raw.not_ready_addresses,
            "notReadyAddresses",
            Conditions::NOT_READY,
        ),
    ];
    for (list, name, conditions) in lists {
        let list = list.take(format_args!("subsets[{i}].{name}"), problems);
        for (j, raw) in list.unwrap_or_default().into_iter().enumerate() {
            let path = format!("subsets[{i}].{name}[{j}]");
            let Some(Struct(raw)) = raw.take(format_args!("{path}"), problems) else {
                continue;
            };
            let Some(ip) = required_address(raw.ip, &path, problems) else {
                continue;
            };
            let node = raw
                .node_name
                .take(format_args!("{path}.nodeName"), problems);
            endpoints.push(Endpoint {
                ip,
                conditions,
                node: node
                    .filter(|name| !name.is_empty())
                    .map(|name| interner.intern(&name)),
                hints: None,
            });
        }
    }
    for family in IpFamily::ALL {
        let of_family = |endpoint: &&Endpoint| IpFamily::of(endpoint.ip) == family;
        let endpoints: Box<[Endpoint]> = endpoints.iter().filter(of_family).cloned().collect();
        if !endpoints.is_empty() {
            subsets.push(Subset {
                family,
                ports: ports.clone(),
                endpoints,
            });
        }
    }
}

fn required_address(text: Text<'_>, path: &str, problems: &mut Problems) -> Option<IpAddr> {
    if text == Text::Absent {
        problems.add(format_args!("{path}.ip"), "missing");
    }
    let text = text.take(format_args!("{path}.ip"), problems)?;
    address(&text, format_args!("{path}.ip"), problems)
}
