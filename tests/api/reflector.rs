//! The rules of the list-and-watch protocol over real sockets, against an apiserver that misbehaves on demand.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use portico::api::{self, Access, AccessOptions, Selection};
use portico::types::{EndpointSlice, Node, Service, ServiceCidr};
use serde_json::{Value, json};

use super::{PATIENCE, Updates, access};
use crate::util::apiserver::{ApiServer, Fault, Release, Request};
use crate::util::eventually;

fn service(name: &str, ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name},
        "spec": {"clusterIP": ip, "ports": [{"port": 80}]}})
}

fn slice(name: &str) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "", "port": 80}]})
}

/// What was asked, shortly: `stream`, `list` or `watch`, version, and what else matters.
fn shortly(request: &Request) -> String {
    let sort = match (request.is_watch(), request.param("sendInitialEvents")) {
        (true, "true") => "stream",
        (true, _) => "watch",
        (false, _) => "list",
    };
    let mut words = vec![sort.to_string()];
    for (name, short) in [
        ("limit", "limit"),
        ("resourceVersion", "rv"),
        ("fieldSelector", "field"),
    ] {
        if let Some(value) = request.query.get(name) {
            words.push(format!("{short}={value}"));
        }
    }
    words.extend(
        request
            .query
            .contains_key("continue")
            .then(|| "continue".to_string()),
    );
    words.join(" ")
}

fn asked(server: &ApiServer, path: &str) -> Vec<String> {
    server.requests_of(path).iter().map(shortly).collect()
}

/// Waits until so much has been asked, and compares it all.
#[track_caller]
fn expect_asked(server: &ApiServer, path: &str, expect: &[&str]) {
    eventually(PATIENCE, "enough requests", || {
        (asked(server, path).len() >= expect.len()).then_some(())
    });
    assert_eq!(asked(server, path)[..expect.len()], *expect);
}

fn status(code: u16, reason: &'static str) -> Fault {
    Fault::Status {
        code,
        reason,
        retry_after: None,
    }
}

fn error_event(code: u16, reason: &str) -> String {
    json!({"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": reason, "message": "scripted"}})
        .to_string()
}

/// A server without watch-list (and without the field selector, which is one request more at first).
fn old() -> ApiServer {
    ApiServer::start_as(Release::V1_20)
}

/// What a reflector of Services asks an old server until it watches, beginning with version `rv`.
const OLD_START: [&str; 3] = [
    "stream rv= field=spec.clusterIP!=None",
    "stream rv=",
    "list limit=500 rv=0",
];

#[track_caller]
fn expect_after_start(server: &ApiServer, expect: &[&str]) {
    expect_asked(server, "/services", &[&OLD_START[..], expect].concat());
}

#[test]
fn watch_list_on_a_new_server() {
    let server = ApiServer::start();
    server.put(service("web", "10.96.0.10"));
    let updates = Updates::<Service>::from(&access(&server.url()));
    updates.expect(&["set shop/web"]);
    server.put(service("dns", "10.96.0.11"));
    updates.expect(&["add shop/dns"]);
    server.delete("services", "shop", "web");
    updates.expect(&["remove shop/web"]);
    let [request] = &server.requests()[..] else {
        panic!("{:?}", asked(&server, ""));
    };
    let query: Vec<String> = request
        .query
        .iter()
        .filter(|(name, _)| *name != "timeoutSeconds")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let expect = [
        "allowWatchBookmarks=true",
        "fieldSelector=spec.clusterIP!=None",
        "labelSelector=!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless",
        "resourceVersion=",
        "resourceVersionMatch=NotOlderThan",
        "sendInitialEvents=true",
        "watch=true",
    ];
    assert_eq!(query, expect);
    let timeout: u64 = request.param("timeoutSeconds").parse().expect("a number");
    assert!((300..600).contains(&timeout), "{timeout}");
    assert_eq!(request.headers["accept"], "application/json");
    assert!(request.headers["user-agent"].starts_with("portico/"));
    assert!(!request.headers.contains_key("authorization"));
}

