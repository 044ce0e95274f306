//! What the portal holds under its lock: the host's netlink socket, the ledger, and the fabric it is carried out in.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Instant;

use super::error::Error;
use super::fabric::{Fabric, Restored};
use super::ledger::{Ledger, Object, Op};
use super::netlink::{Change, Netlink};
use super::strays;
use super::surroundings::{Protected, Surroundings};
use crate::types::Capture;

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
            let whole = add.iter().any(Capture::is_port) && !self.routes_by_port();
            let surroundings = Surroundings::of(&mut self.host, add, whole);
            for capture in add {
                match self.refusal(capture, whole, &surroundings) {
                    None => accepted.push(*capture),
                    Some(error) => refused.push((*capture, error)),
                }
            }
        }
        self.end_strays(&accepted);
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

    /// Once, before the first captures: later there is no host portal to leave any.
    fn end_strays(&mut self, captures: &[Capture]) {
        let Some(Routed { fabric, ledger, .. }) = &self.routed else {
            return;
        };
        if fabric.inside.is_none() || captures.is_empty() || ledger.objects().next().is_some() {
            return;
        }
        match strays::end(&captures.iter().map(Capture::ip).collect()) {
            Ok(0) => {}
            Ok(refused) => log::warn!(
                "portal: {refused} connections of an earlier host portal cannot be ended (the kernel lacks \
                 CONFIG_INET_DIAG_DESTROY): for up to a minute new ones from their clients' ports are lost"
            ),
            Err(error) => {
                log::debug!("portal: cannot look for connections of an earlier one: {error}")
            }
        }
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
        let ip = capture.ip();
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
        let is = (whole && capture.is_port()).then(|| around.protects(ip, &self.protected))?;
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
        let failed: HashMap<Object, io::Error> =
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
                    io::ErrorKind::AlreadyExists => {
                        format!("add {object}, for there is one that is not ours")
                    }
                    _ => format!("add {object}"),
                },
                error: match error.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(error.kind(), error.to_string()),
                },
            })
        };
        let with_reason = |capture| Some((capture, reason(&capture)?));
        revoked.into_iter().filter_map(with_reason).collect()
    }
}
