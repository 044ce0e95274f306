//! `portico explain --manifests`: what a script sees of it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::routing::world::{list, sorted};
use crate::util::daemon::{Daemon, SOON};
use crate::util::netns::Namespace;
use crate::util::{Folder, eventually};

/// Runs it on these objects.
fn explain(objects: &[Value], args: &[&str]) -> Output {
    let folder = Folder::new();
    let all = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let path = folder.write("objects.json", &all.to_string());
    Command::new(env!("CARGO_BIN_EXE_portico"))
        .args(["explain", "--output=json", "--manifests"])
        .arg(path)
        .args(args)
        .output()
        .expect("portico runs")
}

/// The one JSON document on stdout, after which there is nothing.
#[track_caller]
fn answer(objects: &[Value], args: &[&str]) -> Value {
    let output = explain(objects, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{args:?}: {error}: {output:?}"))
}

fn named(kind: &str, api: &str, name: &str, fields: Value) -> Value {
    let mut object =
        json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "ns"}});
    merge(&mut object, fields);
    object
}

/// Fields of `more` over those of `object`, objects member by member.
fn merge(object: &mut Value, more: Value) {
    match (object, more) {
        (Value::Object(fields), Value::Object(more)) => {
            for (name, value) in more {
                merge(fields.entry(name).or_insert(Value::Null), value);
            }
        }
        (object, more) => *object = more,
    }
}

/// A Service of every field, with one endpoint at 10.0.`number`.1.
fn pair(name: &str, number: usize) -> [Value; 2] {
    let service = named(
        "Service",
        "v1",
        name,
        json!({
            "metadata": {"labels": {"app": "web"}, "annotations": {}},
            "spec": {
                "type": "LoadBalancer", "clusterIP": format!("172.30.{number}.1"), "clusterIPs": [format!("172.30.{number}.1")],
                "ipFamilies": ["IPv4"], "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
                "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster", "healthCheckNodePort": 32000 + number,
                "externalIPs": [format!("198.51.{number}.1")], "loadBalancerSourceRanges": ["203.0.113.0/24"],
                "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30000 + number}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": format!("198.51.{number}.2"), "ipMode": "VIP"}]}},
        }),
    );
    let slice = named(
        "EndpointSlice",
        "discovery.k8s.io/v1",
        &format!("{name}-1"),
        json!({
            "metadata": {
                "labels": {"kubernetes.io/service-name": name},
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
            },
            "addressType": "IPv4", "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
            "endpoints": [{
                "addresses": [format!("10.0.{number}.1")], "nodeName": "n1",
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]},
            }],
        }),
    );
    [service, slice]
}

fn node() -> Value {
    named(
        "Node",
        "v1",
        "n1",
        json!({
            "metadata": {"labels": {"topology.kubernetes.io/zone": "a"}},
            "spec": {"podCIDR": "10.0.0.0/16", "podCIDRs": ["10.0.0.0/16"], "taints": [{"key": "x"}]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}]},
        }),
    )
}

fn service_cidr() -> Value {
    named(
        "ServiceCIDR",
        "networking.k8s.io/v1",
        "kubernetes",
        json!({"spec": {"cidrs": ["172.30.0.0/16"]}}),
    )
}

