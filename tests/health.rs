//! Probes and scrapes over real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use portico::health::*;
use portico::types::counters::ServiceCounters;
use portico::types::{IpFamily, NamespacedName, Protocol, ServicePortName};

use crate::util::{eventually, promtool};

const SOON: Duration = Duration::from_secs(10);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn settings() -> ServerSettings {
    ServerSettings {
        healthz: Some(SocketAddr::new(LOCAL, 0)),
        metrics: Some(SocketAddr::new(LOCAL, 0)),
        bind_address_hard_fail: false,
        health: Arc::new(Mutex::new(ProxyHealth::new(Duration::from_secs(60)))),
        sync_metrics: Arc::new(SyncMetrics::new(SystemTime::now(), IpFamily::ALL.to_vec())),
        sources: Sources {
            service_ports: Box::new(Vec::new),
            rest_requests: Box::new(Vec::new),
            rest_durations: Box::new(Vec::new),
            ask_sync: Box::new(|| {}),
            trouble: Box::new(Vec::new),
        },
        configuration: serde_json::json!({"kind": "KubeProxyConfiguration"}),
        flags: Some(vec![("cluster-cidr".into(), "10.0.0.0/8".into())]),
        statusz: true,
        listen_failed: Box::new(|_, _, _| {}),
    }
}

