//! cases/flow-cases.json through the table and explain. (As real connections: see the portal's and the proxier's tests.)

use portico::routing::{DetectLocal, Flow, NodePortAddresses, Settings};
use portico::types::{Conditions, Endpoint, IpFamily, Protocol, ServiceType, TrafficPolicy};
use serde_json::Value;

use super::world::*;

/// The environment and one group, as a state of the cluster.
pub fn world_of(environment: &Value, group: &Value) -> World {
    let mut world = World {
        node: Some(node(
            text(environment, "node_name"),
            None,
            &texts(&environment["primary_node_ips"]),
            &texts(&environment["pod_cidrs"]),
        )),
        service_cidrs: texts(&environment["service_cidrs"])
            .into_iter()
            .map(net)
            .collect(),
        host_addresses: texts(&environment["node_ips"])
            .into_iter()
            .map(ip)
            .collect(),
        ..World::default()
    };
    for of in list(&group["services"]) {
        add_service(&mut world, of, list(&group["endpoints"][text(of, "name")]));
    }
    world
}

fn add_service(world: &mut World, of: &Value, endpoints: &[Value]) {
    let number = |port: &Value, field: &str| port[field].as_u64().expect(field) as u16;
    let protocol = |port: &Value| Protocol::parse(text(port, "protocol")).expect("a protocol");
    let ports = list(&of["ports"]);
    let name = text(of, "name");
    let cluster_ip = text(of, "cluster_ip");
    let service_ports = ports
        .iter()
        .map(|p| {
            port(
                text(p, "name"),
                protocol(p),
                number(p, "port"),
                number(p, "node_port"),
            )
        })
        .collect();
    let mut service = service(name, &[cluster_ip], service_ports);
    let policy = |field: &str| match text(of, field) {
        "Local" => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    };
    service.internal_traffic_policy = policy("internal_policy");
    service.external_traffic_policy = policy("external_policy");
    service.external_ips = texts(&of["external_ips"]).into_iter().map(ip).collect();
    service.load_balancer_ips = texts(&of["lb_ips"]).into_iter().map(ip).collect();
    service.source_ranges = texts(&of["source_ranges"]).into_iter().map(net).collect();
    service.kind = if !service.load_balancer_ips.is_empty() {
        ServiceType::LoadBalancer
    } else if service.ports.iter().any(|port| port.node_port != 0) {
        ServiceType::NodePort
    } else {
        ServiceType::ClusterIp
    };
    // The cases do not have it; the apiserver would.
    service.health_check_node_port = 32000;
    let endpoint_ports: Vec<_> = ports
        .iter()
        .map(|p| (text(p, "name"), protocol(p), number(p, "endpoint_port")))
        .collect();
    let endpoints = endpoints.iter().map(|endpoint| {
        let is = |field: &str| endpoint[field].as_bool().expect(field);
        Endpoint {
            ip: ip(text(endpoint, "ip")),
            conditions: Conditions {
                ready: is("ready"),
                serving: is("serving"),
                terminating: is("terminating"),
            },
            node: endpoint["node"].as_str().map(Into::into),
            hints: None,
        }
    });
    let family = IpFamily::of(ip(cluster_ip));
    world.add(
        service,
        vec![slice(name, 1, family, &endpoint_ports, endpoints.collect())],
    );
}

fn settings_of(environment: &Value, group: &Value) -> Settings {
    let default = &environment["nodeport_addresses_default"];
    let given = group.get("nodeport_addresses").unwrap_or(default);
    let pods = texts(&environment["pod_cidrs"])
        .into_iter()
        .map(net)
        .collect();
    let detect_local = match group.get("detect_local").and_then(Value::as_str) {
        Some(mode) if mode.contains("none") || mode.contains("off") => DetectLocal::Off,
        _ => DetectLocal::Cidrs(pods),
    };
    Settings {
        node_name: text(environment, "node_name").into(),
        detect_local,
        nodeport_addresses: NodePortAddresses::parse(&texts(given)).expect("good"),
        ..Settings::default()
    }
}

#[test]
fn connections_end_where_upstreams_do() {
    let file = cases("flow-cases.json");
    let environment = &file["environment"];
    for group in list(&file["groups"]) {
        let table = world_of(environment, group).table(&settings_of(environment, group));
        assert_eq!(table.complaints(), [], "{}", text(group, "id"));
        for case in list(&group["flows"]) {
            let to = std::net::SocketAddr::new(
                ip(text(case, "to")),
                case["port"].as_u64().expect("port") as u16,
            );
            let to = format!("{to}/{}", text(case, "protocol"));
            let flow = Flow::parse(text(case, "from"), &to).expect("a flow");
            let answer = explain_flow(&table, flow);
            let context = format!("{} {case}: {answer}", text(group, "id"));
            let verdict = match &case["expect"] {
                Value::Array(_) => "endpoints",
                expect if expect == "REJECT" => "reject",
                expect if expect == "DROP" => "drop",
                expect if expect == "NOT_MATCHED" => "not-matched",
                other => panic!("unknown expectation {other}"),
            };
            assert_eq!(answer["verdict"], verdict, "{context}");
            let endpoints = if verdict == "endpoints" {
                sorted(&case["expect"])
            } else {
                Vec::new()
            };
            assert_eq!(sorted(&answer["endpoints"]), endpoints, "{context}");
        }
    }
}
