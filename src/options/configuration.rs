//! KubeProxyConfiguration v1alpha1 with its defaults: what flags and file both write into. What each field means, and whether
//! it means anything here, stands in the table of [`super::table`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::duration::GoDuration;

/// kube-proxy's own default content type; portico always speaks JSON.
pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The whole configuration; `Default` is upstream's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Configuration {
    pub(super) feature_gates: BTreeMap<String, bool>,
    pub(super) client: ClientConnection,
    pub(super) logging: Logging,
    pub(super) hostname_override: String,
    pub(super) bind_address: String,
    pub(super) healthz_bind_address: String,
    pub(super) metrics_bind_address: String,
    pub(super) bind_address_hard_fail: bool,
    pub(super) enable_profiling: bool,
    pub(super) show_hidden_metrics: String,
    pub(super) mode: String,
    pub(super) iptables: Rules,
    pub(super) localhost_node_ports: bool,
    pub(super) nftables: Rules,
    pub(super) ipvs: Ipvs,
    pub(super) winkernel: Winkernel,
    pub(super) detect_local_mode: String,
    pub(super) bridge_interface: String,
    pub(super) interface_name_prefix: String,
    pub(super) cluster_cidr: String,
    pub(super) node_port_addresses: Vec<String>,
    pub(super) oom_score_adj: i64,
    pub(super) conntrack: Conntrack,
    pub(super) config_sync_period: GoDuration,
    pub(super) port_range: String,
    pub(super) windows_run_as_service: bool,
    pub(super) udp_idle_timeout: GoDuration,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClientConnection {
    pub(super) kubeconfig: String,
    pub(super) accept_content_types: String,
    pub(super) content_type: String,
    pub(super) qps: f64,
    pub(super) burst: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Logging {
    pub(super) format: String,
    pub(super) flush_frequency: GoDuration,
    pub(super) verbosity: i64,
    pub(super) vmodule: Value,
    pub(super) text: LogStream,
    pub(super) json: LogStream,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LogStream {
    pub(super) split: bool,
    pub(super) buffer: String,
}

/// The `iptables` and `nftables` sections.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) masquerade_bit: i64,
    pub(super) masquerade_all: bool,
    pub(super) sync_period: GoDuration,
    pub(super) min_sync_period: GoDuration,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ipvs {
    pub(super) sync_period: GoDuration,
    pub(super) min_sync_period: GoDuration,
    pub(super) scheduler: String,
    pub(super) exclude_cidrs: Vec<String>,
    pub(super) strict_arp: bool,
    pub(super) tcp_timeout: GoDuration,
    pub(super) tcp_fin_timeout: GoDuration,
    pub(super) udp_timeout: GoDuration,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Winkernel {
    pub(super) network_name: String,
    pub(super) source_vip: String,
    pub(super) enable_dsr: bool,
    pub(super) root_hns_endpoint: String,
    pub(super) forward_health_check_vip: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conntrack {
    pub(super) max_per_core: i64,
    pub(super) min: i64,
    pub(super) tcp_established_timeout: GoDuration,
    pub(super) tcp_close_wait_timeout: GoDuration,
    pub(super) tcp_be_liberal: bool,
    pub(super) udp_timeout: GoDuration,
    pub(super) udp_stream_timeout: GoDuration,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            feature_gates: BTreeMap::new(),
            client: ClientConnection {
                kubeconfig: String::new(),
                accept_content_types: String::new(),
                content_type: PROTOBUF.to_owned(),
                qps: 5.0,
                burst: 10,
            },
            logging: Logging {
                format: "text".to_owned(),
                flush_frequency: GoDuration::from_secs(5),
                verbosity: 0,
                vmodule: Value::Null,
                text: LogStream::default(),
                json: LogStream::default(),
            },
            hostname_override: String::new(),
            bind_address: "0.0.0.0".to_owned(),
            // Completed from the family of bind_address, unless set.
            healthz_bind_address: String::new(),
            metrics_bind_address: String::new(),
            bind_address_hard_fail: false,
            enable_profiling: false,
            show_hidden_metrics: String::new(),
            mode: String::new(),
            iptables: Rules::default(),
            localhost_node_ports: true,
            nftables: Rules::default(),
            ipvs: Ipvs::default(),
            winkernel: Winkernel::default(),
            detect_local_mode: "ClusterCIDR".to_owned(),
            bridge_interface: String::new(),
            interface_name_prefix: String::new(),
            cluster_cidr: String::new(),
            node_port_addresses: Vec::new(),
            oom_score_adj: -999,
            conntrack: Conntrack::default(),
            config_sync_period: GoDuration::from_secs(15 * 60),
            port_range: String::new(),
            windows_run_as_service: false,
            udp_idle_timeout: GoDuration::default(),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            masquerade_bit: 14,
            masquerade_all: false,
            sync_period: GoDuration::from_secs(30),
            min_sync_period: GoDuration::from_secs(1),
        }
    }
}

impl Default for Ipvs {
    fn default() -> Self {
        Self {
            sync_period: GoDuration::from_secs(30),
            min_sync_period: GoDuration::default(),
            scheduler: String::new(),
            exclude_cidrs: Vec::new(),
            strict_arp: false,
            tcp_timeout: GoDuration::default(),
            tcp_fin_timeout: GoDuration::default(),
            udp_timeout: GoDuration::default(),
        }
    }
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_established_timeout: GoDuration::from_secs(24 * 3600),
            tcp_close_wait_timeout: GoDuration::from_secs(3600),
            tcp_be_liberal: false,
            udp_timeout: GoDuration::default(),
            udp_stream_timeout: GoDuration::default(),
        }
    }
}
