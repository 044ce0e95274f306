//! The Prometheus text format, written in pieces: thousands of series are never in memory at once.

use std::sync::Arc;

use super::lines::{Exposition, MetricType};
use super::metrics::{OfFamily, SyncMetrics, seconds_since_epoch};
use super::process::Process;
use crate::types::counters::ServiceCounters;
use crate::types::{IpFamily, ServicePortName};

/// ServicePorts (each family by itself) with series of their own. A cluster with more of them is better served by a sum than by
/// a scrape that grows without bound; `portico_service_ports_not_shown` says how many are left out.
const MOST_SERVICE_PORTS: usize = 2000;
/// Rows in one piece.
const ROWS: usize = 64;

/// Help on counts of changes.
const SEEN: &str = "Changes seen.";
const WAITING: &str = "Changes that no sync has carried out yet.";

/// A ServicePort of one family, and what it has carried.
pub(crate) type ServicePortCounters = (ServicePortName, IpFamily, Arc<ServiceCounters>);

/// What is asked for at each scrape or probe.
pub struct Sources {
    /// The counters of every ServicePort; none if they are not wanted.
    pub service_ports: Box<dyn Fn() -> Vec<ServicePortCounters> + Send>,
    /// Requests to the apiserver so far.
    pub rest_requests: Box<dyn Fn() -> Vec<RestRequests> + Send>,
    /// How long they took.
    pub rest_durations: Box<dyn Fn() -> Vec<RestDurations> + Send>,
    /// Asks the sync thread to say that it is alive; does not wait.
    pub ask_sync: Box<dyn Fn() + Send>,
    /// What is wrong with the sources now, a line each.
    pub trouble: Box<dyn Fn() -> Vec<String> + Send>,
}

/// Requests of one kind, as client-go counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestRequests {
    /// The status, or `<error>`.
    pub code: String,
    /// GET and its like.
    pub method: String,
    /// Host and port of the apiserver.
    pub host: String,
    /// How many.
    pub count: u64,
}

/// How long the apiserver took to begin its answers, by method.
#[derive(Clone, Debug, PartialEq)]
pub struct RestDurations {
    /// GET and its like.
    pub verb: String,
    /// Host and port of the apiserver.
    pub host: String,
    /// Upper bounds in seconds, and how many answers took no longer than each.
    pub buckets: Vec<(f64, u64)>,
    /// How many answers.
    pub count: u64,
    /// Seconds altogether.
    pub sum: f64,
}

/// The text of one scrape.
pub(super) fn expose(
    metrics: &SyncMetrics,
    sources: &Sources,
) -> impl Iterator<Item = String> + Send + use<> {
    let mut ports = (sources.service_ports)();
    ports.sort_unstable_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let hidden = ports.len().saturating_sub(MOST_SERVICE_PORTS);
    ports.truncate(MOST_SERVICE_PORTS);
    let mut text = Exposition::default();
    own_work(&mut text, metrics);
    requests(&mut text, &(sources.rest_requests)());
    durations(&mut text, &(sources.rest_durations)());
    process(&mut text, metrics);
    let help = "ServicePorts beyond the limit on series, which have none of their own.";
    text.one(
        "portico_service_ports_not_shown",
        MetricType::Gauge,
        help,
        hidden as f64,
    );
    std::iter::once(text.0).chain(per_service_port(ports))
}

/// The text of /metrics/slis: nothing until somebody has asked /healthz, as in every Kubernetes component.
pub(super) fn expose_slis(metrics: &SyncMetrics) -> String {
    let mut text = Exposition::default();
    let pings = metrics.pings.get();
    if pings > 0 {
        let (name, kind) = (("name", "ping"), ("type", "healthz"));
        let gauge = "kubernetes_healthcheck";
        let help = "The result of a single health check.";
        text.family(gauge, MetricType::Gauge, help);
        text.sample(gauge, &[name, kind], 1.0);
        let counter = "kubernetes_healthchecks_total";
        text.family(
            counter,
            MetricType::Counter,
            "The results of all health checks.",
        );
        let labels = [name, ("status", "success"), kind];
        text.sample(counter, &labels, pings as f64);
    }
    text.0
}

