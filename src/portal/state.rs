//! What the portal holds under its lock: the host's netlink socket, the ledger, and the fabric it is carried out in.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;

use super::fabric::{Fabric, Restored};
use super::ledger::{Ledger, Object, Op};
use super::netlink::{Change, Netlink, Via};
use super::{Error, Protected};
use crate::types::{Capture, IpFamily};

pub(super) struct State {
    pub host: Netlink,
    /// None: the portal "none".
    pub routed: Option<Routed>,
    pub protected: Protected,
}

pub(super) struct Routed {
    pub ledger: Ledger,
    pub fabric: Fabric,
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
            let surroundings = Surroundings::of(self);
            for capture in add {
                match self.refusal(capture, &surroundings) {
                    None => accepted.push(*capture),
                    Some(error) => refused.push((*capture, error)),
                }
            }
        }
        if let Some(routed) = &mut self.routed {
            let ops = routed.ledger.apply(&accepted, remove, now);
            refused.extend(routed.carry_out(&mut self.host, &ops));
        }
        refused
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(routed) = &mut self.routed {
            let ops = routed.ledger.tick(now);
            routed.carry_out(&mut self.host, &ops);
        }
    }

    /// Why a capture cannot be, if so.
    fn refusal(&self, capture: &Capture, around: &Surroundings) -> Option<Error> {
        let ip = match capture {
            Capture::Address(ip) => *ip,
            Capture::Port(addr, _) => addr.ip(),
            Capture::Range(net) => net.addr(),
        };
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
        if let Some(link) = around.local.get(&ip) {
            let link = link.clone();
            return Some(Error::AlreadyLocal { ip, link });
        }
        let whole = matches!(capture, Capture::Port(..)) && !routed.fabric.policy;
        let is = whole.then(|| around.protects(ip, &self.protected))?;
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
                what: format!("add {object}"),
                error: match error.raw_os_error() {
                    Some(code) => std::io::Error::from_raw_os_error(code),
                    None => error.kind().into(),
                },
            })
        };
        let with_reason = |capture| Some((capture, reason(&capture)?));
        revoked.into_iter().filter_map(with_reason).collect()
    }
}

/// What else an address may be, read once for each change.
struct Surroundings {
    /// The host's addresses, and the links that have them.
    local: HashMap<IpAddr, String>,
    /// Read only where a whole address may have to be captured for one port.
    gateways: HashSet<IpAddr>,
    subnets: Vec<IpNet>,
}

impl Surroundings {
    fn of(state: &mut State) -> Self {
        let host = &mut state.host;
        // Unreadable is as good as empty: capturing then fails, or succeeds, in the kernel.
        let addresses = host.addresses().unwrap_or_default();
        let links = host.links().unwrap_or_default();
        let name = |index: u32| {
            let link = links.iter().find(|link| link.index == index);
            link.map_or_else(|| format!("link {index}"), |link| link.name.clone())
        };
        let mut around = Self {
            local: addresses.iter().map(|a| (a.ip, name(a.link))).collect(),
            gateways: HashSet::new(),
            subnets: Vec::new(),
        };
        let policy = state.routed.as_ref().is_none_or(|r| r.fabric.policy);
        if !policy {
            let routes = IpFamily::ALL
                .into_iter()
                .flat_map(|family| host.main_routes(family).unwrap_or_default());
            for route in routes {
                match route.via {
                    Via::Gateway(gateway, _) => {
                        around.gateways.insert(gateway);
                    }
                    Via::Other => around.subnets.push(route.net),
                    Via::Local(_) | Via::Blackhole => {}
                }
            }
        }
        around
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
