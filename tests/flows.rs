//! cases/flow-cases.json as real connections: the whole program, real addresses, real silence.
//!
//! Each group has its own namespaces and its own portico. Every flow is tried over TCP, and over UDP on a port of the same
//! number and the same endpoints; and each time `portico explain` has to say what the connection got.
//!
//! ```text
//! client: the sources -- node: the environment's node_ips, portico -- backend: every endpoint
//! ```

mod generated;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::routing::world::{cases, ip, list, text, texts};
use crate::util::daemon::{Daemon, SOON};
use crate::util::netns::Namespace;
use crate::util::{Folder, eventually};

/// How long nothing has to happen to count as silence.
const SILENCE: Duration = Duration::from_millis(700);
/// More connections than endpoints in any case, so that one too many in a list shows.
const AT_LEAST: usize = 8;
/// Others take turns on the same endpoints meanwhile, so it may take some connections to meet each of a list.
const AT_MOST: usize = 200;
/// What a program of the host itself says.
const HOST: &str = "host";

/// What became of a connection, or of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    /// These words came back: an endpoint says its address and port.
    Answer(String),
    /// RST, or an ICMP error.
    Refusal,
    Silence,
    Other(String),
}

/// A flow, in one protocol.
#[derive(Clone, Debug)]
struct Case {
    from: IpAddr,
    to: SocketAddr,
    protocol: &'static str,
    expect: Expect,
}

#[derive(Clone, Debug)]
enum Expect {
    Endpoints(BTreeSet<String>),
    Reject,
    Drop,
    NotMatched,
}

impl Expect {
    fn parse(value: &Value) -> Self {
        match value.as_str() {
            None => Self::endpoints(value),
            Some("REJECT") => Self::Reject,
            Some("DROP") => Self::Drop,
            Some(other) => panic!("unknown expectation {other}"),
        }
    }

    /// What explain has said of a connection.
    fn said(answer: &Value) -> Self {
        match text(answer, "verdict") {
            "endpoints" => Self::endpoints(&answer["endpoints"]),
            "reject" => Self::Reject,
            "drop" => Self::Drop,
            "not-matched" => Self::NotMatched,
            other => panic!("{other}: {answer}"),
        }
    }

    fn endpoints(addresses: &Value) -> Self {
        Self::Endpoints(texts(addresses).into_iter().map(str::to_owned).collect())
    }

    /// As explain says it.
    fn verdict(&self) -> &'static str {
        match self {
            Self::Endpoints(_) => "endpoints",
            Self::Reject => "reject",
            Self::Drop => "drop",
            Self::NotMatched => "not-matched",
        }
    }
}

/// The namespaces of a group and the portico in it.
struct Lab {
    portico: Daemon,
    node: Namespace,
    client: Namespace,
    _backend: Namespace,
    node_ips: Vec<IpAddr>,
    folder: Folder,
}

#[test]
fn connections_end_where_upstreams_do() {
    let Some(_) = Namespace::new("possible") else {
        return;
    };
    let file = cases("flow-cases.json");
    let environment = &file["environment"];
    thread::scope(|scope| {
        for group in list(&file["groups"]) {
            scope.spawn(move || play(environment, group));
        }
    });
}

/// One group.
fn play(environment: &Value, group: &Value) {
    let flows = flows(environment, group);
    let Some(lab) = Lab::new(environment, group, &flows) else {
        return;
    };
    let id = text(group, "id");
    // The thread that answers is the one that opens listeners, and does so before the next question.
    let first = &flows[0];
    eventually(SOON, &format!("{id}: the first sync"), || {
        (lab.explain(first)["verdict"] == first.expect.verdict()).then_some(())
    });
    thread::scope(|scope| {
        for case in &flows {
            let lab = &lab;
            scope.spawn(move || {
                lab.explained(id, case);
                // A virtual IP has no client of its own here; what becomes of such a flow is left to explain.
                if case.from != case.to.ip() || lab.node_ips.contains(&case.from) {
                    lab.tried(id, case);
                }
            });
        }
    });
    assert_eq!(lab.portico.logged("[ERROR]"), 0, "{}", lab.portico.log());
}

