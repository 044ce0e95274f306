//! What else an address may be, beside a virtual IP.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::netlink::{Link, Netlink, Via};
use crate::types::{Capture, IpFamily};

/// Addresses that must not be captured whole for the sake of one port, where the kernel cannot route by port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Protected {
    /// The apiserver's, and endpoints'.
    pub(crate) addresses: Arc<HashSet<IpAddr>>,
    /// The pods'.
    pub(crate) nets: Vec<IpNet>,
}

/// What else an address may be, read once for each change.
#[derive(Default)]
pub(super) struct Surroundings {
    /// The host's addresses, and the links that have them.
    pub(super) local: HashMap<IpAddr, u32>,
    /// Read only if there is a conflict to report.
    links: Vec<Link>,
    /// Read only where a whole address may have to be captured for one port.
    gateways: HashSet<IpAddr>,
    subnets: Vec<IpNet>,
}

impl Surroundings {
    pub(super) fn of(host: &mut Netlink, add: &[Capture], whole: bool) -> Self {
        // Unreadable is as good as empty: capturing then fails, or succeeds, in the kernel.
        let addresses = host.addresses().unwrap_or_default();
        let mut around = Self {
            local: addresses.iter().map(|a| (a.ip, a.link)).collect(),
            ..Self::default()
        };
        if add.iter().any(|c| around.local.contains_key(&c.ip())) {
            around.links = host.links().unwrap_or_default();
        }
        if whole {
            let routes = IpFamily::ALL
                .into_iter()
                .flat_map(|family| host.main_routes(family).unwrap_or_default());
            for route in routes {
                match route.via {
                    Via::Gateway(gateway, _) => {
                        around.gateways.insert(gateway);
                    }
                    Via::Other if route.net.prefix_len() > 0 => around.subnets.push(route.net),
                    Via::Other | Via::Local(_) | Via::Blackhole => {}
                }
            }
        }
        around
    }

    pub(super) fn name(&self, index: u32) -> String {
        let link = self.links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("link {index}"), |link| link.name.clone())
    }

    pub(super) fn protects(&self, ip: IpAddr, protected: &Protected) -> Option<&'static str> {
        let inside = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&ip));
        if self.gateways.contains(&ip) {
            Some("a gateway of this host")
        } else if inside(&self.subnets) {
            Some("inside a subnet that this host is connected to")
        } else if inside(&protected.nets) {
            Some("inside the pod network")
        } else if protected.addresses.contains(&ip) {
            Some("the apiserver's address or an endpoint's")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_captured_whole() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let around = Surroundings {
            gateways: [ip("192.0.2.1"), ip("fe80::1")].into(),
            subnets: vec!["192.0.2.0/24".parse().unwrap()],
            ..Surroundings::default()
        };
        let protected = Protected {
            addresses: std::sync::Arc::new([ip("203.0.113.7")].into()),
            nets: vec!["10.244.0.0/16".parse().unwrap()],
        };
        for (address, expected) in [
            ("192.0.2.1", Some("a gateway of this host")),
            (
                "192.0.2.9",
                Some("inside a subnet that this host is connected to"),
            ),
            ("10.244.3.4", Some("inside the pod network")),
            (
                "203.0.113.7",
                Some("the apiserver's address or an endpoint's"),
            ),
            ("203.0.113.8", None),
            ("fd00::1", None),
        ] {
            assert_eq!(
                around.protects(ip(address), &protected),
                expected,
                "{address}"
            );
        }
    }
}
