//! What a command line comes to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::routing::ExplainRequest;

/// What the user wants done.
#[derive(Clone, Debug)]
pub enum Command {
    /// Run the proxy.
    Run(Box<Options>),
    /// `check`: say what this machine allows.
    Check(Box<Options>),
    /// `explain`: say where connections go.
    Explain(Box<Explain>),
    /// `--cleanup`: remove what an earlier run left, and exit.
    Cleanup(Logging),
    /// `--write-config-to`: write this text there, and exit.
    WriteConfig {
        /// Where to.
        path: PathBuf,
        /// The configuration in effect, as YAML.
        yaml: String,
        /// How to log meanwhile.
        logging: Logging,
    },
    /// `--init-only`: everything was in order; exit.
    InitOnly(Logging),
    /// `--help`, `--version`: print this on stdout, and exit.
    Print(String),
}

/// A command, and what is to be logged once logging runs.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What to do.
    pub command: Command,
    /// One line each.
    pub warnings: Vec<String>,
}

/// `portico explain`.
#[derive(Clone, Debug)]
pub struct Explain {
    /// The question, and how to print the answer.
    pub(crate) request: ExplainRequest,
    /// Where to ask, and what an offline answer needs.
    pub(crate) options: Options,
}

/// Everything the proxy is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `--master`: replaces the kubeconfig's server.
    pub(crate) master: Option<String>,
    /// `--insecure-token-over-http`
    pub(crate) insecure_token_over_http: bool,
    /// `--manifests`, in the order given. In-cluster configuration is tried only if this, `kubeconfig` and `master` are empty.
    pub(crate) manifests: Vec<PathBuf>,
    /// `--config`: to be watched; a change ends the process, or is applied in place.
    pub(crate) config_file: Option<PathBuf>,
    /// `--hostname-override`, trimmed and in lower case; see [`Options::node_name`].
    pub(crate) hostname_override: Option<String>,
    /// `--service-proxy-name`: take only Services whose label has this value. None: only those without the label.
    pub(crate) service_proxy_name: Option<String>,
    /// `--portal`
    pub(crate) portal: PortalKind,
    /// `--nodeport-addresses`: valid CIDRs and keywords; empty: all addresses.
    pub nodeport_addresses: Vec<String>,
    /// `--iptables-localhost-nodeports`
    pub localhost_nodeports: bool,
    /// `--bind-address`: the node's primary IP of its family. None: as the Node object says.
    pub(crate) bind_address: Option<IpAddr>,
    /// `--cluster-cidr`: at most one of each family.
    pub cluster_cidr: Vec<IpNet>,
    /// `--detect-local-mode`
    pub(crate) detect_local: DetectLocal,
    /// `--proxy-mode`: only for show; traffic is carried in userspace in every mode.
    pub(crate) mode: Mode,
    /// `--workers`; None: see [`Options::worker_count`].
    pub(crate) workers: Option<usize>,
    /// `--drain-timeout`
    pub(crate) drain_timeout: Duration,
    /// `--udp-idle-timeout`
    pub(crate) udp_idle_timeout: Duration,
    /// `--iptables-sync-period` (or the mode's own): how often what failed is tried again; healthz's limit is twice this.
    pub sync_period: Duration,
    /// `--iptables-min-sync-period` where it is above its default: collect changes for this long.
    pub(crate) coalesce: Option<Duration>,
    /// `--oom-score-adj`
    pub oom_score_adj: i32,
    /// `--healthz-bind-address`; None: no server.
    pub healthz_bind_address: Option<SocketAddr>,
    /// `--metrics-bind-address`; None: no server.
    pub metrics_bind_address: Option<SocketAddr>,
    /// `--bind-address-hard-fail`
    pub(crate) bind_address_hard_fail: bool,
    /// `--metrics-per-service`
    pub(crate) metrics_per_service: bool,
    /// `--control-socket`; None: no socket.
    pub(crate) control_socket: Option<PathBuf>,
    /// `--feature-gates`
    pub(crate) gates: FeatureGates,
    /// `-v`, `--logging-format`
    pub(crate) logging: Logging,
    /// The KubeProxyConfiguration in effect, for /configz.
    pub(crate) effective: serde_json::Value,
    /// Each flag and its value in effect, sorted, for /flagz.
    pub(crate) flags: Vec<(String, String)>,
}

impl Options {
    /// The name of our Node: `--hostname-override`, else this machine's host name, trimmed and in lower case. None if that
    /// is empty.
    pub fn node_name(&self, hostname: &str) -> Option<String> {
        let name = self.hostname_override.as_deref().unwrap_or(hostname);
        let name = name.trim().to_lowercase();
        (!name.is_empty()).then_some(name)
    }

    /// How many event loops to run on this many cores.
    pub(crate) fn worker_count(&self, cores: usize) -> usize {
        self.workers.unwrap_or(cores.clamp(1, 4))
    }
}

/// `--portal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortalKind {
    /// The first of the others that works.
    Auto,
    /// A network namespace of our own.
    Netns,
    /// Local routes in the host's namespace.
    Host,
    /// Node ports only.
    None,
}

impl PortalKind {
    /// In the order of --help.
    pub(crate) const ALL: [Self; 4] = [Self::Auto, Self::Netns, Self::Host, Self::None];

    /// The flag's spelling.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Netns => "netns",
            Self::Host => "host",
            Self::None => "none",
        }
    }
}

/// `--detect-local-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DetectLocal {
    /// Sources inside `cluster_cidr` are local pods'; a family without one has no detection.
    ClusterCidr,
    /// Sources inside our Node's podCIDRs are local pods'.
    NodeCidr,
    /// A mode by interface, which a userspace proxy cannot follow: no detection.
    Off,
}

/// `--proxy-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Mode {
    Userspace,
    Iptables,
    Ipvs,
    Nftables,
}

/// The gates of `--feature-gates` that change something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FeatureGates {
    /// AllowServiceExternalIPs: `spec.externalIPs` of Services count.
    pub(crate) external_ips: bool,
    /// ComponentFlagz: /flagz is served.
    pub(crate) flagz: bool,
    /// ComponentStatusz: /statusz is served.
    pub(crate) statusz: bool,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// `-v`
    pub(crate) verbosity: u8,
    /// `--logging-format`
    pub(crate) format: LogFormat,
}

/// `--logging-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    /// The flag's spelling.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Why there is no command. Every mistake is in it, not just the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The command line is wrong: print this and exit with status 2.
    Usage(Vec<String>),
    /// The configuration file cannot be read or used: print this and exit with status 1.
    Config {
        /// `--config`
        file: PathBuf,
        /// One line each.
        problems: Vec<String>,
    },
}

impl Error {
    /// The process's exit status.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Config { .. } => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(problems) => f.write_str(&problems.join("\n")),
            Self::Config { file, problems } => {
                for (i, problem) in problems.iter().enumerate() {
                    let newline = if i > 0 { "\n" } else { "" };
                    write!(f, "{newline}{}: {problem}", file.display())?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Error {}
