//! Carries the ledger's operations out in the kernel, and puts back what others removed.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use nix::libc::{EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH};

use super::error::Error;
use super::ledger::{Layout, Ledger, Object, Op};
use super::marks::{LINK, TABLE};
use super::netlink::{Netlink, Request, Route, Rule, TABLE_LOCAL, TABLE_MAIN, Via};
use super::netns::{Inside, LO, VOICE, everything, gateway};
use super::order;
use super::source;
use crate::types::{IpFamily, Protocol};

/// Requests that are in memory at once.
const PORTION: usize = 512;

/// The kernel objects behind a routed portal.
pub(super) struct Fabric {
    /// The namespace of our own, if that is where traffic is delivered.
    pub(crate) inside: Option<Inside>,
    /// Whether rules can look at ports; unknown until one is wanted.
    pub policy: Option<bool>,
    /// Whether IPv6 can be routed.
    pub(crate) v6: bool,
    /// The source addresses that routes name, if they do.
    sources: Vec<IpAddr>,
}

/// What had to be put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Routes that were gone or had the wrong source address.
    pub routes: usize,
    /// Rules that were gone.
    pub(crate) rules: usize,
    /// The link was gone or down.
    pub(crate) link: bool,
}

impl Fabric {
    /// Finds out what this host can do, unless it is known, and sets up what does not depend on captures.
    pub(super) fn open(
        host: &mut Netlink,
        inside: Option<Inside>,
        by_port: Option<bool>,
    ) -> Result<Self, Error> {
        let mut fabric = Self {
            v6: inside.as_ref().is_none_or(|inside| inside.v6),
            inside,
            policy: by_port,
            sources: Vec::new(),
        };
        let failed = |error| Error::net_admin("add routes", error);
        first_error(host.batch(fabric.fixed().iter().map(Request::add_route))).map_err(failed)?;
        fabric.sources = fabric.wanted_sources(host);
        let add = |host: &mut Netlink, family| {
            first_error(host.batch([Request::add_route(&fabric.table(family))]))
        };
        add(host, IpFamily::V4).map_err(failed)?;
        let v6 = add(host, IpFamily::V6).is_ok();
        fabric.v6 &= v6;
        Ok(fabric)
    }

    /// Finds out whether rules can look at ports, once. Not before a port has to be captured: from its first rule on the
    /// kernel asks the rules and looks into several tables for every packet of the namespace, for good.
    pub(super) fn routes_by_port(&mut self, host: &mut Netlink) -> bool {
        if let Some(policy) = self.policy {
            return policy;
        }
        let policy = try_rules(host);
        self.policy = Some(policy);
        self.set_order(host);
        policy
    }

    /// Sees to the standing rules, if there are rules for ports; says how many were not there.
    fn set_order(&mut self, host: &mut Netlink) -> usize {
        let families = self.families();
        let Some(inside) = self.inside.as_mut().filter(|_| self.policy == Some(true)) else {
            return 0;
        };
        let mut added = 0;
        for family in families {
            let rules = order::on_host(family);
            let results = host.batch(rules.iter().map(Request::add_standing_rule));
            added += results.iter().filter(|result| result.is_ok()).count();
            let rules = order::inside(family);
            let results = inside
                .netlink
                .batch(rules.iter().map(Request::add_standing_rule));
            added += results.iter().filter(|result| result.is_ok()).count();
            // It fails if it has gone already.
            let before = Request::delete_standing_rule(&order::inside_before(family));
            let _ = inside.netlink.request(before);
        }
        added
    }

    /// As far as known: without rules until it was found out that there are some.
    pub(super) fn layout(&self) -> Layout {
        let policy = self.policy.unwrap_or(false);
        match self.inside {
            Some(_) => Layout::Netns { policy },
            None => Layout::Host { policy },
        }
    }

    /// Carries out operations in their order. Returns the objects that could not be added; one that cannot be removed
    /// because it is not there has reached its aim.
    pub(super) fn execute(&mut self, host: &mut Netlink, ops: &[Op]) -> Vec<(Object, io::Error)> {
        let inner = |op: &Op| {
            let (Op::Add(object) | Op::Remove(object)) = op;
            object.is_inside()
        };
        let mut failed = Vec::new();
        let groups = ops.chunk_by(|a, b| inner(a) == inner(b));
        for group in groups.flat_map(|group| group.chunks(PORTION)) {
            let requests: Vec<Request> = group.iter().map(|op| self.request(op)).collect();
            let netlink = match &mut self.inside {
                Some(inside) if group.first().is_some_and(inner) => &mut inside.netlink,
                _ => &mut *host,
            };
            for (op, result) in group.iter().zip(netlink.batch(requests)) {
                match (op, result) {
                    (_, Ok(())) => {}
                    (Op::Add(object), Err(error)) => failed.push((*object, error)),
                    (Op::Remove(object), Err(error)) if !is_gone(&error) => {
                        log::warn!("portal: cannot remove {object:?}: {error}");
                    }
                    (Op::Remove(_), Err(_)) => {}
                }
            }
        }
        failed
    }

