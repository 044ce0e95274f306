//! How the real program stands: whether it is ready, what it lacks, what it may do, and signals that end nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::util::daemon::{Daemon, SOON};
use crate::util::netns::Namespace;
use crate::util::{Folder, eventually};

const HEALTHZ: &str = "127.0.0.1:10256";
const METRICS: &str = "127.0.0.1:10249";
const NODE_PORT: &str = "127.0.0.1:30080";

/// A node without any network but its own, and a manifest with one Service on a node port.
struct Node {
    namespace: Namespace,
    folder: Folder,
    manifest: PathBuf,
}

impl Node {
    fn new() -> Option<Self> {
        let namespace = Namespace::new("stand")?;
        namespace.ip("addr add 10.92.0.2/32 dev lo");
        let folder = Folder::new();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "type": "NodePort", "clusterIP": "10.96.0.10", "externalIPs": ["10.92.0.2"],
                "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
            },
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["10.92.0.2"]}], "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [service, slice]});
        let manifest = folder.write("all.json", &list.to_string());
        Some(Self {
            namespace,
            folder,
            manifest,
        })
    }

    fn portico(&self, args: &[&str]) -> Daemon {
        let manifest = self.manifest.to_str().expect("a plain path");
        let all = [&["--manifests", manifest], args].concat();
        Daemon::start(&self.namespace, &all)
    }

    fn listen(&self, address: &str) -> TcpListener {
        let listener = self.namespace.run(|| TcpListener::bind(address));
        listener.expect("nobody has it")
    }

    /// Status and body.
    fn get(&self, address: &str, path: &str, accept: &str) -> std::io::Result<(u16, String)> {
        let to: SocketAddr = address.parse().expect("an address");
        let mut stream = self
            .namespace
            .run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nAccept: {accept}\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((code.unwrap_or(0), body.to_owned()))
    }

    /// Waits for a status; the body that came with it.
    #[track_caller]
    fn becomes(&self, path: &str, expect: u16) -> Value {
        eventually(SOON, &format!("{path} says {expect}"), || {
            let (code, body) = self.get(HEALTHZ, path, "*/*").ok()?;
            (code == expect).then(|| body.parse().expect("JSON"))
        })
    }
}

fn problems(body: &Value) -> String {
    body["problems"].to_string()
}

#[test]
fn what_never_came_is_said() {
    let Some(node) = Node::new() else { return };
    // It takes connections and says nothing.
    let _silent = node.listen("127.0.0.1:6443");
    let manager = UnixDatagram::bind(node.folder.path().join("notify")).expect("a path");
    manager.set_read_timeout(Some(SOON)).expect("it is ours");
    let path = node.folder.path().join("notify");
    let args = ["--master=http://127.0.0.1:6443", "--portal=none"];
    let _portico = Daemon::start_with(
        &node.namespace,
        &args,
        &[("NOTIFY_SOCKET", path.as_os_str())],
    );
    let mut told = [0; 1024];
    let length = manager.recv(&mut told).expect("from the first second");
    let told = String::from_utf8_lossy(&told[..length]);
    assert_eq!(told, "STATUS=waiting for the apiserver at 127.0.0.1:6443");

    // kube-proxy is healthy while it waits, and so are we; whoever wants to know more reads on, or asks /readyz.
    let healthz = node.becomes("/healthz", 200);
    assert_eq!(healthz["healthy"], true);
    let waiting = "have not been received whole";
    assert!(problems(&healthz).contains(waiting), "{healthz}");
    let readyz = node.becomes("/readyz", 503);
    assert!(problems(&readyz).contains(waiting), "{readyz}");
}

#[test]
fn a_port_that_another_holds_is_not_ready_and_named() {
    let Some(node) = Node::new() else { return };
    let taken = node.listen("0.0.0.0:30080");
    let _portico = node.portico(&["--portal=none"]);
    let readyz = eventually(SOON, "it has tried", || {
        let (_, body) = node.get(HEALTHZ, "/readyz", "*/*").ok()?;
        body.contains("shop/web")
            .then(|| body.parse::<Value>().expect("JSON"))
    });
    assert_eq!(readyz["ready"], false);
    assert!(problems(&node.becomes("/healthz", 200)).contains("shop/web"));
    drop(taken);
    let readyz = node.becomes("/readyz", 200);
    assert_eq!(readyz, json!({"ready": true, "problems": []}));
    assert_eq!(node.becomes("/healthz", 200)["problems"], Value::Null);
}

#[test]
fn a_sync_thread_that_stands_still_is_not_healthy() {
    let Some(node) = Node::new() else { return };
    let portico = node.portico(&["--portal=none", "--iptables-sync-period=1s"]);
    portico.wait_for("listeners open");
    node.becomes("/livez", 200);
    let threads = threads(&portico);
    let sync = threads.keys().find(|(name, _)| name == "sync");
    let sync = sync.map(|(_, id)| *id).expect("a thread of that name");
    let _held = Held::new(Pid::from_raw(sync));
    for path in ["/livez", "/healthz", "/readyz"] {
        let body = node.becomes(path, 503);
        assert!(
            problems(&body).contains("the sync thread has not answered"),
            "{body}"
        );
    }
}

