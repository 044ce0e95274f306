//! What kube-proxy's command lines and files may carry that changes nothing here, so that they need no editing.

use super::setting::{Setting, both, field};
use super::slot::Slot;

const NO_RULES: &str = "portico writes no packet filter rules";
const NO_CONNTRACK: &str = "portico uses no connection tracking and sets no kernel parameters";
const NO_IPVS: &str = "portico does not use IPVS";
const NOT_WINDOWS: &str = "it is for Windows";
const NO_INTERFACES: &str = "a userspace proxy sees addresses, not interfaces";

/// kube-proxy's settings that change nothing here, and the reason that a warning gives.
pub(super) const NO_EFFECT: &[Setting] = &[
    both(
        "kube-api-content-type",
        "clientConnection.contentType",
        "TYPE",
        |d| Slot::Text(&mut d.config.client.content_type),
        "",
    )
    .no_effect("portico speaks JSON to the apiserver")
    .zero_is_unset(),
    both(
        "kube-api-qps",
        "clientConnection.qps",
        "N",
        |d| Slot::Float(&mut d.config.client.qps),
        "",
    )
    .silent()
    .zero_is_unset(),
    both(
        "kube-api-burst",
        "clientConnection.burst",
        "N",
        |d| Slot::Int(&mut d.config.client.burst),
        "",
    )
    .silent()
    .zero_is_unset(),
    field("clientConnection.acceptContentTypes", |d| {
        Slot::Text(&mut d.config.client.accept_content_types)
    })
    .no_effect("portico speaks JSON to the apiserver"),
    both(
        "profiling",
        "enableProfiling",
        "",
        |d| Slot::Bool(&mut d.config.enable_profiling),
        "",
    )
    .no_effect("there is no /debug/pprof"),
    both(
        "show-hidden-metrics-for-version",
        "showHiddenMetricsForVersion",
        "VERSION",
        |d| Slot::Text(&mut d.config.show_hidden_metrics),
        "",
    )
    .no_effect("no metric is hidden"),
    both(
        "config-sync-period",
        "configSyncPeriod",
        "DURATION",
        |d| Slot::Duration(&mut d.config.config_sync_period),
        "",
    )
    .silent()
    .zero_is_unset(),
    both(
        "proxy-port-range",
        "portRange",
        "RANGE",
        |d| Slot::Text(&mut d.config.port_range),
        "",
    )
    .no_effect("portico listens on the Services' own ports and needs no others"),
    both(
        "masquerade-all",
        "iptables.masqueradeAll",
        "",
        |d| Slot::Bool(&mut d.config.iptables.masquerade_all),
        "",
    )
    .silent(),
    both(
        "iptables-masquerade-bit",
        "iptables.masqueradeBit",
        "N",
        |d| Slot::Int(&mut d.config.iptables.masquerade_bit),
        "",
    )
    .no_effect(NO_RULES),
    field("nftables.masqueradeAll", |d| {
        Slot::Bool(&mut d.config.nftables.masquerade_all)
    })
    .silent(),
    field("nftables.masqueradeBit", |d| {
        Slot::Int(&mut d.config.nftables.masquerade_bit)
    })
    .no_effect(NO_RULES),
    both(
        "ipvs-sync-period",
        "ipvs.syncPeriod",
        "DURATION",
        |d| Slot::Duration(&mut d.config.ipvs.sync_period),
        "",
    )
    .no_effect(NO_IPVS)
    .zero_is_unset(),
    both(
        "ipvs-min-sync-period",
        "ipvs.minSyncPeriod",
        "DURATION",
        |d| Slot::Duration(&mut d.config.ipvs.min_sync_period),
        "",
    )
    .no_effect(NO_IPVS),
    both(
        "ipvs-scheduler",
        "ipvs.scheduler",
        "NAME",
        |d| Slot::Text(&mut d.config.ipvs.scheduler),
        "",
    )
    .no_effect(NO_IPVS),
    both(
        "ipvs-exclude-cidrs",
        "ipvs.excludeCIDRs",
        "LIST",
        |d| Slot::List(&mut d.config.ipvs.exclude_cidrs),
        "",
    )
    .no_effect(NO_IPVS),
    both(
        "ipvs-strict-arp",
        "ipvs.strictARP",
        "",
        |d| Slot::Bool(&mut d.config.ipvs.strict_arp),
        "",
    )
    .no_effect(NO_IPVS),
    both(
        "ipvs-tcp-timeout",
        "ipvs.tcpTimeout",
        "DURATION",
        |d| Slot::Duration(&mut d.config.ipvs.tcp_timeout),
        "",
    )
    .no_effect(NO_IPVS),
    both(
        "ipvs-tcpfin-timeout",
        "ipvs.tcpFinTimeout",
        "DURATION",
        |d| Slot::Duration(&mut d.config.ipvs.tcp_fin_timeout),
        "",
    )
    .no_effect(NO_IPVS),
    both(
        "ipvs-udp-timeout",
        "ipvs.udpTimeout",
        "DURATION",
        |d| Slot::Duration(&mut d.config.ipvs.udp_timeout),
        "",
    )
    .no_effect(NO_IPVS),
    both(
        "pod-bridge-interface",
        "detectLocal.bridgeInterface",
        "NAME",
        |d| Slot::Text(&mut d.config.bridge_interface),
        "",
    )
    .no_effect(NO_INTERFACES),
    both(
        "pod-interface-name-prefix",
        "detectLocal.interfaceNamePrefix",
        "PREFIX",
        |d| Slot::Text(&mut d.config.interface_name_prefix),
        "",
    )
    .no_effect(NO_INTERFACES),
    both(
        "conntrack-max-per-core",
        "conntrack.maxPerCore",
        "N",
        |d| Slot::Int(&mut d.config.conntrack.max_per_core),
        "",
    )
    .no_effect(NO_CONNTRACK),
    both(
        "conntrack-min",
        "conntrack.min",
        "N",
        |d| Slot::Int(&mut d.config.conntrack.min),
        "",
    )
    .no_effect(NO_CONNTRACK),
    both(
        "conntrack-tcp-timeout-established",
        "conntrack.tcpEstablishedTimeout",
        "DURATION",
        |d| Slot::Duration(&mut d.config.conntrack.tcp_established_timeout),
        "",
    )
    .no_effect(NO_CONNTRACK),
    both(
        "conntrack-tcp-timeout-close-wait",
        "conntrack.tcpCloseWaitTimeout",
        "DURATION",
        |d| Slot::Duration(&mut d.config.conntrack.tcp_close_wait_timeout),
        "",
    )
    .no_effect(NO_CONNTRACK),
    both(
        "conntrack-tcp-be-liberal",
        "conntrack.tcpBeLiberal",
        "",
        |d| Slot::Bool(&mut d.config.conntrack.tcp_be_liberal),
        "",
    )
    .no_effect(NO_CONNTRACK),
    both(
        "conntrack-udp-timeout",
        "conntrack.udpTimeout",
        "DURATION",
        |d| Slot::Duration(&mut d.config.conntrack.udp_timeout),
        "",
    )
    .no_effect(NO_CONNTRACK),
    both(
        "conntrack-udp-timeout-stream",
        "conntrack.udpStreamTimeout",
        "DURATION",
        |d| Slot::Duration(&mut d.config.conntrack.udp_stream_timeout),
        "",
    )
    .no_effect(NO_CONNTRACK),
    both(
        "log-flush-frequency",
        "logging.flushFrequency",
        "DURATION",
        |d| Slot::DurationOrNanos(&mut d.config.logging.flush_frequency),
        "",
    )
    .silent()
    .beside_config()
    .zero_is_unset(),
    both(
        "vmodule",
        "logging.vmodule",
        "LIST",
        |d| Slot::Vmodule(&mut d.config.logging.vmodule),
        "",
    )
    .silent()
    .beside_config(),
    both(
        "log-text-split-stream",
        "logging.options.text.splitStream",
        "",
        |d| Slot::Bool(&mut d.config.logging.text.split),
        "",
    )
    .silent()
    .beside_config(),
    both(
        "log-text-info-buffer-size",
        "logging.options.text.infoBufferSize",
        "SIZE",
        |d| Slot::Quantity(&mut d.config.logging.text.buffer),
        "",
    )
    .silent()
    .beside_config(),
    both(
        "log-json-split-stream",
        "logging.options.json.splitStream",
        "",
        |d| Slot::Bool(&mut d.config.logging.json.split),
        "",
    )
    .silent()
    .beside_config(),
    both(
        "log-json-info-buffer-size",
        "logging.options.json.infoBufferSize",
        "SIZE",
        |d| Slot::Quantity(&mut d.config.logging.json.buffer),
        "",
    )
    .silent()
    .beside_config(),
    field("winkernel.networkName", |d| {
        Slot::Text(&mut d.config.winkernel.network_name)
    })
    .no_effect(NOT_WINDOWS),
    field("winkernel.sourceVip", |d| {
        Slot::Text(&mut d.config.winkernel.source_vip)
    })
    .no_effect(NOT_WINDOWS),
    field("winkernel.enableDSR", |d| {
        Slot::Bool(&mut d.config.winkernel.enable_dsr)
    })
    .no_effect(NOT_WINDOWS),
    field("winkernel.rootHnsEndpointName", |d| {
        Slot::Text(&mut d.config.winkernel.root_hns_endpoint)
    })
    .no_effect(NOT_WINDOWS),
    field("winkernel.forwardHealthCheckVip", |d| {
        Slot::Bool(&mut d.config.winkernel.forward_health_check_vip)
    })
    .no_effect(NOT_WINDOWS),
    field("windowsRunAsService", |d| {
        Slot::Bool(&mut d.config.windows_run_as_service)
    })
    .no_effect(NOT_WINDOWS),
];

