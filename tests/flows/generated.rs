//! On random states: what explain says of a connection is what a real one gets.
//!
//! Each lab goes through several states, so that what a change leaves behind would show. Whether explain is right is another
//! test's matter (`routing::property`).

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use super::{AT_LEAST, Case, Expect, Got, HOST, Lab, SILENCE, manifest};
use crate::routing::world::{cases, ip, list, text};
use crate::util::daemon::SOON;
use crate::util::eventually;
use crate::util::netns::Namespace;
use crate::util::rng::Rng;

const LABS: u64 = 4;
const STATES: usize = 4;
/// Connections tried in each state.
const FLOWS: usize = 40;

/// What one family's addresses are.
struct Addresses {
    cluster: &'static str,
    external: [&'static str; 2],
    balancer: &'static str,
    endpoint: &'static str,
    /// A pod's, the node's own, two from outside, of which the first is in the source ranges.
    sources: [&'static str; 4],
    node: &'static str,
    ranges: &'static [&'static str],
}

const V4: Addresses = Addresses {
    cluster: "172.30.0.",
    // One that is the node's own; the other ends with the Service's number.
    external: ["192.168.99.11", "198.51.100."],
    balancer: "1.2.3.",
    endpoint: "10.180.",
    sources: ["10.0.0.2", "192.168.0.2", "203.0.113.2", "203.0.113.130"],
    node: "192.168.0.2",
    ranges: &[" 203.0.113.0/25", "192.168.0.0/24", "fd00::/8"],
};

const V6: Addresses = Addresses {
    cluster: "fd00:172:30::",
    external: ["2001:db8:1::2", "2600:1::"],
    balancer: "2600:2::",
    endpoint: "fd00:10:180::",
    sources: ["fd00:10::2", "2001:db8::1", "2600:5200::1", "2600:5200::81"],
    node: "2001:db8::1",
    ranges: &["2600:5200::/121 ", "2001:db8::/64", "10.0.0.0/8"],
};

const SERVICES: usize = 4;
const ENDPOINTS: usize = 3;

fn addresses(service: usize) -> &'static Addresses {
    // Three of the four have IPv4 addresses.
    if service == 3 { &V6 } else { &V4 }
}

/// One of them is in the service range.
fn external_ip(service: usize) -> String {
    let prefix = match service {
        1 => "172.30.7.",
        _ => addresses(service).external[1],
    };
    format!("{prefix}{}", service + 1)
}

fn endpoint_ip(service: usize, number: usize) -> String {
    let (prefix, number) = (addresses(service).endpoint, number + 1);
    match service {
        3 => format!("{prefix}{number}"),
        _ => format!("{prefix}{service}.{number}"),
    }
}

/// A Service in the form of the cases; `full` has all that any may have.
fn service(rng: &mut Rng, number: usize, full: bool) -> Value {
    let of = addresses(number);
    let mut some = |n: usize| full || !rng.one_in(n);
    let (ported, external, balanced, ranged) = (some(3), some(2), some(3), some(2));
    let node_port = if ported { 3001 + number } else { 0 };
    let mut external_ips = vec![external_ip(number)];
    // Only one can have an address of the node on port 80.
    if matches!(number, 0 | 3) && some(2) {
        external_ips.push(of.external[0].to_owned());
    }
    let mut policy = || *rng.choose(&["Cluster", "Local"]);
    let (internal, outer) = (policy(), policy());
    let ranges: Vec<&str> = of
        .ranges
        .iter()
        .copied()
        .filter(|_| rng.one_in(2))
        .collect();
    json!({
        "name": format!("ns1/svc{number}"),
        "cluster_ip": format!("{}{}", of.cluster, 41 + number),
        "ports": [{"name": "p80", "port": 80, "protocol": "TCP", "node_port": node_port, "endpoint_port": 80}],
        "internal_policy": internal,
        "external_policy": outer,
        "external_ips": if external { external_ips } else { Vec::new() },
        "lb_ips": if balanced { vec![format!("{}{}", of.balancer, number + 1)] } else { Vec::new() },
        "source_ranges": if ranged { ranges } else { Vec::new() },
        "affinity": if rng.one_in(4) { "ClientIP" } else { "None" },
    })
}

