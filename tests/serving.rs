//! The real program as its surroundings see it: probes, scrapes, health check node ports, the service manager, its end.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::util::apiserver::{ApiServer, Fault, Release};
use crate::util::daemon::{Daemon, SOON};
use crate::util::netns::{Namespace, Net};
use crate::util::{Folder, eventually, promtool};

const VIP: &str = "10.96.0.10:80";
const HEALTHZ: &str = "127.0.0.1:10256";
const METRICS: &str = "127.0.0.1:10249";
const HEALTH_CHECK: &str = "127.0.0.1:32000";

/// A Service of type LoadBalancer with externalTrafficPolicy Local, and its one endpoint, which echoes.
struct Cluster {
    net: Net,
    api: ApiServer,
}

impl Cluster {
    fn new() -> Option<Self> {
        let net = Net::new()?;
        let api = net
            .node
            .run(|| ApiServer::start_at("127.0.0.1:0", Release::V1_36))
            .expect("loopback has a free port");
        // Longer than any test takes.
        api.set_bookmark_interval(Duration::from_secs(3600));
        api.put(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.96.0.10", "externalTrafficPolicy": "Local",
                "healthCheckNodePort": 32000,
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}],
            },
        }));
        let cluster = Self { net, api };
        cluster.endpoint_on("node-1");
        cluster.node(json!({}));
        echo(&cluster.net.backend);
        Some(cluster)
    }

    fn endpoint_on(&self, node: &str) {
        self.api.put(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": [Net::BACKEND], "nodeName": node}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }));
    }

    fn node(&self, spec: Value) {
        self.api.put(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}, "spec": spec,
            "status": {"addresses": [{"type": "InternalIP", "address": Net::NODE}]},
        }));
    }

    /// Starts the program and waits until it serves.
    fn portico(&self, args: &[&str]) -> Daemon {
        let url = self.api.url();
        let mut all = vec!["--master", &url];
        all.extend(args);
        let portico = Daemon::start(&self.net.node, &all);
        portico.wait_for("listeners open");
        portico
    }

    fn get(&self, address: &str, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = connect(&self.net.node, address)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text
            .split_once("\r\n\r\n")
            .ok_or(ErrorKind::UnexpectedEof)?;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((code.ok_or(ErrorKind::InvalidData)?, body.to_owned()))
    }

    #[track_caller]
    fn becomes(&self, address: &str, path: &str, expect: u16) {
        eventually(SOON, &format!("{address}{path} says {expect}"), || {
            let (code, _) = self.get(address, path).ok()?;
            (code == expect).then_some(())
        });
    }

    /// The value of a series in the metrics.
    fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get(METRICS, "/metrics").ok()?;
        let mut values = text.lines().filter_map(|line| line.strip_prefix(series));
        values.next()?.trim().parse().ok()
    }
}

/// 10.92.0.2:8080 sends back what it gets.
fn echo(namespace: &Namespace) {
    let listener = namespace
        .run(|| TcpListener::bind((Net::BACKEND, 8080)))
        .expect("the address is there");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &client, &mut &client));
        }
    });
}

fn connect(from: &Namespace, to: &str) -> std::io::Result<TcpStream> {
    let to: SocketAddr = to.parse().expect("an address");
    let stream = from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes())?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, text.as_bytes());
    Ok(())
}

/// A connection that is known to have reached the backend.
fn live_connection(cluster: &Cluster) -> TcpStream {
    let mut stream = connect(&cluster.net.client, VIP).expect("the Service is served");
    exchange(&mut stream, "hello").expect("the backend answers");
    stream
}

