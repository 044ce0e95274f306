//! The settings, under the headings of --help.

use super::setting::{Group, both, field, flag};
use super::slot::Slot;

/// Every setting, in the order of --help.
pub(super) const GROUPS: &[Group] = &[
    Group {
        title: "Where Services come from",
        settings: &[
            both(
                "kubeconfig",
                "clientConnection.kubeconfig",
                "FILE",
                |d| Slot::Text(&mut d.config.client.kubeconfig),
                "access to the apiserver; without it, --master and --manifests: in-cluster",
            ),
            flag(
                "master",
                "URL",
                |d| Slot::Text(&mut d.own.master),
                "the apiserver's address, instead of the kubeconfig's",
            ),
            flag(
                "insecure-token-over-http",
                "",
                |d| Slot::Bool(&mut d.own.insecure_token_over_http),
                "send the kubeconfig's token over plain http, too, to other machines",
            ),
            flag(
                "manifests",
                "PATH",
                |d| Slot::Repeated(&mut d.own.manifests),
                "Services from YAML or JSON files, or a directory of them; repeatable, re-read on change",
            )
            .explain(),
            flag(
                "config",
                "FILE",
                |d| Slot::Text(&mut d.own.config_file),
                "a KubeProxyConfiguration (v1alpha1); flags that it has a field for are then ignored",
            )
            .explain(),
            both(
                "hostname-override",
                "hostnameOverride",
                "NAME",
                |d| Slot::Text(&mut d.config.hostname_override),
                "the name of our Node, instead of this machine's (holds beside --config)",
            )
            .explain()
            .beside_config(),
            flag(
                "service-proxy-name",
                "NAME",
                |d| Slot::Text(&mut d.own.service_proxy_name),
                "take only Services labelled service.kubernetes.io/service-proxy-name=NAME",
            )
            .explain(),
        ],
    },
    Group {
        title: "How traffic reaches the proxy, and where from",
        settings: &[
            flag(
                "portal",
                "auto|netns|host|none",
                |d| Slot::Text(&mut d.own.portal),
                "how virtual IPs are taken; auto: the first of the others that works",
            ),
            both(
                "nodeport-addresses",
                "nodePortAddresses",
                "LIST",
                |d| Slot::List(&mut d.config.node_port_addresses),
                "serve NodePorts on these only: CIDRs, primary, localhost, all (default: all)",
            )
            .explain(),
            both(
                "iptables-localhost-nodeports",
                "iptables.localhostNodePorts",
                "",
                |d| Slot::Bool(&mut d.config.localhost_node_ports),
                "serve NodePorts on loopback addresses too (default true)",
            )
            .explain(),
            both(
                "bind-address",
                "bindAddress",
                "IP",
                |d| Slot::Text(&mut d.config.bind_address),
                "the node's primary IP, instead of the Node object's; nothing binds to it",
            )
            .explain()
            .zero_is_unset(),
            both(
                "cluster-cidr",
                "clusterCIDR",
                "CIDR[,CIDR]",
                |d| Slot::Text(&mut d.config.cluster_cidr),
                "the pod network; tells local pods' traffic from outside traffic",
            )
            .explain(),
            both(
                "detect-local-mode",
                "detectLocalMode",
                "MODE",
                |d| Slot::Text(&mut d.config.detect_local_mode),
                "ClusterCIDR (default) or NodeCIDR: which sources count as local pods",
            )
            .explain()
            .zero_is_unset(),
            both(
                "proxy-mode",
                "mode",
                "MODE",
                |d| Slot::Text(&mut d.config.mode),
                "accepted for kube-proxy's sake; nftables makes --nodeport-addresses default to primary",
            )
            .explain(),
        ],
    },
    Group {
        title: "How traffic is carried",
        settings: &[
            flag(
                "workers",
                "N",
                |d| Slot::Int(&mut d.own.workers),
                "event loop threads (default: the number of cores, at most 4)",
            ),
            flag(
                "drain-timeout",
                "DURATION",
                |d| Slot::Duration(&mut d.own.drain_timeout),
                "after SIGTERM, let open connections end for at most this long (default 0s)",
            ),
            both(
                "udp-idle-timeout",
                "udpIdleTimeout",
                "DURATION",
                |d| Slot::Duration(&mut d.config.udp_idle_timeout),
                "forget a UDP flow after this long without a datagram (default 60s)",
            )
            .beside_config(),
            both(
                "iptables-sync-period",
                "iptables.syncPeriod",
                "DURATION",
                |d| Slot::Duration(&mut d.config.iptables.sync_period),
                "retry what failed (a port in use, a health server) this often (default 30s)",
            )
            .zero_is_unset(),
            both(
                "iptables-min-sync-period",
                "iptables.minSyncPeriod",
                "DURATION",
                |d| Slot::Duration(&mut d.config.iptables.min_sync_period),
                "above its default 1s: collect changes for this long; otherwise changes act at once",
            )
            .zero_is_unset(),
            field("nftables.syncPeriod", |d| {
                Slot::Duration(&mut d.config.nftables.sync_period)
            })
            .zero_is_unset(),
            field("nftables.minSyncPeriod", |d| {
                Slot::Duration(&mut d.config.nftables.min_sync_period)
            })
            .zero_is_unset(),
            both(
                "oom-score-adj",
                "oomScoreAdj",
                "N",
                |d| Slot::Int(&mut d.config.oom_score_adj),
                "the process's oom_score_adj, -1000 to 1000 (default -999)",
            ),
        ],
    },
    Group {
        title: "Health, metrics, explain",
        settings: &[
            both(
                "healthz-bind-address",
                "healthzBindAddress",
                "IP:PORT",
                |d| Slot::Text(&mut d.config.healthz_bind_address),
                "/healthz and /livez (default 0.0.0.0:10256; empty: none)",
            )
            .zero_is_unset(),
            both(
                "metrics-bind-address",
                "metricsBindAddress",
                "IP:PORT",
                |d| Slot::Text(&mut d.config.metrics_bind_address),
                "/metrics, /proxyMode, /configz and others (default 127.0.0.1:10249; empty: none)",
            )
            .zero_is_unset(),
            both(
                "bind-address-hard-fail",
                "bindAddressHardFail",
                "",
                |d| Slot::Bool(&mut d.config.bind_address_hard_fail),
                "exit when one of these two cannot be bound, instead of trying again",
            ),
            flag(
                "metrics-per-service",
                "",
                |d| Slot::Bool(&mut d.own.metrics_per_service),
                "metrics for each Service (default true)",
            ),
            flag(
                "control-socket",
                "PATH",
                |d| Slot::Text(&mut d.own.control_socket),
                "the socket that explain asks (default /run/portico/control.sock; empty: none)",
            )
            .explain(),
        ],
    },
    Group {
        title: "Asking portico explain",
        settings: &[
            flag(
                "from",
                "IP",
                |d| Slot::Text(&mut d.own.from),
                "with --to: what happens to a connection from this address",
            )
            .only_explain(),
            flag(
                "to",
                "IP:PORT[/PROTOCOL]",
                |d| Slot::Text(&mut d.own.to),
                "to this one; TCP unless /UDP or /SCTP; IPv6 as [IP]:PORT",
            )
            .only_explain(),
            flag(
                "namespace",
                "NAMESPACE",
                |d| Slot::Text(&mut d.own.namespace),
                "-n: Services of this namespace only; a NAME alone is one of it",
            )
            .only_explain(),
            flag(
                "problems",
                "",
                |d| Slot::Bool(&mut d.own.problems),
                "only what is wrong",
            )
            .only_explain(),
            flag(
                "output",
                "text|json",
                |d| Slot::Text(&mut d.own.output),
                "how the answer is printed (default text)",
            )
            .only_explain(),
        ],
    },
    Group {
        title: "Logging (holds beside --config)",
        settings: &[
            both(
                "v",
                "logging.verbosity",
                "N",
                |d| Slot::Int(&mut d.config.logging.verbosity),
                "verbosity: 0 what an operator needs, 2 connections' failures, 4 and up debugging",
            )
            .explain()
            .beside_config(),
            both(
                "logging-format",
                "logging.format",
                "text|json",
                |d| Slot::Text(&mut d.config.logging.format),
                "how a log line looks (default text)",
            )
            .explain()
            .beside_config()
            .zero_is_unset(),
        ],
    },
    Group {
        title: "Feature gates",
        settings: &[both(
            "feature-gates",
            "featureGates",
            "NAME=BOOL,...",
            |d| Slot::Gates(&mut d.config.feature_gates),
            "AllowServiceExternalIPs, ComponentFlagz, ComponentStatusz (each default true) act",
        )],
    },
    Group {
        title: "Instead of running",
        settings: &[
            flag(
                "cleanup",
                "",
                |d| Slot::Bool(&mut d.own.cleanup),
                "remove what an earlier run left in the kernel, and exit; needs no other flag",
            ),
            flag(
                "write-config-to",
                "FILE",
                |d| Slot::Text(&mut d.own.write_config_to),
                "write the configuration in effect as a KubeProxyConfiguration, and exit",
            ),
            flag(
                "init-only",
                "",
                |d| Slot::Bool(&mut d.own.init_only),
                "check the flags and exit: there is no privileged step to do beforehand",
            ),
            flag(
                "version",
                "",
                |d| Slot::Word(&mut d.own.version),
                "print the version, and exit; --version=raw prints its parts",
            ),
            flag(
                "help",
                "",
                |d| Slot::Bool(&mut d.own.help),
                "print this, and exit; after a command: that command's flags",
            )
            .explain(),
        ],
    },
    Group {
        title: "Deprecated, as in kube-proxy",
        settings: &[
            flag(
                "healthz-port",
                "PORT",
                |d| Slot::Int(&mut d.own.healthz_port),
                "completes --healthz-bind-address when that is a bare IP; 0: no server",
            )
            .not_beside_config(),
            flag(
                "metrics-port",
                "PORT",
                |d| Slot::Int(&mut d.own.metrics_port),
                "completes --metrics-bind-address when that is a bare IP; 0: no server",
            )
            .not_beside_config(),
            flag(
                "udp-timeout",
                "DURATION",
                |d| Slot::Duration(&mut d.config.udp_idle_timeout),
                "--udp-idle-timeout's old name; 250ms, its old default, counts as unset",
            )
            .not_beside_config(),
        ],
    },
    Group {
        title: "Accepted from kube-proxy's command lines and files, without effect",
        settings: super::accepted::NO_EFFECT,
    },
];
