//! Stage two: from what was said to what the program needs. Completed and validated as upstream does, all mistakes collected.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::command::{DetectLocal, FeatureGates, LogFormat, Logging, Mode, Options, PortalKind};
use super::configuration::{Configuration, Rules};
use super::duration::GoDuration;
use super::setting::{Draft, Taken};
use super::table::settings;
use super::{file, gates};

/// How the draft came to be.
pub(super) struct Origin {
    /// `--config`'s file; messages then name fields rather than flags.
    pub(super) config_file: Option<PathBuf>,
    /// `--healthz-bind-address` and `--metrics-bind-address` were given: empty then means none.
    pub(super) healthz_given: bool,
    pub(super) metrics_given: bool,
}

/// Collects mistakes, each under the name the user knows it by.
struct Judge<'a> {
    errors: Vec<String>,
    origin: &'a Origin,
}

impl Judge<'_> {
    /// Names a setting by its flag or by its field.
    fn name(&self, key: &str) -> String {
        let same = |s: &&super::setting::Setting| s.path == key || s.flag == key;
        settings().find(same).map_or_else(
            || key.to_owned(),
            |s| s.name(self.origin.config_file.is_some()),
        )
    }

    fn fail(&mut self, key: &str, value: impl std::fmt::Display, expected: &str) {
        let name = self.name(key);
        self.errors.push(format!("{name}: {value}: {expected}"));
    }

    fn check(&mut self, ok: bool, key: &str, value: impl std::fmt::Display, expected: &str) {
        if !ok {
            self.fail(key, value, expected);
        }
    }

    fn not_negative(&mut self, key: &str, value: GoDuration) {
        self.check(!value.is_negative(), key, value, "must not be negative");
    }
}

/// The program's options, or every reason why not.
pub(super) fn resolve(mut draft: Draft, origin: &Origin) -> Result<Options, Vec<String>> {
    complete(&mut draft, origin);
    let mut judge = Judge {
        errors: Vec::new(),
        origin,
    };
    check_ranges(&draft.config, &mut judge);
    check_texts(&draft.config, &mut judge);
    let options = build(&mut draft, &mut judge);
    match options {
        Some(options) if judge.errors.is_empty() => Ok(options),
        Some(_) | None => Err(judge.errors),
    }
}

/// Upstream's completion: flags' sync periods count for nftables too, addresses get their ports.
fn complete(draft: &mut Draft, origin: &Origin) {
    let config = &mut draft.config;
    if origin.config_file.is_none() {
        config.nftables = config.iptables.clone();
    }
    let v6 = config
        .bind_address
        .parse::<IpAddr>()
        .is_ok_and(|ip| ip.is_ipv6());
    let (any, local) = if v6 {
        ("::", "::1")
    } else {
        ("0.0.0.0", "127.0.0.1")
    };
    complete_address(
        &mut config.healthz_bind_address,
        draft.own.healthz_port,
        (!origin.healthz_given).then_some((any, 10256)),
    );
    complete_address(
        &mut config.metrics_bind_address,
        draft.own.metrics_port,
        (!origin.metrics_given).then_some((local, 10249)),
    );
    if config.mode == "nftables" && config.node_port_addresses.is_empty() {
        config.node_port_addresses.push("primary".to_owned());
    }
}

/// A bare IP gets the port; port 0 means no server; empty becomes the default, if there is one.
fn complete_address(address: &mut String, port: i64, default: Option<(&str, u16)>) {
    if port == 0 {
        address.clear();
        return;
    }
    if let (true, Some((ip, _))) = (address.is_empty(), default) {
        ip.clone_into(address);
    }
    let bare = address.parse::<IpAddr>();
    if let (Ok(ip), Ok(port)) = (bare, u16::try_from(port)) {
        *address = SocketAddr::new(ip, port).to_string();
    }
}

