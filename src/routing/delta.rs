//! What the table is made from, and what it says has changed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::{BindKey, Capture, Frontend, NodePortAddresses};
use crate::types::{NamespacedName, News, Node, Service, Slices, Snapshot};

/// What the user has set, as far as routing is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Our Node's name, as `nodeName` of endpoints has it; empty if unknown (then no endpoint is local).
    pub node_name: Arc<str>,
    /// `--bind-address`, if it is an address: our Node's primary address in its family.
    pub node_ip: Option<IpAddr>,
    /// `--detect-local-mode`, `--cluster-cidr`.
    pub detect_local: DetectLocal,
    /// `--nodeport-addresses`
    pub nodeport_addresses: NodePortAddresses,
    /// False for `--iptables-localhost-nodeports=false`: node ports are not served on loopback addresses.
    pub localhost_nodeports: bool,
    /// `--service-proxy-name`: only Services with this label value are ours; otherwise those without the label.
    pub service_proxy_name: Option<Box<str>>,
    /// What the portal can do.
    pub virtual_ips: VirtualIps,
    /// For how long a port goes on with what it was served from while its Service and its slices do not fit together.
    pub hold: Duration,
    /// False for feature gate AllowServiceExternalIPs=false: no Service has external IPs.
    pub external_ips: bool,
}

impl Default for Settings {
    /// What kube-proxy does when told nothing.
    fn default() -> Self {
        Self {
            node_name: Arc::default(),
            node_ip: None,
            detect_local: DetectLocal::default(),
            nodeport_addresses: NodePortAddresses::default(),
            localhost_nodeports: true,
            service_proxy_name: None,
            virtual_ips: VirtualIps::default(),
            hold: Duration::ZERO,
            external_ips: true,
        }
    }
}

/// How connections of local pods are told from others; only external traffic of policy Local asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DetectLocal {
    /// They are not.
    #[default]
    Off,
    /// By source address: `--cluster-cidr`. A family without a CIDR here is as with `Off`.
    Cidrs(Vec<IpNet>),
    /// By source address: the Node's first pod CIDR of each family.
    NodeCidr,
}

/// Which virtual IPs can be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VirtualIps {
    /// All: a portal routes them to us.
    #[default]
    Captured,
    /// Only those that are addresses of this host already (`--portal none`).
    HostAddressesOnly,
}

/// The state of the cluster and of this host, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Every Service.
    pub services: &'a Snapshot<Arc<Service>>,
    /// The slices of every Service, by the Service's name.
    pub slices: &'a Snapshot<Slices>,
    /// Our Node, once it is known.
    pub node: Option<&'a Node>,
    /// All CIDRs of all ServiceCIDRs.
    pub service_cidrs: &'a [IpNet],
    /// All addresses of this host, but for those of the portal.
    pub host_addresses: &'a [IpAddr],
    /// The time of that moment.
    pub now: Instant,
}

/// What is different after an update of the table; nothing in it that stayed the same.
#[derive(Debug, Default)]
pub struct Delta {
    /// Listeners to close (None), to open, or to give another behaviour. Those to close come first.
    pub bindings: Vec<(BindKey, Option<Arc<Frontend>>)>,
    /// To be routed to the portal from now on.
    pub captures_added: Vec<Capture>,
    /// Not to be routed to the portal any more.
    pub captures_removed: Vec<Capture>,
    /// healthCheckNodePort servers to start or update, or to stop (None).
    pub health_checks: Vec<(NamespacedName, Option<HealthCheck>)>,
    /// What is wrong, and what is not any more: to be logged.
    pub news: News,
    /// Services that are new, changed or gone.
    pub services_changed: usize,
    /// Services whose usable endpoints changed.
    pub endpoints_changed: usize,
}

impl Delta {
    /// True if there is nothing to do, to log or to count.
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
            && self.captures_added.is_empty()
            && self.captures_removed.is_empty()
            && self.health_checks.is_empty()
            && self.news.is_empty()
            && self.services_changed == 0
            && self.endpoints_changed == 0
    }
}

/// `spec.healthCheckNodePort` of a load balancer with externalTrafficPolicy Local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Where to answer.
    pub port: u16,
    /// Distinct addresses of ready endpoints on this node, IPv4.
    pub local_v4: usize,
    /// The same for IPv6.
    pub local_v6: usize,
}
