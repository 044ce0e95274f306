//! Services whose endpoints are node ports, their own or others', on several nodes: circles end, rows of proxies do not.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::util::daemon::{Daemon, SOON};
use crate::util::netns::Namespace;
use crate::util::{Folder, eventually};

/// The Service number n of a chain has its node port for TCP here and for UDP a hundred above, each plus n.
const NODE_PORT: u16 = 30_090;
/// Where the pod listens, and what its Service's node port is as well.
const POD_PORT: u16 = 30_777;
/// A client's connection may pass so many proxies, and one that finds that it is enough.
const MOST_PROXIES: f64 = 10.0;

/// Nodes on one wire, each with the program, and a client that is a pod as well.
struct Nodes {
    _wire: Namespace,
    client: Namespace,
    nodes: Vec<(Namespace, Daemon)>,
    _folder: Folder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Family {
    fn ip(self, host: usize) -> String {
        match self {
            Self::V4 => format!("10.93.0.{host}"),
            Self::V6 => format!("fd93::{host}"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn addr(self, host: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(host).parse().expect("an address"), port)
    }
}

/// An endpoint: host on the wire and port for TCP; UDP's is a hundred above.
type Target = (usize, u16);

/// The pod's host on the wire, and the client's.
const POD: Target = (100, POD_PORT);

impl Nodes {
    /// Node `i` has the address number i + 1; the Service number n has these targets.
    fn new(nodes: usize, services: &[Vec<Target>]) -> Option<Self> {
        let wire = Namespace::new("wire")?;
        wire.ip("link add br0 type bridge");
        wire.ip("link set br0 up");
        let folder = Folder::new();
        let path = folder.write("services.json", &manifest(services).to_string());
        let path = path.to_str().expect("UTF-8");
        let on_the_wire = |host: usize| {
            let namespace = Namespace::new(&format!("h{host}"))?;
            wire.join(&format!("h{host}"), &namespace, "eth0");
            wire.ip(&format!("link set h{host} master br0"));
            namespace.address("eth0", &format!("{}/24", Family::V4.ip(host)));
            namespace.address("eth0", &format!("{}/64", Family::V6.ip(host)));
            Some(namespace)
        };
        let client = on_the_wire(POD.0)?;
        let start = |host| {
            let node = on_the_wire(host)?;
            let portico = Daemon::start(&node, &["--manifests", path, "--portal", "none"]);
            Some((node, portico))
        };
        let nodes: Option<Vec<_>> = (1..=nodes).map(start).collect();
        let nodes = nodes?;
        for (_, portico) in &nodes {
            portico.wait_for("listeners open");
        }
        Some(Self {
            _wire: wire,
            client,
            nodes,
            _folder: folder,
        })
    }

    fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let stream = self.client.run(|| TcpStream::connect_timeout(&to, SOON))?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(stream)
    }

    fn udp(&self, to: SocketAddr) -> UdpSocket {
        let socket = self.client.run(|| UdpSocket::bind("[::]:0"));
        let socket = socket.expect("a socket");
        match to {
            SocketAddr::V4(to) => socket.connect((to.ip().to_ipv6_mapped(), to.port())),
            SocketAddr::V6(to) => socket.connect(to),
        }
        .expect("there is a route");
        let short = Some(Duration::from_millis(500));
        socket.set_read_timeout(short).expect("a timeout");
        socket
    }

    /// The sum of a series over all nodes, for one family and protocol.
    fn sum(&self, name: &str, family: Family, protocol: &str, more: &str) -> f64 {
        let labels = [
            format!("ip_family=\"{}\"", family.name()),
            format!("protocol=\"{protocol}\""),
            more.to_owned(),
        ];
        let of_node = |node: &Namespace| -> std::io::Result<f64> {
            let mut stream = node.run(|| TcpStream::connect("127.0.0.1:10249"))?;
            stream.set_read_timeout(Some(SOON))?;
            write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            let lines = text.lines().filter(|line| {
                line.starts_with(name) && labels.iter().all(|label| line.contains(label))
            });
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            Ok(values.sum())
        };
        let sums = self.nodes.iter().map(|(node, _)| of_node(node));
        sums.map(|sum| sum.expect("metrics answer")).sum()
    }

    fn connections(&self, family: Family, protocol: &str) -> f64 {
        self.sum("portico_service_connections_total", family, protocol, "")
    }

    fn refused(&self, family: Family, protocol: &str) -> f64 {
        let name = "portico_service_connect_errors_total";
        self.sum(name, family, protocol, "reason=\"loop\"")
    }

    /// Files that all proxies have open.
    fn files(&self) -> usize {
        let of = |portico: &Daemon| std::fs::read_dir(format!("/proc/{}/fd", portico.pid()));
        let counts = self.nodes.iter().map(|(_, portico)| of(portico));
        counts.map(|files| files.expect("it runs").count()).sum()
    }
}

fn manifest(services: &[Vec<Target>]) -> Value {
    let mut items = Vec::new();
    for (n, targets) in services.iter().enumerate() {
        let (name, number) = (format!("s{n}"), n as u16);
        let node_port = match targets[..] {
            [POD] => POD_PORT,
            _ => NODE_PORT + number,
        };
        items.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "loop"},
            "spec": {
                "type": "NodePort", "ipFamilies": ["IPv4", "IPv6"],
                "clusterIP": format!("10.96.0.{}", n + 1),
                "clusterIPs": [format!("10.96.0.{}", n + 1), format!("fd96::{}", n + 1)],
                "ports": [
                    {"name": "t", "port": 80, "protocol": "TCP", "nodePort": node_port},
                    {"name": "u", "port": 80, "protocol": "UDP", "nodePort": node_port + 100},
                ],
            },
        }));
        for family in FAMILIES {
            for (m, (host, port)) in targets.iter().enumerate() {
                items.push(json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                    "metadata": {
                        "name": format!("{name}-{m}-{}", family.name().to_lowercase()), "namespace": "loop",
                        "labels": {"kubernetes.io/service-name": name},
                    },
                    "addressType": family.name(),
                    "endpoints": [{"addresses": [family.ip(*host)]}],
                    "ports": [
                        {"name": "t", "port": port, "protocol": "TCP"},
                        {"name": "u", "port": port + 100, "protocol": "UDP"},
                    ],
                }));
            }
        }
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// Sends back what it gets, in the namespace of the client.
fn start_pod(namespace: &Namespace) {
    let bound = namespace.run(|| {
        let tcp = TcpListener::bind(("::", POD_PORT))?;
        Ok::<_, std::io::Error>((tcp, UdpSocket::bind(("::", POD_PORT + 100))?))
    });
    let (tcp, udp) = bound.expect("the ports are free");
    thread::spawn(move || {
        for client in tcp.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &client, &mut &client));
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((n, from)) = udp.recv_from(&mut buffer) {
            // Whoever is gone does not want it any more.
            let _ = udp.send_to(&buffer[..n], from);
        }
    });
}