#[test]
fn list_and_watch_on_an_old_server() {
    let server = old();
    server.put(service("web", "10.96.0.10"));
    let access = access(&server.url());
    let services = Updates::<Service>::from(&access);
    services.expect(&["set shop/web"]);
    server.put(service("dns", "10.96.0.11"));
    services.expect(&["add shop/dns"]);
    expect_after_start(&server, &["watch rv=1"]);

    server.put(slice("web-1"));
    let slices = Updates::<EndpointSlice>::from(&access);
    slices.expect(&["set shop/web-1"]);
    expect_asked(&server, "/v1/endpointslices", &["stream rv="]);
    let expect = ["stream rv=", "list limit=500 rv=0", "watch rv=3"];
    expect_asked(&server, "/v1beta1/endpointslices", &expect);

    let cidrs = Updates::<ServiceCidr>::from(&access);
    cidrs.expect(&["set"]);
    assert_eq!(asked(&server, "/servicecidrs"), ["stream rv="]);
}

#[test]
fn endpoints_where_there_are_no_slices() {
    let server = ApiServer::start_as(Release::EndpointsOnly);
    server.put(json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"namespace": "shop", "name": "web"},
        "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}));
    let updates = Updates::<EndpointSlice>::from(&access(&server.url()));
    updates.expect(&["set shop/web"]);
    server.delete("endpoints", "shop", "web");
    updates.expect(&["remove shop/web"]);
    let paths: Vec<String> = server.requests().iter().map(|r| r.path.clone()).collect();
    let expect = [
        "/apis/discovery.k8s.io/v1/endpointslices",
        "/apis/discovery.k8s.io/v1beta1/endpointslices",
        "/api/v1/endpoints",
        "/api/v1/endpoints",
        "/api/v1/endpoints",
    ];
    assert_eq!(paths, expect);
}

#[test]
fn only_our_node() {
    let server = ApiServer::start();
    for name in ["node-1", "node-2"] {
        server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}));
    }
    let updates = Updates::<Node>::from(&access(&server.url()));
    updates.expect(&["set node-1"]);
    server.delete("nodes", "", "node-1");
    updates.expect(&["remove node-1"]);
}

#[test]
fn services_of_a_proxy_with_a_name() {
    let server = ApiServer::start();
    let mut theirs = service("theirs", "10.96.0.10");
    theirs["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mine"});
    server.put(theirs.clone());
    server.put(service("default", "10.96.0.11"));
    // This label gives a Service to no proxy at all.
    let mut nobodys = service("nobodys", "10.96.0.12");
    nobodys["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mine",
        "service.kubernetes.io/headless": ""});
    server.put(nobodys);
    let selection = Selection {
        service_proxy_name: Some("mine".to_string()),
        node_name: "node-1".to_string(),
    };
    let (sender, receiver) = unbounded();
    let access = access(&server.url());
    api::spawn_reflector::<Service>(&access, &selection, sender).expect("a thread");
    let updates = Updates(receiver);
    updates.expect(&["set shop/theirs"]);
    // Without the label it is not ours any more, and with it again it is.
    server.put(service("theirs", "10.96.0.10"));
    server.put(theirs);
    updates.expect(&["remove shop/theirs", "add shop/theirs"]);
}

#[test]
fn reflector_watch_list_page_size() {
    let server = old();
    server.set_cached(false);
    for i in 0..1200 {
        server.put(service(&format!("s{i}"), "10.96.0.10"));
    }
    let updates = Updates::<Service>::from(&access(&server.url()));
    assert_eq!(updates.next().split(' ').count(), 1 + 1200);
    let expect = [
        "list limit=500 continue",
        "list limit=500 continue",
        "watch rv=1200",
    ];
    expect_after_start(&server, &expect);
    // The whole of it was compressed, which only lists may be.
    let encodings = server.requests().into_iter();
    let encodings: Vec<String> = encodings
        .map(|r| r.headers["accept-encoding"].clone())
        .collect();
    assert_eq!(encodings[2..], ["gzip", "gzip", "gzip", "identity"]);
}