fn own_work(text: &mut Exposition, metrics: &SyncMetrics) {
    use MetricType::{Counter, Gauge};
    text.family(
        "portico_build_info",
        Gauge,
        "Always 1; the version is a label.",
    );
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    text.sample("portico_build_info", &version, 1.0);
    of_families(text, metrics);
    let prefix = "kubeproxy_sync_proxy_rules_service_changes";
    let (total, pending) = (metrics.services.total.get(), metrics.services.pending.get());
    text.one(&format!("{prefix}_total"), Counter, SEEN, total as f64);
    text.one(&format!("{prefix}_pending"), Gauge, WAITING, pending);
    text.answers(
        "kubeproxy_proxy_healthz_total",
        "Answers of /healthz.",
        &metrics.healthz,
    );
    text.answers(
        "kubeproxy_proxy_livez_total",
        "Answers of /livez.",
        &metrics.livez,
    );
    text.family("portico_listeners", Gauge, "Listeners of frontends.");
    text.sample(
        "portico_listeners",
        &[("state", "open")],
        metrics.listeners_open.get(),
    );
    text.sample(
        "portico_listeners",
        &[("state", "failed")],
        metrics.listeners_failed.get(),
    );
}

/// kube-proxy runs a proxier for each family, with series for each, so queries may ask for one of them. Here one sync
/// serves both: what it says about itself holds for each family, and what can be told apart is.
fn of_families(text: &mut Exposition, metrics: &SyncMetrics) {
    use MetricType::{Counter, Gauge};
    for (kind, help, histogram) in [
        ("", "How long a sync took.", &metrics.sync_duration),
        (
            "full_",
            "How long a sync of everything took.",
            &metrics.full_sync_duration,
        ),
        (
            "partial_",
            "How long a sync of some Services took.",
            &metrics.partial_sync_duration,
        ),
    ] {
        let name = format!("kubeproxy_sync_{kind}proxy_rules_duration_seconds");
        text.family(&name, MetricType::Histogram, help);
        let duration = histogram.read();
        for family in &metrics.families {
            text.histogram(&name, *family, &duration);
        }
    }
    let name = "kubeproxy_network_programming_duration_seconds";
    let help = "From a change of endpoints in the cluster to its effect on this node.";
    text.family(name, MetricType::Histogram, help);
    for family in &metrics.families {
        let of_family = metrics.per_family.get(*family);
        text.histogram(name, *family, &of_family.network_programming.read());
    }
    let mut each = |name: &str, kind, help, value: &dyn Fn(&OfFamily) -> f64| {
        let name = format!("kubeproxy_sync_proxy_rules_{name}");
        text.family(&name, kind, help);
        for family in &metrics.families {
            let labels = [("ip_family", family.as_str())];
            text.sample(&name, &labels, value(metrics.per_family.get(*family)));
        }
    };
    let (last, queued) = (metrics.last_sync.get(), metrics.last_queued.get());
    each("last_timestamp_seconds", Gauge, "The last sync.", &|_| last);
    let help = "The last time a sync was asked for.";
    each("last_queued_timestamp_seconds", Gauge, help, &|_| queued);
    each("endpoint_changes_total", Counter, SEEN, &|family| {
        family.endpoints.total.get() as f64
    });
    each("endpoint_changes_pending", Gauge, WAITING, &|family| {
        family.endpoints.pending.get()
    });
    // A gauge, whatever the name says; kube-proxy's is one.
    let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
    let help = "Services with policy Local that have endpoints, but none here.";
    text.family(name, Gauge, help);
    for family in &metrics.families {
        let of_family = metrics.per_family.get(*family);
        for (policy, value) in [
            ("internal", &of_family.no_local_internal),
            ("external", &of_family.no_local_external),
        ] {
            let labels = [("ip_family", family.as_str()), ("traffic_policy", policy)];
            text.sample(name, &labels, value.get());
        }
    }
}

fn requests(text: &mut Exposition, requests: &[RestRequests]) {
    let name = "rest_client_requests_total";
    text.family(name, MetricType::Counter, "Requests to the apiserver.");
    for RestRequests {
        code,
        method,
        host,
        count,
    } in requests
    {
        let labels = [("code", code.as_str()), ("method", method), ("host", host)];
        text.sample(name, &labels, *count as f64);
    }
}

fn durations(text: &mut Exposition, durations: &[RestDurations]) {
    let name = "rest_client_request_duration_seconds";
    let help = "How long the apiserver took to begin its answers.";
    text.family(name, MetricType::Histogram, help);
    for one in durations {
        let labels = [("verb", one.verb.as_str()), ("host", &one.host)];
        for (bound, count) in &one.buckets {
            let bound = bound.to_string();
            let labels = labels.into_iter().chain([("le", bound.as_str())]);
            text.row(name, "_bucket", labels, *count as f64);
        }
        let all = labels.into_iter().chain([("le", "+Inf")]);
        text.row(name, "_bucket", all, one.count as f64);
        text.row(name, "_sum", labels.into_iter(), one.sum);
        text.row(name, "_count", labels.into_iter(), one.count as f64);
    }
}

