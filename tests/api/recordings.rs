//! What real servers sent: every recording is decoded and acted upon.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use portico::api::client::{Client, Encoding};
use portico::types::{EndpointSlice, Node, Problems, Service, ServiceCidr};
use portico::wire::{self, Decode, Event, Events, Interner, Item, Kind};

use super::{PATIENCE, Updates, access};
use crate::util::eventually;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

/// One recorded exchange.
struct Recording {
    /// Path and query of the request.
    target: String,
    /// Status line and headers.
    head: String,
    body: String,
}

impl Recording {
    fn read(file: &str) -> Self {
        let text = fs::read_to_string(folder().join(file)).expect(file);
        let text = text.replace("\r\n", "\n");
        let (request, response) = text.split_once("\n\n").expect("a request");
        let (head, body) = response.split_once("\n\n").expect("a head");
        let target = request.strip_prefix("GET ").expect("a GET").trim();
        Self {
            target: target.to_string(),
            head: head.to_string(),
            body: body.to_string(),
        }
    }

    /// The response, byte for byte but for what the recorder took off: carriage returns and chunks.
    fn response(&self) -> Vec<u8> {
        let mut head = self.head.replace('\n', "\r\n");
        let chunked = head.contains("Transfer-Encoding: chunked");
        let body = match chunked {
            true => {
                let lines = self.body.split_inclusive('\n');
                let chunks = lines.map(|line| format!("{:x}\r\n{line}\r\n", line.len()));
                chunks.collect::<String>() + "0\r\n\r\n"
            }
            false => self.body.clone(),
        };
        if !chunked {
            // The recorder ended the file with a line break.
            let lines = head
                .split("\r\n")
                .filter(|line| !line.starts_with("Content-Length"));
            head = lines.collect::<Vec<_>>().join("\r\n");
            head += &format!("\r\nContent-Length: {}", body.len());
        }
        format!("{head}\r\n\r\n{body}").into_bytes()
    }

    fn kind(&self) -> Kind {
        let path = self.target.split('?').next().expect("a path");
        match path.rsplit('/').next() {
            Some("endpointslices") => Kind::EndpointSlice,
            Some("endpoints") => Kind::Endpoints,
            Some("nodes") => Kind::Node,
            Some("servicecidrs") => Kind::ServiceCidr,
            _ => Kind::Service,
        }
    }
}

/// Answers each request with what `choose` says; without an answer the connection stays open in silence.
struct Replay {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Replay {
    fn start(choose: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, choose) = (Arc::clone(&asked), Arc::new(choose));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, choose) = (Arc::clone(&log), Arc::clone(&choose));
                thread::spawn(move || serve(&stream, &log, &*choose));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn serve(
    mut stream: &TcpStream,
    log: &Mutex<Vec<String>>,
    choose: &dyn Fn(&str) -> Option<Vec<u8>>,
) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        let target = line.split(' ').nth(1).expect("a target").to_string();
        while lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
        {}
        log.lock().expect("no panic").push(target.clone());
        match choose(&target) {
            Some(response) => {
                if stream.write_all(&response).is_err() {
                    return;
                }
            }
            None => thread::park(),
        }
    }
}

/// What a client makes of a recording, as one line.
fn outcome(file: &str) -> String {
    let recording = Recording::read(file);
    let response = recording.response();
    let replay = Replay::start(move |_| Some(response.clone()));
    let mut client = Client::new(&access(&replay.url)).expect("a client");
    let watch = recording.target.contains("watch=true");
    let encoding = if watch {
        Encoding::Identity
    } else {
        Encoding::Gzip
    };
    let body = match client.get(&recording.target, encoding) {
        Ok(body) => body,
        Err(error) => return error.to_string().replace(&replay.url, "URL"),
    };
    assert_eq!(replay.asked().concat(), recording.target);
    match recording.kind() {
        Kind::Service => read::<Service>(body, Kind::Service, watch),
        kind @ (Kind::EndpointSlice | Kind::Endpoints) => read::<EndpointSlice>(body, kind, watch),
        Kind::Node => read::<Node>(body, Kind::Node, watch),
        Kind::ServiceCidr => read::<ServiceCidr>(body, Kind::ServiceCidr, watch),
    }
}