#[test]
fn reflector_full_list_if_expired() {
    let server = old();
    server.set_cached(false);
    for i in 0..600 {
        server.put(service(&format!("s{i}"), "10.96.0.10"));
    }
    let second_page = |request: &Request| request.query.contains_key("continue");
    server.fault_when(second_page, status(410, "Expired"));
    let updates = Updates::<Service>::from(&access(&server.url()));
    assert_eq!(updates.next().split(' ').count(), 1 + 600);
    expect_after_start(
        &server,
        &["list limit=500 continue", "list rv=0", "watch rv=600"],
    );
}

#[test]
fn an_expired_watch_lists_from_the_last_version() {
    // As an event in a 200 stream, and as a status.
    let events = Fault::WatchLines(vec![error_event(410, "Expired")]);
    for fault in [events, status(410, "Gone")] {
        let server = old();
        server.put(service("web", "10.96.0.10"));
        server.fault("/services", true, status(400, "BadRequest"));
        server.fault("/services", true, status(422, "Invalid"));
        server.fault("/services", true, fault);
        let updates = Updates::<Service>::from(&access(&server.url()));
        updates.expect(&["set shop/web", "set shop/web"]);
        expect_after_start(&server, &["watch rv=1", "list rv=1", "watch rv=1"]);
    }
}

#[test]
fn a_compacted_history_is_survived() {
    let server = old();
    server.put(service("web", "10.96.0.10"));
    let updates = Updates::<Service>::from(&access(&server.url()));
    updates.expect(&["set shop/web"]);
    expect_after_start(&server, &["watch rv=1"]);
    server.put(service("web", "10.96.0.10"));
    updates.expect(&["add shop/web"]);
    server.set_version(50);
    server.compact();
    server.end_watches();
    updates.expect(&["set shop/web"]);
    let expect = ["watch rv=1", "watch rv=2", "list rv=2", "watch rv=50"];
    expect_after_start(&server, &expect);
}