#[test]
fn a_hangup_ends_nothing() {
    let Some(node) = Node::new() else { return };
    let mut portico = node.portico(&["--portal=none"]);
    portico.wait_for("listeners open");
    for _ in 0..3 {
        portico.signal(Signal::SIGHUP);
    }
    portico.wait_for("SIGHUP: nothing to do");
    assert_eq!(portico.stop().code(), Some(0));
}

/// A thread that does not run. It goes on on drop: its process could not be waited for otherwise.
struct Held(Pid);

impl Held {
    fn new(thread: Pid) -> Self {
        ptrace::seize(thread, ptrace::Options::empty()).expect("root may");
        ptrace::interrupt(thread).expect("it is ours");
        Self(thread)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

/// Name and id of each thread, with its /proc/…/status by field.
fn threads(portico: &Daemon) -> BTreeMap<(String, i32), BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", portico.pid())).expect("it runs");
    let mut threads = BTreeMap::new();
    for task in tasks.flatten() {
        let Ok(status) = fs::read_to_string(task.path().join("status")) else {
            continue;
        };
        let pairs = status.lines().filter_map(|line| line.split_once(":\t"));
        let fields: BTreeMap<String, String> = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let id = task
            .file_name()
            .to_string_lossy()
            .parse()
            .expect("a number");
        threads.insert((fields["Name"].clone(), id), fields);
    }
    threads
}

#[test]
fn threads_that_need_no_privilege_have_none() {
    const SYS_ADMIN: u64 = 1 << 21;
    const ROUTES: u64 = 1 << 12 | 1 << 10;
    const READ_FILES: u64 = 1 << 2;
    let Some(node) = Node::new() else { return };
    let config = node.folder.write(
        "config.yaml",
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n",
    );
    let config = format!("--config={}", config.display());
    let socket = format!(
        "--control-socket={}",
        node.folder.path().join("s").display()
    );
    let portico = node.portico(&["--portal=netns", &config, &socket]);
    portico.wait_for("listeners open");
    let threads = threads(&portico);
    let mut seen = Vec::new();
    for ((name, _), status) in &threads {
        assert_eq!(status["NoNewPrivs"], "1", "{name}");
        let set = |field: &str| u64::from_str_radix(&status[field], 16).expect("hexadecimal");
        let allowed = match name.as_str() {
            "portico" | "sync" => ROUTES,
            "portal-ns" | "portal-watch" => ROUTES | SYS_ADMIN | READ_FILES,
            "manifests" => READ_FILES,
            _ => 0,
        };
        for field in ["CapEff", "CapPrm"] {
            assert_eq!(
                set(field) & !allowed,
                0,
                "{name}: {field} {}",
                status[field]
            );
        }
        let inherited = set("CapInh") | set("CapAmb");
        assert_eq!(inherited, 0, "{name}");
        seen.push(name.as_str());
    }
    for name in [
        "worker-0",
        "health",
        "control",
        "config-watch",
        "signals",
        "log",
        "svc-merge",
        "sync",
    ] {
        assert!(seen.contains(&name), "{name} is not among {seen:?}");
    }
}

#[test]
fn gates_that_are_honoured_are_honoured() {
    let Some(node) = Node::new() else { return };
    let _pod = node.listen("10.92.0.2:8080");
    let statusz = "application/json;v=v1alpha1;g=config.k8s.io;as=Statusz";
    let flagz = "application/json;v=v1beta1;g=config.k8s.io;as=Flagz";
    let object = |path: &str, accept: &str| {
        let (code, body) = node.get(METRICS, path, accept).expect("it answers");
        (code, body.parse::<Value>().unwrap_or_default())
    };
    {
        let portico = node.portico(&["--portal=none"]);
        portico.wait_for("2 listeners open");
        let (code, page) = object("/statusz", statusz);
        assert_eq!(
            (code, &page["kind"], &page["apiVersion"]),
            (200, &json!("Statusz"), &json!("config.k8s.io/v1alpha1"))
        );
        let (code, page) = object("/flagz", flagz);
        assert_eq!(
            (code, &page["flags"]["hostname-override"]),
            (200, &json!("node-1"))
        );
        assert_eq!(object("/statusz", "application/json").0, 406);
        let (_, metrics) = node.get(METRICS, "/metrics", "*/*").expect("it answers");
        assert!(
            metrics.contains(
                "\nkubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1\n"
            ),
            "{metrics}"
        );
    }
    let gates =
        "--feature-gates=AllowServiceExternalIPs=false,ComponentFlagz=false,ComponentStatusz=false";
    let portico = node.portico(&["--portal=none", gates]);
    portico.wait_for("1 listeners open");
    assert_eq!(portico.logged("has no effect"), 0);
    assert_eq!(portico.logged("AllowServiceExternalIPs=false"), 1);
    assert_eq!(
        [object("/statusz", statusz).0, object("/flagz", flagz).0],
        [404; 2]
    );
    let connect = |to: &str| {
        let to: SocketAddr = to.parse().expect("an address");
        node.namespace
            .run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)))
    };
    assert!(connect(NODE_PORT).is_ok());
    assert!(
        connect("10.92.0.2:80").is_err(),
        "an external IP is nobody's"
    );
}