fn process(text: &mut Exposition, metrics: &SyncMetrics) {
    use MetricType::{Counter, Gauge};
    let process = Process::read();
    let number = |value: Option<u64>| value.map(|value| value as f64);
    let cpu = process.cpu.map(|time| time.as_secs_f64());
    let rows = [
        (
            "process_cpu_seconds_total",
            Counter,
            "User and system time spent.",
            cpu,
        ),
        (
            "process_resident_memory_bytes",
            Gauge,
            "Resident memory.",
            number(process.resident_bytes),
        ),
        (
            "process_virtual_memory_bytes",
            Gauge,
            "Virtual memory.",
            number(process.virtual_bytes),
        ),
        (
            "process_open_fds",
            Gauge,
            "Open files.",
            number(process.open_files),
        ),
        (
            "process_max_fds",
            Gauge,
            "Files that may be open.",
            number(process.most_files),
        ),
        (
            "process_network_receive_bytes_total",
            Counter,
            "Bytes received in the network namespace of the process.",
            number(process.received_bytes),
        ),
        (
            "process_network_transmit_bytes_total",
            Counter,
            "Bytes sent in the network namespace of the process.",
            number(process.sent_bytes),
        ),
        (
            "process_start_time_seconds",
            Gauge,
            "When the process was started.",
            Some(seconds_since_epoch(metrics.started)),
        ),
    ];
    for (name, kind, help, value) in rows {
        if let Some(value) = value {
            text.one(name, kind, help, value);
        }
    }
}

/// A family of series with a row (or a few) for each ServicePort.
struct PerServicePort {
    name: &'static str,
    kind: MetricType,
    help: &'static str,
    /// Rows: suffix of the name, label besides the ServicePort's, value.
    rows: fn(&ServiceCounters) -> Rows,
}