/// A flag that kube-proxy had once; it has no setting behind it any more.
pub(super) struct Retired {
    pub(super) name: &'static str,
    /// May stand alone.
    pub(super) boolean: bool,
    pub(super) fate: Fate,
}

/// What becomes of a retired flag.
pub(super) enum Fate {
    /// Accepted, with one warning (and this reason) unless it has this value, which asks for what happens anyway.
    Ignored {
        unless: &'static str,
        reason: &'static str,
    },
    /// Accepted silently.
    Silent,
    /// An error, with this reason.
    Refused(&'static str),
}

const fn klog(name: &'static str, boolean: bool, unless: &'static str) -> Retired {
    Retired {
        name,
        boolean,
        fate: Fate::Ignored {
            unless,
            reason: "logs go to stderr, and kube-proxy has dropped this flag as well",
        },
    }
}

const fn dropped(name: &'static str, boolean: bool, unless: &'static str) -> Retired {
    Retired {
        name,
        boolean,
        fate: Fate::Ignored {
            unless,
            reason: "kube-proxy has dropped this flag as well",
        },
    }
}

const fn silent(name: &'static str) -> Retired {
    Retired {
        name,
        boolean: false,
        fate: Fate::Silent,
    }
}

const fn refused(name: &'static str, boolean: bool, reason: &'static str) -> Retired {
    Retired {
        name,
        boolean,
        fate: Fate::Refused(reason),
    }
}

/// kube-proxy's former flags, and those of other platforms.
pub(super) const RETIRED: &[Retired] = &[
    klog("logtostderr", true, "true"),
    klog("alsologtostderr", true, "true"),
    klog("stderrthreshold", false, "0"),
    klog("log-dir", false, ""),
    klog("log-file", false, ""),
    klog("log-file-max-size", false, "1800"),
    klog("log-backtrace-at", false, ":0"),
    klog("add-dir-header", true, "false"),
    klog("one-output", true, "false"),
    klog("skip-headers", true, "false"),
    klog("skip-log-headers", true, "false"),
    dropped("cleanup-ipvs", true, "true"),
    dropped("cleanup-iptables", true, "false"),
    dropped("resource-container", false, ""),
    silent("boot-id-file"),
    silent("machine-id-file"),
    refused("google-json-key", false, "use a kubeconfig with a token"),
    refused("windows-service", true, NOT_WINDOWS),
    refused("network-name", false, NOT_WINDOWS),
    refused("source-vip", false, NOT_WINDOWS),
    refused("enable-dsr", true, NOT_WINDOWS),
    refused("root-hnsendpoint-name", false, NOT_WINDOWS),
    refused("forward-healthcheck-vip", true, NOT_WINDOWS),
];
