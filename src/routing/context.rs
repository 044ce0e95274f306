//! What all Services have in common: our node, this host's addresses, the service ranges.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::categorize::Whereabouts;
use super::nodeport_addresses::loopback_nets;
use super::{DetectLocal, Inputs, NodePortIps, Settings, VirtualIps};
use crate::types::{IpFamily, PerFamily, Service};

/// Derived from settings and inputs; if it changes, every Service may mean something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Context {
    node_name: Arc<str>,
    zone: Box<str>,
    /// Sorted.
    host_addresses: Vec<IpAddr>,
    /// The Node's primary addresses.
    pub(super) node_ips: PerFamily<Option<IpAddr>>,
    /// Sources that get cluster endpoints in spite of externalTrafficPolicy Local: local pods and this host.
    pub(super) short_cut: PerFamily<Arc<[IpNet]>>,
    /// Where node ports are served.
    pub(super) node_ports: PerFamily<NodePortIps>,
    /// Ranges that the portal takes whole.
    pub(super) ranges: Vec<IpNet>,
    pub(super) virtual_ips: VirtualIps,
    external_ips: bool,
}

impl Context {
    pub(super) fn new(settings: &Settings, inputs: &Inputs<'_>) -> Self {
        let mut host_addresses = inputs.host_addresses.to_vec();
        host_addresses.sort_unstable();
        host_addresses.dedup();
        let node_ips = PerFamily::new(|family| node_ip(settings, inputs, family));
        let short_cut = PerFamily::new(|family| short_cut(settings, inputs, family));
        let node_ports =
            PerFamily::new(|family| node_ports(settings, &host_addresses, &node_ips, family));
        Self {
            node_name: settings.node_name.clone(),
            zone: inputs
                .node
                .and_then(|node| node.zone.clone())
                .unwrap_or_default(),
            host_addresses,
            node_ips,
            short_cut,
            node_ports,
            ranges: ranges(settings, inputs),
            virtual_ips: settings.virtual_ips,
            external_ips: settings.external_ips,
        }
    }

    /// The externalIPs of a Service, where they count.
    pub(super) fn external_ips<'a>(&self, service: &'a Service) -> &'a [IpAddr] {
        match self.external_ips {
            true => &service.external_ips,
            false => &[],
        }
    }

    /// Where we are, for hints.
    pub(super) fn place(&self) -> Whereabouts<'_> {
        Whereabouts {
            node: &self.node_name,
            zone: &self.zone,
            node_hints: true,
        }
    }

    /// True for an endpoint's `nodeName` if that is us.
    pub(super) fn is_our_node(&self, node: Option<&str>) -> bool {
        !self.node_name.is_empty() && node == Some(&*self.node_name)
    }

    /// The addresses that node ports are bound to.
    pub(super) fn node_port_binds(&self, family: IpFamily) -> Vec<IpAddr> {
        let node_ports = self.node_ports.get(family);
        if node_ports.match_all {
            vec![family.unspecified()]
        } else {
            node_ports.ips.clone()
        }
    }

    /// The host's addresses, sorted; loopback is not always among them.
    pub(super) fn host_addresses(&self) -> &[IpAddr] {
        &self.host_addresses
    }

    /// Whether a packet to this address is for this host itself, portal or not.
    pub(super) fn is_host_address(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.host_addresses.binary_search(&ip).is_ok()
    }
}

fn of_family(ips: &[IpAddr], family: IpFamily) -> impl Iterator<Item = IpAddr> {
    ips.iter()
        .copied()
        .filter(move |ip| IpFamily::of(*ip) == family)
}

/// As kube-proxy: `--bind-address`, else what the Node says, else what this host has.
fn node_ip(settings: &Settings, inputs: &Inputs<'_>, family: IpFamily) -> Option<IpAddr> {
    let set = settings.node_ip.filter(|ip| !ip.is_unspecified());
    let node = inputs.node.map_or(&[][..], |node| &node.addresses);
    let is_global = |ip: &IpAddr| !ip.is_loopback() && !is_link_local(*ip);
    of_family(set.as_slice(), family)
        .chain(of_family(node, family))
        .chain(of_family(inputs.host_addresses, family).filter(is_global))
        .next()
}

fn short_cut(settings: &Settings, inputs: &Inputs<'_>, family: IpFamily) -> Arc<[IpNet]> {
    let node_cidrs = inputs.node.map_or(&[][..], |node| &node.pod_cidrs);
    let is_family = |net: &&IpNet| IpFamily::of(net.addr()) == family;
    let pods: Vec<IpNet> = match &settings.detect_local {
        DetectLocal::Off => Vec::new(),
        DetectLocal::Cidrs(cidrs) => cidrs.iter().filter(is_family).copied().collect(),
        DetectLocal::NodeCidr => node_cidrs
            .iter()
            .find(is_family)
            .copied()
            .into_iter()
            .collect(),
    };
    let host = of_family(inputs.host_addresses, family).filter(|ip| !ip.is_loopback());
    let mut nets: Vec<IpNet> = host
        .map(IpNet::from)
        .chain(pods)
        .map(|net| net.trunc())
        .collect();
    nets.extend(loopback_nets().iter().filter(is_family));
    nets.sort_unstable();
    nets.dedup();
    nets.into()
}

fn node_ports(
    settings: &Settings,
    host_addresses: &[IpAddr],
    node_ips: &PerFamily<Option<IpAddr>>,
    family: IpFamily,
) -> NodePortIps {
    let primary: Vec<IpAddr> = node_ips.iter().filter_map(|(_, ip)| *ip).collect();
    let mut matching = settings
        .nodeport_addresses
        .resolve(family, host_addresses, &primary);
    if !settings.localhost_nodeports {
        // The wildcard address would include loopback.
        matching.match_all = false;
        matching.ips.retain(|ip| !ip.is_loopback());
    }
    // A link-local IPv6 address cannot be bound without naming its interface.
    matching
        .ips
        .retain(|ip| family == IpFamily::V4 || !is_link_local(*ip));
    if matching.match_all {
        // Addresses that come and go are no change then.
        matching.ips.clear();
    }
    matching
}

/// Beside another proxy the ranges are not ours: most of what is in them belongs to the other one.
fn ranges(settings: &Settings, inputs: &Inputs<'_>) -> Vec<IpNet> {
    match settings.virtual_ips {
        VirtualIps::Captured if settings.service_proxy_name.is_none() => {
            let mut ranges: Vec<_> = inputs.service_cidrs.iter().map(IpNet::trunc).collect();
            ranges.sort_unstable();
            ranges.dedup();
            ranges
        }
        VirtualIps::Captured | VirtualIps::HostAddressesOnly => Vec::new(),
    }
}

/// 169.254.0.0/16 or fe80::/10.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
