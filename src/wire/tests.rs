//! Objects of every kind, good and bad, from JSON to types.

use std::io::{self, Read};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::manifest::ObjectError;
use super::*;
use crate::types::{
    Conditions, EndpointSlice, IpFamily, NamespacedName, Node, Problem, Problems, Protocol,
    Service, ServiceCidr, ServiceType, Subject, TrafficPolicy,
};

fn decode<T: Decode>(kind: Kind, value: &Value) -> Result<Item<T>, ItemError> {
    T::decode(kind, &value.to_string(), &mut Interner::default())
}

#[track_caller]
fn object<T: Decode>(kind: Kind, value: Value) -> T {
    let item = decode::<T>(kind, &value).expect("an identity");
    item.object.expect("a good object").expect("one for us")
}

#[track_caller]
fn service(spec: Value) -> Service {
    object(
        Kind::Service,
        json!({"metadata": {"namespace": "ns", "name": "svc"}, "spec": spec}),
    )
}

#[track_caller]
fn slice(fields: Value) -> EndpointSlice {
    let mut value = json!({"addressType": "IPv4",
        "metadata": {"namespace": "ns", "name": "svc-1", "labels": {"kubernetes.io/service-name": "svc"}}});
    for (key, field) in fields.as_object().expect("fields") {
        value[key] = field.clone();
    }
    object(Kind::EndpointSlice, value)
}

fn texts(items: impl IntoIterator<Item = impl ToString>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(" ")
}

fn problems(problems: &Problems) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

#[test]
fn a_service_with_everything() {
    let value = json!({
        "metadata": {"namespace": "shop", "name": "web", "resourceVersion": "7",
            "labels": {"service.kubernetes.io/service-proxy-name": "other"}},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"],
            "ipFamilies": ["IPv4", "IPv6"], "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
            "externalIPs": ["192.0.2.1", "192.0.2.1", "2001:db8::1"],
            "loadBalancerSourceRanges": [" 203.0.113.0/24", "2001:db8::/32"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080, "targetPort": "web"},
                {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "sig", "port": 5, "protocol": "SCTP"}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}, {"ip": "198.51.100.2", "ipMode": "VIP"},
            {"ip": "198.51.100.3", "ipMode": "Proxy"}, {"hostname": "lb.example"}]}},
    });
    let item = decode::<Service>(Kind::Service, &value).expect("an identity");
    assert_eq!(&*item.resource_version, "7");
    let service = item.object.expect("good").expect("ours");
    assert_eq!(service.name, NamespacedName::new("shop", "web"));
    assert_eq!(
        (service.kind, service.headless),
        (ServiceType::LoadBalancer, false)
    );
    assert_eq!(texts(&*service.cluster_ips), "10.96.0.1 fd00::1");
    assert_eq!(service.session_affinity, Some(Duration::from_secs(60)));
    assert_eq!(service.external_traffic_policy, TrafficPolicy::Local);
    assert_eq!(service.internal_traffic_policy, TrafficPolicy::Local);
    assert_eq!(service.health_check_node_port, 31000);
    assert_eq!(texts(&*service.external_ips), "192.0.2.1 2001:db8::1");
    assert_eq!(
        texts(&*service.load_balancer_ips),
        "198.51.100.1 198.51.100.2"
    );
    assert_eq!(
        texts(&*service.source_ranges),
        "203.0.113.0/24 2001:db8::/32"
    );
    assert_eq!(service.proxy_name.as_deref(), Some("other"));
    let ports = service.ports.iter();
    let ports = ports.map(|p| format!("{}:{}/{}/{}", p.name, p.port, p.protocol, p.node_port));
    assert_eq!(texts(ports), "http:80/TCP/30080 dns:53/UDP/0 sig:5/SCTP/0");
    assert_eq!(problems(&service.problems), "");
}

#[test]
fn a_service_with_nothing_and_one_of_nulls() {
    let spec = json!({"type": null, "clusterIP": null, "clusterIPs": null, "ipFamilies": null, "ports": null,
        "sessionAffinity": null, "sessionAffinityConfig": null, "externalTrafficPolicy": null,
        "internalTrafficPolicy": null, "healthCheckNodePort": null, "externalIPs": null,
        "loadBalancerSourceRanges": null});
    let nulls = service(spec);
    assert_eq!(nulls, service(json!({})));
    assert!(nulls.headless && nulls.ports.is_empty() && nulls.problems == Problems::default());
    assert_eq!(nulls.kind, ServiceType::ClusterIp);
    assert_eq!(nulls.external_traffic_policy, TrafficPolicy::Cluster);
    assert_eq!(nulls.proxy_name, None);
    let port =
        service(json!({"ports": [{"port": 80, "name": null, "protocol": null, "nodePort": null}]}));
    assert_eq!(
        (&*port.ports[0].name, port.ports[0].protocol),
        ("", Protocol::Tcp)
    );
    assert!(service(json!({"clusterIP": "None", "ipFamilies": ["IPv4"]})).headless);
    assert!(service(json!({"clusterIP": ""})).headless);
    let affinity = service(json!({"sessionAffinity": "ClientIP"})).session_affinity;
    assert_eq!(affinity, Some(Duration::from_secs(10_800)));
}