/// Every place in an object with something in it that a proxy reads, as a JSON pointer and as problems write it.
fn places(value: &Value, pointer: &str, path: &str, found: &mut Vec<(String, String)>) {
    if !pointer.is_empty() {
        found.push((pointer.to_owned(), path.to_owned()));
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = match (path, name.contains('/')) {
                    ("", _) => name.clone(),
                    (_, true) => format!("{path}[{name}]"),
                    (_, false) => format!("{path}.{name}"),
                };
                let pointer = format!("{pointer}/{}", name.replace('/', "~1"));
                places(value, &pointer, &path, found);
            }
        }
        Value::Array(elements) => {
            for (i, value) in elements.iter().enumerate() {
                places(
                    value,
                    &format!("{pointer}/{i}"),
                    &format!("{path}[{i}]"),
                    found,
                );
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What this place cannot hold: another type, and where there is a range what is below and above it.
fn wrong(right: &Value, path: &str) -> Vec<Value> {
    let mut wrong = vec![
        json!([[7]]),
        json!({"x": {}}),
        json!(true),
        json!(-1),
        json!(1.5),
        json!("bogus/"),
    ];
    // What these say is free text.
    let free = [
        "name",
        "nodeName",
        "zone]",
        "key",
        "type",
        "service-name]",
        "nodeName",
    ];
    wrong.retain(|value| match (right, value) {
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => false,
        (Value::Bool(_), Value::Bool(_)) => false,
        (Value::String(_), Value::String(_)) => !free.iter().any(|end| path.ends_with(end)),
        _ => true,
    });
    if right.is_number() {
        wrong.extend([json!(65536_u64 << 20), json!(u64::MAX)]);
    }
    wrong
}

/// Not read, or of no meaning beyond that they are there.
const UNREAD: [&str; 5] = [
    // Without it there is no name to name; see below.
    "metadata",
    "apiVersion",
    "kind",
    "metadata.labels.app",
    "metadata.resourceVersion",
];

/// Each kind of object with each of its fields wrong in turn: all others go on, and it is named in explain and in the log.
#[test]
fn a_field_that_is_wrong_is_named_and_costs_nobody_else() {
    let mut bad = Vec::new();
    let [service, slice] = pair("bad", 7);
    for object in [service, slice] {
        let mut found = Vec::new();
        places(&object, "", "", &mut found);
        found.retain(|(_, path)| {
            !UNREAD.contains(&path.as_str()) && !path.starts_with("metadata.name")
        });
        assert!(found.len() > 20, "{found:?}");
        for (pointer, path) in found {
            let right = object.pointer(&pointer).expect("a place");
            for wrong in wrong(right, &path) {
                bad.push((object["kind"].clone(), pointer.clone(), path.clone(), wrong));
            }
        }
    }
    assert!(bad.len() > 200, "{}", bad.len());
    let mut missed = Vec::new();
    for part in bad.chunks(40) {
        let mut objects: Vec<Value> = pair("good", 1)
            .into_iter()
            .chain([node(), service_cidr()])
            .collect();
        for (i, (kind, pointer, _, wrong)) in part.iter().enumerate() {
            let mut objects_of_it = pair(&format!("bad-{i}"), 100 + i);
            let which = usize::from(kind != "Service");
            *objects_of_it[which].pointer_mut(pointer).expect("a place") = wrong.clone();
            objects.extend(objects_of_it);
        }
        let output = explain(&objects, &["--hostname-override=n1"]);
        let log = String::from_utf8_lossy(&output.stderr);
        let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let good = list(&all["services"])
            .iter()
            .find(|one| one["service"] == "ns/good");
        let good = good.expect("the good one");
        assert_eq!(good["ports"][0]["all"], json!(["10.0.1.1:8080"]));
        assert_eq!(good["problems"], json!([]));
        for (i, (kind, _, path, wrong)) in part.iter().enumerate() {
            let about = |line: &str| {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
                let named = line
                    .split(|c| !word(c))
                    .any(|part| part == format!("bad-{i}") || part == format!("bad-{i}-1"));
                // An element's or a member's own mistake is said of the whole, too.
                named && (line.contains(path) || path.starts_with("metadata"))
            };
            let problems: Vec<&str> = list(&all["problems"])
                .iter()
                .filter_map(Value::as_str)
                .collect();
            if !problems.iter().any(|problem| about(problem)) || !log.lines().any(about) {
                missed.push(format!("{kind} {path} {wrong}"));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The same for objects of which there is one.
#[test]
fn a_node_or_range_that_is_wrong_is_named_and_costs_no_service() {
    for (object, other) in [(node(), service_cidr()), (service_cidr(), node())] {
        let mut found = Vec::new();
        places(&object, "", "", &mut found);
        let skip = |path: &str| {
            UNREAD.contains(&path) || path == "metadata" || path.starts_with("metadata.name")
        };
        found.retain(|(_, path)| !skip(path) && path != "spec.podCIDR");
        for (pointer, path) in found {
            let right = object.pointer(&pointer).expect("a place");
            // One of each sort is enough: a run each.
            for wrong in wrong(right, &path).into_iter().skip(2).step_by(3) {
                let mut object = object.clone();
                *object.pointer_mut(&pointer).expect("a place") = wrong.clone();
                let mut objects: Vec<Value> = pair("good", 1).to_vec();
                objects.extend([object, other.clone()]);
                let output = explain(&objects, &["--hostname-override=n1"]);
                let log = String::from_utf8_lossy(&output.stderr);
                let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
                let context = format!("{path} {wrong}: {all}");
                assert_eq!(all["services"][0]["ports"][0]["hasAny"], true, "{context}");
                let problems = list(&all["problems"]).iter().filter_map(Value::as_str);
                assert!(
                    problems.clone().any(|problem| problem.contains(&path)),
                    "{context}"
                );
                assert!(log.contains(&path), "{context}\n{log}");
            }
        }
    }
}

/// Objects that can mean nothing, or that cannot even be named.
#[test]
fn objects_without_meaning_are_named_as_far_as_they_can_be() {
    let change = |slice: usize, pointer: &str, value: Value| {
        let mut object = pair("bad", 7)[slice].clone();
        *object.pointer_mut(pointer).expect(pointer) = value;
        object
    };
    let table = [
        (
            change(0, "/spec", json!(5)),
            "Service ns/bad: spec: expected an object, found a number",
        ),
        (
            change(0, "/spec", json!(null)),
            "Service ns/bad: spec: missing",
        ),
        (
            change(0, "/metadata/name", json!(null)),
            "Service: metadata.name: missing",
        ),
        (
            change(0, "/metadata/namespace", json!(7)),
            "Service bad: metadata.namespace: expected a string",
        ),
        (
            change(0, "/kind", json!(null)),
            "object ns/bad: kind: missing",
        ),
        (
            change(1, "/addressType", json!(null)),
            "EndpointSlice ns/bad-1: addressType: missing",
        ),
        (
            change(1, "/metadata/labels", json!({})),
            "EndpointSlice ns/bad-1: metadata.labels[kubernetes.io/service-name]: missing",
        ),
        (
            pair("good", 1)[0].clone(),
            "Service ns/good: defined more than once in ",
        ),
        (json!(5), "object: kind: missing"),
    ];
    for (object, expect) in table {
        let mut objects: Vec<Value> = pair("good", 1).to_vec();
        objects.push(object);
        let output = explain(&objects, &[]);
        let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let good = list(&all["services"])
            .iter()
            .find(|one| one["service"] == "ns/good");
        assert_eq!(
            good.expect("the good one")["ports"][0]["hasAny"],
            true,
            "{expect}"
        );
        let problems = list(&all["problems"]).iter().filter_map(Value::as_str);
        assert!(
            problems.clone().any(|problem| problem.starts_with(expect)),
            "{expect}: {all}"
        );
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(expect),
            "{expect}: {output:?}"
        );
    }
    let mut alone = change(1, "/endpoints/0/addresses", json!(["10.0.0.0.1"]));
    alone["ports"][0]["port"] = json!(0);
    let found = answer(&[alone.clone(), pair("good", 1)[0].clone()], &[]);
    let said = [
        r#"EndpointSlice ns/bad-1: endpoints[0].addresses[0]: "10.0.0.0.1" is no IP address (there is no Service ns/bad)"#,
        r#"EndpointSlice ns/bad-1: ports[0].port: 0 is no port (there is no Service ns/bad)"#,
    ];
    assert_eq!(found["problems"], json!(said));
    // With its Service it is that one's, and said once.
    let found = answer(&[alone, change(0, "/kind", json!("Service"))], &[]);
    let problems = list(&found["problems"]).iter().filter_map(Value::as_str);
    let problems: Vec<&str> = problems.filter(|it| it.contains("ns/bad-1")).collect();
    assert!(
        problems.len() == 2 && problems.iter().all(|it| it.ends_with(" (Service ns/bad)")),
        "{problems:?}"
    );
    let broken = change(0, "/spec", json!(5));
    let found = answer(&[broken], &["ns/bad"]);
    assert_eq!(found["notProxied"], "its object cannot be used");
    assert_eq!(list(&found["problems"]).len(), 1, "{found}");
}

/// Flags, forms and keywords: `args`, then what is expected of the connection.
#[test]
fn flags_and_forms() {
    let mut objects = pair("web", 1).to_vec();
    objects[0]["spec"]["loadBalancerSourceRanges"] = json!([" 203.0.113.0/25 ", "2001:db8::/32"]);
    objects.extend([node(), service_cidr()]);
    let all = ["10.0.1.1:8080"];
    let table: [(&[&str], &str, &[&str], &str); 17] = [
        (
            &["--from=10.9.9.9", "--to=172.30.1.1:80"],
            "endpoints",
            &all,
            "clusterIP",
        ),
        (
            &[
                "--from",
                "::ffff:10.9.9.9",
                "--to",
                "[::ffff:172.30.1.1]:80/tcp",
            ],
            "endpoints",
            &all,
            "clusterIP",
        ),
        (
            &["--from=10.9.9.9", "--to=172.30.1.1:80/UDP"],
            "reject",
            &[],
            "",
        ),
        (
            &["--from=10.9.9.9", "--to=172.30.1.1:81"],
            "reject",
            &[],
            "",
        ),
        (
            &["--from=10.9.9.9", "--to=172.30.200.1:80"],
            "drop",
            &[],
            "",
        ),
        (
            &["--from=10.9.9.9", "--to=8.8.8.8:53/UDP"],
            "not-matched",
            &[],
            "",
        ),
        (
            &["--from=203.0.113.9", "--to=198.51.1.1:80"],
            "endpoints",
            &all,
            "externalIP",
        ),
        (
            &["--from=203.0.113.9", "--to=198.51.1.2:80"],
            "endpoints",
            &all,
            "loadBalancerIP",
        ),
        (
            &["--from=203.0.113.129", "--to=198.51.1.2:80"],
            "drop",
            &[],
            "loadBalancerIP",
        ),
        (
            &["--from=203.0.113.129", "--to=192.168.0.2:30001"],
            "endpoints",
            &all,
            "nodePort",
        ),
        (
            &[
                "--nodeport-addresses=localhost",
                "--from=10.9.9.9",
                "--to=192.168.0.2:30001",
            ],
            "not-matched",
            &[],
            "",
        ),
        (
            &[
                "--nodeport-addresses=localhost",
                "--from=127.0.0.1",
                "--to=127.0.0.1:30001",
            ],
            "endpoints",
            &all,
            "nodePort",
        ),
        (
            &[
                "--nodeport-addresses=primary",
                "--from=10.9.9.9",
                "--to=192.168.0.2:30001",
            ],
            "endpoints",
            &all,
            "nodePort",
        ),
        (
            &[
                "--nodeport-addresses=fd00::/8",
                "--from=10.9.9.9",
                "--to=192.168.0.2:30001",
            ],
            "endpoints",
            &all,
            "nodePort",
        ),
        (
            &[
                "--nodeport-addresses=10.0.0.0/8",
                "--from=10.9.9.9",
                "--to=192.168.0.2:30001",
            ],
            "not-matched",
            &[],
            "",
        ),
        // Another node: its endpoint is not local, and only what comes from our pods gets it all the same.
        (
            &[
                "--hostname-override=n2",
                "--from=203.0.113.9",
                "--to=198.51.1.1:80",
            ],
            "drop",
            &[],
            "externalIP",
        ),
        (
            &[
                "--hostname-override=n2",
                "--cluster-cidr=10.9.0.0/16",
                "--from=10.9.9.9",
                "--to=198.51.1.1:80",
            ],
            "endpoints",
            &all,
            "externalIP",
        ),
    ];
    for (args, verdict, endpoints, frontend) in table {
        let found = answer(&objects, args);
        assert_eq!(found["verdict"], verdict, "{args:?}: {found}");
        assert_eq!(sorted(&found["endpoints"]), endpoints, "{args:?}: {found}");
        assert_eq!(
            found["frontend"].as_str().unwrap_or_default(),
            frontend,
            "{args:?}: {found}"
        );
        let whose = if frontend.is_empty() {
            json!(null)
        } else {
            json!("ns/web:http")
        };
        assert_eq!(found["servicePort"], whose, "{args:?}: {found}");
    }
    // In NodeCIDR mode the Node's range is the pods', and --cluster-cidr is not.
    objects[3] = service_cidr();
    let mut far = pair("far", 2);
    far[1]["endpoints"][0]["nodeName"] = json!("n2");
    objects.extend(far);
    let node_cidr = [
        "--detect-local-mode=NodeCIDR",
        "--cluster-cidr=10.9.0.0/16",
        "--to=198.51.2.1:80",
    ];
    for (from, verdict) in [
        ("--from=10.0.3.4", "endpoints"),
        ("--from=10.9.9.9", "drop"),
    ] {
        let args = [&[from][..], &node_cidr].concat();
        assert_eq!(answer(&objects, &args)["verdict"], verdict, "{from}");
    }
    // Options stand before and after; an unknown Service is an answer, too.
    for args in [
        ["ns/web", "--hostname-override=n1"],
        ["--hostname-override=n1", "ns/web"],
    ] {
        assert_eq!(answer(&objects, &args)["ports"][0]["local"], json!(all));
    }
    assert_eq!(answer(&objects, &["ns/none"])["ports"], json!([]));
    // Of several Nodes none is ours without a word.
    objects.push(named("Node", "v1", "n2", json!({})));
    let found = answer(&objects, &["--from=10.9.9.9", "--to=192.168.0.2:30001"]);
    assert_eq!(found["verdict"], "not-matched");
}

/// What the kernel does not let us have is no promise of explain's: the running program says so, and why.
#[test]
fn what_another_program_holds_is_not_promised() {
    let Some(node) = Namespace::new("node") else {
        return;
    };
    node.address("lo", "192.168.0.2/32");
    let holder = node
        .run(|| TcpListener::bind("192.168.0.2:80"))
        .expect("nobody else is here");
    let folder = Folder::new();
    let mut objects = pair("web", 1).to_vec();
    objects[0]["spec"]["externalIPs"] = json!(["192.168.0.2"]);
    objects[0]["spec"]["loadBalancerSourceRanges"] = json!([]);
    let all = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let manifests = folder.write("objects.json", &all.to_string());
    let socket = folder.path().join("sock");
    let _portico = Daemon::start(
        &node,
        &[
            "--portal=netns",
            "--healthz-bind-address=",
            "--metrics-port=0",
            "--hostname-override=n1",
            &format!("--manifests={}", manifests.display()),
            &format!("--control-socket={}", socket.display()),
        ],
    );
    let ask = |args: &[&str]| -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_portico"))
            .args(["explain", "--output=json", "--control-socket"])
            .arg(&socket)
            .args(args)
            .output()
            .expect("portico runs");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    let there = ["--from=203.0.113.9", "--to=192.168.0.2:80"];
    let why = "another program listens there";
    eventually(SOON, "the first sync", || {
        let found = ask(&there);
        let reason = found["reason"].as_str().unwrap_or_default();
        (found["verdict"] == "not-matched" && reason.contains(why)).then_some(())
    });
    for args in [&[][..], &["ns/web"]] {
        let found = ask(args);
        let problems = list(&found["problems"]).iter().filter_map(Value::as_str);
        let named =
            |problem: &str| problem.starts_with("Service ns/web: ") && problem.contains(why);
        assert_eq!(
            problems.filter(|problem| named(problem)).count(),
            1,
            "{found}"
        );
    }
    let other = ["--from=203.0.113.9", "--to=172.30.1.1:80"];
    assert_eq!(ask(&other)["verdict"], "endpoints");
    // Two of ours in each other's way: what cannot be bound is covered by what is.
    let mut far = pair("far", 2).to_vec();
    far[0]["spec"]["externalIPs"] = json!(["192.168.0.2"]);
    far[0]["spec"]["ports"][0]["port"] = json!(30001);
    objects.extend(far);
    let all = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    folder.write("objects.json", &all.to_string());
    let both = ["--from=203.0.113.9", "--to=192.168.0.2:30001"];
    eventually(SOON, "the other Service", || {
        let found = ask(&["ns/far"]);
        let problems = found["problems"].as_array()?;
        problems
            .iter()
            .any(|problem| problem.to_string().contains(why))
            .then_some(())
    });
    assert_eq!(ask(&both)["servicePort"], "ns/web:http");
    drop(holder);
    eventually(SOON, "the listener", || {
        (ask(&there)["frontend"] == "externalIP").then_some(())
    });
    assert_eq!(ask(&["ns/web"])["problems"], json!([]));
}

/// Nothing more comes of a file that is read once: there is nothing to wait for.
#[test]
fn files_that_cannot_be_used_are_said_at_once() {
    let folder = Folder::new();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pair("web", 1)});
    let good = folder.write("good.json", &list.to_string());
    let bad = folder.write("bad.yaml", "kind: [\n");
    let nowhere = folder.path().join("nowhere.yaml");
    let explain = |paths: &[&Path]| {
        let began = Instant::now();
        let paths = paths
            .iter()
            .map(|path| format!("--manifests={}", path.display()));
        let output = Command::new(env!("CARGO_BIN_EXE_portico"))
            .args(["explain", "--output=json"])
            .args(paths)
            .output()
            .expect("portico runs");
        assert!(began.elapsed() < Duration::from_secs(4), "{output:?}");
        output
    };
    for (paths, reason) in [
        (&[&*bad][..], "bad.yaml: line 2: "),
        (&[&nowhere], "nowhere.yaml: No such file"),
        (&[&nowhere, &bad], "nowhere.yaml: No such file"),
    ] {
        let output = explain(paths);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(said.contains(reason) && said.lines().count() == 1, "{said}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    // What the others say is an answer, and the bad one is named in it.
    let output = explain(&[&nowhere, &good, &bad]);
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(all["services"][0]["service"], "ns/web", "{all}");
    let problems = all["problems"].to_string();
    for reason in ["bad.yaml: line 2: ", "nowhere.yaml: No such file"] {
        assert!(problems.contains(reason), "{problems}");
    }
}
