//! What the portal holds under its lock: the host's netlink socket, the ledger, and the fabric it is carried out in.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;

use super::fabric::{Fabric, Restored};
use super::ledger::{Ledger, Object, Op};
use super::netlink::{Change, Link, Netlink, Via};
use super::{Error, Protected};
use crate::types::{Capture, IpFamily};

/// Captures that are worked out and carried out at once. The first time there are thousands, and what is needed on the
/// way, several kernel objects and requests for each, must not be there for all of them.
const PORTION: usize = 512;

pub(super) struct State {
    pub(crate) host: Netlink,
    /// None: the portal "none".
    pub(crate) routed: Option<Routed>,
    pub(crate) protected: Protected,
}

pub(super) struct Routed {
    pub(crate) ledger: Ledger,
    pub(crate) fabric: Fabric,
}

impl State {
    pub(super) fn apply(
        &mut self,
        add: &[Capture],
        remove: &[Capture],
        now: Instant,
    ) -> Vec<(Capture, Error)> {
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        if !add.is_empty() {
            let whole = add.iter().any(is_port) && !self.routes_by_port();
            let surroundings = Surroundings::of(&mut self.host, add, whole);
            for capture in add {
                match self.refusal(capture, whole, &surroundings) {
                    None => accepted.push(*capture),
                    Some(error) => refused.push((*capture, error)),
                }
            }
        }
        if let Some(routed) = &mut self.routed {
            let mut portions = accepted.chunks(PORTION);
            let first = portions.next().unwrap_or_default();
            let rest = portions.map(|portion| (portion, &[][..]));
            for (add, remove) in std::iter::once((first, remove)).chain(rest) {
                let ops = routed.ledger.apply(add, remove, now);
                refused.extend(routed.carry_out(&mut self.host, &ops));
            }
        }
        refused
    }

    /// Whether single ports can be captured here. Asked for the first time, it tries.
    pub(super) fn routes_by_port(&mut self) -> bool {
        let Some(routed) = &mut self.routed else {
            return false;
        };
        let policy = routed.fabric.routes_by_port(&mut self.host);
        routed.ledger.set_layout(routed.fabric.layout());
        policy
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(routed) = &mut self.routed {
            let ops = routed.ledger.tick(now);
            routed.carry_out(&mut self.host, &ops);
        }
    }

    /// Why a capture cannot be, if so. `whole`: for one port all of its address has to be captured.
    fn refusal(&self, capture: &Capture, whole: bool, around: &Surroundings) -> Option<Error> {
        let ip = ip_of(capture);
        let Some(routed) = &self.routed else {
            let here = matches!(capture, Capture::Range(_)) || around.local.contains_key(&ip);
            return (!here).then_some(Error::NotLocal(ip));
        };
        if ip.is_ipv6() && !routed.fabric.v6 {
            return Some(Error::Family(ip));
        }
        if matches!(capture, Capture::Range(_)) {
            return None;
        }
        if let Some(index) = around.local.get(&ip) {
            let link = around.name(*index);
            return Some(Error::AlreadyLocal { ip, link });
        }
        let is = (whole && is_port(capture)).then(|| around.protects(ip, &self.protected))?;
        is.map(|is| Error::Protected { ip, is })
    }

    /// Whether any of these changes may have cost us a route, or asks for another source address.
    pub(super) fn concerned(&mut self, changes: &[Change]) -> bool {
        let Some(Routed { fabric, .. }) = &mut self.routed else {
            return false;
        };
        let (mut lost, mut source) = (false, false);
        for change in changes {
            match change {
                Change::AddressAdded(_) => source = true,
                Change::AddressRemoved(ip) => {
                    source = true;
                    lost |= fabric.names(*ip);
                }
                Change::LinkChanged { index, up } => lost |= fabric.link() == Some(*index) && !up,
                Change::LinkRemoved { index } => lost |= fabric.link() == Some(*index),
                Change::Routes | Change::Unknown => lost = true,
            }
        }
        lost || (source && fabric.source_moved(&mut self.host))
    }

    pub(super) fn restore(&mut self) -> Result<Restored, Error> {
        match &mut self.routed {
            Some(routed) => routed.fabric.restore(&mut self.host, &routed.ledger),
            None => Ok(Restored::default()),
        }
    }
}

impl Routed {
    /// Has the kernel do it; what it refuses is forgotten again, and returned.
    fn carry_out(&mut self, host: &mut Netlink, ops: &[Op]) -> Vec<(Capture, Error)> {
        let failed: HashMap<Object, std::io::Error> =
            self.fabric.execute(host, ops).into_iter().collect();
        let objects: HashSet<Object> = failed.keys().copied().collect();
        let (revoked, undo) = self.ledger.revoke(&objects);
        self.fabric.execute(host, &undo);
        let reason = |capture: &Capture| {
            let needed = self.ledger.needs(capture);
            let (object, error) = needed
                .into_iter()
                .find_map(|object| Some((object, failed.get(&object)?)))?;
            Some(Error::Kernel {
                what: match error.kind() {
                    std::io::ErrorKind::AlreadyExists => {
                        format!("add {object}, for there is one that is not ours")
                    }
                    _ => format!("add {object}"),
                },
                error: match error.raw_os_error() {
                    Some(code) => std::io::Error::from_raw_os_error(code),
                    None => std::io::Error::new(error.kind(), error.to_string()),
                },
            })
        };
        let with_reason = |capture| Some((capture, reason(&capture)?));
        revoked.into_iter().filter_map(with_reason).collect()
    }
}

fn is_port(capture: &Capture) -> bool {
    matches!(capture, Capture::Port(..))
}

fn ip_of(capture: &Capture) -> IpAddr {
    match capture {
        Capture::Address(ip) => *ip,
        Capture::Port(addr, _) => addr.ip(),
        Capture::Range(net) => net.addr(),
    }
}

/// What else an address may be, read once for each change.
#[derive(Default)]
struct Surroundings {
    /// The host's addresses, and the links that have them.
    local: HashMap<IpAddr, u32>,
    /// Read only if there is a conflict to report.
    links: Vec<Link>,
    /// Read only where a whole address may have to be captured for one port.
    gateways: HashSet<IpAddr>,
    subnets: Vec<IpNet>,
}

impl Surroundings {
    fn of(host: &mut Netlink, add: &[Capture], whole: bool) -> Self {
        // Unreadable is as good as empty: capturing then fails, or succeeds, in the kernel.
        let addresses = host.addresses().unwrap_or_default();
        let mut around = Self {
            local: addresses.iter().map(|a| (a.ip, a.link)).collect(),
            ..Self::default()
        };
        if add.iter().any(|c| around.local.contains_key(&ip_of(c))) {
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

    fn name(&self, index: u32) -> String {
        let link = self.links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("link {index}"), |link| link.name.clone())
    }

    fn protects(&self, ip: IpAddr, protected: &Protected) -> Option<&'static str> {
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