    fn request(&self, op: &Op) -> Request {
        let (Op::Add(object) | Op::Remove(object)) = op;
        match (op, self.place(object)) {
            (Op::Add(_), KernelForm::Route(route)) => Request::add_route(&route),
            (Op::Remove(_), KernelForm::Route(route)) => Request::delete_route(&route),
            (Op::Add(_), KernelForm::Rule(rule)) => Request::add_rule(&rule),
            (Op::Remove(_), KernelForm::Rule(rule)) => Request::delete_rule(&rule),
        }
    }

    /// The form in which the kernel holds an object.
    fn place(&self, object: &Object) -> KernelForm {
        let route = |net, table, via, source| {
            KernelForm::Route(Route {
                net,
                table,
                via,
                source,
            })
        };
        match *object {
            Object::Inner(ip) | Object::Local(ip) => {
                route(ip.into(), TABLE_LOCAL, Via::Local(LO), None)
            }
            Object::InnerHole(net) | Object::Hole(net) => {
                route(net, TABLE_MAIN, Via::Blackhole, None)
            }
            Object::Route(net) => {
                let family = IpFamily::of(net.addr());
                route(
                    net.trunc(),
                    TABLE_MAIN,
                    self.way_in(family),
                    self.source(family),
                )
            }
            Object::Rule(addr, protocol) => KernelForm::Rule(Rule {
                addr,
                protocol,
                table: TABLE,
                priority: order::PORTS,
            }),
        }
    }

    /// How the host reaches what is captured.
    fn way_in(&self, family: IpFamily) -> Via {
        match &self.inside {
            Some(inside) => Via::Gateway(gateway(family), inside.link),
            None => Via::Local(LO),
        }
    }

    /// The only route of our table: whatever a rule sends there is ours.
    fn table(&self, family: IpFamily) -> Route {
        Route {
            net: everything(family),
            table: TABLE,
            via: self.way_in(family),
            source: self.source(family),
        }
    }

    /// Routes into the namespace that depend on nothing: to see what source address the kernel chooses by itself, and
    /// to the address that the namespace's own messages come from.
    fn fixed(&self) -> Vec<Route> {
        let route = |ip: IpAddr| Route {
            net: ip.into(),
            table: TABLE_MAIN,
            via: self.way_in(IpFamily::of(ip)),
            source: None,
        };
        match &self.inside {
            Some(inside) if inside.v6 => vec![route(source::PROBE.into()), route(VOICE.into())],
            Some(_) => vec![route(source::PROBE.into())],
            None => Vec::new(),
        }
    }

    fn wanted_sources(&self, host: &mut Netlink) -> Vec<IpAddr> {
        match self.inside {
            // IPv6 chooses well by itself, for each destination.
            Some(_) => source::to_name().into_iter().collect(),
            // The virtual IP itself, which the kernel would take, is no valid source where only a rule delivers it.
            None => IpFamily::ALL
                .into_iter()
                .filter_map(|family| source::of_this_host(family, host))
                .collect(),
        }
    }

    fn source(&self, family: IpFamily) -> Option<IpAddr> {
        let mut sources = self.sources.iter();
        sources.find(|ip| IpFamily::of(**ip) == family).copied()
    }

    /// Whether routes name this address as source: when it goes, they are gone too.
    pub(super) fn names(&self, ip: IpAddr) -> bool {
        self.sources.contains(&ip)
    }

    /// The link that our routes lead over.
    pub(super) fn link(&self) -> Option<u32> {
        self.inside.as_ref().map(|inside| inside.link)
    }

    /// Whether another source address should be named now. To be asked when addresses or default routes change.
    pub(super) fn source_moved(&self, host: &mut Netlink) -> bool {
        self.wanted_sources(host) != self.sources
    }

    /// Compares the host's tables with what should be there, and adds what is missing.
    pub(super) fn restore(
        &mut self,
        host: &mut Netlink,
        ledger: &Ledger,
    ) -> Result<Restored, Error> {
        let what = "restore routes";
        let failed = |error| Error::net_admin(what, error);
        let mut restored = Restored {
            link: self.restore_link(host)?,
            ..Restored::default()
        };
        let (mended, routes) = self.restore_inside(host, ledger).map_err(failed)?;
        restored.link |= mended;
        restored.routes = routes;
        // First: without them the kernel's own choice of a source cannot be seen.
        let mut routes = self.fixed();
        restored.routes += self.restore_routes(host, &routes).map_err(failed)?;
        self.sources = self.wanted_sources(host);
        routes.extend(self.families().map(|family| self.table(family)));
        let mut rules = Vec::new();
        for object in ledger.objects() {
            match (object, self.place(object)) {
                (object, _) if object.is_inside() => {}
                (_, KernelForm::Route(route)) => routes.push(route),
                (_, KernelForm::Rule(rule)) => rules.push(rule),
            }
        }
        restored.routes += self.restore_routes(host, &routes).map_err(failed)?;
        restored.rules = self.restore_rules(host, &rules).map_err(failed)?;
        restored.rules += self.set_order(host);
        Ok(restored)
    }

