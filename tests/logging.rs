//! The log of the real program: its forms, what it says at which -v, and that nobody waits for whoever reads it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::util::daemon::{Daemon, SOON};
use crate::util::netns::Namespace;
use crate::util::{Folder, eventually};

const POD: &str = "10.92.0.2";

/// A node without any network but its own, a Service on node port 30080 that answers, and one on 30081 that does not.
struct Node {
    namespace: Namespace,
    folder: Folder,
    manifest: PathBuf,
}

impl Node {
    fn new() -> Option<Self> {
        let namespace = Namespace::new("log")?;
        namespace.ip(&format!("addr add {POD}/32 dev lo"));
        let pod = namespace.run(|| TcpListener::bind((POD, 8080)));
        let pod = pod.expect("the address is there");
        std::thread::spawn(move || for _ in pod.incoming().flatten() {});
        let folder = Folder::new();
        let manifest = folder.write("all.json", &list(&[]));
        Some(Self {
            namespace,
            folder,
            manifest,
        })
    }

    fn args(&self) -> [&str; 3] {
        [
            "--portal=none",
            "--manifests",
            self.manifest.to_str().expect("a plain path"),
        ]
    }

    fn replace(&self, more: &[Value]) {
        let new = self.folder.write("new", &list(more));
        fs::rename(new, &self.manifest).expect("a file takes another's place");
    }

    fn connect(&self, port: u16) -> std::io::Result<TcpStream> {
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        self.namespace
            .run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)))
    }

    /// Starts it with a standard error that nobody reads yet.
    fn start(&self, args: &[&str]) -> Running {
        let mut command = self.namespace.command(env!("CARGO_BIN_EXE_portico"));
        let command = command.args(["--hostname-override=node-1", "--control-socket="]);
        let command = command.args(self.args()).args(args);
        let child = command.stderr(Stdio::piped()).spawn();
        Running(child.expect("portico starts"))
    }
}

fn list(more: &[Value]) -> String {
    let mut items = vec![service("web", 30080), slice("web", 8080)];
    items.extend([service("dead", 30081), slice("dead", 5999)]);
    items.extend_from_slice(more);
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": "NodePort", "clusterIP": format!("10.96.{}.{}", port >> 8, port & 255), "ports": [{"port": 80, "protocol": "TCP", "nodePort": port}]},
    })
}

fn slice(service: &str, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": service, "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": [POD]}], "ports": [{"name": "", "port": port, "protocol": "TCP"}],
    })
}

/// Rounds of what is below: together more than a pipe and the queue hold.
const ROUNDS: u16 = 16;

/// Services about which there is something to say, other ones in each round, and with long names: of what is alike, only so
/// much is said. Behind them one that is served, on node port 30100 and up.
fn objectionable(round: u16) -> Vec<Value> {
    let service_of = |i: usize| {
        let name = format!("bad-{round}-{i}-{}", "x".repeat(40));
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "n".repeat(60)},
            "spec": {"clusterIP": "127.0.0.1", "ports": [{"port": 80, "protocol": "TCP"}]},
        })
    };
    let name = format!("late-{round}");
    let late = [service(&name, 30100 + round), slice(&name, 8080)];
    (0..200).map(service_of).chain(late).collect()
}

/// Killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn end(Running(child): &mut Running) -> Option<i32> {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it runs");
    let status = eventually(SOON, "portico ends", || {
        child.try_wait().expect("our child")
    });
    status.code()
}

#[test]
fn connections_failures_are_said_from_2_on_once() {
    let Some(node) = Node::new() else { return };
    for (verbosity, said) in [("0", 0), ("1", 0), ("2", 1)] {
        let args = [&node.args()[..], &["-v", verbosity]].concat();
        let mut portico = Daemon::start(&node.namespace, &args);
        portico.wait_for("listeners open");
        for _ in 0..20 {
            // It may be reset before connect has returned.
            if let Ok(mut client) = node.connect(30081) {
                let _ = client.read_to_end(&mut Vec::new());
            }
        }
        let line = "shop/dead: endpoint 10.92.0.2:5999 refused a connection";
        assert_eq!(portico.stop().code(), Some(0));
        assert_eq!(portico.logged(line), said, "-v {verbosity}");
        assert_eq!(portico.logged("DEBUG"), said, "-v {verbosity}");
    }
}

