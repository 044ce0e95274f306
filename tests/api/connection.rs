//! How the apiserver is reached: credentials and where they come from, proxies, and a kubeconfig that changes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portico::api::client::{Client, Encoding};
use portico::api::{Access, AccessOptions};
use portico::types::Service;
use serde_json::{Value, json};

use super::Updates;
use crate::util::apiserver::ApiServer;

/// A folder with a kubeconfig, gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("portico-connection-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, cluster: Value, user: Value) {
        let kubeconfig = json!({
            "current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}],
        });
        fs::write(self.0.join("kubeconfig"), kubeconfig.to_string()).expect("a file");
    }

    fn access(&self) -> Access {
        let options = AccessOptions {
            kubeconfig: Some(self.0.join("kubeconfig")),
            ..AccessOptions::default()
        };
        Access::load(&options).expect("a kubeconfig")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What a plugin is writing meanwhile may stay.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that answers everything with `ok`, and remembers the heads of the requests.
struct Heads {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Heads {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heads = Arc::clone(&heads);
                thread::spawn(move || answer(&stream, &heads).ok());
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}

/// The lines of a request's head.
fn head(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

fn answer(mut stream: &TcpStream, heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let head = head(&mut reader)?;
        heads.lock().expect("no panic").push(head);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    }
}

fn get(access: &Access) -> Result<String, String> {
    let client = Client::new(access).and_then(|mut client| client.get("/x?y", Encoding::Identity));
    let mut text = String::new();
    let mut body = client.map_err(|error| error.to_string())?;
    body.read_to_string(&mut text).expect("a body");
    Ok(text)
}

#[test]
fn who_asks_and_for_whom() {
    let (server, folder) = (Heads::start(), Folder::new("who"));
    let url = format!("http://{}", server.address);
    folder.write(
        json!({"server": url}),
        json!({"username": "kate", "password": "pw", "as": "joe", "as-groups": ["a", "b"], "as-user-extra": {"X/y": ["z"]}}),
    );
    assert_eq!(get(&folder.access()), Ok("ok".to_owned()));
    let head = server.seen().concat().to_ascii_lowercase();
    for line in [
        "authorization: basic a2f0ztpwdw==",
        "impersonate-user: joe",
        "impersonate-group: a",
        "impersonate-group: b",
        "impersonate-extra-x%2fy: z",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    // Longer than what fits a buffer of the usual size.
    let token = "t".repeat(20_000);
    folder.write(json!({"server": url}), json!({"token": token}));
    assert_eq!(get(&folder.access()), Ok("ok".to_owned()));
    assert!(server.seen()[1].contains(&token));
}

#[test]
fn what_is_not_secret_goes_to_a_proxy_as_it_is() {
    let (proxy, folder) = (Heads::start(), Folder::new("plain"));
    let url = format!("http://kate:pw@{}", proxy.address);
    let server = json!({"server": "http://127.0.0.1:1/base", "proxy-url": url});
    folder.write(server, json!({}));
    assert_eq!(get(&folder.access()), Ok("ok".to_owned()));
    let head = proxy.seen().concat().to_ascii_lowercase();
    let start =
        "get http://127.0.0.1:1/base/x?y http/1.1\r\nproxy-authorization: basic a2f0ztpwdw==\r\n";
    assert!(head.starts_with(start), "{head}");
    assert!(head.contains("\r\nhost: 127.0.0.1:1\r\n"), "{head}");
}

/// A proxy that lets nobody through.
fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let asked = head(&mut BufReader::new(&stream));
            if asked.is_ok_and(|asked| asked.starts_with("CONNECT 192.0.2.1:6443 HTTP/1.1\r\n")) {
                let refusal = b"HTTP/1.1 403 Not you\r\n\r\n";
                stream.write_all(refusal).expect("a client that reads");
            }
        }
    });
    address
}

#[test]
fn a_proxy_that_refuses_is_named() {
    let folder = Folder::new("refused");
    let url = format!("http://{}", refusing());
    let server = json!({"server": "https://192.0.2.1:6443", "insecure-skip-tls-verify": true, "proxy-url": url});
    folder.write(server, json!({}));
    let expect = format!(
        "https://192.0.2.1:6443 by way of {url}: the proxy {url} refuses the way to 192.0.2.1:6443: HTTP/1.1 403 Not you"
    );
    assert_eq!(get(&folder.access()), Err(expect));
}

#[test]
fn a_token_in_the_kubeconfig_is_followed() {
    let (server, folder) = (ApiServer::start(), Folder::new("inline"));
    server.set_token("one");
    let cluster = json!({"server": server.url()});
    folder.write(cluster.clone(), json!({"token": "one"}));
    let updates = Updates::<Service>::from(&folder.access());
    updates.expect(&["set"]);
    // What was read is not read again within a second.
    let read = Instant::now();
    server.set_token("two");
    folder.write(cluster, json!({"token": "two"}));
    server.end_watches();
    updates.expect(&["unavailable", "set"]);
    assert!(
        read.elapsed() < Duration::from_secs(15),
        "{:?}",
        read.elapsed()
    );
}

#[test]
fn a_plugin_is_asked_again_when_its_token_is_refused() {
    let (server, folder) = (ApiServer::start(), Folder::new("plugin"));
    server.set_token("one");
    fs::write(folder.0.join("given"), "one").expect("a file");
    let script = folder.0.join("login");
    let text = "#!/bin/sh\ncd \"${0%/*}\" && echo run >> runs\n\
                printf '{\"kind\": \"ExecCredential\", \"apiVersion\": \"client.authentication.k8s.io/v1\", \
                \"status\": {\"token\": \"%s\"}}' \"$(cat given)\"\n";
    fs::write(&script, text).expect("a file");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, executable).expect("executable");
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "./login", "interactiveMode": "Never"});
    folder.write(json!({"server": server.url()}), json!({"exec": exec}));
    let access = folder.access();
    let updates = Updates::<Service>::from(&access);
    updates.expect(&["set"]);
    let runs = || {
        let runs = fs::read_to_string(folder.0.join("runs")).unwrap_or_default();
        runs.lines().count()
    };
    // One run for all connections.
    assert!(get(&access).is_err_and(|error| error.contains("404")));
    assert_eq!(runs(), 1);
    fs::write(folder.0.join("given"), "two").expect("a file");
    server.set_token("two");
    server.end_watches();
    updates.expect(&["unavailable", "set"]);
    assert_eq!(runs(), 2);
}