    fn families(&self) -> impl Iterator<Item = IpFamily> + use<> {
        let v6 = self.v6;
        let usable = move |family: &IpFamily| v6 || *family == IpFamily::V4;
        IpFamily::ALL.into_iter().filter(usable)
    }

    fn restore_link(&mut self, host: &mut Netlink) -> Result<bool, Error> {
        let families = self.families();
        let Some(inside) = &mut self.inside else {
            return Ok(false);
        };
        let what = "restore the veth pair";
        match host.link(LINK).map_err(|e| Error::net_admin(what, e))? {
            Some(link) if link.index == inside.link && link.up => Ok(false),
            Some(link) if link.index == inside.link => {
                let up = host.request(Request::link_up(link.index));
                up.map_err(|error| Error::net_admin(what, error))?;
                // Going down made it forget its neighbours.
                for family in families {
                    let met = inside.meet(host, family);
                    met.map_err(|error| Error::net_admin(what, error))?;
                }
                inside.settle(host);
                Ok(true)
            }
            Some(_) | None => {
                inside.connect(host)?;
                Ok(true)
            }
        }
    }

    /// What delivers in the namespace, and leads back out of it.
    fn restore_inside(&mut self, host: &mut Netlink, ledger: &Ledger) -> io::Result<(bool, usize)> {
        let objects = ledger.objects().filter(|object| object.is_inside());
        let places = objects.map(|object| self.place(object));
        let routes = places.filter_map(|place| match place {
            KernelForm::Route(route) => Some(route),
            KernelForm::Rule(_) => None,
        });
        let mut routes: Vec<Route> = routes.collect();
        let v6 = self.v6;
        let Some(inside) = &mut self.inside else {
            return Ok((false, 0));
        };
        let mended = inside.mend(host)?;
        routes.extend(inside.ways_out());
        let routes = restore_routes(&mut inside.netlink, v6, &routes)?;
        Ok((mended, routes))
    }

    fn restore_routes(&self, host: &mut Netlink, expected: &[Route]) -> io::Result<usize> {
        restore_routes(host, self.v6, expected)
    }

    fn restore_rules(&self, host: &mut Netlink, expected: &[Rule]) -> io::Result<usize> {
        if expected.is_empty() {
            return Ok(0);
        }
        let mut present: HashSet<Rule> = HashSet::new();
        for family in IpFamily::ALL {
            present.extend(host.our_rules(family)?);
        }
        let missing: Vec<&Rule> = expected.iter().filter(|r| !present.contains(r)).collect();
        first_error(host.batch(missing.iter().map(|rule| Request::add_rule(rule))))?;
        Ok(missing.len())
    }
}

/// Adds what is missing in the namespace of that socket.
fn restore_routes(netlink: &mut Netlink, v6: bool, expected: &[Route]) -> io::Result<usize> {
    let mut present = netlink.our_routes(IpFamily::V4)?;
    if v6 {
        present.extend(netlink.our_routes(IpFamily::V6)?);
    }
    let present: HashSet<Route> = present.into_iter().collect();
    let places: HashSet<_> = present.iter().map(|r| (r.net, r.table)).collect();
    let missing: Vec<&Route> = expected.iter().filter(|r| !present.contains(r)).collect();
    let requests = missing.iter().map(|route| {
        // Only ever in place of our own.
        match places.contains(&(route.net, route.table)) {
            true => Request::replace_route(route),
            false => Request::add_route(route),
        }
    });
    first_error(netlink.batch(requests))?;
    Ok(missing.len())
}

enum KernelForm {
    Route(Route),
    Rule(Rule),
}

/// Whether rules with a protocol and a port work. A kernel before 4.17 takes such a rule and ignores both, which would
/// capture whole addresses, so the rule is read back.
fn try_rules(host: &mut Netlink) -> bool {
    let probe = Rule {
        addr: (source::PROBE, 9).into(),
        protocol: Protocol::Udp,
        table: TABLE,
        priority: order::PORTS,
    };
    if host.request(Request::add_rule(&probe)).is_err() {
        return false;
    }
    let present = host.our_rules(IpFamily::V4);
    let _ = host.request(Request::delete_rule(&probe));
    present.is_ok_and(|rules| rules.contains(&probe))
}

/// The first error that is not about something being there, or gone, already.
pub(super) fn first_error(results: Vec<io::Result<()>>) -> io::Result<()> {
    let real = |error: &io::Error| !is_gone(error) && !is_there(error);
    match results.into_iter().filter_map(Result::err).find(real) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(ENOENT | ESRCH | ENODEV | EADDRNOTAVAIL)
    )
}

fn is_there(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AlreadyExists
}
