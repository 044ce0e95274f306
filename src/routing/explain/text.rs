//! Answers as text for people.

use std::net::SocketAddr;

use super::known::{Known, Totals};
use super::request::Filter;
use super::view::{PortView, ports};
use crate::routing::entry::{Placement, ServiceEntry, Serving};
use crate::routing::{Decision, Frontend, Target};
use crate::types::{NamespacedName, Service, ServiceType, Subject, TrafficPolicy};

/// In the table of everything a port's endpoints are listed up to this number.
const MAX_LISTED: usize = 4;

pub(super) fn decision(decision: &Decision) -> String {
    let mut text = decision.verdict.as_str().to_owned();
    if !decision.endpoints.is_empty() {
        text.push(' ');
        text.push_str(&join(&decision.endpoints));
    }
    format!("{text}\n{}\n", decision.reason)
}

pub(super) fn everything(known: Known<'_>, filter: &Filter) -> String {
    let (entries, complaints) = (known.entries(filter), known.complaints(filter));
    let mut text = totals(&Totals::of(&entries, &complaints));
    if !filter.problems_only {
        text.push_str(&table(known, &entries));
    }
    for complaint in complaints {
        text.push_str(&format!("! {complaint}\n"));
    }
    text
}

fn totals(totals: &Totals) -> String {
    let Totals {
        services,
        not_proxied,
        ports,
        without_endpoints,
        problems,
    } = totals;
    format!(
        "{services} Services ({not_proxied} not proxied), {ports} ports ({without_endpoints} without endpoints), {problems} problems\n"
    )
}

fn table(known: Known<'_>, entries: &[&ServiceEntry]) -> String {
    let mut rows = vec![
        [
            "SERVICE PORT",
            "PROTOCOL",
            "FAMILY",
            "FRONTENDS",
            "ENDPOINTS",
        ]
        .map(String::from),
    ];
    for entry in entries {
        if let Some(skipped) = entry.skipped {
            let name = entry.service.name.to_string();
            rows.push([
                name,
                "-".into(),
                "-".into(),
                "-".into(),
                skipped.reason().into(),
            ]);
        }
        rows.extend(ports(known.table, entry).map(|view| row(&view)));
    }
    columns(&rows)
}

fn row(view: &PortView<'_>) -> [String; 5] {
    let route = &view.port.route;
    let frontends = view.port.frontends.iter();
    let frontends: Vec<String> = frontends
        .map(|f| format!("{} {}", f.frontend.kind.as_str(), f.address))
        .collect();
    let listed = &view.all[..view.all.len().min(MAX_LISTED)];
    let more = match view.all.len() - listed.len() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let endpoints = match (view.all.is_empty(), view.lists.has_any) {
        (false, _) => format!("{}{more}", join(listed)),
        (true, true) => "none on this node: clients meet silence".to_owned(),
        (true, false) => "none: clients are refused".to_owned(),
    };
    [
        route.name.to_string(),
        route.name.protocol.to_string(),
        route.family.to_string(),
        frontends.join(", "),
        endpoints,
    ]
}

pub(super) fn service(known: Known<'_>, entry: &ServiceEntry) -> String {
    let service = &entry.service;
    let mut text = format!("{}: {}\n", service.name, policies(service));
    if let Some(skipped) = entry.skipped {
        text.push_str(&format!("not proxied: {}\n", skipped.reason()));
    }
    let about_it = Subject::of(&**service);
    for complaint in known.complaints_of(entry) {
        match complaint.subject == about_it {
            true => text.push_str(&format!("! {}\n", complaint.problem)),
            false => text.push_str(&format!("! {complaint}\n")),
        }
    }
    for view in ports(known.table, entry) {
        text.push_str(&port(&view));
    }
    text
}

pub(super) fn unknown_service(known: Known<'_>, name: &NamespacedName) -> String {
    let mut text = format!("{name}: {}\n", known.why_unknown(name));
    for complaint in known.complaints_about(name) {
        text.push_str(&format!("! {complaint}\n"));
    }
    text
}

fn policies(service: &Service) -> String {
    let kind = match service.kind {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
        ServiceType::ExternalName => "ExternalName",
    };
    let policy = |policy| match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    };
    let mut text = format!(
        "type {kind}, internalTrafficPolicy {}, externalTrafficPolicy {}",
        policy(service.internal_traffic_policy),
        policy(service.external_traffic_policy)
    );
    if let Some(timeout) = service.session_affinity {
        text.push_str(&format!(
            ", sessionAffinity ClientIP for {} s",
            timeout.as_secs()
        ));
    }
    if !service.source_ranges.is_empty() {
        let ranges: Vec<_> = service
            .source_ranges
            .iter()
            .map(ToString::to_string)
            .collect();
        text.push_str(&format!(", loadBalancerSourceRanges {}", ranges.join(", ")));
    }
    text
}

fn port(view: &PortView<'_>) -> String {
    let route = &view.port.route;
    let mut text = format!(
        "\n{} {} {}\n",
        route.name, route.name.protocol, route.family
    );
    let frontends = view.port.frontends.iter().map(|placement| {
        let kind = placement.frontend.kind.as_str();
        let outcome = outcome(placement, view.lists.has_any);
        [format!("  {kind}"), placement.address.to_string(), outcome]
    });
    let endpoints = view.endpoints.iter().map(|endpoint| {
        let used = if endpoint.used {
            "  used"
        } else {
            "  not used"
        };
        [
            used.to_owned(),
            endpoint.address.to_string(),
            endpoint.reason.clone(),
        ]
    });
    text.push_str(&columns(&frontends.chain(endpoints).collect::<Vec<_>>()));
    if view.endpoints.is_empty() {
        text.push_str("  no endpoints\n");
    }
    text
}

fn outcome(placement: &Placement, has_any: bool) -> String {
    match placement.place {
        Serving::LeftAlone => return "left alone: an address of this host".to_owned(),
        Serving::NoPortal => {
            return "not served: no portal, and not an address of this host".to_owned();
        }
        Serving::In(_) => (),
    }
    let Frontend { route, policy, .. } = &*placement.frontend;
    let target = match policy.target {
        _ if !has_any => "clients are refused: no usable endpoint".to_owned(),
        Target::Cluster => format!("one of {}", route.cluster.len()),
        Target::Local if route.local.is_empty() => {
            "silence: no usable endpoint on this node".to_owned()
        }
        Target::Local => format!("one of {} on this node", route.local.len()),
    };
    let short_cut = match policy.short_cut.is_empty() || !has_any {
        true => String::new(),
        false => format!(
            "; for local pods and this host one of {}",
            route.cluster.len()
        ),
    };
    format!("{target}{short_cut}")
}

fn join(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

/// Lines of aligned columns.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
