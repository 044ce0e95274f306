//! The portal, in network namespaces of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded, unbounded};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use portico::portal::ledger::LINGER;
use portico::portal::netlink::{Netlink, Request, Route, Via};
use portico::portal::{self, BindError, BindSpec, Error, Portal, PortalEvent};
use portico::types::{BindKey, Capture, IpFamily, PortalKind, Protocol, Scope};

use crate::util::left_out::left_out;
use crate::util::netns::{Namespace, Net};
use crate::util::{Folder, eventually};

/// Long enough for any answer, short enough for silence to be told.
const SILENCE: Duration = Duration::from_millis(700);

type Call = Box<dyn FnOnce(&Portal) + Send>;

/// A portal on a thread of its own in the node, which all calls are made on.
struct Node {
    calls: Option<Sender<Call>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn open(node: &Namespace, kind: PortalKind) -> Result<Self, Error> {
        let (calls, received) = unbounded::<Call>();
        let (opened, result) = bounded(1);
        let thread = node.spawn(move || match Portal::open(kind) {
            Ok(portal) => {
                opened.send(Ok(())).unwrap();
                received.iter().for_each(|call| call(&portal));
            }
            Err(error) => opened.send(Err(error)).unwrap(),
        });
        result.recv().unwrap()?;
        Ok(Self {
            calls: Some(calls),
            thread: Some(thread),
        })
    }

    fn call<T: Send + 'static>(&self, work: impl FnOnce(&Portal) -> T + Send + 'static) -> T {
        let (answer, result) = bounded(1);
        let calls = self.calls.as_ref().unwrap();
        let call = Box::new(move |portal: &Portal| answer.send(work(portal)).unwrap());
        calls.send(call).unwrap();
        result.recv().unwrap()
    }

    #[track_caller]
    fn capture(&self, captures: &[Capture]) {
        let captures = captures.to_vec();
        let refused = self.call(move |p| p.apply(&captures, &[], Instant::now()));
        assert!(refused.is_empty(), "{refused:?}");
    }

    fn bind(
        &self,
        scope: Scope,
        addr: &str,
        protocol: Protocol,
        allow: Option<&[&str]>,
    ) -> Result<Arc<Socket>, BindError> {
        let spec = BindSpec {
            key: BindKey {
                scope,
                addr: addr.parse().unwrap(),
                protocol,
            },
            allow: allow.map(|nets| nets.iter().map(|net| net.parse().unwrap()).collect()),
        };
        self.call(move |p| p.bind(&[spec]).pop().unwrap())
    }

    /// A TCP listener of the portal's that answers each connection with its own address, until the test ends.
    fn serve(&self, addr: &str, allow: Option<&[&str]>) -> Arc<Socket> {
        let socket = self
            .bind(Scope::Portal, addr, Protocol::Tcp, allow)
            .unwrap();
        serve(TcpListener::from(socket.try_clone().unwrap()), addr);
        socket
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.calls = None;
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(listener: TcpListener, text: &str) {
    listener.set_nonblocking(false).unwrap();
    let text = text.to_owned();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(text.as_bytes());
        }
    });
}

