//! Network namespaces for tests: `client` -- `node` -- `backend`, joined by veth pairs, gone on drop.
//!
//! Everything happens through `ip` and one thread per piece of work, so tests may run in parallel. Needs root:
//! a test starts with `let Some(net) = Net::new() else { return };`.

use std::fs;
use std::io;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::left_out::left_out;

static COUNTER: AtomicUsize = AtomicUsize::new(0);

/// A named network namespace (`/run/netns/<name>`) with `lo` up.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one; None (and a note of it) where we may not.
    pub fn new(role: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            left_out("only root may make network namespaces");
            return None;
        }
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pt{}-{number}-{role}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        match made {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let why = text(&output.stderr);
                left_out(&format!("no network namespaces: {}", why.trim()));
                return None;
            }
            Err(error) => {
                left_out(&format!("ip cannot run (Debian: iproute2): {error}"));
                return None;
            }
        }
        let namespace = Self { name };
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// The name under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `/run/netns/<name>`
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs `ip <words>` inside and returns what it printed; panics if it fails.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        let output = self.try_ip(words);
        assert!(
            output.status.success(),
            "ip {words} in {}: {}",
            self.name,
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs `ip <words>` inside; a failure is the caller's to judge.
    pub fn try_ip(&self, words: &str) -> Output {
        Command::new("ip")
            .args(["-n", &self.name])
            .args(words.split_whitespace())
            .output()
            .expect("ip runs")
    }

    /// A command that will run inside (through `ip netns exec`, which execs: the child's pid is the program's).
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a closure on a thread inside and waits for it. Sockets made there stay in the namespace and may be
    /// returned; a panic inside is a panic here.
    #[track_caller]
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        let result = thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter(&path);
                    work()
                })
                .join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a closure on a thread inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let path = self.path();
        thread::spawn(move || {
            enter(&path);
            work()
        })
    }

    /// Writes a setting under /proc/sys inside (`net/ipv4/ip_forward`).
    pub fn sysctl(&self, path: &str, value: &str) -> io::Result<()> {
        self.run(|| fs::write(format!("/proc/sys/{path}"), value))
    }

    /// Joins two namespaces by a veth pair with these names, both ends up; nothing appears elsewhere.
    ///
    /// The ends have different indexes on purpose: with equal ones the kernel takes the link for a plain device, and
    /// is in no hurry (up to a second) to notice that it is up.
    pub fn join(&self, link: &str, other: &Self, peer: &str) {
        let index = 100 + COUNTER.fetch_add(1, Ordering::Relaxed);
        self.ip(&format!(
            "link add {link} index {index} type veth peer name {peer} netns {}",
            other.name
        ));
        // No link-local addresses either: they come to life in their own time, as tests that compare would see.
        for (namespace, link) in [(self, link), (other, peer)] {
            namespace.ip(&format!("link set {link} addrgenmode none"));
            namespace.ip(&format!("link set {link} up"));
        }
        // What is sent before is dropped.
        for (namespace, link) in [(self, link), (other, peer)] {
            super::eventually(Duration::from_secs(10), "the link is up", || {
                let shown = namespace.ip(&format!("-o link show dev {link}"));
                shown.contains("state UP").then_some(())
            });
        }
    }

    /// Adds an address (with prefix length), usable at once.
    pub fn address(&self, link: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("address add {address} dev {link}{nodad}"));
    }

    /// Makes `address` a permanent neighbour: IPv6 would take two seconds to find it on a link that is just up.
    pub fn knows(&self, address: &str, link: &str, other: &Self, other_link: &str) {
        let shown = other.ip(&format!("-o link show dev {other_link}"));
        let mac = shown
            .split_whitespace()
            .skip_while(|word| *word != "link/ether")
            .nth(1)
            .expect("a veth has a MAC");
        self.ip(&format!(
            "neigh replace {address} dev {link} lladdr {mac} nud permanent"
        ));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

/// The usual three, with routes among them and forwarding on the node, IPv4 and IPv6.
///
/// ```text
/// client eth0 10.91.0.2, fd91::2 -- node client0 10.91.0.1, fd91::1
/// node backend0 10.92.0.1, fd92::1 -- backend eth0 10.92.0.2 to .9, fd92::2 to ::9
/// ```
pub struct Net {
    /// Where portico runs.
    pub node: Namespace,
    /// Where connections come from; its default route is the node.
    pub client: Namespace,
    /// Where endpoints are; its default route is the node.
    pub backend: Namespace,
}

impl Net {
    /// The client's address.
    pub const CLIENT: &str = "10.91.0.2";
    /// The node's address on the client's side.
    pub const NODE: &str = "10.91.0.1";
    /// The first of the backend's eight addresses.
    pub const BACKEND: &str = "10.92.0.2";
    /// The client's address.
    pub const CLIENT6: &str = "fd91::2";
    /// The node's address on the client's side.
    pub const NODE6: &str = "fd91::1";
    /// The first of the backend's eight addresses.
    pub const BACKEND6: &str = "fd92::2";

    /// Makes them; None (and a note of it) where we may not.
    pub fn new() -> Option<Self> {
        let (node, client, backend) = (
            Namespace::new("node")?,
            Namespace::new("client")?,
            Namespace::new("backend")?,
        );
        node.join("client0", &client, "eth0");
        node.join("backend0", &backend, "eth0");
        for (namespace, net, link) in [(&client, 91, "client0"), (&backend, 92, "backend0")] {
            node.address(link, &format!("10.{net}.0.1/24"));
            node.address(link, &format!("fd{net}::1/64"));
            let hosts = if net == 91 { 2..3 } else { 2..10 };
            for host in hosts {
                namespace.address("eth0", &format!("10.{net}.0.{host}/24"));
                namespace.address("eth0", &format!("fd{net}::{host}/64"));
                node.knows(&format!("fd{net}::{host}"), link, namespace, "eth0");
            }
            namespace.knows(&format!("fd{net}::1"), "eth0", &node, link);
            namespace.ip(&format!("route add default via 10.{net}.0.1"));
            namespace.ip(&format!("-6 route add default via fd{net}::1"));
        }
        for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            if let Err(error) = node.sysctl(setting, "1") {
                left_out(&format!("{setting} cannot be set: {error}"));
                return None;
            }
        }
        Some(Self {
            node,
            client,
            backend,
        })
    }
}

fn enter(path: &str) {
    let file = fs::File::open(path).expect("the namespace exists");
    setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