/// The flows of a group, over TCP and UDP; and one to each node port at an address that has no node ports.
fn flows(environment: &Value, group: &Value) -> Vec<Case> {
    let mut flows = Vec::new();
    for flow in list(&group["flows"]) {
        assert_eq!(flow["protocol"], "TCP", "SCTP is for explain alone");
        let port = flow["port"].as_u64().expect("port") as u16;
        for protocol in ["TCP", "UDP"] {
            flows.push(Case {
                from: ip(text(flow, "from")),
                to: SocketAddr::new(ip(text(flow, "to")), port),
                protocol,
                expect: Expect::parse(&flow["expect"]),
            });
        }
    }
    for port in node_ports(group) {
        for protocol in ["TCP", "UDP"] {
            flows.push(Case {
                from: ip(text(&environment["named_sources"], "external")),
                to: SocketAddr::new(ip("192.168.1.2"), port),
                protocol,
                expect: Expect::NotMatched,
            });
        }
    }
    flows
}

/// The node ports that are not to be had at 192.168.1.2: all, unless the group says where they are.
fn node_ports(group: &Value) -> BTreeSet<u16> {
    if group.get("nodeport_addresses").is_some() {
        return BTreeSet::new();
    }
    list(&group["services"])
        .iter()
        .flat_map(|service| list(&service["ports"]))
        .map(|port| port["node_port"].as_u64().expect("node_port") as u16)
        .filter(|port| *port != 0)
        .collect()
}

impl Lab {
    /// None (and a note of it) where we may not make namespaces.
    fn new(environment: &Value, group: &Value, flows: &[Case]) -> Option<Self> {
        let (node, client, backend) = (
            Namespace::new("node")?,
            Namespace::new("client")?,
            Namespace::new("backend")?,
        );
        let node_ips: Vec<IpAddr> = texts(&environment["node_ips"])
            .into_iter()
            .map(ip)
            .collect();
        let primary: Vec<IpAddr> = texts(&environment["primary_node_ips"])
            .into_iter()
            .map(ip)
            .collect();
        node.join("client0", &client, "eth0");
        node.join("backend0", &backend, "eth0");
        for address in &node_ips {
            node.address("client0", &host_net(*address));
        }
        for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            node.sysctl(setting, "1")
                .expect("root may, in a namespace of its own");
        }
        let sources: BTreeSet<IpAddr> = flows
            .iter()
            .filter(|case| case.from != case.to.ip() && !node_ips.contains(&case.from))
            .map(|case| case.from)
            .collect();
        let endpoints = endpoints(group);
        let targets = endpoints.iter().map(SocketAddr::ip).collect();
        attach(&node, "client0", &primary, &client, &sources);
        attach(&node, "backend0", &primary, &backend, &targets);
        for endpoint in endpoints {
            serve(&backend, endpoint, endpoint.to_string());
        }
        for port in node_ports(group) {
            serve(&node, (ip("192.168.1.2"), port).into(), HOST.to_owned());
        }
        let folder = Folder::new();
        let objects = manifest(environment, group).to_string();
        let manifests = folder.write("objects.json", &objects);
        let default = &environment["nodeport_addresses_default"];
        let nodeport_addresses = texts(group.get("nodeport_addresses").unwrap_or(default));
        let portico = Daemon::start(
            &node,
            &[
                "--portal=netns",
                "--healthz-bind-address=",
                "--metrics-port=0",
                &format!("--manifests={}", manifests.display()),
                &format!("--hostname-override={}", text(environment, "node_name")),
                &format!(
                    "--cluster-cidr={}",
                    texts(&environment["pod_cidrs"]).join(",")
                ),
                &format!("--nodeport-addresses={}", nodeport_addresses.join(",")),
                &format!("--masquerade-all={}", group.get("masquerade_all").is_some()),
                &format!("--control-socket={}", folder.path().join("sock").display()),
            ],
        );
        Some(Self {
            portico,
            node,
            client,
            _backend: backend,
            node_ips,
            folder,
        })
    }

    /// What the running program says about a flow; null while it does not answer.
    fn explain(&self, case: &Case) -> Value {
        let from = case.from.to_string();
        let to = format!("{}/{}", case.to, case.protocol);
        self.explain_by(&["--from", &from, "--to", &to])
    }

    fn explain_by(&self, args: &[&str]) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_portico"))
            .args(["explain", "--output", "json", "--control-socket"])
            .arg(self.folder.path().join("sock"))
            .args(args)
            .output()
            .expect("portico starts");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn explained(&self, group: &str, case: &Case) {
        let answer = self.explain(case);
        let context = format!("{group} {case:?}: {answer}");
        assert_eq!(answer["verdict"], case.expect.verdict(), "{context}");
        let said: BTreeSet<String> = texts(&answer["endpoints"])
            .into_iter()
            .map(str::to_owned)
            .collect();
        match &case.expect {
            Expect::Endpoints(expected) => assert_eq!(said, *expected, "{context}"),
            Expect::Reject | Expect::Drop | Expect::NotMatched => {
                assert!(said.is_empty(), "{context}");
            }
        }
    }

    fn tried(&self, group: &str, case: &Case) {
        let context = format!("{group} {case:?}");
        match &case.expect {
            Expect::Endpoints(expected) => self.meets(expected, case, &context),
            Expect::Reject => assert_eq!(self.ask(case, SOON), Got::Refusal, "{context}"),
            Expect::Drop => assert_eq!(self.ask(case, SILENCE), Got::Silence, "{context}"),
            // Left alone is more than not answered: the host's own program is there.
            Expect::NotMatched => {
                let host = Got::Answer(HOST.to_owned());
                assert_eq!(self.ask(case, SOON), host, "{context}");
            }
        }
    }

    /// All of these answer, and nobody else.
    fn meets(&self, expected: &BTreeSet<String>, case: &Case, context: &str) {
        let mut met = BTreeSet::new();
        for attempt in 1..=AT_MOST {
            match self.ask(case, SOON) {
                Got::Answer(endpoint) if expected.contains(&endpoint) => met.insert(endpoint),
                other => panic!("{context}: {other:?}, attempt {attempt}"),
            };
            if attempt >= AT_LEAST && met == *expected {
                return;
            }
        }
        panic!("{context}: only {met:?}");
    }

    /// Connects once, from where the source address is.
    fn ask(&self, case: &Case, limit: Duration) -> Got {
        let namespace = match self.node_ips.contains(&case.from) {
            true => &self.node,
            false => &self.client,
        };
        let answer = namespace.run(|| match case.protocol {
            "TCP" => ask_tcp(case, limit),
            _ => ask_udp(case, limit),
        });
        match answer {
            Ok(text) => Got::Answer(text),
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused => Got::Refusal,
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Got::Silence,
                _ => Got::Other(error.to_string()),
            },
        }
    }
}