/// What a listener says to a client in that namespace.
fn ask(from: &Namespace, addr: &str) -> io::Result<String> {
    let addr: SocketAddr = addr.parse().unwrap();
    from.run(move || {
        let mut stream = TcpStream::connect_timeout(&addr, SILENCE)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

#[track_caller]
fn assert_answers(from: &Namespace, addr: &str) {
    assert_eq!(
        ask(from, addr)
            .map_err(|e| format!("{e} from {}", from.name()))
            .as_deref(),
        Ok(addr)
    );
}

#[track_caller]
fn assert_fails(from: &Namespace, addr: &str, how: ErrorKind) {
    assert_eq!(ask(from, addr).map_err(|e| e.kind()), Err(how), "{addr}");
}

fn address(ip: &str) -> Capture {
    Capture::Address(ip.parse().unwrap())
}

#[test]
fn virtual_ips_answer_on_their_ports_and_refuse_others() {
    let Some(net) = Net::new() else { return };
    // A host program on the same port, on all addresses of the host.
    let host = net.node.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    serve(host, "host");
    let host = net.node.run(|| TcpListener::bind("[::]:8080").unwrap());
    serve(host, "host6");

    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    node.capture(&[address("10.96.0.1"), address("fd96::1")]);
    node.serve("10.96.0.1:80", None);
    node.serve("[fd96::1]:80", None);
    for from in [&net.client, &net.node] {
        for ip in ["10.96.0.1", "[fd96::1]"] {
            assert_answers(from, &format!("{ip}:80"));
            for port in [81, 8080] {
                assert_fails(from, &format!("{ip}:{port}"), ErrorKind::ConnectionRefused);
            }
        }
        assert_eq!(ask(from, &format!("{}:80", Net::NODE)).unwrap(), "host");
        assert_eq!(
            ask(from, &format!("[{}]:8080", Net::NODE6)).unwrap(),
            "host6"
        );
    }
}

fn port(addr: &str, protocol: Protocol) -> Capture {
    Capture::Port(addr.parse().unwrap(), protocol)
}

/// One question by UDP; the answer only counts if it comes from the address asked.
fn ask_udp(from: &Namespace, addr: &str) -> io::Result<String> {
    let addr: SocketAddr = addr.parse().unwrap();
    from.run(move || {
        let any = if addr.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(addr)?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.send(b"question")?;
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

fn serve_udp(socket: &Socket, text: &str) {
    let socket = UdpSocket::from(socket.try_clone().unwrap());
    socket.set_nonblocking(false).unwrap();
    let text = text.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(text.as_bytes(), client);
        }
    });
}

#[test]
fn datagrams_are_answered_from_the_virtual_ip() {
    let Some(net) = Net::new() else { return };
    let host = net.node.run(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    node.capture(&[address("10.96.0.10"), address("fd96::10")]);
    for addr in ["10.96.0.10:53", "[fd96::10]:53"] {
        let socket = node.bind(Scope::Portal, addr, Protocol::Udp, None).unwrap();
        serve_udp(&socket, addr);
    }
    for from in [&net.client, &net.node] {
        for ip in ["10.96.0.10", "[fd96::10]"] {
            let asked = format!("{ip}:53");
            assert_eq!(ask_udp(from, &asked).unwrap(), asked);
            // A port without a Service is refused, not silent: resolvers try the next server at once.
            let refused = ask_udp(from, &format!("{ip}:54")).map_err(|e| e.kind());
            assert_eq!(
                refused,
                Err(ErrorKind::ConnectionRefused),
                "{ip} from {}",
                from.name()
            );
        }
    }
    drop(host);
}

#[test]
fn filtered_sources_meet_silence() {
    let Some(net) = Net::new() else { return };
    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    node.capture(&[address("10.96.0.1"), address("fd96::1")]);
    for (addr, other, own) in [
        ("10.96.0.1:80", "10.91.7.0/24", "10.91.0.0/24"),
        ("[fd96::1]:80", "fd91:7::/32", "fd91::/32"),
    ] {
        let tcp = node.serve(addr, Some(&[other]));
        let udp = node
            .bind(Scope::Portal, addr, Protocol::Udp, Some(&[]))
            .unwrap();
        serve_udp(&udp, addr);
        assert_fails(&net.client, addr, ErrorKind::TimedOut);
        let silent = ask_udp(&net.client, addr).map_err(|e| e.kind());
        assert_eq!(silent, Err(ErrorKind::WouldBlock));

        node.call(move |p| {
            p.refilter(&tcp, Some(&[own.parse().unwrap()])).unwrap();
            p.refilter(&udp, None).unwrap();
        });
        assert_answers(&net.client, addr);
        assert_eq!(ask_udp(&net.client, addr).unwrap(), addr);
    }
    let addr = "10.96.0.1:81";
    let open = node.serve(addr, None);
    assert_answers(&net.client, addr);
    node.call(move |p| p.refilter(&open, Some(&[])).unwrap());
    assert_fails(&net.client, addr, ErrorKind::TimedOut);
}

#[test]
fn accepted_connections_inherit_their_options() {
    let Some(net) = Net::new() else { return };
    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    node.capture(&[address("10.96.0.1")]);
    let listener = node
        .bind(Scope::Portal, "10.96.0.1:80", Protocol::Tcp, None)
        .unwrap();
    let (accepted, _client) = net.client.run(|| {
        let client = TcpStream::connect("10.96.0.1:80").unwrap();
        let accepted = eventually(Duration::from_secs(5), "accept", || listener.accept().ok());
        (accepted.0, client)
    });
    assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
    assert_eq!(
        accepted.tcp_keepalive_time().unwrap(),
        Duration::from_secs(60)
    );
    // What the listener has, too: it never blocks the loop.
    assert_eq!(
        listener.accept().map_err(|e| e.kind()).err(),
        Some(ErrorKind::WouldBlock)
    );
}

#[test]
fn an_external_ip_is_captured_on_its_service_ports_only() {
    let Some(net) = Net::new() else { return };
    // The backend has it as an address and serves a port of its own there.
    for (ip, family) in [("198.18.0.1", ""), ("fd98::1", "-6")] {
        net.backend.address(
            "lo",
            &if family.is_empty() {
                format!("{ip}/32")
            } else {
                format!("{ip}/128")
            },
        );
        let via = if family.is_empty() {
            Net::BACKEND
        } else {
            Net::BACKEND6
        };
        net.node.ip(&format!("{family} route add {ip} via {via}"));
    }
    for addr in [
        "198.18.0.1:80",
        "198.18.0.1:81",
        "[fd98::1]:80",
        "[fd98::1]:81",
    ] {
        serve(
            net.backend.run(|| TcpListener::bind(addr).unwrap()),
            "backend",
        );
    }
    for kind in [PortalKind::Netns, PortalKind::Host] {
        let node = Node::open(&net.node, kind).unwrap();
        assert!(node.call(|p| p.routes_by_port()));
        for ip in ["198.18.0.1", "[fd98::1]"] {
            let (ours, theirs) = (format!("{ip}:80"), format!("{ip}:81"));
            node.capture(&[port(&ours, Protocol::Tcp)]);
            node.serve(&ours, None);
            for from in [&net.client, &net.node] {
                assert_answers(from, &ours);
                assert_eq!(ask(from, &theirs).unwrap(), "backend", "{kind} {ip}");
            }
        }
        drop(node);
        assert_eq!(ask(&net.client, "198.18.0.1:80").unwrap(), "backend");
    }
}

/// From the first rule of its own on a namespace keeps local addresses and routes in two tables, and looks into both for
/// every packet.
fn has_had_rules(namespace: &Namespace) -> bool {
    let tables = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/fib_trie"));
    let tables = tables.unwrap();
    let (_, main) = tables.split_once("Main:").unwrap();
    let main = main.split("Local:").next().unwrap();
    !main.contains("host LOCAL")
}

#[test]
fn packets_pay_for_rules_only_once_a_port_is_captured() {
    let Some(net) = Net::new() else { return };
    assert!(!has_had_rules(&net.node));
    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    node.capture(&[address("10.96.0.10")]);
    assert!(!has_had_rules(&net.node));
    node.capture(&[port("203.0.113.1:80", Protocol::Tcp)]);
    assert!(has_had_rules(&net.node));
}

#[test]
fn unallocated_addresses_of_a_range_are_silent() {
    let Some(net) = Net::new() else { return };
    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    let range = |net: &str| Capture::Range(net.parse().unwrap());
    node.capture(&[
        range("10.96.0.0/16"),
        range("fd96::/64"),
        address("10.96.0.1"),
    ]);
    node.serve("10.96.0.1:80", None);
    assert_answers(&net.client, "10.96.0.1:80");
    let before = received(&net.node);
    assert_fails(&net.client, "10.96.0.2:80", ErrorKind::TimedOut);
    assert_fails(&net.client, "[fd96::2]:80", ErrorKind::TimedOut);
    // Neither answered nor sent back and forth until its TTL ends.
    let looped = received(&net.node) - before;
    assert!(looped < 8, "{looped} packets came back over the link");

    // An address whose Service has gone is refused for a while, and silent from then on.
    let now = Instant::now();
    node.call(move |p| {
        assert!(p.apply(&[], &[address("10.96.0.1")], now).is_empty());
        assert_eq!(p.next_deadline(), Some(now + LINGER));
        p.tick(now + LINGER / 2);
    });
    assert_fails(&net.client, "10.96.0.1:81", ErrorKind::ConnectionRefused);
    node.call(move |p| p.tick(now + LINGER));
    assert_fails(&net.client, "10.96.0.1:81", ErrorKind::TimedOut);
    assert_eq!(node.call(|p| p.next_deadline()), None);
}

/// Packets that the host received over our link.
fn received(node: &Namespace) -> u64 {
    let shown = node.ip("-s -o link show dev vethportico");
    let mut words = shown.split_whitespace().skip_while(|word| *word != "RX:");
    // "RX: bytes packets errors dropped missed mcast \ 1234 12 .."
    let numbers = words.by_ref().filter_map(|word| word.parse::<u64>().ok());
    numbers.take(2).last().unwrap()
}

#[test]
fn a_given_up_address_is_refused_then_left_to_others() {
    let Some(net) = Net::new() else { return };
    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    node.capture(&[address("10.96.0.1")]);
    let now = Instant::now();
    node.call(move |p| p.apply(&[], &[address("10.96.0.1")], now));
    assert_fails(&net.client, "10.96.0.1:80", ErrorKind::ConnectionRefused);
    node.call(move |p| p.tick(now + LINGER));
    assert_eq!(net.node.ip("route show proto 112 10.96.0.1"), "");
}

#[test]
fn routes_come_back_when_their_source_address_goes() {
    let Some(net) = Net::new() else { return };
    // The kernel's own choice is client0's address; the default route wants backend0's second one.
    net.node.ip("address add 10.92.0.21/24 dev backend0");
    net.node
        .ip("route add default via 10.92.0.2 src 10.92.0.21");
    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    node.capture(&[address("10.96.0.1"), address("10.96.0.2")]);
    node.serve("10.96.0.1:80", None);
    let source = || {
        net.node.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect("10.96.0.1:80").unwrap();
            socket.local_addr().unwrap().ip().to_string()
        })
    };
    assert_eq!(source(), "10.92.0.21");
    assert_eq!(
        net.node
            .ip("route show proto 112 10.96.0.2")
            .matches("src")
            .count(),
        1
    );

    net.node.ip("address del 10.92.0.21/24 dev backend0");
    eventually(Duration::from_secs(5), "the routes are restored", || {
        let shown = net.node.ip("route show proto 112 10.96.0.2");
        (shown.contains("vethportico") && !shown.contains("10.92.0.21")).then_some(())
    });
    assert_answers(&net.client, "10.96.0.1:80");
    assert_answers(&net.node, "10.96.0.1:80");
    let events = node.call(|p| p.events().try_iter().collect::<Vec<_>>());
    assert!(events.contains(&PortalEvent::Addresses), "{events:?}");

    // And a new default route brings its source address to them.
    net.node.ip("address add 10.92.0.22/24 dev backend0");
    net.node
        .ip("route add default via 10.92.0.2 src 10.92.0.22");
    eventually(Duration::from_secs(5), "the new source", || {
        (source() == "10.92.0.22").then_some(())
    });
}

/// After some damage that address answers again, soon.
#[track_caller]
fn comes_back(from: &Namespace, addr: &str, damage: &str) {
    eventually(Duration::from_secs(5), damage, || {
        (ask(from, addr).ok()? == addr).then_some(())
    });
}

#[test]
fn what_others_remove_is_restored() {
    let Some(net) = Net::new() else { return };
    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    node.capture(&[
        address("10.96.0.1"),
        address("fd96::1"),
        port("198.18.0.1:80", Protocol::Tcp),
    ]);
    let addresses = ["10.96.0.1:80", "[fd96::1]:80", "198.18.0.1:80"];
    let _listeners: Vec<_> = addresses
        .iter()
        .map(|addr| node.serve(addr, None))
        .collect();
    for damage in [
        "route flush proto 112",
        "-6 route flush proto 112",
        "route flush table 7112",
        "rule del to 198.18.0.1",
        "link set vethportico down",
        "link del vethportico",
    ] {
        net.node.ip(damage);
        for addr in addresses {
            for from in [&net.client, &net.node] {
                comes_back(from, addr, damage);
            }
        }
    }
}

#[test]
fn what_others_break_inside_is_restored() {
    let Some(net) = Net::new() else { return };
    let mut child = start_child(&net.node);
    let namespace = eventually(Duration::from_secs(10), "the child serves", || {
        ask(&net.node, "10.96.0.1:81")
            .err()
            .filter(|e| e.kind() == ErrorKind::ConnectionRefused)?;
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).ok()?;
        let mut tasks = tasks.flatten().map(|task| task.path());
        tasks.find(|task| {
            let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            name.trim() == "portal-ns"
        })
    });
    let inside = |command: &str| {
        let namespace = format!("--net={}/ns/net", namespace.display());
        let done = Command::new("nsenter")
            .arg(namespace)
            .arg("ip")
            .args(command.split(' '))
            .status();
        assert!(done.unwrap().success(), "{command}");
    };
    for damage in [
        "link set lo down",
        "link set vethportico down",
        "route flush table local proto 112",
        "route flush table main",
        "-6 route flush proto 112",
        "rule del pref 100",
    ] {
        inside(damage);
        // Refused, not lost: the child listens on one port alone.
        for addr in ["10.96.0.1:81", "[fd96::1]:81"] {
            eventually(Duration::from_secs(5), damage, || {
                let refused = ErrorKind::ConnectionRefused;
                ask(&net.client, addr)
                    .err()
                    .filter(|e| e.kind() == refused)
                    .map(drop)
            });
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Everything of a namespace that a portal might change.
fn traces(node: &Namespace) -> String {
    let commands = [
        "-o link",
        "address",
        "route show table all",
        "-6 route show table all",
        "rule",
        "-6 rule",
    ];
    commands.map(|command| node.ip(command)).concat()
}

#[test]
fn nothing_is_left_behind() {
    let Some(net) = Net::new() else { return };
    let before = traces(&net.node);
    for kind in [PortalKind::Auto, PortalKind::Host, PortalKind::None] {
        let node = Node::open(&net.node, kind).unwrap();
        if kind == PortalKind::Auto {
            assert_eq!(node.call(|p| p.kind()), PortalKind::Netns);
        }
        let captures = [
            address("10.96.0.1"),
            address("fd96::1"),
            port("198.18.0.1:80", Protocol::Tcp),
            port("[fd98::1]:53", Protocol::Udp),
            Capture::Range("10.97.0.0/16".parse().unwrap()),
        ];
        if kind != PortalKind::None {
            node.capture(&captures);
            assert_ne!(traces(&net.node), before);
            // Only one at a time, and no cleaning under its feet.
            let second = Node::open(&net.node, PortalKind::Auto);
            assert!(matches!(second, Err(Error::Running)));
            assert!(matches!(net.node.run(portal::cleanup), Err(Error::Running)));
        }
        drop(node);
        assert_eq!(traces(&net.node), before, "{kind}");
        assert_eq!(net.node.run(portal::cleanup).unwrap(), Default::default());
    }
}

#[test]
fn an_external_ip_may_be_a_clients_own_address() {
    let Some(net) = Net::new() else { return };
    for kind in [PortalKind::Netns, PortalKind::Host] {
        let node = Node::open(&net.node, kind).unwrap();
        let vips = ["10.96.0.1:80", "[fd96::1]:80"];
        node.capture(&[address("10.96.0.1"), address("fd96::1")]);
        let claimed = [
            format!("{}:7777", Net::CLIENT),
            format!("[{}]:7777", Net::CLIENT6),
        ];
        for addr in vips.into_iter().chain(claimed.iter().map(String::as_str)) {
            node.serve(addr, None);
        }
        node.capture(&claimed.each_ref().map(|addr| port(addr, Protocol::Tcp)));
        for vip in vips {
            // The client's own address is where the reply goes.
            assert_answers(&net.client, vip);
            let refused = vip.replace(":80", ":81");
            assert_fails(&net.client, &refused, ErrorKind::ConnectionRefused);
        }
        for addr in &claimed {
            assert_answers(&net.node, addr);
            // Even to the very port that is captured.
            let from: SocketAddr = addr.parse().unwrap();
            for vip in vips.map(|vip| vip.parse::<SocketAddr>().unwrap()) {
                if kind == PortalKind::Netns && vip.is_ipv4() == from.is_ipv4() {
                    assert_eq!(
                        net.client.run(|| ask_from(from, vip)).unwrap(),
                        vip.to_string()
                    );
                }
            }
        }
    }
}

/// What a listener says to a client at that address and port.
fn ask_from(from: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let socket = Socket::new(Domain::for_address(from), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&from.into())?;
    socket.connect_timeout(&to.into(), SILENCE)?;
    let mut text = String::new();
    TcpStream::from(socket).read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn what_the_host_portal_left_in_time_wait_is_no_obstacle() {
    let Some(net) = Net::new() else { return };
    let (from, to) = (
        format!("{}:0", Net::CLIENT),
        "10.96.0.1:80".parse().unwrap(),
    );
    let node = Node::open(&net.node, PortalKind::Host).unwrap();
    node.capture(&[address("10.96.0.1")]);
    let listener = node.serve("10.96.0.1:80", None);
    // Whoever closes first keeps the connection for a minute: that is us.
    let port = net.client.run(|| {
        let client = TcpStream::connect_timeout(&to, SILENCE).unwrap();
        let port = client.local_addr().unwrap().port();
        let (mut client, mut text) = (client, String::new());
        client.read_to_string(&mut text).unwrap();
        port
    });
    let waits = || {
        let ss = net
            .node
            .command("ss")
            .args(["-tanH", "state", "time-wait"])
            .output();
        String::from_utf8_lossy(&ss.unwrap().stdout).contains("10.96.0.1:80")
    };
    eventually(Duration::from_secs(5), "TIME_WAIT on the host", || {
        waits().then_some(())
    });
    drop((listener, node));

    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    node.serve("10.96.0.1:80", None);
    node.capture(&[address("10.96.0.1")]);
    let mut from: SocketAddr = from.parse().unwrap();
    from.set_port(port);
    assert_eq!(
        net.client.run(|| ask_from(from, to)).unwrap(),
        "10.96.0.1:80"
    );
    assert!(!waits());
}

#[test]
fn the_host_portal_serves_from_the_hosts_namespace() {
    let Some(net) = Net::new() else { return };
    let conflict = net.node.run(|| TcpListener::bind("0.0.0.0:81").unwrap());
    let node = Node::open(&net.node, PortalKind::Host).unwrap();
    node.capture(&[
        address("10.96.0.1"),
        address("fd96::1"),
        Capture::Range("10.96.0.0/16".parse().unwrap()),
    ]);
    for addr in ["10.96.0.1:80", "[fd96::1]:80"] {
        node.serve(addr, None);
        assert_answers(&net.client, addr);
        assert_answers(&net.node, addr);
    }
    assert_fails(&net.client, "10.96.0.1:82", ErrorKind::ConnectionRefused);
    assert_fails(&net.client, "10.96.0.2:80", ErrorKind::TimedOut);
    let udp = node
        .bind(Scope::Portal, "10.96.0.1:53", Protocol::Udp, None)
        .unwrap();
    serve_udp(&udp, "dns");
    assert_eq!(ask_udp(&net.client, "10.96.0.1:53").unwrap(), "dns");
    // A host program's port is its own until it goes.
    let taken = node
        .bind(Scope::Portal, "10.96.0.1:81", Protocol::Tcp, None)
        .unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    drop(conflict);
    let freed = eventually(Duration::from_secs(5), "the port is free", || {
        node.bind(Scope::Portal, "10.96.0.1:81", Protocol::Tcp, None)
            .ok()
    });
    serve(freed.try_clone().unwrap().into(), "10.96.0.1:81");
    assert_answers(&net.client, "10.96.0.1:81");
}

#[test]
fn the_host_portal_restores_its_routes() {
    let Some(net) = Net::new() else { return };
    let node = Node::open(&net.node, PortalKind::Host).unwrap();
    node.capture(&[address("10.96.0.1"), port("198.18.0.1:80", Protocol::Tcp)]);
    for addr in ["10.96.0.1:80", "198.18.0.1:80"] {
        node.serve(addr, None);
    }
    for damage in [
        "route flush table local proto 112",
        "route flush table 7112",
        "rule del to 198.18.0.1",
    ] {
        net.node.ip(damage);
        comes_back(&net.client, "10.96.0.1:80", damage);
        comes_back(&net.client, "198.18.0.1:80", damage);
    }
}

#[test]
fn addresses_of_this_host_are_left_alone_or_needed() {
    let Some(net) = Net::new() else { return };
    // NodeLocal DNS.
    net.node.ip("address add 10.96.0.10/32 dev lo");
    let captures = [
        address("10.96.0.10"),
        address("10.96.0.11"),
        port("10.91.0.1:80", Protocol::Tcp),
    ];
    let refused = |node: &Node| {
        let refused = node.call(move |p| p.apply(&captures, &[], Instant::now()));
        refused
            .into_iter()
            .map(|(capture, error)| (capture, error.to_string()))
            .collect::<Vec<_>>()
    };
    for kind in [PortalKind::Netns, PortalKind::Host] {
        let node = Node::open(&net.node, kind).unwrap();
        let left = " is an address of this host already (on ";
        assert_eq!(
            refused(&node),
            [
                (captures[0], format!("10.96.0.10{left}lo): left alone")),
                (captures[2], format!("10.91.0.1{left}client0): left alone")),
            ]
        );
        let addresses = node.call(|p| p.host_addresses().unwrap());
        for ip in ["10.96.0.10", "10.91.0.1", "fd92::1", "127.0.0.1", "::1"] {
            assert!(
                addresses.contains(&ip.parse::<IpAddr>().unwrap()),
                "{ip} of {addresses:?}"
            );
        }
        assert!(!addresses.contains(&"10.96.0.11".parse::<IpAddr>().unwrap()));
    }
    let node = Node::open(&net.node, PortalKind::None).unwrap();
    let refused = refused(&node);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].0, captures[1]);
    node.serve("10.91.0.1:80", None);
    assert_answers(&net.client, "10.91.0.1:80");
    let missing = node.bind(Scope::Portal, "10.96.0.11:80", Protocol::Tcp, None);
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn node_ports_are_bound_in_the_hosts_namespace() {
    let Some(net) = Net::new() else { return };
    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    for wildcard in ["0.0.0.0:30080", "[::]:30080"] {
        let tcp = node
            .bind(Scope::Host, wildcard, Protocol::Tcp, None)
            .unwrap();
        serve(TcpListener::from(tcp.try_clone().unwrap()), wildcard);
        let taken = node
            .bind(Scope::Host, wildcard, Protocol::Tcp, None)
            .unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        assert!(
            node.bind(Scope::Host, wildcard, Protocol::Udp, None)
                .is_ok()
        );
    }
    let addr = format!("{}:30080", Net::NODE);
    assert_eq!(ask(&net.client, &addr).unwrap(), "0.0.0.0:30080");
    let addr = format!("[{}]:30080", Net::NODE6);
    assert_eq!(ask(&net.client, &addr).unwrap(), "[::]:30080");
}

#[test]
fn what_a_portal_holds_can_be_handed_on() {
    let Some(net) = Net::new() else { return };
    let before = traces(&net.node);
    for kind in [PortalKind::Netns, PortalKind::Host] {
        // Everything on one thread of the node's, as in two processes one after the other.
        net.node.run(|| {
            let spec = |addr: &str| BindSpec {
                key: BindKey {
                    scope: Scope::Portal,
                    addr: addr.parse().unwrap(),
                    protocol: Protocol::Tcp,
                },
                allow: None,
            };
            let listener = |portal: &Portal, addr: &str| {
                let made = portal.bind(&[spec(addr)]).pop().unwrap().unwrap();
                serve(made.try_clone().unwrap().into(), addr);
                made
            };
            let captures = [
                address("10.96.0.1"),
                address("10.96.0.2"),
                address("fd96::1"),
                port("198.18.0.1:80", Protocol::Tcp),
            ];
            let first = Portal::open(kind).unwrap();
            assert!(first.apply(&captures, &[], Instant::now()).is_empty());
            let given_up = [address("10.96.0.2")];
            assert!(first.apply(&[], &given_up, Instant::now()).is_empty());
            let _old = ["10.96.0.1:80", "198.18.0.1:80"].map(|addr| listener(&first, addr));

            let holdings = first.hand_on();
            // Nothing of it has ended, and nobody else may have it.
            for addr in ["10.96.0.1:80", "198.18.0.1:80"] {
                assert_answers(&net.client, addr);
            }
            assert_fails(&net.client, "10.96.0.2:80", ErrorKind::ConnectionRefused);
            assert!(matches!(Portal::open(kind), Err(Error::Running)));

            // What others damage meanwhile is whole again.
            net.node.ip("rule del to 198.18.0.1");
            let second = Portal::adopt(holdings).unwrap();
            assert_eq!(second.kind(), kind);
            for addr in ["10.96.0.1:80", "198.18.0.1:80"] {
                assert_answers(&net.client, addr);
            }
            assert!(second.routes_by_port());
            let _new = ["10.96.0.1:81", "[fd96::1]:80"].map(|addr| listener(&second, addr));
            assert_answers(&net.client, "10.96.0.1:81");
            assert_answers(&net.client, "[fd96::1]:80");
            // The minute of what was given up goes on.
            let due = second.next_deadline().unwrap();
            assert!(due <= Instant::now() + LINGER);
            second.tick(due);
            assert_eq!(second.next_deadline(), None);
            assert!(
                !net.node
                    .ip("route show table all proto 112")
                    .contains("10.96.0.2")
            );
        });
        assert_eq!(traces(&net.node), before, "{kind}");
    }
}

/// Several datagrams' worth of requests, of which some fail, each for a reason of its own.
#[test]
fn each_of_many_requests_meets_its_own_fate() {
    const EINVAL: &str = "Invalid argument (os error 22)";
    let Some(node) = Namespace::new("fates") else {
        return;
    };
    let route = |n: u32, via| Route {
        net: IpAddr::V4((0x0a60_0000 + n).into()).into(),
        table: 7112,
        via,
        source: None,
    };
    let wanted = |n: u32| match n % 7 {
        // The one before once more.
        3 => route(n - 1, Via::Blackhole),
        // Neither of this host nor of a neighbour of it.
        5 => route(n, Via::Gateway([0, 0, 0, 0].into(), 1)),
        _ => route(n, Via::Blackhole),
    };
    let (results, mut present, gone, left) = node.run(|| {
        let mut netlink = Netlink::new().unwrap();
        netlink.request(Request::link_up(1)).unwrap();
        let results = netlink.batch((0..1000).map(|n| Request::add_route(&wanted(n))));
        let present = netlink.our_routes(IpFamily::V4).unwrap();
        let gone = netlink.batch(present.iter().map(Request::delete_route));
        let left = netlink.our_routes(IpFamily::V4).unwrap();
        (results, present, gone, left)
    });
    let mut added = Vec::new();
    for (n, result) in (0..).zip(results) {
        match (n % 7, result) {
            (3, Err(error)) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{n}"),
            (5, Err(error)) => {
                let text = error.to_string();
                let reason = text.strip_prefix(EINVAL).unwrap_or("");
                assert!(reason.len() > 2, "{n}: {text}");
            }
            (3 | 5, Ok(())) => panic!("{n} did not fail"),
            (_, result) => {
                result.unwrap_or_else(|error| panic!("{n}: {error}"));
                added.push(wanted(n));
            }
        }
    }
    present.sort_unstable_by_key(|route| route.net);
    assert_eq!(present, added);
    assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    assert_eq!(left, []);
}

#[test]
fn five_thousand_virtual_ips() {
    let Some(net) = Net::new() else { return };
    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    let v4 = |n: u32| IpAddr::V4((0x0a60_0000 + n).into());
    let v6 = |n: u32| IpAddr::V6((0xfd96 << 112 | u128::from(n)).into());
    for (family, ip) in [("IPv4", &v4 as &dyn Fn(u32) -> IpAddr), ("IPv6", &v6)] {
        let captures: Vec<Capture> = (0..5000).map(|n| Capture::Address(ip(n))).collect();
        let (added, removed, refused) = node.call(move |p| {
            let now = Instant::now();
            let refused = p.apply(&captures, &[], now).len();
            let added = now.elapsed();
            p.apply(&[], &captures, now);
            let start = Instant::now();
            p.tick(now + LINGER);
            (added, start.elapsed(), refused)
        });
        assert_eq!(refused, 0);
        println!("5000 {family} addresses: routed in {added:?}, let go in {removed:?}");
    }
    let specs: Vec<BindSpec> = (0..5000u32)
        .map(|n| BindSpec {
            key: BindKey {
                scope: Scope::Portal,
                addr: SocketAddr::new(v4(n), 80),
                protocol: [Protocol::Tcp, Protocol::Udp][n as usize % 2],
            },
            allow: None,
        })
        .collect();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard), hard).unwrap();
    let (bound, took) = node.call(move |p| {
        let start = Instant::now();
        let bound = p.bind(&specs).iter().filter(|made| made.is_ok()).count();
        (bound, start.elapsed())
    });
    assert_eq!(bound, 5000);
    println!("5000 sockets: made in {took:?}");
    // All but the two that are always there.
    let left = net.node.ip("route show proto 112") + &net.node.ip("-6 route show proto 112");
    assert_eq!(left.lines().count(), 2, "{left}");
}

/// Not a test of its own: the process that others start.
#[test]
fn a_child_with_a_portal() {
    match std::env::var("PORTICO_TEST_CHILD").as_deref() {
        Ok("serve") => serve_until_killed(),
        Ok("check") => println!("{}", portal::check::check(PortalKind::Auto)),
        _ => {}
    }
}

fn serve_until_killed() {
    let portal = Portal::open(PortalKind::Netns).unwrap();
    portal.apply(
        &[
            address("10.96.0.1"),
            address("fd96::1"),
            port("198.18.0.1:80", Protocol::Tcp),
        ],
        &[],
        Instant::now(),
    );
    let spec = BindSpec {
        key: BindKey {
            scope: Scope::Portal,
            addr: "10.96.0.1:80".parse().unwrap(),
            protocol: Protocol::Tcp,
        },
        allow: None,
    };
    let socket = portal.bind(&[spec]).pop().unwrap().unwrap();
    let listener = TcpListener::from(socket.try_clone().unwrap());
    listener.set_nonblocking(false).unwrap();
    for mut stream in listener.incoming().flatten() {
        // More than the client's buffers take: it does not read.
        while stream.write_all(&[0; 65536]).is_ok() {}
    }
}

fn start_child(node: &Namespace) -> Child {
    let exe = std::env::current_exe().unwrap();
    node.command(exe.to_str().unwrap())
        .args(["--exact", "portal::a_child_with_a_portal"])
        .env("PORTICO_TEST_CHILD", "serve")
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_portal_is_no_obstacle() {
    let Some(net) = Net::new() else { return };
    let mut child = start_child(&net.node);
    let stalled = eventually(Duration::from_secs(10), "the child serves", || {
        net.client
            .run(|| TcpStream::connect_timeout(&"10.96.0.1:80".parse().unwrap(), SILENCE).ok())
    });
    // Until its send buffer is full: the window is closed and data waits.
    eventually(Duration::from_secs(10), "the client's buffer fills", || {
        let shown = net.client.command("ss").args(["-tnH"]).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let queued = shown
            .split_whitespace()
            .nth(1)
            .and_then(|n| n.parse::<u64>().ok());
        (queued > Some(60_000)).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    // The namespace lives on for the sake of that data, and the link with it.
    assert!(net.node.ip("link").contains("vethportico"));
    assert!(net.node.ip("rule").contains("198.18.0.1"));

    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    assert!(!net.node.ip("rule").contains("198.18.0.1"));
    node.capture(&[address("10.96.0.1")]);
    node.serve("10.96.0.1:80", None);
    assert_answers(&net.client, "10.96.0.1:80");
    drop(stalled);

    // The other way to tidy up after it.
    drop(node);
    let mut child = start_child(&net.node);
    eventually(Duration::from_secs(10), "the child's rule", || {
        net.node.ip("rule").contains("198.18.0.1").then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let report = net.node.run(portal::cleanup).unwrap();
    // The port's, and in each family what lets the portal's own packets skip it.
    assert_eq!(report.rules, 1 + 2 * 2);
    let left = traces(&net.node);
    assert!(
        !left.contains("proto 112") && !left.contains("vethportico"),
        "{left}"
    );
}

#[test]
fn check_tries_a_portal_and_leaves_no_trace() {
    let Some(net) = Net::new() else { return };
    let before = traces(&net.node);
    for wanted in [PortalKind::Auto, PortalKind::Netns, PortalKind::Host] {
        let check = net.node.run(|| portal::check::check(wanted));
        let kind = if wanted == PortalKind::Host {
            wanted
        } else {
            PortalKind::Netns
        };
        assert_eq!((check.kind, check.usable), (kind, true), "{check}");
        assert!(
            check.to_string().contains("carried a TCP connection"),
            "{check}"
        );
        assert_eq!(traces(&net.node), before);
    }
    // Beside a running one, and beside what a kube-proxy left.
    let _node = Node::open(&net.node, PortalKind::Netns).unwrap();
    let chain = "add table ip nat; add chain ip nat KUBE-SERVICES";
    let added = net.node.command("nft").arg(chain).status();
    let check = net
        .node
        .run(|| portal::check::check(PortalKind::Auto))
        .to_string();
    assert!(check.contains("another portico runs"), "{check}");
    assert!(check.contains("carried a TCP connection"), "{check}");
    if added.is_ok_and(|status| status.success()) {
        assert!(check.contains("nat/KUBE-SERVICES"), "{check}");
    } else {
        left_out("nft cannot run (Debian: nftables)");
    }
    println!("{check}");
}

#[test]
fn each_portal_needs_its_capabilities_and_no_more() {
    let Some(net) = Net::new() else { return };
    // Where nobody may go.
    let folder = Folder::new();
    let exe = folder.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let checked = |capabilities: &str| {
        let output = net
            .node
            .command("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(format!("--inh-caps=-all{capabilities}"))
            .arg(format!("--ambient-caps=-all{capabilities}"))
            .arg(exe.to_str().unwrap())
            .args(["--exact", "portal::a_child_with_a_portal", "--nocapture"])
            .env("PORTICO_TEST_CHILD", "check")
            .output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    };
    let bare = checked("");
    if !bare.contains("the portal") {
        return left_out("setpriv cannot run a program as nobody (Debian: util-linux)");
    }
    for (capabilities, kind, missing) in [
        ("", "none", "portal netns: needs CAP_SYS_ADMIN"),
        (",+net_admin", "host", "CAP_NET_BIND_SERVICE"),
        (
            ",+net_admin,+net_bind_service",
            "host",
            "needs CAP_SYS_ADMIN",
        ),
        (",+sys_admin,+net_admin", "netns", ""),
        (
            ",+sys_admin,+net_bind_service",
            "none",
            "needs CAP_NET_ADMIN",
        ),
        (",+sys_admin,+net_admin,+net_bind_service", "netns", ""),
    ] {
        let check = checked(capabilities);
        assert!(
            check.contains(&format!("the portal {kind} would be used")),
            "{capabilities}:\n{check}"
        );
        assert!(check.contains(missing), "{capabilities}:\n{check}");
    }
}