fn read<T: Decode>(body: impl std::io::Read, kind: Kind, watch: bool) -> String {
    let mut interner = Interner::default();
    let mut words = Vec::new();
    if watch {
        let mut events = Events::new(body);
        while let Some(event) = events.next::<T>(kind, &mut interner) {
            words.push(match event.expect("a good stream") {
                Event::Added(item) => format!("+{}", name(item)),
                Event::Modified(item) => format!("~{}", name(item)),
                Event::Deleted(item) => format!("-{}", name(item)),
                Event::Bookmark {
                    resource_version,
                    initial_events_end,
                } => format!(
                    "{resource_version}{}",
                    if initial_events_end { "!" } else { "" }
                ),
                Event::Error(status) => format!("{} {}", status.code, status.reason),
                Event::Skipped(why) => format!("?{why}"),
            });
        }
        return words.join(" ");
    }
    let mut each = |item: Result<Item<T>, _>| words.push(name(item.expect("an identity")));
    let meta = wire::list(body, kind, &mut interner, &mut each).expect("a good list");
    let more = if meta.continue_token.is_empty() {
        ""
    } else {
        " and more"
    };
    format!("{} @{}{more}", words.join(" "), meta.resource_version)
}

fn name<T: Decode>(item: Item<T>) -> String {
    match item.object.expect("a good object") {
        Some(object) => {
            assert_eq!(object.problems(), &Problems::default());
            item.name.to_string()
        }
        None => format!("({})", item.name),
    }
}

#[test]
fn every_recording_is_understood() {
    let mut missing: BTreeSet<String> = BTreeSet::new();
    for version in ["v1.20", "v1.36"] {
        for entry in fs::read_dir(folder().join(version)).expect(version) {
            let name = entry.expect("an entry").file_name();
            missing.insert(format!("{version}/{}", name.to_string_lossy()));
        }
    }
    for (file, expect) in EXPECTED {
        assert!(missing.remove(*file), "{file} is not there");
        assert_eq!(outcome(file), *expect, "{file}");
    }
    assert!(missing.is_empty(), "nothing is expected of {missing:?}");
}