fn ask_tcp(case: &Case, limit: Duration) -> io::Result<String> {
    let socket = Socket::new(Domain::for_address(case.to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(case.from, 0).into())?;
    socket.connect_timeout(&case.to.into(), limit)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(limit))?;
    let mut text = String::new();
    // Refusing is for connects; from here on nothing but an answer will do.
    match stream.read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(io::Error::other(format!("connected, then {error}"))),
    }
}

fn ask_udp(case: &Case, limit: Duration) -> io::Result<String> {
    let socket = UdpSocket::bind((case.from, 0))?;
    socket.connect(case.to)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"who is there?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Says these words to whoever connects to, or sends to, this address and port.
fn serve(namespace: &Namespace, at: SocketAddr, words: String) {
    let (listener, socket) = namespace
        .run(|| Ok::<_, io::Error>((TcpListener::bind(at)?, UdpSocket::bind(at)?)))
        .unwrap_or_else(|error| panic!("{at}: {error}"));
    let said = words.clone();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.write_all(said.as_bytes());
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(words.as_bytes(), from);
        }
    });
}

/// Gives these addresses to a namespace behind one of the node's links, with routes both ways.
fn attach(
    node: &Namespace,
    link: &str,
    node_ips: &[IpAddr],
    other: &Namespace,
    addresses: &BTreeSet<IpAddr>,
) {
    for ip in node_ips {
        other.knows(&ip.to_string(), "eth0", node, link);
        let family = family(*ip);
        other.ip(&format!(
            "{family} route add default via {ip} dev eth0 onlink"
        ));
    }
    for address in addresses {
        let family = family(*address);
        let source = node_ips
            .iter()
            .find(|ip| ip.is_ipv4() == address.is_ipv4())
            .expect("the node has both families");
        other.address("eth0", &host_net(*address));
        node.knows(&address.to_string(), link, other, "eth0");
        node.ip(&format!(
            "{family} route add {} dev {link} src {source}",
            host_net(*address)
        ));
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "-4" } else { "-6" }
}

