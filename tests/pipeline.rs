//! The main job, end to end: objects of an apiserver become ports that real clients reach, in real namespaces.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use crate::util::apiserver::{ApiServer, Fault, Release};
use crate::util::daemon::{Daemon, SOON};
use crate::util::eventually;
use crate::util::netns::{Namespace, Net};

const CLUSTER_IP: &str = "10.96.0.10";

/// A cluster with one Service, `shop/web`, on two backends that say who they are.
struct Cluster {
    net: Net,
    api: ApiServer,
}

impl Cluster {
    fn new(release: Release) -> Option<Self> {
        let net = Net::new()?;
        let api = net
            .node
            .run(|| ApiServer::start_at("127.0.0.1:0", release))
            .expect("loopback has a free port");
        for host in [2, 3] {
            backend(&net.backend, host);
        }
        let cluster = Self { net, api };
        cluster.api.put(service(CLUSTER_IP));
        cluster.endpoints(release, &[2, 3]);
        Some(cluster)
    }

    /// Says which backends are ready, in the way of this release.
    fn endpoints(&self, release: Release, hosts: &[u8]) {
        let addresses: Vec<String> = hosts.iter().map(|host| format!("10.92.0.{host}")).collect();
        self.api.put(match release {
            Release::EndpointsOnly => json!({
                "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web", "namespace": "shop"},
                "subsets": [{
                    "addresses": addresses.iter().map(|ip| json!({"ip": ip})).collect::<Value>(),
                    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                }],
            }),
            Release::V1_36 | Release::V1_20 => slice(&addresses),
        });
    }

    fn portico(&self, args: &[&str]) -> Daemon {
        let url = self.api.url();
        let mut all = vec!["--master", &url];
        all.extend(["--healthz-bind-address=", "--metrics-port=0"]);
        all.extend(args);
        Daemon::start(&self.net.node, &all)
    }
}

fn service(cluster_ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "type": "NodePort", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080, "targetPort": 8080}],
        },
    })
}

fn slice(addresses: &[String]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": addresses.iter().map(|ip| json!({"addresses": [ip]})).collect::<Value>(),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

/// A TCP backend on 10.92.0.`host`:8080 that says its number to whoever connects.
fn backend(namespace: &Namespace, host: u8) {
    let listener = namespace
        .run(|| TcpListener::bind(format!("10.92.0.{host}:8080")))
        .expect("the address is there");
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = write!(client, "{host}");
        }
    });
}

/// Connects from a namespace and reads what the backend says.
fn ask(from: &Namespace, to: &str) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().expect("an address");
    let mut stream = from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[track_caller]
fn answered_by(from: &Namespace, to: &str, expect: &[&str]) {
    let expect: BTreeSet<String> = expect.iter().map(|name| (*name).to_owned()).collect();
    eventually(SOON, &format!("{to} answered by {expect:?} only"), || {
        let answers: Result<BTreeSet<String>, _> = (0..6).map(|_| ask(from, to)).collect();
        (answers.ok()? == expect).then_some(())
    });
}

#[track_caller]
fn refused(from: &Namespace, to: &str) {
    eventually(SOON, &format!("{to} refused"), || {
        matches!(ask(from, to), Err(error) if error.kind() == ErrorKind::ConnectionRefused)
            .then_some(())
    });
}

fn main_job(release: Release) {
    let Some(cluster) = Cluster::new(release) else {
        return;
    };
    let (client, node) = (&cluster.net.client, &cluster.net.node);
    let mut portico = cluster.portico(&[]);
    let vip = format!("{CLUSTER_IP}:80");
    answered_by(client, &vip, &["2", "3"]);
    answered_by(node, &vip, &["2", "3"]);
    answered_by(client, &format!("{}:30080", Net::NODE), &["2", "3"]);
    refused(client, &format!("{CLUSTER_IP}:81"));

    cluster.endpoints(release, &[3]);
    answered_by(client, &vip, &["3"]);
    cluster.endpoints(release, &[]);
    refused(client, &vip);
    refused(client, &format!("{}:30080", Net::NODE));
    cluster.endpoints(release, &[2]);
    answered_by(client, &vip, &["2"]);

    cluster.api.delete("services", "shop", "web");
    refused(client, &vip);
    assert!(portico.stop().success());
    let routes = node.ip("route show table all proto 112");
    assert!(routes.trim().is_empty(), "left behind: {routes}");
}

#[test]
fn main_job_with_a_1_36_apiserver() {
    main_job(Release::V1_36);
}

#[test]
fn main_job_with_a_1_20_apiserver() {
    main_job(Release::V1_20);
}

#[test]
fn main_job_with_endpoints_only() {
    main_job(Release::EndpointsOnly);
}