#[test]
fn json_has_component_bases_fields() {
    let Some(node) = Node::new() else { return };
    let args = [&node.args()[..], &["--logging-format=json", "-v=2"]].concat();
    let mut portico = Daemon::start(&node.namespace, &args);
    portico.wait_for("listeners open");
    let _ = node.connect(30081).map(|mut client| client.read(&mut [0]));
    portico.wait_for("refused a connection");
    assert_eq!(portico.stop().code(), Some(0));
    let log = portico.log();
    for line in log.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let whole = line["ts"].as_f64() > Some(1.7e12) && line["msg"].is_string();
        assert!(
            whole && line["caller"].as_str().is_some_and(|c| c.contains(".rs:")),
            "{line}"
        );
        let failure = line["msg"]
            .as_str()
            .is_some_and(|text| text.contains("refused"));
        assert_eq!(line["v"], if failure { 2 } else { 0 }, "{line}");
    }
    assert!(log.lines().count() > 3, "{log}");

    // Why the process ends is a line like the others.
    let end = Command::new(env!("CARGO_BIN_EXE_portico"))
        .args([
            "--manifests=/no/such/file",
            "--logging-format=json",
            "--bind-address-hard-fail",
        ])
        .args([
            "--metrics-bind-address=192.0.2.1:1",
            "--portal=none",
            "--control-socket=",
        ])
        .output()
        .expect("portico runs");
    assert_eq!(end.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&end.stderr);
    let last = stderr.lines().last().unwrap_or_default();
    let last: Value =
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    assert!(
        last["msg"]
            .as_str()
            .is_some_and(|text| text.contains("192.0.2.1:1")),
        "{last}"
    );
    assert_eq!(last["severity"], "error");
}

#[test]
fn the_journal_gets_priorities() {
    let Some(node) = Node::new() else { return };
    for (matches, prefix) in [(true, "<6>[INFO] "), (false, "20")] {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let stat =
            fs::metadata(format!("/proc/self/fd/{}", theirs.as_raw_fd())).expect("it is open");
        let inode = stat.st_ino() + u64::from(!matches);
        let stream = format!("{}:{inode}", stat.st_dev());
        let mut command = node.namespace.command(env!("CARGO_BIN_EXE_portico"));
        let command = command
            .args(["--hostname-override=n", "--control-socket="])
            .args(node.args());
        let child = command
            .env("JOURNAL_STREAM", &stream)
            .stderr(OwnedFd::from(theirs))
            .spawn();
        let mut child = Running(child.expect("portico starts"));
        let mut line = String::new();
        BufReader::new(&ours).read_line(&mut line).expect("it logs");
        assert!(line.starts_with(prefix), "{line}");
        assert_eq!(end(&mut child), Some(0));
    }
}

/// Reads on; waits until it has been told that lines were dropped.
fn says_what_is_missing(stderr: ChildStderr) {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(stderr).lines().map_while(Result::ok);
        for line in lines.filter(|line| line.contains("lines are missing here")) {
            // The test may be over.
            let _ = sender.send(line);
        }
    });
    let line = lines.recv_timeout(SOON).expect("what is missing is said");
    assert!(line.contains("[WARN]"), "{line}");
}

#[test]
fn nobody_waits_for_a_log_that_is_not_read() {
    let Some(node) = Node::new() else { return };
    // Reading begins late, or never.
    for read in [true, false] {
        node.replace(&[]);
        let mut portico = node.start(&["-v", "2"]);
        let serves = |port| move |node: &Node| node.connect(port).is_ok().then_some(());
        eventually(SOON, "the Service is served", || serves(30080)(&node));
        for round in 0..ROUNDS {
            node.replace(&objectionable(round));
            eventually(SOON, "a Service that came late is served", || {
                serves(30100 + round)(&node)
            });
        }
        let stderr = portico.0.stderr.take().expect("it is piped");
        let unread = match read {
            true => {
                says_what_is_missing(stderr);
                None
            }
            false => Some(stderr),
        };
        assert_eq!(end(&mut portico), Some(0), "it read: {read}");
        drop(unread);
    }
}