fn check_ranges(config: &Configuration, judge: &mut Judge) {
    for (section, rules) in [
        ("iptables", &config.iptables),
        ("nftables", &config.nftables),
    ] {
        if section == "iptables" || config.nftables != config.iptables {
            check_rules(section, rules, judge);
        }
    }
    let ipvs = &config.ipvs;
    if config.mode == "ipvs" {
        check_periods("ipvs", ipvs.sync_period, ipvs.min_sync_period, judge);
    }
    judge.not_negative("ipvs.tcpTimeout", ipvs.tcp_timeout);
    judge.not_negative("ipvs.tcpFinTimeout", ipvs.tcp_fin_timeout);
    judge.not_negative("ipvs.udpTimeout", ipvs.udp_timeout);
    let conntrack = &config.conntrack;
    for (key, value) in [
        ("conntrack.maxPerCore", conntrack.max_per_core),
        ("conntrack.min", conntrack.min),
        ("clientConnection.burst", config.client.burst),
        ("logging.verbosity", config.logging.verbosity),
    ] {
        judge.check(value >= 0, key, value, "must not be negative");
    }
    judge.not_negative(
        "conntrack.tcpEstablishedTimeout",
        conntrack.tcp_established_timeout,
    );
    judge.not_negative(
        "conntrack.tcpCloseWaitTimeout",
        conntrack.tcp_close_wait_timeout,
    );
    judge.not_negative("conntrack.udpTimeout", conntrack.udp_timeout);
    judge.not_negative("conntrack.udpStreamTimeout", conntrack.udp_stream_timeout);
    judge.not_negative("udpIdleTimeout", config.udp_idle_timeout);
    let period = config.config_sync_period;
    let positive = !period.is_negative() && !period.is_zero();
    judge.check(
        positive,
        "configSyncPeriod",
        period,
        "must be greater than 0",
    );
    let score = config.oom_score_adj;
    let in_range = (-1000..=1000).contains(&score);
    judge.check(
        in_range,
        "oomScoreAdj",
        score,
        "must be within -1000 and 1000",
    );
}

fn check_rules(section: &str, rules: &Rules, judge: &mut Judge) {
    let bit = rules.masquerade_bit;
    let key = format!("{section}.masqueradeBit");
    judge.check(
        (0..=31).contains(&bit),
        &key,
        bit,
        "must be within 0 and 31",
    );
    check_periods(section, rules.sync_period, rules.min_sync_period, judge);
}

fn check_periods(section: &str, sync: GoDuration, min: GoDuration, judge: &mut Judge) {
    let positive = !sync.is_negative() && !sync.is_zero();
    let key = format!("{section}.syncPeriod");
    judge.check(positive, &key, sync, "must be greater than 0");
    let key = format!("{section}.minSyncPeriod");
    judge.not_negative(&key, min);
    judge.check(min <= sync, &key, min, "must not be above the sync period");
}

fn check_texts(config: &Configuration, judge: &mut Judge) {
    let range = &config.port_range;
    judge.check(
        is_port_range(range),
        "portRange",
        range,
        "expected A-B, A or A+N",
    );
    for (mode, key, interface) in [
        (
            "BridgeInterface",
            "detectLocal.bridgeInterface",
            &config.bridge_interface,
        ),
        (
            "InterfaceNamePrefix",
            "detectLocal.interfaceNamePrefix",
            &config.interface_name_prefix,
        ),
    ] {
        let missing = config.detect_local_mode == mode && interface.is_empty();
        let expected = format!("must not be empty in detect-local mode {mode}");
        judge.check(!missing, key, "\"\"", &expected);
    }
    for entry in &config.node_port_addresses {
        let keyword = ["primary", "localhost", "all"].contains(&entry.as_str());
        let ok = keyword || entry.parse::<IpNet>().is_ok();
        let expected = "expected a CIDR, primary, localhost or all";
        judge.check(ok, "nodePortAddresses", entry, expected);
    }
}

/// `a-b`, `a`, `a+n`, or nothing.
fn is_port_range(text: &str) -> bool {
    let text = text.trim();
    let port = |text: &str| text.trim().parse::<u16>().ok();
    if text.is_empty() {
        return true;
    }
    if let Some((low, high)) = text.split_once('-') {
        return matches!((port(low), port(high)), (Some(low), Some(high)) if low <= high);
    }
    if let Some((low, more)) = text.split_once('+') {
        return matches!((port(low), port(more)), (Some(low), Some(more)) if low.checked_add(more).is_some());
    }
    port(text).is_some()
}