/// A list: its objects, `@` its version. A watch: `+` added, `~` modified, `-` deleted, versions of bookmarks (`!`: the end of
/// the initial events). In brackets: not for a proxy. Else what the client says.
#[rustfmt::skip]
const EXPECTED: &[(&str, &str)] = &[
    ("v1.20/bad-continue.http", "the apiserver URL answered 400: invalid continue token: continue key is not valid: invalid character 'i' looking for beginning of value"),
    ("v1.20/forbidden.http", "the apiserver URL answered 403: secrets is forbidden: User \"system:kube-proxy\" cannot list resource \"secrets\" in API group \"\" at the cluster scope (bind the ClusterRole system:node-proxier to this user or service account)"),
    ("v1.20/list-bad-rv.http", "the apiserver URL answered 500: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax"),
    ("v1.20/list-endpoints.http", "shop/web shop/dns shop/other-proxy @251"),
    ("v1.20/list-endpointslices-page1.http", "shop/dns-mj5fm (shop/headless-kznk5) @251 and more"),
    ("v1.20/list-endpointslices-page2.http", "(shop/headless-sl9n2) shop/other-proxy-fbs8h @251 and more"),
    ("v1.20/list-endpointslices.http", "shop/other-proxy-fbs8h shop/web-4vl2h shop/dns-mj5fm @250"),
    ("v1.20/list-future.http", "the apiserver URL answered 504: Timeout: Too large resource version: 99999999, current: 208"),
    ("v1.20/list-node.http", "node-1 @189"),
    ("v1.20/list-servicecidrs.http", "the apiserver URL answered 403: servicecidrs.networking.k8s.io is forbidden: User \"system:kube-proxy\" cannot list resource \"servicecidrs\" in API group \"networking.k8s.io\" at the cluster scope (bind the ClusterRole system:node-proxier to this user or service account)"),
    ("v1.20/list-services-old-selector.http", "shop/elsewhere default/kubernetes shop/web shop/dns shop/headless @208"),
    ("v1.20/list-services.http", "the apiserver URL answered 400: \"spec.clusterIP\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
    ("v1.20/not-found.http", "the apiserver URL answered 404: the server could not find the requested resource"),
    ("v1.20/unauthorized.http", "the apiserver URL answered 401: Unauthorized (check the kubeconfig's token or client certificate)"),
    ("v1.20/watch-empty-3s.http", "+default/kubernetes +shop/web +shop/dns +shop/headless +shop/elsewhere +shop/other-proxy"),
    ("v1.20/watch-future.http", ""),
    ("v1.20/watch-too-old.http", "+default/kubernetes +shop/web +shop/dns +shop/headless +shop/elsewhere +shop/other-proxy"),
    ("v1.20/watchlist-endpointslices.http", "the apiserver URL answered 422: ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch, resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided]"),
    ("v1.20/watchlist-services.http", "the apiserver URL answered 422: ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch, resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided]"),
    ("v1.36/bad-continue.http", "the apiserver URL answered 400: invalid continue token: continue key is not valid: invalid character 'i' looking for beginning of value"),
    ("v1.36/forbidden.http", "the apiserver URL answered 403: secrets is forbidden: User \"system:kube-proxy\" cannot list resource \"secrets\" in API group \"\" at the cluster scope (bind the ClusterRole system:node-proxier to this user or service account)"),
    ("v1.36/list-bad-rv.http", "the apiserver URL answered 400: invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax"),
    ("v1.36/list-endpoints.http", "shop/other-proxy shop/web @313"),
    ("v1.36/list-endpointslices-page1.http", "shop/dns-n2r69 (shop/headless-jkbph) @315 and more"),
    ("v1.36/list-endpointslices-page2.http", "shop/other-proxy-7gx6v shop/web-5jr6l @315 and more"),
    ("v1.36/list-endpointslices.http", "shop/dns-n2r69 shop/other-proxy-7gx6v shop/web-5jr6l shop/web-rtl56 @310"),
    ("v1.36/list-expired-continue.http", "the apiserver URL answered 410: The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list."),
    ("v1.36/list-future.http", "the apiserver URL answered 504: Timeout: Too large resource version: 99999999, current: 318"),
    ("v1.36/list-node.http", "node-1 @314"),
    ("v1.36/list-servicecidrs.http", "kubernetes @301"),
    ("v1.36/list-services-old-selector.http", "default/kubernetes shop/elsewhere shop/headless shop/web @313"),
    ("v1.36/list-services.http", "default/kubernetes shop/elsewhere shop/web @313"),
    ("v1.36/not-found.http", "the apiserver URL answered 404: the server could not find the requested resource"),
    ("v1.36/unauthorized.http", "the apiserver URL answered 401: Unauthorized (check the kubeconfig's token or client certificate)"),
    ("v1.36/watch-empty-3s.http", "+default/kubernetes +shop/elsewhere +shop/headless +shop/other-proxy +shop/web 315!"),
    ("v1.36/watch-future.http", ""),
    ("v1.36/watch-live-endpointslices.http", "~(shop/headless-jkbph) ~shop/web-rtl56 ~shop/web-5jr6l ~shop/web-5jr6l ~(shop/headless-jkbph) ~shop/web-rtl56 -shop/dns-n2r69 +shop/dns-n2r69 315 315 315"),
    ("v1.36/watch-live-services.http", "~shop/dns -shop/dns +shop/dns -shop/dns 318 318"),
    ("v1.36/watch-too-old.http", "410 Expired"),
    ("v1.36/watchlist-endpointslices.http", "+shop/dns-n2r69 +shop/other-proxy-7gx6v +shop/web-5jr6l +shop/web-rtl56 315!"),
    ("v1.36/watchlist-services.http", "+default/kubernetes +shop/elsewhere +shop/web 315!"),
];

/// The recording that answers this request of a server of this version.
fn answer(version: &str, target: &str) -> Option<Vec<u8>> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let of = |name: &str| Some(Recording::read(&format!("{version}/{name}.http")).response());
    let initial = query.contains("sendInitialEvents=true");
    let slices = format!(
        "/apis/discovery.k8s.io/{}/endpointslices",
        match version {
            "v1.20" => "v1beta1",
            _ => "v1",
        }
    );
    match path {
        "/api/v1/services" if initial => of("watchlist-services"),
        "/api/v1/services" if query.contains("watch=true") => None,
        "/api/v1/services" if query.contains("fieldSelector") => of("list-services"),
        "/api/v1/services" => of("list-services-old-selector"),
        "/apis/networking.k8s.io/v1/servicecidrs" if version == "v1.20" => of("list-servicecidrs"),
        "/apis/networking.k8s.io/v1/servicecidrs" if initial => of("watchlist-services"),
        "/apis/networking.k8s.io/v1/servicecidrs" => of("list-servicecidrs"),
        "/api/v1/nodes" if initial => of("not-found"),
        "/api/v1/nodes" if query.contains("watch=true") => None,
        "/api/v1/nodes" => of("list-node"),
        path if path == slices && initial => of("watchlist-endpointslices"),
        path if path == slices && query.contains("watch=true") => None,
        path if path == slices => of("list-endpointslices"),
        _ => of("not-found"),
    }
}