#[test]
fn the_cluster_ip_of_a_family_is_where_the_family_stands() {
    // As kube-proxy's TestGetClusterIPByFamily.
    let table = [
        (json!({"clusterIP": "10.0.0.1"}), "10.0.0.1", ""),
        (json!({"clusterIP": "010.000.0.1"}), "10.0.0.1", ""),
        (json!({"clusterIP": "::ffff:10.0.0.1"}), "10.0.0.1", ""),
        (
            json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
            "fd00::1",
            "",
        ),
        // Without families only clusterIP counts.
        (
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}),
            "10.0.0.1",
            "",
        ),
        (
            json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.0.0.1"], "ipFamilies": ["IPv6", "IPv4"]}),
            "10.0.0.1 fd00::1",
            "",
        ),
        (
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4", "IPv6"]}),
            "10.0.0.1",
            "",
        ),
        (
            json!({"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"]}),
            "10.0.0.1",
            "",
        ),
        (
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv6"]}),
            "",
            "spec.clusterIPs[0]: 10.0.0.1 is not IPv6",
        ),
        (
            json!({"clusterIP": "10.0.0"}),
            "",
            "spec.clusterIP: \"10.0.0\" is no IP address",
        ),
        (
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", 5], "ipFamilies": ["IPv4", "IPv6"]}),
            "10.0.0.1",
            "spec.clusterIPs[1]: expected a string, found a number",
        ),
    ];
    for (spec, ips, expect) in table {
        let service = service(spec.clone());
        assert!(!service.headless, "{spec}");
        assert_eq!(texts(&*service.cluster_ips), ips, "{spec}");
        assert_eq!(problems(&service.problems), expect, "{spec}");
    }
}

#[test]
fn what_is_wrong_in_a_service_costs_that_field() {
    let table = [
        (
            json!({"ports": [{"port": 80}, {"name": "x", "port": 70000}]}),
            "spec.ports[1].port: 70000 is no port",
        ),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ports[0].port: 0 is no port",
        ),
        (
            json!({"ports": [{"port": -1}]}),
            "spec.ports[0].port: -1 is no port",
        ),
        (
            json!({"ports": [{"port": 99999999999999999999_f64}]}),
            "spec.ports[0].port: 9223372036854775807 is no port",
        ),
        (
            json!({"ports": [{"port": "80"}]}),
            "spec.ports[0].port: expected a number, found a string",
        ),
        (json!({"ports": [{}]}), "spec.ports[0].port: missing"),
        (
            json!({"ports": [5]}),
            "spec.ports[0]: expected an object, found a number",
        ),
        (
            json!({"ports": {}}),
            "spec.ports: expected a list, found an object",
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "ICMP"}]}),
            "spec.ports[0].protocol: ICMP is no protocol",
        ),
        (
            json!({"ports": [{"port": 80, "protocol": 6}]}),
            "spec.ports[0].protocol: expected a string, found a number",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 65536}]}),
            "spec.ports[0].nodePort: 65536 is no port",
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}, {"name": "a", "port": 80, "protocol": "UDP"}]}),
            "spec.ports[1]: there is a TCP port named \"a\" already",
        ),
        (json!({"type": "Magic"}), "spec.type: Magic is unknown"),
        (
            json!({"sessionAffinity": "Cookie"}),
            "spec.sessionAffinity: Cookie is unknown",
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not between 1 and 86400",
        ),
        (
            json!({"externalTrafficPolicy": "local"}),
            "spec.externalTrafficPolicy: local is unknown",
        ),
        (
            json!({"healthCheckNodePort": "x"}),
            "spec.healthCheckNodePort: expected a number, found a string",
        ),
        (
            json!({"externalIPs": ["1.2.3.4", "x", null]}),
            "spec.externalIPs[1]: \"x\" is no IP address",
        ),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.0/33"]}),
            "spec.loadBalancerSourceRanges[0]: \"10.0.0.0/33\" is no CIDR",
        ),
    ];
    for (spec, expect) in table {
        assert_eq!(problems(&service(spec.clone()).problems), expect, "{spec}");
    }
    let ports = service(
        json!({"ports": [{"port": 80}, {"port": 70000, "name": "x"}, {"port": 81, "nodePort": -5, "name": "y"}]}),
    );
    let ports = ports
        .ports
        .iter()
        .map(|port| format!("{}-{}", port.port, port.node_port));
    assert_eq!(texts(ports), "80-0 81-0");
}

#[test]
fn objects_without_identity_or_meaning() {
    let table = [
        (json!({}), "metadata: missing"),
        (json!([]), "metadata: missing"),
        (
            json!({"metadata": 5}),
            "metadata: expected an object, found a number",
        ),
        (json!({"metadata": {}}), "metadata.name: missing"),
        (json!({"metadata": {"name": ""}}), "metadata.name: missing"),
        (
            json!({"metadata": {"name": 5}}),
            "metadata.name: expected a string, found a number",
        ),
        (
            json!({"metadata": {"name": "a/b"}}),
            "metadata.name: a/b is no name",
        ),
        (
            json!({"kind": "Pod", "metadata": {"name": "a"}}),
            "kind: expected Service, found Pod",
        ),
    ];
    for (value, expect) in table {
        let error = decode::<Service>(Kind::Service, &value).expect_err("no identity");
        assert_eq!(
            error.to_string().split(" at line").next(),
            Some(expect),
            "{value}"
        );
    }
    let item =
        decode::<Service>(Kind::Service, &json!({"metadata": {"name": "a"}})).expect("named");
    assert_eq!(item.name.to_string(), "default/a");
    assert_eq!(item.object, Err(Problem::new("spec", "missing")));
    let value = json!({"metadata": {"name": "a"}, "addressType": "IPv4"});
    let item = decode::<EndpointSlice>(Kind::EndpointSlice, &value).expect("named");
    let problem = item.object.expect_err("no service");
    assert!(
        problem
            .to_string()
            .starts_with("metadata.labels[kubernetes.io/service-name]: missing"),
        "{problem}"
    );
}