/// Every flag of a run, as /flagz shows it.
fn flags(draft: &mut Draft) -> Vec<(String, String)> {
    let mine = settings().filter(|s| !s.flag.is_empty() && s.taken != Taken::Explain);
    let mut flags: Vec<(String, String)> = mine
        .map(|s| (s.flag.to_owned(), (s.slot)(draft).to_text()))
        .collect();
    flags.sort_unstable();
    flags
}

fn build(draft: &mut Draft, judge: &mut Judge) -> Option<Options> {
    let effective = file::to_json(draft);
    let flags = flags(draft);
    let (config, own) = (&draft.config, &draft.own);
    let mode = mode(config, judge);
    let portal = keyword(
        "portal",
        &own.portal,
        &PortalKind::ALL,
        PortalKind::as_str,
        judge,
    );
    let detect_local = detect_local(config, judge);
    let cluster_cidr = cluster_cidr(&config.cluster_cidr, judge);
    let bind_address = bind_address(&config.bind_address, judge);
    let healthz_bind_address = address("healthzBindAddress", &config.healthz_bind_address, judge);
    let metrics_bind_address = address("metricsBindAddress", &config.metrics_bind_address, judge);
    let hostname_override = hostname_override(&config.hostname_override, judge);
    let workers = match own.workers {
        0 => Some(None),
        n @ 1..=64 => Some(usize::try_from(n).ok()),
        n => {
            judge.fail(
                "workers",
                n,
                "must be within 1 and 64, or 0 for the default",
            );
            None
        }
    };
    judge.not_negative("drain-timeout", own.drain_timeout);
    let logging = logging(config, judge);
    let rules = if config.mode == "nftables" {
        &config.nftables
    } else {
        &config.iptables
    };
    let (sync, min) = match mode? {
        Mode::Ipvs => (config.ipvs.sync_period, config.ipvs.min_sync_period),
        Mode::Userspace | Mode::Iptables | Mode::Nftables => {
            (rules.sync_period, rules.min_sync_period)
        }
    };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Some(Options {
        kubeconfig: text(&config.client.kubeconfig).map(PathBuf::from),
        master: text(&own.master),
        insecure_token_over_http: own.insecure_token_over_http,
        manifests: own.manifests.iter().map(PathBuf::from).collect(),
        config_file: judge.origin.config_file.clone(),
        hostname_override: hostname_override?,
        service_proxy_name: text(&own.service_proxy_name),
        portal: portal?,
        nodeport_addresses: config.node_port_addresses.clone(),
        localhost_nodeports: config.localhost_node_ports,
        bind_address: bind_address?,
        cluster_cidr,
        detect_local: detect_local?,
        mode: mode?,
        workers: workers?,
        drain_timeout: own.drain_timeout.to_std(),
        udp_idle_timeout: udp_idle_timeout(config.udp_idle_timeout),
        sync_period: sync.to_std(),
        coalesce: (min > GoDuration::from_secs(1)).then(|| min.to_std()),
        oom_score_adj: i32::try_from(config.oom_score_adj).ok()?,
        healthz_bind_address: healthz_bind_address?,
        metrics_bind_address: metrics_bind_address?,
        bind_address_hard_fail: config.bind_address_hard_fail,
        metrics_per_service: own.metrics_per_service,
        control_socket: text(&own.control_socket).map(PathBuf::from),
        gates: FeatureGates {
            external_ips: gates::is_on(&config.feature_gates, gates::EXTERNAL_IPS),
            flagz: gates::is_on(&config.feature_gates, gates::FLAGZ),
            statusz: gates::is_on(&config.feature_gates, gates::STATUSZ),
        },
        logging: logging?,
        effective,
        flags,
    })
}

/// kube-proxy's old default of 250 ms is in old command lines and files; it cut flows between a question and a slow answer.
fn udp_idle_timeout(given: GoDuration) -> Duration {
    if given.is_zero() || given == GoDuration::from_nanos(250_000_000) {
        Duration::from_secs(60)
    } else {
        given.to_std()
    }
}