/// A port that nobody has just now.
fn free_port() -> u16 {
    TcpListener::bind((LOCAL, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Sends bytes, reads until the end; status line, headers and body.
fn talk(address: SocketAddr, request: &str) -> std::io::Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or(ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((
        status.ok_or(ErrorKind::InvalidData)?,
        format!("{head}\r\n"),
        body.to_owned(),
    ))
}

fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    // HTTP/1.0: the body comes unchunked.
    talk(address, &format!("GET {path} HTTP/1.0\r\n\r\n")).unwrap()
}

#[test]
fn probes_follow_the_proxy_and_the_node() {
    let settings = settings();
    let (health, metrics) = (settings.health.clone(), settings.metrics);
    assert!(metrics.is_some());
    let server = HealthServer::start(settings).unwrap();
    let address = server.healthz_addresses()[0];
    let statuses = || ["/healthz", "/livez"].map(|path| get(address, path).0);
    assert_eq!(statuses(), [200, 200], "before anything is known");
    let (_, head, body) = get(address, "/healthz");
    assert!(
        head.contains("\r\nContent-Type: application/json\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\nX-Content-Type-Options: nosniff\r\n"),
        "{head}"
    );
    assert!(
        body.contains(r#""nodeEligible":true,"healthy":true"#),
        "{body}"
    );
    health.lock().unwrap().set_node_eligible(false);
    assert_eq!(statuses(), [503, 200]);
    // Synced long ago, and an update has been waiting since.
    let long_ago = Now {
        instant: Instant::now() - Duration::from_secs(61),
        wall: SystemTime::now() - Duration::from_secs(61),
    };
    health.lock().unwrap().updated(IpFamily::V4, long_ago);
    health.lock().unwrap().queued_update(IpFamily::V4, long_ago);
    assert_eq!(statuses(), [503, 503]);
    health.lock().unwrap().updated(IpFamily::V4, Now::read());
    health.lock().unwrap().set_node_eligible(true);
    assert_eq!(statuses(), [200, 200]);
    // Methods are not checked; paths are, to the letter.
    assert_eq!(
        talk(
            address,
            "POST /healthz HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
        )
        .unwrap()
        .0,
        200
    );
    assert_eq!(talk(address, "HEAD /livez HTTP/1.1\r\n\r\n").unwrap().2, "");
    for path in ["/", "/healthz/", "/metrics", "/livez2"] {
        assert_eq!(get(address, path).0, 404, "{path}");
    }
    let scraped = get(server.metrics_addresses()[0], "/metrics").2;
    assert!(
        scraped.contains("\nkubeproxy_proxy_healthz_total{code=\"200\"} 4\n"),
        "{scraped}"
    );
    assert!(
        scraped.contains("\nkubeproxy_proxy_livez_total{code=\"503\"} 1\n"),
        "{scraped}"
    );
}

#[test]
fn a_wildcard_means_both_families() {
    let mut settings = settings();
    settings.healthz = Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
    let server = HealthServer::start(settings).unwrap();
    let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    assert_eq!(server.healthz_addresses().len(), if has_v6 { 2 } else { 1 });
    for address in server.healthz_addresses() {
        let local = match address.ip() {
            IpAddr::V4(_) => LOCAL,
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        assert_eq!(
            get(SocketAddr::new(local, address.port()), "/healthz").0,
            200
        );
    }
}

#[test]
fn health_check_node_ports_come_change_and_go() {
    let server = HealthServer::start(settings()).unwrap();
    server.set_node_port_addresses(vec![LOCAL]);
    let (web, port) = (NamespacedName::new("shop", "web"), free_port());
    let address = SocketAddr::new(LOCAL, port);
    let check = |local_v4, port| {
        Some(HealthCheck {
            port,
            local_v4,
            local_v6: 7,
        })
    };
    let ask = || talk(address, "GET /whatever HTTP/1.1\r\n\r\n").ok();
    server.set_health_checks(vec![(web.clone(), check(2, port))]);
    let (status, head, body) = eventually(SOON, "the port answers", ask);
    assert_eq!(status, 200);
    assert!(
        head.contains("\r\nX-Load-Balancing-Endpoint-Weight: 2\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\nContent-Type: application/json\r\n"),
        "{head}"
    );
    let expect = "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\t\
        \"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}";
    assert_eq!(body, expect);
    server.set_health_checks(vec![(web.clone(), check(0, port))]);
    eventually(SOON, "no endpoint here", || {
        ask().filter(|answer| answer.0 == 503)
    });
    let other = free_port();
    server.set_health_checks(vec![(web.clone(), check(1, other))]);
    eventually(SOON, "it moved", || {
        talk(SocketAddr::new(LOCAL, other), "GET / HTTP/1.1\r\n\r\n").ok()
    });
    assert!(ask().is_none(), "the old port is closed");
    server.set_health_checks(vec![(web, None)]);
    let refused = || TcpStream::connect((LOCAL, other)).is_err().then_some(());
    eventually(SOON, "it is gone", refused);
}

#[test]
fn a_health_check_answers_for_the_family_it_is_asked_in() {
    let server = HealthServer::start(settings()).unwrap();
    let port = free_port();
    let check = HealthCheck {
        port,
        local_v4: 2,
        local_v6: 0,
    };
    server.set_health_checks(vec![(NamespacedName::new("shop", "web"), Some(check))]);
    let ask = |ip: IpAddr| {
        eventually(SOON, "the port answers", || {
            talk(SocketAddr::new(ip, port), "GET / HTTP/1.1\r\n\r\n")
                .ok()
                .map(|answer| answer.0)
        })
    };
    assert_eq!(ask(LOCAL), 200);
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        assert_eq!(ask(Ipv6Addr::LOCALHOST.into()), 503);
    }
}

#[test]
fn a_port_that_is_taken_is_tried_again_or_fails_hard() {
    let taken = TcpListener::bind((LOCAL, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let with = |hard| ServerSettings {
        healthz: Some(address),
        bind_address_hard_fail: hard,
        ..settings()
    };
    match HealthServer::start(with(true)) {
        Err(BindError::Bind {
            server,
            address: at,
            error,
        }) => {
            assert_eq!(
                (server.as_str(), at, error.kind()),
                ("healthz", address, ErrorKind::AddrInUse)
            );
        }
        other => panic!("{:?}", other.err()),
    }
    let server = HealthServer::start(with(false)).unwrap();
    assert!(server.healthz_addresses().is_empty());
    drop(taken);
    eventually(SOON, "it is bound after all", || {
        talk(address, "GET /livez HTTP/1.1\r\n\r\n").ok()
    });
}

#[test]
fn the_metrics_mux() {
    let server = HealthServer::start(settings()).unwrap();
    let address = server.metrics_addresses()[0];
    let rows = [
        ("/healthz", 200, "ok"),
        ("/healthz/ping", 200, "ok"),
        (
            "/healthz?verbose",
            200,
            "[+]ping ok\nhealthz check passed\n",
        ),
        (
            "/healthz?verbose=1&exclude=ping",
            200,
            "[+]ping excluded: ok\nhealthz check passed\n",
        ),
        ("/proxyMode", 200, "userspace"),
        (
            "/configz",
            200,
            r#"{"kubeproxy.config.k8s.io":{"kind":"KubeProxyConfiguration"}}"#,
        ),
        ("/livez", 404, "404 page not found\n"),
        ("/debug/pprof/", 404, "404 page not found\n"),
    ];
    for (path, status, body) in rows {
        let answer = get(address, path);
        assert_eq!((answer.0, answer.2.as_str()), (status, body), "{path}");
    }
    let head = get(address, "/proxyMode").1;
    assert!(
        head.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"),
        "{head}"
    );
}

#[test]
fn z_pages_and_slis() {
    let server = HealthServer::start(settings()).unwrap();
    let address = server.metrics_addresses()[0];
    assert_eq!(get(address, "/metrics/slis").2, "", "nobody has asked yet");
    get(address, "/healthz");
    get(address, "/healthz");
    let (_, head, slis) = get(address, "/metrics/slis");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4"));
    for line in [
        r#"kubernetes_healthcheck{name="ping",type="healthz"} 1"#,
        r#"kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} 2"#,
    ] {
        assert!(slis.lines().any(|found| found == line), "{slis}");
    }
    promtool(&slis);
    let reset = talk(address, "DELETE /metrics/slis HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((reset.0, reset.2.as_str()), (200, "metrics reset\n"));
    assert_eq!(get(address, "/metrics/slis").2, "");

    for (path, expect) in [
        ("/flagz", "\ncluster-cidr=10.0.0.0/8\n"),
        ("/statusz", "\nUp: 0 hr 00 min "),
    ] {
        let (status, head, body) = get(address, path);
        assert_eq!(status, 200, "{path}");
        assert!(head.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"));
        assert!(body.contains(expect), "{body}");
        let json = format!("GET {path} HTTP/1.0\r\nAccept: application/json\r\n\r\n");
        assert_eq!(talk(address, &json).unwrap().0, 406, "{path}");
    }
}

/// Undoes `Transfer-Encoding: chunked`.
fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap();
        if size == 0 {
            assert_eq!(body, "");
            return whole;
        }
    }
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let mut settings = settings();
    let counters: Vec<(ServicePortName, IpFamily, Arc<ServiceCounters>)> = (0..300)
        .map(|i| {
            let name = ServicePortName {
                service: NamespacedName::new("shop", &format!("web-{i}")),
                port: "http".into(),
                protocol: Protocol::Tcp,
            };
            (name, IpFamily::V4, Arc::default())
        })
        .collect();
    counters[0].2.accepted.add(3);
    counters[0].2.connected_after(Duration::from_millis(1500));
    settings.sources.service_ports = Box::new(move || counters.clone());
    settings.sources.rest_requests = Box::new(|| {
        let (code, method, host) = ("200".into(), "GET".into(), "10.0.0.1:6443".into());
        vec![RestRequests {
            code,
            method,
            host,
            count: 3,
        }]
    });
    settings.sources.rest_durations = Box::new(|| {
        vec![RestDurations {
            verb: "GET".into(),
            host: "10.0.0.1:6443".into(),
            buckets: vec![(0.005, 1), (0.5, 2)],
            count: 3,
            sum: 61.5,
        }]
    });
    settings.sync_metrics.service_changes(5);
    settings
        .sync_metrics
        .synced(Duration::from_millis(3), true, SystemTime::now());
    settings.sync_metrics.endpoint_changes(IpFamily::V4, 2);
    let server = HealthServer::start(settings).unwrap();
    let address = server.metrics_addresses()[0];
    let (status, head, body) = talk(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(status, 200);
    assert!(
        head.contains("\r\nTransfer-Encoding: chunked\r\n"),
        "{head}"
    );
    let text = unchunk(&body);
    let port = r#"{namespace="shop",service="web-0",port="http",protocol="TCP",ip_family="IPv4"}"#;
    for line in [
        format!("portico_service_connections_total{port} 3"),
        format!("portico_service_connect_duration_seconds_sum{port} 1.5"),
        format!("portico_service_connect_duration_seconds_count{port} 1"),
        r#"rest_client_request_duration_seconds_bucket{verb="GET",host="10.0.0.1:6443",le="0.5"} 2"#.into(),
        r#"rest_client_request_duration_seconds_count{verb="GET",host="10.0.0.1:6443"} 3"#.into(),
        "kubeproxy_sync_proxy_rules_service_changes_total 5".into(),
        "kubeproxy_sync_proxy_rules_service_changes_pending 0".into(),
        r#"kubeproxy_sync_proxy_rules_endpoint_changes_pending{ip_family="IPv4"} 2"#.into(),
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    promtool(&text);
}

#[test]
fn clients_that_mean_ill_hold_nobody_up() {
    let server = HealthServer::start(settings()).unwrap();
    let address = server.healthz_addresses()[0];
    // More than there is room for, each with half a request.
    let slow: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /healthz HT").unwrap();
            stream
        })
        .collect();
    assert_eq!(get(address, "/healthz").0, 200);
    let long = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(20_000));
    // The rest of it may be met by a reset; what counts is that it ends.
    if let Ok((status, ..)) = talk(address, &long) {
        assert_eq!(status, 431);
    }
    assert_eq!(
        talk(address, "\x16\x03\x01\x02\x00\x01\r\n\r\n").unwrap().0,
        400
    );
    // Nobody may stay for ever.
    for mut stream in slow {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut room = [0; 16];
        match stream.read(&mut room) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(get(address, "/livez").0, 200);
}