#[test]
fn a_slice_with_everything() {
    let mut value = json!({"ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "x"},
        {"name": "", "port": 53, "protocol": "UDP"}, {"name": "noproto", "port": 1}],
    "endpoints": [
        {"addresses": ["10.0.0.1", "ignored"], "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "node-1", "zone": "z", "targetRef": {"kind": "Pod"},
            "hints": {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "node-1"}]}},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": null, "terminating": true},
            "topology": {"kubernetes.io/hostname": "node-2"}},
        {"addresses": ["10.0.0.3"], "conditions": null, "nodeName": null, "hints": {"forZones": []}},
    ]});
    value["metadata"] = json!({"namespace": "ns", "name": "svc-1", "labels": {"kubernetes.io/service-name": "svc"},
        "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2001-09-09T01:46:40.5Z"}});
    let slice = slice(value);
    assert_eq!(slice.service, NamespacedName::new("ns", "svc"));
    let billion = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_500);
    assert_eq!(slice.last_change_trigger_time, Some(billion));
    let subset = &slice.subsets[0];
    let ports = subset
        .ports
        .iter()
        .map(|port| format!("{}:{}/{}", port.name, port.port, port.protocol));
    assert_eq!(texts(ports), "http:8080/TCP :53/UDP noproto:1/TCP");
    let [first, second, third] = &*subset.endpoints else {
        panic!("{:?}", subset.endpoints);
    };
    assert_eq!(
        (first.conditions, first.node.as_deref()),
        (Conditions::READY, Some("node-1"))
    );
    let hints = first.hints.as_ref().expect("hints");
    assert_eq!(
        (texts(&*hints.zones), texts(&*hints.nodes)),
        ("a b".to_string(), "node-1".to_string())
    );
    let dying = Conditions {
        ready: false,
        serving: true,
        terminating: true,
    };
    assert_eq!(
        (second.conditions, second.node.as_deref()),
        (dying, Some("node-2"))
    );
    assert_eq!(
        (third.conditions, third.node.as_deref(), &third.hints),
        (Conditions::READY, None, &None)
    );
    assert_eq!(problems(&slice.problems), "");
}

#[test]
fn what_is_wrong_in_a_slice_costs_that_part() {
    let one = |endpoint: Value| json!({"endpoints": [{"addresses": ["10.0.0.1"]}, endpoint]});
    let table = [
        (json!({"endpoints": null, "ports": null}), ""),
        (json!({"ports": [{"port": 80}]}), "ports[0].name: missing"),
        (
            json!({"ports": [{"name": "a", "port": null}]}),
            "ports[0].port: missing",
        ),
        (
            json!({"ports": [{"name": "a", "port": 0}]}),
            "ports[0].port: 0 is no port",
        ),
        (
            one(json!({"addresses": []})),
            "endpoints[1].addresses: none",
        ),
        (one(json!({})), "endpoints[1].addresses: none"),
        (
            one(json!({"addresses": "10.0.0.2"})),
            "endpoints[1].addresses: expected a list, found a string; endpoints[1].addresses: none",
        ),
        (
            one(json!({"addresses": ["<nil>"]})),
            "endpoints[1].addresses[0]: \"<nil>\" is no IP address",
        ),
        (
            one(json!({"addresses": ["fd00::1"]})),
            "endpoints[1].addresses[0]: fd00::1 is not IPv4",
        ),
        (
            one(json!({"addresses": ["10.0.0.2"], "conditions": {"ready": "no"}})),
            "endpoints[1].conditions.ready: expected true or false, found a string",
        ),
        (
            one(json!({"addresses": ["10.0.0.2"], "nodeName": 5})),
            "endpoints[1].nodeName: expected a string, found a number",
        ),
        (
            one(json!({"addresses": ["10.0.0.2"], "hints": {"forZones": 5}})),
            "endpoints[1].hints.forZones: expected a list, found a number",
        ),
        (one(json!(null)), ""),
    ];
    for (fields, expect) in table {
        let slice = slice(fields.clone());
        assert_eq!(problems(&slice.problems), expect, "{fields}");
        if fields["endpoints"].is_array() {
            assert_eq!(
                texts([slice.subsets[0].endpoints[0].ip]),
                "10.0.0.1",
                "{fields}"
            );
        }
    }
}

/// What is not said is true; what cannot be read is not.
#[test]
fn an_unreadable_condition_is_not_ready() {
    let table = [
        (json!(null), "true true false", ""),
        (json!({}), "true true false", ""),
        (json!({"ready": null}), "true true false", ""),
        (json!({"ready": false}), "false true false", ""),
        (
            json!({"ready": "false"}),
            "false true false",
            ".ready: expected true or false, found a string",
        ),
        (
            json!({"ready": "true"}),
            "false true false",
            ".ready: expected true or false, found a string",
        ),
        (
            json!({"ready": 1}),
            "false true false",
            ".ready: expected true or false, found a number",
        ),
        (
            json!({"serving": "no"}),
            "true false false",
            ".serving: expected true or false, found a string",
        ),
        (
            json!({"terminating": []}),
            "true true false",
            ".terminating: expected true or false, found a list",
        ),
        (
            json!("ready"),
            "false false false",
            ": expected an object, found a string",
        ),
        (
            json!([true]),
            "false false false",
            ": expected an object, found a list",
        ),
    ];
    for (conditions, expect, problem) in table {
        let endpoint = json!({"addresses": ["10.0.0.1"], "conditions": conditions});
        let slice = slice(json!({"endpoints": [endpoint]}));
        let found = slice.subsets[0].endpoints[0].conditions;
        let found = texts([found.ready, found.serving, found.terminating]);
        assert_eq!(found, expect, "{conditions}");
        let found = problems(&slice.problems);
        assert_eq!(
            found.trim_start_matches("endpoints[0].conditions"),
            problem,
            "{conditions}"
        );
    }
}