#[test]
fn reflector_full_list_if_too_large() {
    // A server restored from a backup has not seen the version that we know: any will do then.
    let server = old();
    server.set_version(99);
    server.put(service("web", "10.96.0.10"));
    let updates = Updates::<Service>::from(&access(&server.url()));
    updates.expect(&["set shop/web"]);
    expect_after_start(&server, &["watch rv=100"]);
    eventually(PATIENCE, "the watch", || {
        (server.watches("services") == 1).then_some(())
    });
    server.set_version(40);
    let began = Instant::now();
    server.inject("services", &error_event(500, "InternalError"));
    updates.expect(&["unavailable", "set shop/web"]);
    let expect = [
        "watch rv=100",
        "list rv=100",
        "list limit=500",
        "watch rv=40",
    ];
    expect_after_start(&server, &expect);
    // One pause, and not one for each second that the server asked for.
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn no_relist_on_too_many_requests() {
    let server = old();
    server.put(service("web", "10.96.0.10"));
    let plain = |request: &Request| request.is_watch() && request.param("resourceVersion") == "1";
    server.fault_when(plain, status(429, "TooManyRequests"));
    let updates = Updates::<Service>::from(&access(&server.url()));
    updates.expect(&["set shop/web", "unavailable"]);
    expect_after_start(&server, &["watch rv=1", "watch rv=1"]);
    server.put(service("dns", "10.96.0.11"));
    updates.expect(&["add shop/dns"]);
}

#[test]
fn retry_after_is_obeyed() {
    let server = old();
    server.put(service("web", "10.96.0.10"));
    let began = Instant::now();
    for code in [429, 503] {
        let fault = Fault::Status {
            code,
            reason: "ServiceUnavailable",
            retry_after: Some(2),
        };
        server.fault("/services", false, fault);
    }
    let updates = Updates::<Service>::from(&access(&server.url()));
    updates.expect(&["unavailable", "set shop/web"]);
    assert!(
        began.elapsed() >= Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    let twice = ["list limit=500 rv=0", "list limit=500 rv=0", "watch rv=1"];
    expect_after_start(&server, &twice);
}

#[test]
fn reflector_list_and_watch_with_errors() {
    let server = old();
    server.put(service("web", "10.96.0.10"));
    server.fault("/services", false, status(500, "InternalError"));
    server.fault("/services", false, status(403, "Forbidden"));
    let cut =
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"kind\":\"ServiceList\",\"items\":["
            .to_vec();
    server.fault("/services", false, Fault::Raw(cut));
    let access = access(&server.url());
    let updates = Updates::<Service>::from(&access);
    // Once for the whole outage.
    updates.expect(&["unavailable", "set shop/web"]);
    let four = ["list limit=500 rv=0"; 3];
    expect_after_start(&server, &[&four[..], &["watch rv=1"]].concat());
    let counted = || {
        let all = access.requests().get().into_iter();
        all.map(|(code, method, n)| format!("{code} {method} {n}; "))
            .collect::<String>()
    };
    let expect = "200 GET 3; 400 GET 1; 403 GET 1; 422 GET 1; 500 GET 1; ";
    eventually(PATIENCE, expect, || (counted() == expect).then_some(()));
    assert_eq!(access.requests().host(), server.address().to_string());
}

#[test]
fn what_is_no_apiserver_is_no_list() {
    let server = old();
    server.put(service("web", "10.96.0.10"));
    for body in [
        "<html>proxy login</html>",
        "{\"kind\":\"Table\",\"rows\":[]}",
    ] {
        let text = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        server.fault("/services", false, Fault::Raw(text.into_bytes()));
    }
    let updates = Updates::<Service>::from(&access(&server.url()));
    updates.expect(&["unavailable", "set shop/web"]);
}

#[test]
fn garbage_in_a_watch_leads_to_a_list() {
    let server = ApiServer::start();
    server.put(service("web", "10.96.0.10"));
    let updates = Updates::<Service>::from(&access(&server.url()));
    updates.expect(&["set shop/web"]);
    server.inject("services", "{\"type\":\"ADDED\",garbage");
    updates.expect(&["unavailable", "set shop/web"]);
    let expect = [
        "stream rv= field=spec.clusterIP!=None",
        "stream rv=1 field=spec.clusterIP!=None",
    ];
    expect_asked(&server, "/services", &expect);
}

#[test]
fn events_that_say_nothing_are_skipped() {
    let server = ApiServer::start();
    let updates = Updates::<Service>::from(&access(&server.url()));
    updates.expect(&["set"]);
    for line in [
        r#"{"type":"RENAMED","object":{"metadata":{"name":"x"}}}"#,
        r#"{"type":"ADDED","object":{"kind":"Service"}}"#,
        r#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"x"}}}"#,
        r#"{"type":"BOOKMARK","object":{}}"#,
    ] {
        server.inject("services", line);
    }
    server.put(service("web", "10.96.0.10"));
    updates.expect(&["add shop/web"]);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_watch_that_is_cut_goes_on_where_it_was() {
    let server = old();
    server.put(service("web", "10.96.0.10"));
    server.fault("/services", true, status(400, "BadRequest"));
    server.fault("/services", true, status(422, "Invalid"));
    let mut changed = service("web", "10.96.0.10");
    changed["metadata"]["resourceVersion"] = json!("7");
    let line = json!({"type": "MODIFIED", "object": changed}).to_string();
    server.fault(
        "/services",
        true,
        Fault::WatchCut(format!("{line}\n{{\"type\":\"ADD")),
    );
    let updates = Updates::<Service>::from(&access(&server.url()));
    updates.expect(&["set shop/web", "add shop/web"]);
    // From the version of the event that came whole, without a list.
    server.set_version(10);
    expect_after_start(&server, &["watch rv=1", "watch rv=7"]);
}

#[test]
fn reflector_resource_version_update() {
    let server = old();
    server.put(service("web", "10.96.0.10"));
    server.set_bookmark_interval(Duration::from_millis(50));
    let updates = Updates::<Service>::from(&access(&server.url()));
    updates.expect(&["set shop/web"]);
    expect_after_start(&server, &["watch rv=1"]);
    // Another resource changes, and a bookmark says so.
    server.put(slice("a"));
    server.put(slice("b"));
    std::thread::sleep(Duration::from_millis(500));
    server.end_watches();
    expect_after_start(&server, &["watch rv=1", "watch rv=3"]);
}

#[test]
fn a_silent_watch_is_given_up() {
    let server = old();
    server.put(service("web", "10.96.0.10"));
    let from_list =
        |request: &Request| request.is_watch() && request.param("resourceVersion") == "1";
    server.fault_when(from_list, Fault::WatchSilent);
    let access = access(&server.url()).with_stall(Duration::from_secs(2));
    let updates = Updates::<Service>::from(&access);
    updates.expect(&["set shop/web"]);
    expect_after_start(&server, &["watch rv=1", "watch rv=1"]);
    server.put(service("dns", "10.96.0.11"));
    updates.expect(&["add shop/dns"]);
}

#[test]
fn a_very_short_watch_is_a_failure() {
    let server = old();
    server.put(service("web", "10.96.0.10"));
    let from_list =
        |request: &Request| request.is_watch() && request.param("resourceVersion") == "1";
    server.fault_when(from_list, Fault::WatchLines(Vec::new()));
    let updates = Updates::<Service>::from(&access(&server.url()));
    updates.expect(&["set shop/web", "set shop/web"]);
    expect_after_start(&server, &["watch rv=1", "list rv=1", "watch rv=1"]);
}

#[test]
fn reflector_list_and_watch_init_conn_backoff() {
    // Nothing listens, then a server comes, goes, and comes back.
    let server = old();
    let (address, url) = (server.address(), server.url());
    drop(server);
    let updates = Updates::<Service>::from(&access(&url));
    updates.expect(&["unavailable"]);
    let start = || {
        eventually(PATIENCE, "the same port again", || {
            ApiServer::start_at(address, Release::V1_36).ok()
        })
    };
    let server = start();
    server.put(service("web", "10.96.0.10"));
    // The list may come before the object does.
    let first = updates.next();
    if first != "set shop/web" {
        assert_eq!(
            (first.as_str(), updates.next().as_str()),
            ("set", "add shop/web")
        );
    }
    drop(server);
    updates.expect(&["unavailable"]);
    let server = start();
    // Versions do not begin anew with the process.
    server.set_version(50);
    server.put(service("dns", "10.96.0.11"));
    let mut last = updates.next();
    while last != "set shop/dns" && last != "add shop/dns" {
        last = updates.next();
    }
}

#[test]
fn one_bad_object_costs_that_object() {
    let server = ApiServer::start();
    let mut bad = slice("bad");
    bad["metadata"]["labels"] = json!({});
    server.put(bad.clone());
    server.put(slice("good"));
    let mut names = slice("names");
    names["addressType"] = json!("FQDN");
    server.put(names);
    let updates = Updates::<EndpointSlice>::from(&access(&server.url()));
    let why = "complaints EndpointSlice shop/bad: metadata.labels[kubernetes.io/service-name]: missing, so it belongs to \
               no Service";
    updates.expect(&["set shop/good", why]);
    server.put(slice("bad"));
    updates.expect(&["add shop/bad", "complaints "]);
    // What it was is not true any more.
    server.put(bad);
    updates.expect(&["remove shop/bad", why]);
}

#[test]
fn a_token_file_that_changes_is_read_again() {
    let folder = std::env::temp_dir().join(format!("portico-api-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let server = ApiServer::start();
    server.set_token("one");
    fs::write(folder.join("token"), "one\n").expect("a file");
    let kubeconfig = json!({
        "current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server.url()}}],
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
    });
    let path = folder.join("kubeconfig");
    fs::write(&path, kubeconfig.to_string()).expect("a file");
    let options = AccessOptions {
        kubeconfig: Some(path),
        master: None,
        ..AccessOptions::default()
    };
    let updates = Updates::<Service>::from(&Access::load(&options).expect("a kubeconfig"));
    updates.expect(&["set"]);
    server.set_token("two");
    fs::write(folder.join("token"), "two\n").expect("a file");
    server.end_watches();
    // The first request with the old token is refused, the next has the new one.
    updates.expect(&["unavailable", "set"]);
    let tokens: Vec<String> = server
        .requests()
        .iter()
        .map(|r| r.headers["authorization"].clone())
        .collect();
    assert_eq!(tokens[..3], ["Bearer one", "Bearer one", "Bearer two"]);
    fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn a_receiver_that_is_gone_ends_the_thread() {
    let server = ApiServer::start();
    let (sender, receiver) = unbounded();
    let (access, selection) = (access(&server.url()), Selection::default());
    let thread = api::spawn_reflector::<Service>(&access, &selection, sender).expect("a thread");
    receiver.recv_timeout(PATIENCE).expect("the first list");
    drop(receiver);
    server.put(service("web", "10.96.0.10"));
    eventually(PATIENCE, "the end of the thread", || {
        thread.is_finished().then_some(())
    });
    thread.join().expect("no panic");
}

#[test]
fn objects_are_written() {
    let server = ApiServer::start();
    let mut client = api::Client::new(&access(&server.url())).expect("a client");
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"namespace": "default", "name": "e"}});
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    client.post_json(path, &event.to_string()).expect("created");
    let error = client.post_json("/apis/nothing/v1/here", "{}");
    let error = error.expect_err("no such collection").to_string();
    let start = format!("the apiserver {} answered 404: ", server.url());
    assert!(error.starts_with(&start), "{error}");
    let requests = server.requests();
    let methods: Vec<&str> = requests
        .iter()
        .map(|request| request.method.as_str())
        .collect();
    assert_eq!(methods, ["POST", "POST"]);
    assert_eq!(requests[0].headers["content-type"], "application/json");
}

/// Answers one request with this page, as a proxy between the apiserver and us would.
fn page(status: &str, page: &str) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let length = page.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{page}"
    );
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = Vec::new();
        let mut room = [0; 1024];
        while !request.ends_with(b"\r\n\r\n{}") {
            let n = stream.read(&mut room).expect("a request");
            assert_ne!(n, 0, "the client has gone");
            request.extend_from_slice(&room[..n]);
        }
        stream
            .write_all(answer.as_bytes())
            .expect("a client that reads");
    });
    (url, thread)
}