#[test]
fn metrics_count_what_a_service_carries() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let _portico = cluster.portico(&[]);
    let mode = cluster.get(METRICS, "/proxyMode").unwrap();
    assert_eq!(mode, (200, "userspace".to_owned()));
    let (code, configz) = cluster.get(METRICS, "/configz").unwrap();
    let configz: Value = serde_json::from_str(&configz).expect("JSON");
    assert_eq!(code, 200);
    assert!(configz["kubeproxy.config.k8s.io"].is_object(), "{configz}");

    let labels = r#"{namespace="shop",service="web",port="http",protocol="TCP",ip_family="IPv4"}"#;
    let series = |name: &str| format!("portico_service_{name}{labels}");
    let read = |name: &str| cluster.metric(&series(name));
    assert_eq!(read("connections_total"), Some(0.0));
    for _ in 0..3 {
        live_connection(&cluster);
    }
    eventually(SOON, "three connections, counted and ended", || {
        let counted = [
            "connections_total",
            "connections_active",
            "received_bytes_total",
            "sent_bytes_total",
        ];
        (counted.map(read) == [3.0, 0.0, 15.0, 15.0].map(Some)).then_some(())
    });

    let no_local = |family: &str, policy: &str| {
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        let labels = format!("ip_family=\"{family}\",traffic_policy=\"{policy}\"");
        cluster.metric(&format!("{name}{{{labels}}}"))
    };
    assert_eq!(no_local("IPv4", "external"), Some(0.0));
    cluster.endpoint_on("node-2");
    eventually(SOON, "the only endpoint is elsewhere", || {
        (no_local("IPv4", "external") == Some(1.0)).then_some(())
    });
    assert_eq!(no_local("IPv4", "internal"), Some(0.0));
    assert_eq!(no_local("IPv6", "external"), Some(0.0));
    let text = cluster.get(METRICS, "/metrics").unwrap().1;
    let host = cluster.api.address();
    let lists =
        format!("rest_client_request_duration_seconds_count{{verb=\"GET\",host=\"{host}\"}} ");
    let counted = text.lines().find_map(|line| line.strip_prefix(&lists));
    let counted: Option<u64> = counted.and_then(|count| count.parse().ok());
    assert!(counted.is_some_and(|count| count >= 3), "{text}");
    promtool(&text);

    let (code, flags) = cluster.get(METRICS, "/flagz").unwrap();
    assert_eq!(code, 200);
    assert!(flags.contains("\nhostname-override=node-1\n"), "{flags}");
    assert!(flags.contains("\noom-score-adj=-999\n"), "{flags}");
}

#[test]
fn a_server_that_cannot_be_bound_is_an_event_even_when_that_is_the_end() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let bound = |address| cluster.net.node.run(|| TcpListener::bind(address));
    let taken = [HEALTHZ, METRICS].map(|address| bound(address).expect("nobody has it"));
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let reported = |reason: &str| {
        let requests = cluster.api.requests_of(events);
        let bodies = requests
            .iter()
            .filter_map(|request| serde_json::from_slice::<Value>(&request.body).ok());
        let mut found = bodies.filter(|event| event["reason"] == reason);
        found.next()
    };
    let url = cluster.api.url();
    let args = [
        "--master",
        &url,
        "--bind-address-hard-fail",
        "--healthz-bind-address=",
    ];
    let mut portico = Daemon::start(&cluster.net.node, &args);
    assert_eq!(portico.wait().code(), Some(1), "{}", portico.log());
    assert!(portico.logged("metrics") > 0, "{}", portico.log());
    let event = reported("FailedToStartMetricServer").expect("written before the end");
    assert_eq!(
        (&event["type"], &event["regarding"]["kind"]),
        (&json!("Warning"), &json!("Node"))
    );

    // Without the flag it goes on, tries again, and has said so once.
    let portico = cluster.portico(&["--healthz-bind-address", HEALTHZ]);
    let event = eventually(SOON, "an Event", || {
        reported("FailedToStartProxierHealthcheck")
    });
    let note = event["note"].as_str().unwrap_or_default();
    assert!(
        note.starts_with("failed to start proxy healthz on 127.0.0.1:10256: "),
        "{note}"
    );
    drop(taken);
    portico.wait_for("healthz: listening on 127.0.0.1:10256 after all");
}