fn endpoints(rng: &mut Rng, service: usize, full: bool) -> Value {
    let mut all = Vec::new();
    let hinted = rng.one_in(2);
    for number in 0..ENDPOINTS {
        if !full && rng.one_in(3) {
            continue;
        }
        let (ready, serving, terminating) = *rng.choose(&[
            (true, true, false),
            (true, true, false),
            (false, false, false),
            (false, true, true),
        ]);
        let zones: Vec<Value> = ["a", "b"]
            .into_iter()
            .filter(|_| hinted && !rng.one_in(3))
            .map(|zone| json!({"name": zone}))
            .collect();
        all.push(json!({
            "ip": endpoint_ip(service, number), "node": rng.choose(&["test-node", "other-node", "other-node"]),
            "ready": ready, "serving": serving, "terminating": terminating, "zones": zones,
        }));
    }
    all.into()
}

/// A state in the form of the cases. The marker tells when it is in force.
fn state(rng: &mut Rng, number: usize, full: bool) -> Value {
    let mut services = Vec::new();
    let mut of_services = serde_json::Map::new();
    for i in 0..SERVICES {
        if full || !rng.one_in(8) {
            let service = service(rng, i, full);
            of_services.insert(text(&service, "name").to_owned(), endpoints(rng, i, full));
            services.push(service);
        }
    }
    let mut marker = service(rng, SERVICES, true);
    for (field, value) in [
        ("name", json!("ns1/marker")),
        ("cluster_ip", json!("172.30.9.9")),
        ("internal_policy", json!("Cluster")),
        ("external_ips", json!([])),
        ("lb_ips", json!([])),
    ] {
        marker[field] = value;
    }
    marker["ports"][0]["node_port"] = json!(0);
    // The last of the slices: when it is there, all are.
    let endpoint = json!({"ip": marker_ip(number), "node": null, "ready": true, "serving": true, "terminating": false});
    of_services.insert("ns1/marker".to_owned(), json!([endpoint]));
    services.push(marker);
    json!({"id": format!("state {number}"), "services": services, "endpoints": of_services})
}

fn marker_ip(number: usize) -> String {
    format!("10.180.9.{}", number + 1)
}

/// Whether the running program has taken in all of a state.
fn in_force(lab: &Lab, state: &Value) -> bool {
    let services = list(&state["services"]);
    let marker = &state["endpoints"]["ns1/marker"][0]["ip"];
    let expect: BTreeSet<&str> = services
        .iter()
        .map(|service| text(service, "name"))
        .collect();
    let all = lab.explain_by(&[]);
    let Some(known) = all["services"].as_array() else {
        return false;
    };
    let names: BTreeSet<&str> = known
        .iter()
        .map(|service| text(service, "service"))
        .collect();
    let marked = known.iter().any(|service| {
        let endpoint = service["ports"][0]["all"][0].as_str().unwrap_or_default();
        Some(endpoint) == marker.as_str().map(|ip| format!("{ip}:80")).as_deref()
    });
    names == expect && marked
}

fn flow(from: &str, to: &str, port: u16, protocol: &'static str) -> Case {
    Case {
        from: ip(from),
        to: (ip(to), port).into(),
        protocol,
        // Until explain has said it.
        expect: Expect::NotMatched,
    }
}

/// Every Service at every address that it may have, over both protocols, from everywhere.
fn all_flows() -> Vec<Case> {
    let mut flows = Vec::new();
    for i in 0..SERVICES {
        let of = addresses(i);
        let with = |prefix: &str, number: usize| format!("{prefix}{number}");
        let frontends = [
            (with(of.cluster, 41 + i), 80),
            (with(of.cluster, 41 + i), 81),
            (of.external[0].to_owned(), 80),
            (external_ip(i), 80),
            (external_ip(i), 81),
            (with(of.balancer, i + 1), 80),
            (of.node.to_owned(), 3001 + i as u16),
        ];
        for (to, port) in frontends {
            for from in of.sources {
                flows.extend(["TCP", "UDP"].map(|protocol| flow(from, &to, port, protocol)));
            }
        }
    }
    flows
}

