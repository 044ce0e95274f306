//! Answers as JSON. The shapes are a promise to scripts.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::view::{PortView, ports};
use super::{complaints_about, why_unknown};
use crate::routing::entry::Entry;
use crate::routing::{Decision, Problem, Table};
use crate::types::NamespacedName;

pub(super) fn decision(decision: &Decision) -> Value {
    json!({
        "verdict": decision.verdict.as_str(),
        "endpoints": strings(&decision.endpoints),
        "servicePort": decision.service_port.as_ref().map(ToString::to_string),
        "frontend": decision.frontend.map(|kind| kind.as_str()),
        "reason": decision.reason,
    })
}

pub(super) fn everything(table: &Table, entries: &[&Entry]) -> Value {
    let services: Vec<Value> = entries.iter().map(|entry| service(table, entry)).collect();
    let mut all = problems(&table.problems());
    all.extend(table.complaints.iter().map(ToString::to_string));
    json!({ "services": services, "problems": all })
}

pub(super) fn service(table: &Table, entry: &Entry) -> Value {
    let name = &entry.service.name;
    let mut all = problems(&table.problems_of(entry));
    all.extend(complaints_about(table, name, Some(entry)).map(str::to_owned));
    json!({
        "service": name.to_string(),
        "ports": ports(table, entry).map(|view| port(&view)).collect::<Vec<_>>(),
        "notProxied": entry.skipped.map(|skipped| skipped.reason()),
        "problems": all,
    })
}

pub(super) fn unknown_service(table: &Table, name: &NamespacedName) -> Value {
    let why = why_unknown(table, name);
    let problems: Vec<&str> = complaints_about(table, name, None).collect();
    json!({ "service": name.to_string(), "ports": [], "notProxied": why, "problems": problems })
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

fn problems(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn strings(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}