#[test]
fn health_check_node_ports_follow_local_endpoints() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let _portico = cluster.portico(&[]);
    cluster.becomes(HEALTH_CHECK, "/", 200);
    cluster.endpoint_on("node-2");
    cluster.becomes(HEALTH_CHECK, "/", 503);
    cluster.endpoint_on("node-1");
    cluster.becomes(HEALTH_CHECK, "/", 200);
    cluster.api.delete("services", "shop", "web");
    eventually(SOON, "the port is closed", || {
        let asked = cluster.get(HEALTH_CHECK, "/");
        matches!(asked, Err(error) if error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
}

#[test]
fn a_node_about_to_be_deleted_fails_healthz_and_not_livez() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let _portico = cluster.portico(&[]);
    cluster.becomes(HEALTHZ, "/healthz", 200);
    cluster.node(
        json!({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}),
    );
    cluster.becomes(HEALTHZ, "/healthz", 503);
    assert_eq!(cluster.get(HEALTHZ, "/livez").unwrap().0, 200);
    cluster.node(json!({}));
    cluster.becomes(HEALTHZ, "/healthz", 200);
}

#[test]
fn another_configuration_ends_the_process_with_status_1() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let folder = Folder::new();
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nhostnameOverride: node-1\n";
    let path = folder.write("config.yaml", text);
    let mut portico = cluster.portico(&["--config", path.to_str().expect("UTF-8")]);
    folder.write("config.yaml", &format!("{text}mode: iptables\n"));
    assert_eq!(portico.wait().code(), Some(1), "{}", portico.log());
}

#[test]
fn what_is_no_apiserver_is_said_once_and_on_one_line_each() {
    let Some(node) = Namespace::new("node") else {
        return;
    };
    let listener = node.run(|| TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let lists = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lists);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            // Whatever becomes of one client, the next is answered.
            thread::spawn(move || refuse_with_a_page(&client, &counted));
        }
    });
    let portico = Daemon::start(&node, &["--master", &url, "--portal", "none"]);
    // Each round asks all three ways.
    eventually(SOON, "three rounds", || {
        (lists.load(Ordering::SeqCst) >= 9).then_some(())
    });
    let log = portico.log();
    assert_eq!(portico.logged("in a simpler way"), 2, "{log}");
    assert_eq!(portico.logged("cannot follow the apiserver"), 1, "{log}");
    let page = r"404: <html> <h1>no\u{1b}[31m such page</h1> </html>";
    assert!(portico.logged(page) >= 3, "{log}");
    let is_record = |line: &str| line.starts_with("20") && line.contains("Z [");
    assert!(log.lines().all(is_record), "{log}");
}

/// Answers every request so; counts those for endpoints by whatever name.
fn refuse_with_a_page(client: &TcpStream, endpoints: &AtomicUsize) -> std::io::Result<()> {
    let page = "<html>\n<h1>no\x1b[31m such page</h1>\r\n</html>\n";
    let mut lines = BufReader::new(client).lines();
    while let Some(request) = lines.next().transpose()? {
        endpoints.fetch_add(usize::from(request.contains("/endpoint")), Ordering::SeqCst);
        while lines
            .next()
            .transpose()?
            .is_some_and(|line| !line.is_empty())
        {}
        let length = page.len();
        let mut client = client;
        write!(
            client,
            "HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\n\r\n{page}"
        )?;
    }
    Ok(())
}

#[test]
fn a_stop_lets_live_connections_finish() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let mut portico = cluster.portico(&["--drain-timeout", "10m"]);
    let mut stream = live_connection(&cluster);
    portico.signal(Signal::SIGTERM);
    portico.wait_for("a second signal ends this");
    exchange(&mut stream, "still here").expect("the connection lives");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the end is passed on");
    drop(stream);
    assert!(portico.wait().success(), "{}", portico.log());
}

#[test]
fn a_stop_lets_slow_clients_take_the_last_bytes() {
    for portal in ["netns", "host"] {
        let Some(cluster) = Cluster::new() else {
            return;
        };
        let mut portico = cluster.portico(&["--drain-timeout", "10m", "--portal", portal]);
        // More than the client's kernel takes, and less than the proxy's.
        let sent: Vec<u8> = (0..20_000_u32).map(|n| n as u8).collect();
        let vip: SocketAddr = VIP.parse().expect("an address");
        let mut stream: TcpStream = cluster.net.client.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_recv_buffer_size(2048).expect("room");
            socket.connect(&vip.into()).expect("the Service is served");
            socket.into()
        });
        stream.write_all(&sent).expect("the backend reads");
        stream.shutdown(Shutdown::Write).expect("a socket");
        let labels =
            r#"{namespace="shop",service="web",port="http",protocol="TCP",ip_family="IPv4"}"#;
        let read = |name: &str| cluster.metric(&format!("portico_service_{name}{labels}"));
        eventually(SOON, "the proxy is done with the connection", || {
            let counted = ["sent_bytes_total", "connections_active"].map(read);
            (counted == [Some(20_000.0), Some(0.0)]).then_some(())
        });
        portico.signal(Signal::SIGTERM);
        portico.wait_for("1 connections have ended, but their clients have yet to take");
        let mut got = Vec::new();
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        stream.read_to_end(&mut got).expect("all of it");
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
        assert!(portico.wait().success(), "{}", portico.log());
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let mut portico = cluster.portico(&["--drain-timeout", "10m"]);
    let mut stream = live_connection(&cluster);
    portico.signal(Signal::SIGTERM);
    portico.wait_for("a second signal ends this");
    assert!(portico.stop().success(), "{}", portico.log());
    assert!(exchange(&mut stream, "gone").is_err());
}

