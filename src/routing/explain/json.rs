//! Answers as JSON. The shapes are a promise to scripts.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::known::{Known, Totals};
use super::request::Filter;
use super::view::{PortView, ports};
use crate::routing::Decision;
use crate::routing::entry::ServiceEntry;
use crate::types::{Complaint, NamespacedName};

pub(super) fn decision(decision: &Decision) -> Value {
    json!({
        "verdict": decision.verdict.as_str(),
        "endpoints": strings(&decision.endpoints),
        "servicePort": decision.service_port.as_ref().map(ToString::to_string),
        "frontend": decision.frontend.map(|kind| kind.as_str()),
        "reason": decision.reason,
    })
}

pub(super) fn everything(known: Known<'_>, filter: &Filter) -> Value {
    let (entries, complaints) = (known.entries(filter), known.complaints(filter));
    let totals = Totals::of(&entries, &complaints);
    let listed = match filter.problems_only {
        true => Vec::new(),
        false => entries,
    };
    let services = listed.into_iter().map(|entry| service(known, entry));
    json!({
        "totals": {
            "services": totals.services,
            "notProxied": totals.not_proxied,
            "ports": totals.ports,
            "portsWithoutEndpoints": totals.without_endpoints,
            "problems": totals.problems,
        },
        "services": services.collect::<Vec<_>>(),
        "problems": texts(complaints.into_iter()),
    })
}

pub(super) fn service(known: Known<'_>, entry: &ServiceEntry) -> Value {
    let ports = ports(known.table, entry);
    json!({
        "service": entry.service.name.to_string(),
        "ports": ports.map(|view| port(&view)).collect::<Vec<_>>(),
        "notProxied": entry.skipped.map(|skipped| skipped.reason()),
        "problems": texts(known.complaints_of(entry)),
    })
}

pub(super) fn unknown_service(known: Known<'_>, name: &NamespacedName) -> Value {
    json!({
        "service": name.to_string(),
        "ports": [],
        "notProxied": known.why_unknown(name),
        "problems": texts(known.complaints_about(name)),
    })
}

fn port(view: &PortView<'_>) -> Value {
    let route = &view.port.route;
    let frontends = view.port.frontends.iter().map(|placement| {
        json!({ "kind": placement.frontend.kind.as_str(), "address": placement.address.to_string() })
    });
    let endpoints = view.endpoints.iter().map(|endpoint| {
        json!({
            "address": endpoint.address.to_string(),
            "used": endpoint.used,
            "reason": endpoint.reason,
        })
    });
    json!({
        "servicePort": route.name.to_string(),
        "ipFamily": route.family.as_str(),
        "protocol": route.name.protocol.as_str(),
        "cluster": view.lists.cluster.as_deref().map(strings),
        "local": view.lists.local.as_deref().map(strings),
        "all": strings(&view.all),
        "hasAny": view.lists.has_any,
        "frontends": frontends.collect::<Vec<_>>(),
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

fn texts(complaints: impl Iterator<Item = Complaint>) -> Vec<String> {
    complaints.map(|complaint| complaint.to_string()).collect()
}

fn strings(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}