#[test]
fn whole_numbers_may_be_written_as_fractions() {
    let ports =
        |port: Value| service(json!({"clusterIP": "10.0.0.1", "ports": [{"port": port}]})).ports;
    for (text, port) in [("8080.0", 8080), ("8e3", 8000), ("80", 80)] {
        let port_of = |ports: &[crate::types::ServicePort]| ports.first().map(|port| port.port);
        let value = serde_json::from_str(text).expect("a number");
        assert_eq!(port_of(&ports(value)), Some(port), "{text}");
    }
    assert!(ports(json!(80.5)).is_empty());
}

/// By presence alone, as the selector has it that an apiserver is asked with.
#[test]
fn the_label_headless_leaves_an_object_alone() {
    for label in [json!(""), json!("false"), json!(true)] {
        let labels =
            json!({"service.kubernetes.io/headless": label, "kubernetes.io/service-name": "svc"});
        let metadata = json!({"namespace": "ns", "name": "svc", "labels": labels});
        let spec = json!({"clusterIP": "10.0.0.1"});
        let service: Service = object(Kind::Service, json!({"metadata": metadata, "spec": spec}));
        assert!(service.labelled_headless && !service.headless);
        let value = json!({"metadata": metadata, "addressType": "IPv4"});
        for kind in [Kind::EndpointSlice, Kind::Endpoints] {
            let item = decode::<EndpointSlice>(kind, &value).expect("named");
            assert_eq!(item.object, Ok(None), "{kind:?} {label}");
        }
    }
    assert!(!service(json!({})).labelled_headless);
}

#[test]
fn a_slice_of_names_is_not_for_us() {
    for address_type in ["FQDN", "IP"] {
        let value =
            json!({"metadata": {"namespace": "ns", "name": "a"}, "addressType": address_type});
        let item = decode::<EndpointSlice>(Kind::EndpointSlice, &value).expect("named");
        assert_eq!(item.object, Ok(None), "{address_type}");
    }
    let value = json!({"metadata": {"namespace": "ns", "name": "a"}});
    let item = decode::<EndpointSlice>(Kind::EndpointSlice, &value).expect("named");
    assert_eq!(item.object, Err(Problem::new("addressType", "missing")));
    let value = json!({"metadata": {"namespace": "ns", "name": "a"}, "addressType": "IPv7"});
    let item = decode::<EndpointSlice>(Kind::EndpointSlice, &value).expect("named");
    assert_eq!(
        item.object,
        Err(Problem::new("addressType", "IPv7 is unknown"))
    );
}

#[test]
fn endpoints_become_a_slice_with_a_subset_for_each_family() {
    let value = json!({"metadata": {"namespace": "ns", "name": "svc"}, "subsets": [
        {"addresses": [{"ip": "10.0.0.1", "nodeName": "n"}, {"ip": "fd00::1"}],
         "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"name": "x", "port": 81, "protocol": "UDP"}]},
        {"addresses": [{"ip": "10.0.0.3"}, {"ip": "bad"}, {}], "ports": [{"port": 90, "name": "y"}]},
        {"addresses": null}]});
    let slice: EndpointSlice = object(Kind::Endpoints, value);
    assert_eq!(slice.name, slice.service);
    let shape = slice.subsets.iter().map(|subset| {
        let ports = texts(
            subset
                .ports
                .iter()
                .map(|port| format!("{}:{}", port.name, port.port)),
        );
        let ips = texts(subset.endpoints.iter().map(|endpoint| endpoint.ip));
        format!("{} [{ports}] [{ips}]", subset.family)
    });
    assert_eq!(
        texts(shape),
        "IPv4 [:80 x:81] [10.0.0.1 10.0.0.2] IPv6 [:80 x:81] [fd00::1] IPv4 [y:90] [10.0.0.3]"
    );
    let first = &slice.subsets[0].endpoints;
    assert_eq!(
        (first[0].conditions, first[0].node.as_deref()),
        (Conditions::READY, Some("n"))
    );
    assert_eq!(first[1].conditions, Conditions::NOT_READY);
    assert_eq!(
        problems(&slice.problems),
        "subsets[1].addresses[1].ip: \"bad\" is no IP address; subsets[1].addresses[2].ip: missing"
    );
}

#[test]
fn nodes() {
    let node = |fields: Value| {
        let mut value = json!({"metadata": {"name": "node-1"}});
        for (key, field) in fields.as_object().expect("fields") {
            value[key] = field.clone();
        }
        object::<Node>(Kind::Node, value)
    };
    let full = node(json!({
        "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "a"}},
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.2.0.0/24", "fd00::/64", "x"], "taints": [{"key": "other"}]},
        "status": {"addresses": [{"type": "Hostname", "address": "node-1"}, {"type": "ExternalIP", "address": "192.0.2.1"},
            {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "fd00::1"}, null]}}));
    assert_eq!(full.name, NamespacedName::cluster_scoped("node-1"));
    assert_eq!(full.zone.as_deref(), Some("a"));
    assert_eq!(texts(&*full.addresses), "10.0.0.1 fd00::1 192.0.2.1");
    assert_eq!(texts(&*full.pod_cidrs), "10.2.0.0/24 fd00::/64");
    assert!(full.eligible);
    let bare = node(json!({}));
    assert!(
        bare.eligible
            && bare.zone.is_none()
            && bare.addresses.is_empty()
            && bare.pod_cidrs.is_empty()
    );
    assert_eq!(
        texts(&*node(json!({"spec": {"podCIDR": "10.1.0.0/24"}})).pod_cidrs),
        "10.1.0.0/24"
    );
    let tainted = json!({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}});
    assert!(!node(tainted).eligible);
    let deleting =
        json!({"metadata": {"name": "node-1", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert!(!node(deleting).eligible);
    let cidr: ServiceCidr = object(
        Kind::ServiceCidr,
        json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]}}),
    );
    assert_eq!(texts(&*cidr.cidrs), "10.96.0.0/16 fd00:96::/112");
}