#[test]
fn what_explain_says_is_what_a_connection_gets() {
    let Some(_) = Namespace::new("possible") else {
        return;
    };
    let mut environment = cases("flow-cases.json")["environment"].clone();
    environment["zone"] = json!("a");
    thread::scope(|scope| {
        for seed in 0..LABS {
            let environment = &environment;
            scope.spawn(move || play(environment, seed));
        }
    });
}

fn play(environment: &Value, seed: u64) {
    let mut rng = Rng::new(seed);
    let all = state(&mut rng, 0, true);
    let flows = all_flows();
    let Some(lab) = Lab::new(environment, &all, &flows) else {
        return;
    };
    let mut seen = BTreeSet::new();
    for number in 1..=STATES {
        let state = state(&mut rng, number, false);
        lab.folder
            .write("objects.json", &manifest(environment, &state).to_string());
        eventually(SOON, "the state", || in_force(&lab, &state).then_some(()));
        let chosen: Vec<&Case> = (0..FLOWS).map(|_| rng.choose(&flows)).collect();
        thread::scope(|scope| {
            let tries: Vec<_> = chosen
                .into_iter()
                .map(|case| scope.spawn(|| agrees(&lab, &state, case)))
                .collect();
            for one in tries {
                match one.join() {
                    Ok(verdict) => drop(seen.insert(verdict)),
                    Err(panic) => {
                        eprintln!("seed {seed}, {state:#}");
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        });
    }
    assert_eq!(seen.len(), 4, "some verdict never came up: {seen:?}");
    assert_eq!(lab.portico.logged("[ERROR]"), 0, "{}", lab.portico.log());
}

/// Tries one connection; says what explain said.
fn agrees(lab: &Lab, state: &Value, case: &Case) -> &'static str {
    let said = lab.explain(case);
    let context = format!("{case:?}: {said}");
    let case = Case {
        expect: Expect::said(&said),
        ..case.clone()
    };
    let service = list(&state["services"]).iter().find(|service| {
        let name = said["servicePort"].as_str().unwrap_or_default();
        name.split(':').next() == service["name"].as_str()
    });
    let is = |field: &str, value: &str| service.is_some_and(|service| service[field] == value);
    match &case.expect {
        Expect::Endpoints(expected) if is("affinity", "ClientIP") => {
            let got: Vec<Got> = (0..AT_LEAST).map(|_| lab.ask(&case, SOON)).collect();
            let Got::Answer(first) = &got[0] else {
                panic!("{context}: {got:?}");
            };
            assert!(expected.contains(first), "{context}: {got:?}");
            assert!(got.iter().all(|one| *one == got[0]), "{context}: {got:?}");
        }
        Expect::Reject if said["frontend"] == "loadBalancerIP" => {
            // Where sources outside the ranges meet silence there is a socket; it refuses only after the handshake.
            let got = lab.ask(&case, SILENCE);
            let refused = match &got {
                Got::Refusal => true,
                Got::Other(error) => error.contains("reset by peer"),
                Got::Silence => case.protocol == "UDP",
                Got::Answer(_) => false,
            };
            assert!(refused, "{context}: {got:?}");
        }
        // The kernel sends few ICMP errors a second to one client: some of many datagrams meet silence.
        Expect::Reject if case.protocol == "UDP" => {
            eventually(2 * SOON, &context, || match lab.ask(&case, SILENCE / 4) {
                Got::Refusal => Some(()),
                Got::Silence => None,
                other => panic!("{context}: {other:?}"),
            });
        }
        // Nobody answers for us: nothing is there, or the network says so; but never an endpoint.
        Expect::NotMatched => {
            let got = lab.ask(&case, SILENCE);
            let host = Got::Answer(HOST.to_owned());
            assert!(
                !matches!(&got, Got::Answer(_)) || got == host,
                "{context}: {got:?}"
            );
        }
        Expect::Endpoints(_) | Expect::Reject | Expect::Drop => lab.tried("generated", &case),
    }
    case.expect.verdict()
}