#[test]
fn nothing_opens_before_services_and_endpoints_are_whole() {
    let Some(cluster) = Cluster::new(Release::V1_36) else {
        return;
    };
    // Both ways of getting the slices fail at first: by watch-list and by list.
    for _ in 0..2 {
        let broken = Fault::Status {
            code: 500,
            reason: "InternalError",
            retry_after: None,
        };
        cluster.api.fault("endpointslices", true, broken.clone());
        cluster.api.fault("endpointslices", false, broken);
    }
    let _portico = cluster.portico(&[]);
    eventually(SOON, "services listed and slices refused", || {
        let asked = |path| !cluster.api.requests_of(path).is_empty();
        (asked("/services") && asked("endpointslices")).then_some(())
    });
    let early = ask(&cluster.net.client, &format!("{}:30080", Net::NODE));
    assert_eq!(
        early.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionRefused)
    );
    answered_by(
        &cluster.net.client,
        &format!("{CLUSTER_IP}:80"),
        &["2", "3"],
    );
}

#[test]
fn the_absence_of_the_apiserver_closes_nothing() {
    let Some(cluster) = Cluster::new(Release::V1_36) else {
        return;
    };
    let portico = cluster.portico(&[]);
    let vip = format!("{CLUSTER_IP}:80");
    answered_by(&cluster.net.client, &vip, &["2", "3"]);
    let address = cluster.api.address();
    drop(cluster.api);
    portico.wait_for("connection");
    answered_by(&cluster.net.client, &vip, &["2", "3"]);

    // It comes back with another idea of the world, which arrives.
    let net = &cluster.net;
    let again = eventually(SOON, "the port is free again", || {
        net.node
            .run(|| ApiServer::start_at(address, Release::V1_36))
            .ok()
    });
    // As real ones do, it goes on counting: a watch from the last version that was seen must not take its news for old.
    again.set_version(1000);
    again.put(service(CLUSTER_IP));
    again.put(slice(&["10.92.0.3".to_owned()]));
    // Several waits of client-go's backoff may add up: 0.8 s doubling, each stretched up to twofold.
    eventually(6 * SOON, "the news of the apiserver that is back", || {
        let answers = (0..4).map(|_| ask(&net.client, &vip));
        answers.flatten().all(|answer| answer == "3").then_some(())
    });
    answered_by(&net.client, &vip, &["3"]);
}

#[test]
fn udp_reaches_its_backend_and_the_reply_comes_from_the_virtual_ip() {
    let Some(cluster) = Cluster::new(Release::V1_36) else {
        return;
    };
    let echo = cluster
        .net
        .backend
        .run(|| UdpSocket::bind("10.92.0.2:5353"))
        .expect("the address is there");
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..length], from);
        }
    });
    cluster.api.put(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.53", "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]},
    }));
    cluster.api.put(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "dns-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "dns"}},
        "endpoints": [{"addresses": ["10.92.0.2"]}], "ports": [{"name": "dns", "port": 5353, "protocol": "UDP"}],
    }));
    let _portico = cluster.portico(&[]);
    let socket = cluster
        .net
        .client
        .run(|| UdpSocket::bind("0.0.0.0:0"))
        .expect("a free port");
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a timeout");
    let from = eventually(SOON, "an echo", || {
        socket.send_to(b"hello", "10.96.0.53:53").ok()?;
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer).ok()?;
        (&buffer[..length] == b"hello").then_some(from)
    });
    assert_eq!(from, "10.96.0.53:53".parse().unwrap());
}

#[test]
fn a_host_program_on_the_same_port_and_the_portal_do_not_meet() {
    let Some(cluster) = Cluster::new(Release::V1_36) else {
        return;
    };
    let host = cluster
        .net
        .node
        .run(|| TcpListener::bind("0.0.0.0:80"))
        .expect("the port is free");
    let sshd = cluster
        .net
        .node
        .run(|| TcpListener::bind("0.0.0.0:22"))
        .expect("the port is free");
    for listener in [host, sshd] {
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let _ = write!(client, "host");
            }
        });
    }
    let _portico = cluster.portico(&["--portal", "netns"]);
    answered_by(
        &cluster.net.client,
        &format!("{CLUSTER_IP}:80"),
        &["2", "3"],
    );
    answered_by(&cluster.net.client, &format!("{}:80", Net::NODE), &["host"]);
    refused(&cluster.net.client, &format!("{CLUSTER_IP}:22"));
}

#[test]
fn a_dead_backend_costs_no_connection() {
    let Some(cluster) = Cluster::new(Release::V1_36) else {
        return;
    };
    // Nobody listens on .4: refused. Nobody answers for .77: silence.
    cluster.api.put(slice(
        &["10.92.0.2", "10.92.0.4", "10.92.0.77"].map(str::to_owned),
    ));
    let _portico = cluster.portico(&[]);
    let vip = format!("{CLUSTER_IP}:80");
    answered_by(&cluster.net.client, &vip, &["2"]);
    for attempt in 0..200 {
        assert_eq!(
            ask(&cluster.net.client, &vip).ok().as_deref(),
            Some("2"),
            "connection {attempt}"
        );
    }
}