fn host_net(ip: IpAddr) -> String {
    format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })
}

/// All endpoints of a group, those that nobody may be sent to included.
fn endpoints(group: &Value) -> BTreeSet<SocketAddr> {
    let mut all = BTreeSet::new();
    for service in list(&group["services"]) {
        for port in list(&service["ports"]) {
            let port = port["endpoint_port"].as_u64().expect("endpoint_port") as u16;
            for endpoint in list(&group["endpoints"][text(service, "name")]) {
                all.insert(SocketAddr::new(ip(text(endpoint, "ip")), port));
            }
        }
    }
    all
}

/// A group as API objects.
fn manifest(environment: &Value, group: &Value) -> Value {
    let addresses: Value = texts(&environment["primary_node_ips"])
        .into_iter()
        .map(|ip| json!({"type": "InternalIP", "address": ip}))
        .collect();
    let mut items = vec![
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": environment["node_name"], "labels": {"topology.kubernetes.io/zone": environment["zone"]}},
            "spec": {"podCIDRs": environment["pod_cidrs"]}, "status": {"addresses": addresses},
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": environment["service_cidrs"]},
        }),
    ];
    for of in list(&group["services"]) {
        items.push(service(of));
        items.push(slice(of, list(&group["endpoints"][text(of, "name")])));
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn service(of: &Value) -> Value {
    let (namespace, name) = text(of, "name").split_once('/').expect("namespace/name");
    let is_load_balancer = !list(&of["lb_ips"]).is_empty();
    let ports = ports_of(of, |port, name, protocol| {
        let mut object = json!({"name": name, "protocol": protocol, "port": port["port"]});
        if port["node_port"] != 0 {
            object["nodePort"] = port["node_port"].clone();
        }
        object
    });
    let has_node_ports = list(&of["ports"]).iter().any(|port| port["node_port"] != 0);
    let kind = match (is_load_balancer, has_node_ports) {
        (true, _) => "LoadBalancer",
        (false, true) => "NodePort",
        (false, false) => "ClusterIP",
    };
    let mut spec = json!({
        "type": kind, "clusterIP": of["cluster_ip"], "clusterIPs": [of["cluster_ip"]], "ports": ports,
        "internalTrafficPolicy": of["internal_policy"], "externalTrafficPolicy": of["external_policy"],
        "externalIPs": of["external_ips"], "loadBalancerSourceRanges": of["source_ranges"],
        "sessionAffinity": of["affinity"],
    });
    if is_load_balancer && of["external_policy"] == "Local" {
        spec["healthCheckNodePort"] = json!(32000);
    }
    let ingress: Value = texts(&of["lb_ips"])
        .into_iter()
        .map(|ip| json!({"ip": ip}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": spec, "status": {"loadBalancer": {"ingress": ingress}},
    })
}

fn slice(of: &Value, endpoints: &[Value]) -> Value {
    let (namespace, name) = text(of, "name").split_once('/').expect("namespace/name");
    let endpoints: Value = endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "addresses": [endpoint["ip"]], "nodeName": endpoint["node"],
                "conditions": {
                    "ready": endpoint["ready"], "serving": endpoint["serving"],
                    "terminating": endpoint["terminating"],
                },
                "hints": {"forZones": endpoint["zones"]},
            })
        })
        .collect();
    let ports = ports_of(
        of,
        |port, name, protocol| json!({"name": name, "protocol": protocol, "port": port["endpoint_port"]}),
    );
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "addressType": if ip(text(of, "cluster_ip")).is_ipv4() { "IPv4" } else { "IPv6" },
        "metadata": {
            "name": format!("{name}-1"), "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "endpoints": endpoints, "ports": ports,
    })
}

/// Each port of a Service twice: as the case has it, and over UDP under a name of its own.
fn ports_of(of: &Value, object: impl Fn(&Value, &str, &str) -> Value) -> Value {
    list(&of["ports"])
        .iter()
        .flat_map(|port| {
            let name = text(port, "name");
            let udp = format!("{name}udp");
            [object(port, name, "TCP"), object(port, &udp, "UDP")]
        })
        .collect()
}