type Rows = Vec<(&'static str, Option<(&'static str, &'static str)>, f64)>;

fn row(value: f64) -> Rows {
    vec![("", None, value)]
}

const PER_SERVICE_PORT: &[PerServicePort] = &[
    PerServicePort {
        name: "portico_service_connections_total",
        kind: MetricType::Counter,
        help: "Client connections accepted; for UDP, flows begun.",
        rows: |c| row(c.accepted.get() as f64),
    },
    PerServicePort {
        name: "portico_service_connections_active",
        kind: MetricType::Gauge,
        help: "Client connections or flows alive.",
        rows: |c| row(c.active.get() as f64),
    },
    PerServicePort {
        name: "portico_service_connections_failed_total",
        kind: MetricType::Counter,
        help: "Client connections given up after every attempt failed.",
        rows: |c| row(c.failed.get() as f64),
    },
    PerServicePort {
        name: "portico_service_received_bytes_total",
        kind: MetricType::Counter,
        help: "Bytes from clients to endpoints.",
        rows: |c| row(c.received_bytes.get() as f64),
    },
    PerServicePort {
        name: "portico_service_sent_bytes_total",
        kind: MetricType::Counter,
        help: "Bytes from endpoints to clients.",
        rows: |c| row(c.sent_bytes.get() as f64),
    },
    PerServicePort {
        name: "portico_service_retries_total",
        kind: MetricType::Counter,
        help: "Attempts after the first within one client connection.",
        rows: |c| row(c.retries.get() as f64),
    },
    PerServicePort {
        name: "portico_service_connect_errors_total",
        kind: MetricType::Counter,
        help: "Attempts at an endpoint that failed.",
        rows: |c| {
            let reason = |name| Some(("reason", name));
            vec![
                ("", reason("refused"), c.connect_refused.get() as f64),
                ("", reason("timeout"), c.connect_timeout.get() as f64),
                ("", reason("loop"), c.connect_loop.get() as f64),
                ("", reason("other"), c.connect_other.get() as f64),
            ]
        },
    },
    PerServicePort {
        name: "portico_service_connect_duration_seconds",
        kind: MetricType::Summary,
        help: "From accept to a connected endpoint.",
        rows: |c| {
            let seconds = c.connect_micros.get() as f64 / 1e6;
            vec![
                ("_sum", None, seconds),
                ("_count", None, c.connected.get() as f64),
            ]
        },
    },
];

fn per_service_port(
    ports: Vec<ServicePortCounters>,
) -> impl Iterator<Item = String> + Send + use<> {
    let ports: Arc<[ServicePortCounters]> = ports.into();
    let pieces = ports.len().div_ceil(ROWS);
    PER_SERVICE_PORT.iter().flat_map(move |family| {
        let ports = ports.clone();
        (0..pieces).map(move |piece| {
            let mut text = Exposition::default();
            if piece == 0 {
                text.family(family.name, family.kind, family.help);
            }
            for port in ports.iter().skip(piece * ROWS).take(ROWS) {
                rows_of(&mut text, family, port);
            }
            text.0
        })
    })
}

fn rows_of(text: &mut Exposition, family: &PerServicePort, port: &ServicePortCounters) {
    let (name, ip_family, counters) = port;
    for (suffix, label, value) in (family.rows)(counters) {
        let labels = [
            Some(("namespace", name.service.namespace())),
            Some(("service", name.service.name())),
            Some(("port", &name.port)),
            Some(("protocol", name.protocol.as_str())),
            Some(("ip_family", ip_family.as_str())),
            label,
        ];
        text.row(family.name, suffix, labels.into_iter().flatten(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::types::{NamespacedName, Protocol};

    fn text(ports: usize, families: &[IpFamily]) -> (String, usize) {
        let metrics = SyncMetrics::new(SystemTime::UNIX_EPOCH, families.to_vec());
        metrics.synced(
            Duration::from_millis(3),
            false,
            SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
        );
        metrics.network_programming(IpFamily::V6, Duration::from_secs(500));
        metrics.endpoint_changes(IpFamily::V4, 7);
        metrics.no_local_endpoints(IpFamily::V6, 1, 2);
        let sources = Sources {
            service_ports: Box::new(move || {
                let port = |i| ServicePortName {
                    service: NamespacedName::new("shop", &format!("web-{i:05}")),
                    port: "a\\b\"c\nd".into(),
                    protocol: Protocol::Tcp,
                };
                (0..ports)
                    .map(|i| (port(i), IpFamily::V4, Arc::default()))
                    .rev()
                    .collect()
            }),
            rest_requests: Box::new(|| {
                vec![RestRequests {
                    code: "200".into(),
                    method: "GET".into(),
                    host: "10.0.0.1:6443".into(),
                    count: 3,
                }]
            }),
            rest_durations: Box::new(|| {
                vec![RestDurations {
                    verb: "GET".into(),
                    host: "10.0.0.1:6443".into(),
                    buckets: vec![(0.5, 2)],
                    count: 3,
                    sum: 61.5,
                }]
            }),
            ask_sync: Box::new(|| {}),
            trouble: Box::new(Vec::new),
        };
        let pieces: Vec<String> = expose(&metrics, &sources).collect();
        (
            pieces.concat(),
            pieces.iter().map(String::len).max().unwrap(),
        )
    }

    #[test]
    fn lines() {
        let (text, _) = text(1, &IpFamily::ALL);
        let expect = [
            "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
            r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.002"} 0"#,
            r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.004"} 1"#,
            r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="+Inf"} 1"#,
            r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="0.004"} 1"#,
            r#"kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 0.003"#,
            r#"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1"#,
            r#"kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1"#,
            r#"kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv6"} 0"#,
            "# TYPE kubeproxy_sync_proxy_rules_no_local_endpoints_total gauge",
            r#"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1.5"#,
            r#"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 1.5"#,
            r#"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv6"} 0"#,
            "kubeproxy_sync_proxy_rules_service_changes_total 0",
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            r#"kubeproxy_sync_proxy_rules_endpoint_changes_total{ip_family="IPv4"} 7"#,
            r#"kubeproxy_sync_proxy_rules_endpoint_changes_total{ip_family="IPv6"} 0"#,
            r#"kubeproxy_sync_proxy_rules_endpoint_changes_pending{ip_family="IPv4"} 7"#,
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 0"#,
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="internal"} 1"#,
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="external"} 2"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv6",le="0"} 0"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv6",le="0.25"} 0"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv6",le="300"} 0"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv6",le="+Inf"} 1"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="+Inf"} 0"#,
            r#"kubeproxy_proxy_healthz_total{code="200"} 0"#,
            r#"rest_client_requests_total{code="200",method="GET",host="10.0.0.1:6443"} 3"#,
            "process_start_time_seconds 0",
            "portico_service_ports_not_shown 0",
            r#"portico_service_connections_total{namespace="shop",service="web-00000",port="a\\b\"c\nd",protocol="TCP",ip_family="IPv4"} 0"#,
        ];
        for line in expect {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn a_family_that_the_machine_does_not_know_has_no_series() {
        let (text, _) = text(0, &[IpFamily::V4]);
        assert!(text.contains("ip_family=\"IPv4\""), "{text}");
        assert!(!text.contains("IPv6"), "{text}");
    }

    #[test]
    fn series_and_pieces_are_bounded() {
        let (text, largest) = text(MOST_SERVICE_PORTS + 5, &IpFamily::ALL);
        let shown = text
            .lines()
            .filter(|line| line.starts_with("portico_service_connections_total{"))
            .count();
        assert_eq!(shown, MOST_SERVICE_PORTS);
        assert!(text.contains("\nportico_service_ports_not_shown 5\n"));
        assert!(
            text.contains("web-00000") && !text.contains("web-02004"),
            "the same ones each time"
        );
        assert!(largest < 64 << 10, "{largest}");
    }
}