/// Names of the items of a Service list, `!` before bad ones; then version and continue token.
fn read_list(text: impl Read) -> Result<String, StreamError> {
    let mut names = Vec::new();
    let mut each = |item: Result<Item<Service>, ItemError>| {
        names.push(match item {
            Ok(Item {
                name,
                object: Ok(_),
                ..
            }) => name.to_string(),
            Ok(Item {
                name,
                object: Err(_),
                ..
            }) => format!("!{name}"),
            Err(_) => "!".to_string(),
        });
    };
    let meta = list(text, Kind::Service, &mut Interner::default(), &mut each)?;
    let (version, token) = (meta.resource_version, meta.continue_token);
    Ok(format!("{} @{version} {token}", names.join(" ")))
}

#[test]
fn lists() {
    let item = |name: &str| {
        format!(r#"{{"metadata":{{"name":"{name}","managedFields":[{{}}]}},"spec":{{}}}}"#)
    };
    let (a, b) = (item("a"), item("b"));
    let table = [
        (
            format!(
                r#"{{"kind":"ServiceList","metadata":{{"resourceVersion":"5","continue":"C"}},"items":[{a},{b}]}}"#
            ),
            "default/a default/b @5 C",
        ),
        (
            format!(
                "{{\"items\":[{a}],\"metadata\":{{\"resourceVersion\":\"5\"}},\"kind\":\"ServiceList\"}}\n"
            ),
            "default/a @5 ",
        ),
        (
            r#"{"metadata":{"resourceVersion":"5"},"items":null}"#.to_string(),
            " @5 ",
        ),
        (r#"{"metadata":null}"#.to_string(), " @ "),
        (
            format!(
                r#"{{"items":[{a},5,null,{{}},"x",[1],{{"metadata":{{"name":"c"}}}},{{"metadata":{{"name":"\ud800"}}}},{b}]}}"#
            ),
            "default/a ! ! ! ! ! !default/c ! default/b @ ",
        ),
        // Twice the same key is an error inside an item, and stays there.
        (
            format!(r#"{{"items":[{{"metadata":{{"name":"a"}},"metadata":{{"name":"b"}}}},{b}]}}"#),
            "! default/b @ ",
        ),
    ];
    for (text, expect) in table {
        assert_eq!(
            read_list(text.as_bytes()).expect("a list"),
            expect,
            "{text}"
        );
    }
}

#[test]
fn what_is_no_list() {
    let table = [
        (
            r#"{"kind":"Table","rows":[]}"#,
            "kind: expected ServiceList, found \"Table\"",
        ),
        (
            r#"{"kind":"EndpointSliceList","items":[]}"#,
            "kind: expected ServiceList, found \"EndpointSliceList\"",
        ),
        (r#"[]"#, "expected `{`, found `[` at byte 0"),
        (r#"{"items":5}"#, "expected `[`, found `5` at byte 9"),
        (r#"{"items":[{]}"#, "expected `,`, found `}` at byte 12"),
        (
            r#"{"items":[{},]}"#,
            "expected a value, found `]` at byte 13",
        ),
        (r#"{"items":[,]}"#, "expected a value, found `,` at byte 10"),
        (r#"{items:[]}"#, "expected a key, found `i` at byte 1"),
        (
            r#"{"items":[]} x"#,
            "expected the end, found `x` at byte 13",
        ),
        (r#"<html>"#, "expected `{`, found `<` at byte 0"),
    ];
    for (text, expect) in table {
        let error = read_list(text.as_bytes()).expect_err(text);
        assert!(
            matches!(error, StreamError::Malformed(_)),
            "{text}: {error}"
        );
        let expect = format!("cannot decode the response: {expect}");
        assert!(error.to_string().starts_with(&expect), "{text}: {error}");
    }
    // Cut short: the connection's fault.
    for text in ["", r#"{"items":[{"metadata""#, r#"{"items":["#] {
        let error = read_list(text.as_bytes()).expect_err(text);
        assert!(matches!(error, StreamError::Read(_)), "{text}: {error}");
    }
}

/// `metadata` first, as apiservers write it, and last, as files have it.
fn objects_of(size: usize) -> [String; 2] {
    let note = "{[\\\"".repeat(size / 4);
    let metadata =
        r#""metadata":{"name":"l","namespace":"ns","labels":{"name":"x"},"resourceVersion":"8"}"#;
    [
        format!(r#"{{{metadata},"note":"{note}","spec":{{}}}}"#),
        format!(r#"{{"spec":{{"note":"{note}"}},{metadata}}}"#),
    ]
}

#[test]
fn a_large_object_costs_itself_and_is_named() {
    let good = r#"{"metadata":{"name":"a"},"spec":{}}"#;
    for large in objects_of(frame::LARGEST + 100) {
        let list = format!(r#"{{"items":[{good},{large},{good}]}}"#);
        let mut found = Vec::new();
        let mut each = |item: Result<Item<Service>, ItemError>| found.push(item.expect("named"));
        list_into(&list, &mut each);
        assert_eq!(found.len(), 3);
        assert!(found[0].object.is_ok() && found[2].object.is_ok());
        let problem = found[1].object.as_ref().expect_err("too large");
        assert_eq!(
            problem.to_string(),
            "the object is larger than 4194304 bytes"
        );
        assert_eq!(found[1].name, NamespacedName::new("ns", "l"));
        assert_eq!(&*found[1].resource_version, "8");

        for (before, behind) in [(r#""type":"ADDED","#, ""), ("", r#","type":"ADDED""#)] {
            let events = format!(
                r#"{{{before}"object":{large}{behind}}} {{"type":"ADDED","object":{good}}}"#
            );
            assert_eq!(read_events(&events), ["added !ns/l@8", "added default/a@"]);
        }
    }
    for good in objects_of(1 << 20) {
        assert_eq!(
            read_list(format!(r#"{{"items":[{good}]}}"#).as_bytes()).expect("a list"),
            "ns/l @ "
        );
    }
    let nameless = format!(
        r#"{{"type":"ADDED","object":[{}1]}}"#,
        "1,".repeat(frame::LARGEST / 2)
    );
    let expect =
        "skipped ADDED with an undecodable object: the object is larger than 4194304 bytes";
    assert_eq!(read_events(&nameless), [expect]);
}

fn list_into(text: &str, each: &mut dyn FnMut(Result<Item<Service>, ItemError>)) {
    list(
        text.as_bytes(),
        Kind::Service,
        &mut Interner::default(),
        each,
    )
    .expect("a list");
}

/// Of what is passed over nothing is kept: a brace for each byte, a key without end.
#[test]
fn what_is_passed_over_takes_no_memory() {
    let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let key = "k".repeat(frame::LARGEST + 1);
    let text = format!(
        r#"{{"x":{deep},"{key}":1,"items":[{deep},{{"metadata":{{"name":"a"}},"spec":{{}}}}]}}"#
    );
    assert_eq!(
        read_list(text.as_bytes()).expect("a list"),
        "! default/a @ "
    );
}

#[test]
fn bytes_that_are_no_text_cost_their_item() {
    let item = |name: &[u8]| {
        [
            br#"{"metadata":{"note":""#,
            name,
            br#"","name":"a"},"spec":{}}"#,
        ]
        .concat()
    };
    let items = [item(b"ok"), item(b"\xff"), item(b"\xe2\x82"), item(b"ok")].join(&b',');
    let list = [&br#"{"items":["#[..], &items, b"]}"].concat();
    let found = read_list(list.as_slice()).expect("a list");
    assert_eq!(found, "default/a !default/a !default/a default/a @ ");
    let nameless = &b"{\"items\":[{\"metadata\":{\"name\":\"\xff\"}},5]}"[..];
    assert_eq!(read_list(nameless).expect("a list"), "! ! @ ");
}

#[test]
fn a_reader_that_fails_is_a_broken_connection() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let error = read_list(br#"{"items":["#.chain(Broken)).expect_err("broken");
    assert!(
        matches!(error, StreamError::Read(ref e) if e.kind() == io::ErrorKind::ConnectionReset)
    );
}

fn read_events(text: &str) -> Vec<String> {
    let (mut events, mut interner) = (Events::new(text.as_bytes()), Interner::default());
    let mut lines = Vec::new();
    loop {
        let item = |item: Item<Service>| {
            let state = match item.object {
                Ok(Some(_)) => "",
                Ok(None) => "?",
                Err(_) => "!",
            };
            format!("{state}{}@{}", item.name, item.resource_version)
        };
        lines.push(match events.next::<Service>(Kind::Service, &mut interner) {
            None => return lines,
            Some(Ok(Event::Added(added))) => format!("added {}", item(added)),
            Some(Ok(Event::Modified(modified))) => format!("modified {}", item(modified)),
            Some(Ok(Event::Deleted(deleted))) => format!("deleted {}", item(deleted)),
            Some(Ok(Event::Bookmark {
                resource_version,
                initial_events_end,
            })) => {
                format!("bookmark {resource_version} {initial_events_end}")
            }
            Some(Ok(Event::Error(status))) => format!("error {} {status}", status.code),
            Some(Ok(Event::Skipped(why))) => format!("skipped {why}"),
            Some(Err(StreamError::Read(_))) => "broken".to_string(),
            Some(Err(StreamError::Malformed(_))) => "malformed".to_string(),
        });
        if lines
            .last()
            .is_some_and(|line| line == "broken" || line == "malformed")
        {
            return lines;
        }
    }
}

#[test]
fn events() {
    let object = r#"{"kind":"Service","metadata":{"name":"a","resourceVersion":"5"},"spec":{}}"#;
    let event = |kind: &str, object: &str| format!(r#"{{"type":"{kind}","object":{object}}}"#);
    let bookmark = r#"{"kind":"Service","metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}"#;
    let gone =
        r#"{"kind":"Status","metadata":{},"message":"too old","reason":"Expired","code":410}"#;
    let table = [
        (event("ADDED", object), "added default/a@5"),
        (event("MODIFIED", object), "modified default/a@5"),
        (event("DELETED", object), "deleted default/a@5"),
        (
            format!(r#"{{"object":{object},"type":"ADDED"}}"#),
            "added default/a@5",
        ),
        (event("BOOKMARK", bookmark), "bookmark 9 true"),
        (
            event("BOOKMARK", r#"{"metadata":{"resourceVersion":"9"}}"#),
            "bookmark 9 false",
        ),
        (
            event("BOOKMARK", "{}"),
            "skipped BOOKMARK without a resourceVersion",
        ),
        (event("ERROR", gone), "error 410 too old"),
        (
            event("ERROR", "{}"),
            "error 0 an error event without a Status: {}",
        ),
        (
            event("RENAMED", object),
            "skipped an event of unknown type RENAMED",
        ),
        (
            event("ADDED", "{}"),
            "skipped ADDED with an undecodable object: metadata: missing",
        ),
        (
            event("ADDED", "null"),
            "skipped ADDED with an undecodable object: invalid type: null, expected struct RawService at line 1 column 4",
        ),
        (
            event("ADDED", r#"{"kind":"Pod","metadata":{"name":"a"}}"#),
            "skipped ADDED with an undecodable object: kind: expected Service, found Pod",
        ),
        (
            event("ADDED", r#"{"metadata":{"name":"a"}}"#),
            "added !default/a@",
        ),
        (r#"{"type":5}"#.to_string(), "malformed"),
        ("garbage".to_string(), "malformed"),
        (r#"{"type":"ADDED","obj"#.to_string(), "broken"),
    ];
    for (text, expect) in &table {
        assert_eq!(read_events(text), [*expect], "{text}");
    }
    // Back to back as well as line by line.
    let good: Vec<&str> = table[..4].iter().map(|(text, _)| text.as_str()).collect();
    for separator in ["", "\n", " \r\n\n"] {
        assert_eq!(read_events(&good.join(separator)).len(), 4, "{separator:?}");
    }
}

#[test]
fn an_event_is_there_as_soon_as_its_last_byte_is() {
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // Asking for more than there is would block until the next event.
            assert!(!self.0.is_empty(), "read past the end of an event");
            let n = self.0.len().min(buffer.len()).min(3);
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }
    let text = br#"{"type":"DELETED","object":{"metadata":{"name":"a"}}}"#;
    let mut events = Events::new(Slow(text));
    let event = events.next::<Service>(Kind::Service, &mut Interner::default());
    assert!(matches!(event, Some(Ok(Event::Deleted(_)))));
}

#[test]
fn statuses() {
    let too_large = r#"{"kind":"Status","message":"Timeout: Too large resource version: 9, current: 2","reason":"Timeout",
        "details":{"causes":[{"reason":"ResourceVersionTooLarge"}],"retryAfterSeconds":1},"code":504}"#;
    let status = Status::parse(too_large).expect("a Status");
    assert!(status.is_too_large() && !status.is_expired());
    assert_eq!(status.retry_after, Some(Duration::from_secs(1)));
    let legacy = r#"{"kind":"Status","message":"Timeout: Too large resource version: 9, current: 2","code":504}"#;
    assert!(Status::parse(legacy).is_some_and(|status| status.is_too_large()));
    for text in [
        r#"{"kind":"Status","code":410}"#,
        r#"{"kind":"Status","reason":"Expired"}"#,
        r#"{"kind":"Status","reason":"Gone","code":500}"#,
    ] {
        let status = Status::parse(text).expect(text);
        assert!(status.is_expired() && !status.is_too_large(), "{text}");
    }
    for text in ["", "[]", "{}", r#"{"kind":"Service"}"#] {
        assert_eq!(Status::parse(text), None, "{text}");
    }
    let odd = r#"{"kind":"Status","code":-1,"message":5,"details":[]}"#;
    assert_eq!(
        Status::parse(odd)
            .map(|status| status.to_string())
            .as_deref(),
        Some("code 0")
    );
}

/// What a manifest's text says: its objects, then what is wrong.
fn said(text: &str) -> String {
    let found = match manifests(|| Ok(text.as_bytes()), &mut Interner::default()) {
        Ok(found) => found,
        Err(error) => return error.to_string(),
    };
    let mut said: Vec<String> = Vec::new();
    said.extend(found.objects.iter().map(|object| match object {
        Object::Service(object) => format!("Service {}", object.name),
        Object::EndpointSlice(object) => format!("EndpointSlice {}", object.name),
        Object::Node(object) => format!("Node {}", object.name),
        Object::ServiceCidr(object) => format!("ServiceCIDR {}", object.name),
    }));
    said.extend(found.broken.iter().map(ToString::to_string));
    let duplicates = found.duplicates.iter();
    said.extend(duplicates.map(|(object, error)| format!("{object}: {error}")));
    said.extend(found.errors.iter().map(ToString::to_string));
    if found.foreign > 0 {
        said.push(format!("{} foreign", found.foreign));
    }
    let is_nameless = |error: &ObjectError| !matches!(error.complaint.subject, Subject::Object(..));
    let nameless = found.errors.iter().any(is_nameless);
    assert_eq!(found.unidentified, nameless || !found.broken.is_empty());
    said.join(", ")
}

#[test]
fn manifests_of_every_kind() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"clusterIP": "10.0.0.1"}});
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"}});
    let item = json!({"metadata": {"name": "web"}, "spec": {}});
    let table = [
        (service.clone(), "Service default/web"),
        (endpoints.clone(), "EndpointSlice default/web"),
        (
            json!({"apiVersion": "v1", "kind": "List", "items": [service, endpoints, 5]}),
            "Service default/web, EndpointSlice default/web, object: kind: missing (items[2])",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ServiceList", "items": [item]}),
            "Service default/web",
        ),
        (
            json!({"apiVersion": "v1", "kind": "List", "items": null}),
            "",
        ),
        (
            json!({"apiVersion": "v1", "kind": "List", "items": {}}),
            "List: items: expected a list",
        ),
        (
            json!({"apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice", "metadata": {"name": "x"}, "addressType": "FQDN"}),
            "",
        ),
        (
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "x"}}),
            "EndpointSlice default/x: addressType: missing",
        ),
        (
            json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "web"}}),
            "1 foreign",
        ),
        (
            json!({"apiVersion": "v1", "kind": "PodList", "items": []}),
            "1 foreign",
        ),
        (
            json!({"kind": "Pod", "metadata": {"name": "p"}}),
            "Pod p: apiVersion: missing",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Service"}),
            "Service: metadata: missing",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}),
            "Node n",
        ),
        (
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "k"}}),
            "ServiceCIDR k",
        ),
        (json!("text"), "object: kind: missing"),
        (
            json!({"apiVersion": "v1", "kind": "service", "metadata": {"name": "a"}}),
            "service a: kind: there is no such kind; did you mean Service, with apiVersion v1?",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Endpoint", "metadata": {"name": "a"}}),
            "Endpoint a: kind: there is no such kind; did you mean Endpoints, with apiVersion v1?",
        ),
        (
            json!({"apiVersion": "v1", "kind": "EndpointSlice", "metadata": {"name": "a"}}),
            "EndpointSlice a: kind: there is no such kind; did you mean EndpointSlice, with apiVersion discovery.k8s.io/v1?",
        ),
    ];
    for (document, expect) in table {
        assert_eq!(said(&document.to_string()), expect, "{document}");
    }
}

/// Whether a list says what it is before its items or behind them.
#[test]
fn items_wait_for_their_kind() {
    let item = r#"{"metadata": {"name": "a"}, "spec": {}}"#;
    let named = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {}}"#;
    let v1 = r#""apiVersion": "v1""#;
    let table = [
        (
            format!(r#"{{"kind": "ServiceList", {v1}, "items": [{item}, {named}]}}"#),
            "Service default/a, Service default/b",
        ),
        (
            format!(r#"{{"items": [{item}, {named}, 5], "kind": "ServiceList", {v1}}}"#),
            "Service default/a, Service default/b, Service: invalid type: integer `5`, expected struct RawService at line 1 column 1 (items[2])",
        ),
        (
            format!(r#"{{{v1}, "items": [{named}], "kind": "List"}}"#),
            "Service default/b",
        ),
        (
            format!(r#"{{"items": [{named}, {item}], "kind": "List", {v1}}}"#),
            "Service default/b, object a: kind: missing (items[1])",
        ),
        (
            format!(
                r#"{{{v1}, "items": [{named}], "kind": "Service", "metadata": {{"name": "c"}}, "spec": {{}}}}"#
            ),
            "Service default/c",
        ),
        (
            format!(r#"{{{v1}, "kind": "PodList", "items": [{named}, {item}]}}"#),
            "1 foreign",
        ),
        (
            format!(r#"{{{v1}, "items": [{named}, {item}]}}"#),
            "object: kind: missing",
        ),
        (
            format!(r#"{{"kind": "List", "items": [{named}], {v1}, "items": null}}"#),
            "List: line 1: the key \"items\" appears twice",
        ),
        (
            format!(r#"{{"kind": "ServiceList", {v1}, "items": [{item}], "kind": "NodeList"}}"#),
            "NodeList: line 1: the key \"kind\" appears twice, object: kind: another one is given behind the items",
        ),
        // A list in a list.
        (
            format!(
                r#"{{{v1}, "kind": "List", "items": [{{{v1}, "kind": "List", "items": [{named}, 5]}}]}}"#
            ),
            "Service default/b, object: kind: missing (items[1]) (items[0])",
        ),
    ];
    for (text, expect) in table {
        assert_eq!(said(&text), expect, "{text}");
        // The same as YAML: a document cannot begin with a tag in JSON.
        assert_eq!(said(&format!("--- {text}")), expect, "{text}");
    }
}

/// Whatever is changed in a good object, decoding ends, and with a word.
#[test]
fn any_value_anywhere_is_survived() {
    let good = json!({"kind": "Service", "metadata": {"name": "a", "namespace": "b", "labels": {"x": "y"}, "resourceVersion": "1"},
        "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ports": [{"port": 80}],
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}, "sessionAffinity": "ClientIP"},
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 1}], "subsets": [{"addresses": [{"ip": "1.1.1.1"}]}],
        "endpoints": [{"addresses": ["1.1.1.1"], "hints": {"forZones": [{"name": "z"}]}, "conditions": {"ready": true}}]});
    let odd = [
        json!(null),
        json!(1),
        json!(-1.5),
        json!(true),
        json!(""),
        json!([]),
        json!({}),
        json!([[{}]]),
        json!({"a": [1]}),
    ];
    let mut pointers = Vec::new();
    collect_pointers(&good, String::new(), &mut pointers);
    assert!(pointers.len() > 40);
    for pointer in pointers {
        for odd in &odd {
            let mut value = good.clone();
            *value.pointer_mut(&pointer).expect("a pointer") = odd.clone();
            value.as_object_mut().map(|value| value.remove("kind"));
            let _ = decode::<Service>(Kind::Service, &value);
            let _ = decode::<Node>(Kind::Node, &value);
            let _ = decode::<ServiceCidr>(Kind::ServiceCidr, &value);
            for kind in [Kind::EndpointSlice, Kind::Endpoints] {
                let item = decode::<EndpointSlice>(kind, &value);
                if let Ok(Item {
                    object: Ok(Some(slice)),
                    ..
                }) = item
                {
                    let family = |ip: IpAddr| IpFamily::of(ip);
                    let consistent = |subset: &crate::types::Subset| {
                        subset
                            .endpoints
                            .iter()
                            .all(|endpoint| family(endpoint.ip) == subset.family)
                    };
                    assert!(slice.subsets.iter().all(consistent), "{value}");
                }
            }
        }
    }
}

fn collect_pointers(value: &Value, path: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                collect_pointers(
                    value,
                    format!("{path}/{}", key.replace('/', "~1")),
                    pointers,
                );
            }
        }
        Value::Array(elements) => {
            for (i, value) in elements.iter().enumerate() {
                collect_pointers(value, format!("{path}/{i}"), pointers);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    if !path.is_empty() {
        pointers.push(path);
    }
}