#[test]
fn objects_that_make_no_sense_cost_only_themselves() {
    let Some(cluster) = Cluster::new(Release::V1_36) else {
        return;
    };
    let portico = cluster.portico(&[]);
    let vip = format!("{CLUSTER_IP}:80");
    answered_by(&cluster.net.client, &vip, &["2", "3"]);
    cluster.api.inject(
        "services",
        r#"{"type":"MODIFIED","object":{"kind":"Service","apiVersion":"v1"}}"#,
    );
    let mut broken = service("10.96.0.66");
    broken["metadata"]["name"] = json!("broken");
    broken["spec"]["ports"][0]["port"] = json!(70000);
    cluster.api.put(broken);
    portico.wait_for("shop/broken");
    let mut other = service("10.96.0.11");
    other["metadata"]["name"] = json!("other");
    other["spec"]["ports"][0]["nodePort"] = json!(30081);
    cluster.api.put(other);
    let mut endpoints = slice(&["10.92.0.3".to_owned()]);
    endpoints["metadata"]["name"] = json!("other-1");
    endpoints["metadata"]["labels"]["kubernetes.io/service-name"] = json!("other");
    cluster.api.put(endpoints);
    answered_by(&cluster.net.client, "10.96.0.11:80", &["3"]);
    answered_by(&cluster.net.client, &vip, &["2", "3"]);
    assert_eq!(portico.logged("shop/broken"), 1, "{}", portico.log());
}

#[test]
fn a_killed_process_leaves_nothing() {
    let Some(cluster) = Cluster::new(Release::V1_36) else {
        return;
    };
    let mut portico = cluster.portico(&["--portal", "netns"]);
    let vip = format!("{CLUSTER_IP}:80");
    answered_by(&cluster.net.client, &vip, &["2", "3"]);
    portico.signal(nix::sys::signal::Signal::SIGKILL);
    portico.wait();
    eventually(SOON, "no link and no route", || {
        let links = cluster.net.node.ip("-o link show");
        let routes = cluster.net.node.ip("route show table all proto 112");
        (!links.contains("vethportico") && routes.trim().is_empty()).then_some(())
    });
    let _again = cluster.portico(&["--portal", "netns"]);
    answered_by(&cluster.net.client, &vip, &["2", "3"]);
}

#[test]
fn the_start_is_an_event_on_the_node() {
    let Some(cluster) = Cluster::new(Release::V1_36) else {
        return;
    };
    let _portico = cluster.portico(&[]);
    let request = eventually(SOON, "an Event", || {
        let written = cluster
            .api
            .requests_of("/apis/events.k8s.io/v1/namespaces/default/events");
        written.into_iter().find(|request| request.method == "POST")
    });
    let event: Value = serde_json::from_slice(&request.body).expect("an object");
    assert_eq!(event["reason"], "Starting");
    assert_eq!(
        event["regarding"],
        json!({"kind": "Node", "name": "node-1", "uid": "node-1"})
    );
}

/// The two fields that the real apiserver which the scripts can have (1.20) does not store.
#[test]
fn ip_mode_and_the_internal_policy_act_when_they_are_patched() {
    let Some(cluster) = Cluster::new(Release::V1_36) else {
        return;
    };
    let _portico = cluster.portico(&[]);
    let client = &cluster.net.client;
    let (vip, ingress) = (format!("{CLUSTER_IP}:80"), "198.51.100.7:80");
    let balanced = |mode: Value| {
        let mut web = service(CLUSTER_IP);
        web["spec"]["type"] = json!("LoadBalancer");
        let one = json!({"ip": "198.51.100.7", "ipMode": mode});
        web["status"] = json!({"loadBalancer": {"ingress": [one]}});
        cluster.api.put(web);
    };
    for mode in [json!("VIP"), Value::Null, json!("VIP")] {
        balanced(mode);
        answered_by(client, ingress, &["2", "3"]);
        // Proxy: the load balancer answers for the address by itself, and we leave it alone.
        balanced(json!("Proxy"));
        eventually(SOON, "the ingress address is not taken", || {
            ask(client, ingress).is_err().then_some(())
        });
        answered_by(client, &vip, &["2", "3"]);
    }

    let mut slice = slice(&["10.92.0.2", "10.92.0.3"].map(str::to_owned));
    for (endpoint, node) in [(0, "node-1"), (1, "node-2")] {
        slice["endpoints"][endpoint]["nodeName"] = json!(node);
    }
    cluster.api.put(slice.clone());
    let internal = |policy: &str| {
        let mut web = service(CLUSTER_IP);
        web["spec"]["internalTrafficPolicy"] = json!(policy);
        cluster.api.put(web);
    };
    internal("Local");
    answered_by(client, &vip, &["2"]);
    answered_by(client, &format!("{}:30080", Net::NODE), &["2", "3"]);
    internal("Cluster");
    answered_by(client, &vip, &["2", "3"]);
    internal("Local");
    slice["endpoints"][0]["nodeName"] = json!("node-2");
    cluster.api.put(slice);
    eventually(SOON, "silence: none of the endpoints is here", || {
        matches!(ask(client, &vip), Err(error) if error.kind() == ErrorKind::TimedOut).then_some(())
    });
}