fn mode(config: &Configuration, judge: &mut Judge) -> Option<Mode> {
    match config.mode.as_str() {
        "" | "userspace" => Some(Mode::Userspace),
        "iptables" => Some(Mode::Iptables),
        "ipvs" => Some(Mode::Ipvs),
        "nftables" => Some(Mode::Nftables),
        "kernelspace" => {
            judge.fail("mode", "kernelspace", "it is for Windows");
            None
        }
        other => {
            let expected = "expected userspace, iptables, ipvs or nftables";
            judge.fail("mode", other, expected);
            None
        }
    }
}

fn detect_local(config: &Configuration, judge: &mut Judge) -> Option<DetectLocal> {
    match config.detect_local_mode.as_str() {
        "" | "ClusterCIDR" => Some(DetectLocal::ClusterCidr),
        "NodeCIDR" => Some(DetectLocal::NodeCidr),
        "BridgeInterface" | "InterfaceNamePrefix" => Some(DetectLocal::Off),
        other => {
            let expected = "expected ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix";
            judge.fail("detectLocalMode", other, expected);
            None
        }
    }
}

fn keyword<T: Copy>(
    key: &str,
    text: &str,
    all: &[T],
    name: fn(T) -> &'static str,
    judge: &mut Judge,
) -> Option<T> {
    let found = all.iter().copied().find(|&value| name(value) == text);
    if found.is_none() {
        let names: Vec<&str> = all.iter().map(|&value| name(value)).collect();
        judge.fail(key, text, &format!("expected {}", names.join(", ")));
    }
    found
}

fn logging(config: &Configuration, judge: &mut Judge) -> Option<Logging> {
    let formats = [LogFormat::Text, LogFormat::Json];
    let format = keyword(
        "logging.format",
        &config.logging.format,
        &formats,
        LogFormat::as_str,
        judge,
    )?;
    let verbosity = u8::try_from(config.logging.verbosity.min(255)).ok()?;
    Some(Logging { verbosity, format })
}

/// One CIDR, or one of each family.
fn cluster_cidr(text: &str, judge: &mut Judge) -> Vec<IpNet> {
    if text.is_empty() {
        return Vec::new();
    }
    let nets: Option<Vec<IpNet>> = text
        .split(',')
        .map(|part| part.trim().parse::<IpNet>().ok().map(|net| net.trunc()))
        .collect();
    let nets = nets.unwrap_or_default();
    let ok = match nets.as_slice() {
        [_] => true,
        [a, b] => a.addr().is_ipv4() != b.addr().is_ipv4(),
        [] | [_, _, _, ..] => false,
    };
    judge.check(
        ok,
        "clusterCIDR",
        text,
        "expected a CIDR, or one of each IP family",
    );
    nets
}

/// The outer None is a mistake, the inner one "as the Node object says".
fn bind_address(text: &str, judge: &mut Judge) -> Option<Option<IpAddr>> {
    let ip = text.parse::<IpAddr>().ok();
    if ip.is_none() {
        judge.fail("bindAddress", text, "expected an IP address");
    }
    ip.map(|ip| (!ip.is_unspecified()).then_some(ip))
}

/// The outer None is a mistake, the inner one "no server".
fn address(key: &str, text: &str, judge: &mut Judge) -> Option<Option<SocketAddr>> {
    if text.is_empty() {
        return Some(None);
    }
    let address = text.parse::<SocketAddr>().ok().filter(|a| a.port() != 0);
    if address.is_none() {
        judge.fail(key, text, "expected IP:PORT");
    }
    address.map(Some)
}

fn hostname_override(text: &str, judge: &mut Judge) -> Option<Option<String>> {
    if text.is_empty() {
        return Some(None);
    }
    let name = text.trim().to_lowercase();
    if name.is_empty() {
        judge.fail(
            "hostnameOverride",
            "\" \"",
            "empty hostname-override is invalid",
        );
        return None;
    }
    Some(Some(name))
}