#[test]
fn the_service_manager_hears_ready_after_the_first_sync() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    for watch in [true, false, true, false] {
        let fault = Fault::Status {
            code: 500,
            reason: "InternalError",
            retry_after: None,
        };
        cluster.api.fault("endpointslices", watch, fault);
    }
    let folder = Folder::new();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a fresh path");
    socket.set_nonblocking(true).unwrap();
    let url = cluster.api.url();
    let env = [("NOTIFY_SOCKET", path.as_os_str())];
    let mut portico = Daemon::start_with(&cluster.net.node, &["--master", &url], &env);
    let mut buffer = [0; 256];
    let mut hear = || {
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    eventually(SOON, "slices refused", || {
        (!cluster.api.requests_of("endpointslices").is_empty()).then_some(())
    });
    let waiting = hear().expect("from the first second");
    assert!(waiting.starts_with("STATUS=waiting for "), "{waiting}");
    assert_eq!(hear(), None, "nothing is served yet");
    let mut after = || eventually(SOON, "a message", &mut hear);
    let said = [after(), after()];
    let serving = said.iter().any(|text| text.starts_with("STATUS=serving "));
    assert!(
        serving && said.iter().any(|text| text == "READY=1"),
        "{said:?}"
    );
    live_connection(&cluster);
    assert!(portico.stop().success());
    let stopping = eventually(SOON, "a message", &mut hear);
    assert!(stopping.contains("STOPPING=1"), "{stopping}");
}

/// A pod's link has an IPv6 link-local address of its own, on which nothing depends.
#[test]
fn links_of_pods_come_and_go_unnoticed() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let node = &cluster.net.node;
    let portico = cluster.portico(&["-v=2"]);
    let changes = || portico.logged("addresses changed");
    let before = changes();
    node.ip("link add pod-1 type veth peer name pod-2");
    node.ip("link set pod-1 up");
    node.ip("link set pod-2 up");
    eventually(SOON, "a link-local address", || {
        let shown = node.ip("-6 address show dev pod-1 scope link");
        shown.contains("fe80:").then_some(())
    });
    // What is noticed comes in order: this one after the others.
    node.ip("address add 10.92.0.77/32 dev pod-1");
    eventually(SOON, "the new address is noticed", || {
        (changes() > before).then_some(())
    });
    assert_eq!(changes(), before + 1, "{}", portico.log());
    live_connection(&cluster);
}

#[test]
fn nothing_happens_while_nothing_happens() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let portico = cluster.portico(&[]);
    live_connection(&cluster);
    // What the start leaves behind may take a moment, so there is more than one chance.
    let mut woken = Vec::new();
    for _ in 0..4 {
        let before = switches(portico.pid());
        thread::sleep(Duration::from_secs(5));
        let after = switches(portico.pid());
        woken = after
            .into_iter()
            .filter(|thread| !before.contains(thread))
            .collect();
        if woken.is_empty() {
            return;
        }
    }
    panic!("threads that woke up, and how often they have: {woken:?}");
}

/// Each thread's name and voluntary context switches.
fn switches(pid: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let statuses = tasks
        .flatten()
        .map(|task| fs::read_to_string(task.path().join("status")));
    statuses
        .map_while(Result::ok)
        .map(|status| {
            let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
            let field = |name| field(name).unwrap_or_default().trim().to_owned();
            (field("Name:"), field("voluntary_ctxt_switches:"))
        })
        .collect()
}