#[test]
fn a_page_of_somebody_else_is_one_line() {
    let html = format!(
        "<!DOCTYPE HTML>\n<html>\r\n  <title>404\x1b[31m \u{202e}</title>\n<p>{}</html>",
        "x".repeat(100_000)
    );
    let start =
        r"404 with text/html: <!DOCTYPE HTML> <html> <title>404\u{1b}[31m \u{202e}</title> <p>xxxx";
    let status =
        json!({"kind": "Status", "message": format!("a\n{}", "b".repeat(5000))}).to_string();
    for (code, body, start) in [
        ("404 Not Found", html.as_str(), start),
        ("400 Bad", status.as_str(), r"400 with text/html: a\nbbb"),
        (
            "502 Bad Gateway",
            "",
            "502 with text/html: code 502 (is it an apiserver? check the kubeconfig's server)",
        ),
    ] {
        let (url, thread) = page(code, body);
        let mut client = api::Client::new(&access(&url)).expect("a client");
        let error = client.post_json("/api/v1/services", "{}");
        let error = error.expect_err("no success").to_string();
        let start = format!("the apiserver {url} answered {start}");
        assert!(error.starts_with(&start), "{error}");
        assert!(
            error.len() < 700 && !error.contains(char::is_control),
            "{error}"
        );
        thread.join().expect("no panic");
    }
}
