//! cases/topology-cases.json, on CategorizeEndpoints alone and through a whole table.

use std::net::SocketAddr;

use portico::routing::Settings;
use portico::routing::categorize::{Candidate, Uses, Whereabouts, categorize};
use portico::types::{
    Conditions, Endpoint, IpFamily, NamespacedName, Protocol, ServiceType, TrafficPolicy,
};
use serde_json::Value;

use super::world::*;

fn conditions(endpoint: &Value) -> Conditions {
    let is = |field: &str| endpoint[field].as_bool().expect(field);
    Conditions {
        ready: is("ready"),
        serving: is("serving"),
        terminating: is("terminating"),
    }
}

fn address(endpoint: &Value) -> SocketAddr {
    text(endpoint, "ep").parse().expect("ip:port")
}

fn strings(list: Option<&[SocketAddr]>) -> Vec<String> {
    let mut strings: Vec<_> = list
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect();
    strings.sort_unstable();
    strings
}

#[test]
fn endpoints_are_categorized_as_upstream_does() {
    for case in list(&cases("topology-cases.json")["cases"]) {
        let id = text(case, "id");
        let all_hints: Vec<_> = list(&case["endpoints"])
            .iter()
            .map(|endpoint| hints(&texts(&endpoint["zones"]), &texts(&endpoint["nodes"])))
            .collect();
        let candidates: Vec<Candidate<'_>> = list(&case["endpoints"])
            .iter()
            .zip(&all_hints)
            .map(|(endpoint, hints)| Candidate {
                address: address(endpoint),
                conditions: conditions(endpoint),
                local: endpoint["local"].as_bool().expect("local"),
                hints: hints.as_deref(),
            })
            .collect();
        let internal_local = text(case, "internal_policy") == "Local";
        let external_local = text(case, "external_policy") == "Local";
        let external = case["node_port"] != 0;
        let uses = Uses {
            cluster: !internal_local || external,
            local: internal_local || (external_local && external),
        };
        let place = Whereabouts {
            node: text(case, "node"),
            zone: case["zone"].as_str().unwrap_or_default(),
            node_hints: case["node_hints_enabled"]
                .as_bool()
                .expect("node_hints_enabled"),
        };
        let result = categorize(&candidates, uses, place);
        let expect = &case["expect"];
        assert_eq!(
            strings(result.cluster.as_deref()),
            sorted(&expect["cluster"]),
            "{id} cluster"
        );
        assert_eq!(
            strings(result.local.as_deref()),
            sorted(&expect["local"]),
            "{id} local"
        );
        assert_eq!(
            strings(Some(&result.all())),
            sorted(&expect["all"]),
            "{id} all"
        );
        assert_eq!(result.has_any, expect["has_any"], "{id} has_any");
    }
}

#[test]
fn explain_lists_the_same() {
    let mut skipped = 0;
    for case in list(&cases("topology-cases.json")["cases"]) {
        let id = text(case, "id");
        let hinted = |endpoint: &Value| !texts(&endpoint["nodes"]).is_empty();
        if case["node_hints_enabled"] == false && list(&case["endpoints"]).iter().any(hinted) {
            // In the product they are always enabled.
            skipped += 1;
            continue;
        }
        let us = Some(text(case, "node"))
            .filter(|name| !name.is_empty())
            .unwrap_or("us");
        let endpoints = list(&case["endpoints"]).iter().map(|endpoint| Endpoint {
            ip: address(endpoint).ip(),
            conditions: conditions(endpoint),
            node: endpoint["local"]
                .as_bool()
                .filter(|local| *local)
                .map(|_| us.into()),
            hints: hints(&texts(&endpoint["zones"]), &texts(&endpoint["nodes"])),
        });
        let node_port = case["node_port"].as_u64().expect("node_port") as u16;
        let mut web = service(
            "ns/web",
            &["172.30.0.1"],
            vec![port("", Protocol::Tcp, 80, node_port)],
        );
        web.kind = if node_port == 0 {
            ServiceType::ClusterIp
        } else {
            ServiceType::NodePort
        };
        let policy = |field: &str| match text(case, field) {
            "Local" => TrafficPolicy::Local,
            _ => TrafficPolicy::Cluster,
        };
        web.internal_traffic_policy = policy("internal_policy");
        web.external_traffic_policy = policy("external_policy");
        let slices = vec![slice(
            "ns/web",
            1,
            IpFamily::V4,
            &[("", Protocol::Tcp, 80)],
            endpoints.collect(),
        )];
        let mut world = World::with(web, slices);
        world.node = Some(node(us, case["zone"].as_str(), &["192.168.0.1"], &[]));
        let settings = Settings {
            node_name: us.into(),
            ..Settings::default()
        };
        let answer = explain_service(&world.table(&settings), &NamespacedName::new("ns", "web"));
        let port = &answer["ports"][0];
        for field in ["cluster", "local", "all"] {
            let expect = &case["expect"][field];
            assert_eq!(sorted(&port[field]), sorted(expect), "{id} {field}");
            assert_eq!(port[field].is_null(), expect.is_null(), "{id} {field}");
        }
        assert_eq!(port["hasAny"], case["expect"]["has_any"], "{id}");
        for endpoint in list(&port["endpoints"]) {
            let used = sorted(&port["all"]).contains(&text(endpoint, "address").to_owned());
            assert_eq!(endpoint["used"], used, "{id} {endpoint}");
            assert!(!text(endpoint, "reason").is_empty());
        }
    }
    assert!(skipped <= 2, "{skipped}");
}