fn queries(replay: &Replay) -> Vec<String> {
    let all = replay.asked().into_iter();
    // The timeout is random.
    all.map(|target| {
        let parts = target
            .split('&')
            .filter(|part| !part.starts_with("timeoutSeconds"));
        parts.collect::<Vec<_>>().join("&")
    })
    .collect()
}

#[test]
fn a_1_20_server_is_followed() {
    let replay = Replay::start(|target| answer("v1.20", target));
    let access = access(&replay.url);
    let slices = Updates::<EndpointSlice>::from(&access);
    slices.expect(&["set shop/dns-mj5fm shop/other-proxy-fbs8h shop/web-4vl2h"]);
    let watch = "/apis/discovery.k8s.io/v1beta1/endpointslices?watch=true&allowWatchBookmarks=true";
    let headless = "labelSelector=%21service.kubernetes.io%2Fheadless";
    let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    eventually(PATIENCE, "the watch", || {
        (replay.asked().len() == 4).then_some(())
    });
    let expect = [
        format!(
            "{}&resourceVersion=&{initial}&{headless}",
            watch.replace("v1beta1", "v1")
        ),
        format!("{watch}&resourceVersion=&{initial}&{headless}"),
        format!(
            "/apis/discovery.k8s.io/v1beta1/endpointslices?limit=500&resourceVersion=0&{headless}"
        ),
        format!("{watch}&resourceVersion=250&{headless}"),
    ];
    assert_eq!(queries(&replay), expect);
    Updates::<Node>::from(&access).expect(&["set node-1"]);
    // Who may not ask is not told that there are none.
    Updates::<ServiceCidr>::from(&access).expect(&["unavailable"]);
}

#[test]
fn a_1_36_server_is_followed() {
    let replay = Replay::start(|target| answer("v1.36", target));
    let access = access(&replay.url);
    Updates::<Service>::from(&access).expect(&["set default/kubernetes shop/elsewhere shop/web"]);
    let all = "set shop/dns-n2r69 shop/other-proxy-7gx6v shop/web-5jr6l shop/web-rtl56";
    Updates::<EndpointSlice>::from(&access).expect(&[all]);
    eventually(PATIENCE, "the watches", || {
        (replay.asked().len() == 4).then_some(())
    });
    // What the recorded streams end with: the next watch begins there.
    let watches = queries(&replay)
        .into_iter()
        .filter(|query| query.contains("resourceVersion=315"));
    assert_eq!(watches.count(), 2);
}