#[test]
fn circles_of_node_ports_end() {
    for count in [2, 3, 5] {
        // The Service number n leads to the Service number n + 1 on the next node.
        let next = |n: usize| vec![((n + 1) % count + 1, NODE_PORT + ((n + 1) % count) as u16)];
        let services: Vec<_> = (0..count).map(next).collect();
        let Some(nodes) = Nodes::new(count, &services) else {
            return;
        };
        circle_ends(&nodes, NODE_PORT);
    }
}

/// Its own node port on every node: each leaves itself out and goes to the other.
#[test]
fn a_service_that_is_its_own_endpoint_on_two_nodes_ends() {
    let Some(nodes) = Nodes::new(2, &[vec![(1, NODE_PORT), (2, NODE_PORT)]]) else {
        return;
    };
    circle_ends(&nodes, NODE_PORT);
}

fn circle_ends(nodes: &Nodes, port: u16) {
    let rest = nodes.files();
    for family in FAMILIES {
        let mut stream = nodes
            .connect(family.addr(1, port))
            .expect("the first proxy");
        let began = Instant::now();
        // The end may be there before.
        let _ = stream.write_all(b"hello");
        let end = stream.read(&mut [0; 16]);
        assert!(
            end.as_ref().is_ok_and(|n| *n == 0)
                || end
                    .as_ref()
                    .is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
            "{end:?}"
        );
        // A second on a machine that has nothing else to do.
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        assert!(nodes.refused(family, "TCP") >= 1.0);
        let connections = nodes.connections(family, "TCP");
        assert!(connections <= MOST_PROXIES, "{connections} connections");

        let socket = nodes.udp(family.addr(1, port + 100));
        for _ in 0..3 {
            socket.send(b"hello").expect("a route");
        }
        eventually(SOON, "the circle is found", || {
            (nodes.refused(family, "UDP") >= 1.0).then_some(())
        });
        // One more for the first, whose TTL nobody had asked for.
        let flows = nodes.connections(family, "UDP");
        assert!(flows <= MOST_PROXIES + 5.0, "{flows} flows");
    }
    let files = nodes.files().saturating_sub(rest);
    assert!(files < 100, "{files} files");
    let said = |(_, portico): &(Namespace, Daemon)| portico.logged("go in circles");
    // Once of each ServicePort, not once of each client.
    let said: Vec<usize> = nodes.nodes.iter().map(said).collect();
    assert!((1..=4).contains(&said.iter().sum::<usize>()), "{said:?}");
}

#[test]
fn a_row_of_proxies_with_a_pod_at_its_end_carries() {
    // Node 1 leads to node 2, that to node 3, and that to a pod at the number of its own node port.
    let services = [vec![(2, NODE_PORT + 1)], vec![(3, POD_PORT)], vec![POD]];
    let Some(nodes) = Nodes::new(3, &services) else {
        return;
    };
    start_pod(&nodes.client);
    carries(&nodes, NODE_PORT);
}

/// A circle with a way out: whoever goes round comes out sooner or later.
#[test]
fn a_circle_with_a_pod_in_it_carries() {
    let round = |node| vec![(node, NODE_PORT), POD];
    let services = [[round(1), round(2)].concat()];
    let Some(nodes) = Nodes::new(2, &services) else {
        return;
    };
    start_pod(&nodes.client);
    for _ in 0..5 {
        carries(&nodes, NODE_PORT);
    }
}

fn carries(nodes: &Nodes, port: u16) {
    for family in FAMILIES {
        let mut stream = nodes
            .connect(family.addr(1, port))
            .expect("the first proxy");
        stream.write_all(b"hello").expect("a connection");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"hello");
        let socket = nodes.udp(family.addr(1, port + 100));
        eventually(SOON, "a datagram comes back", || {
            socket.send(b"hello").ok()?;
            let n = socket.recv(&mut answer).ok()?;
            (answer[..n] == *b"hello").then_some(())
        });
    }
}
