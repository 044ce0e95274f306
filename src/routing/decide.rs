//! What happens to one connection, and why.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::entry::{Placement, ServiceEntry, Serving};
use super::index::Claim;
use super::{BindKey, Capture, Flow, Frontend, FrontendKind, Route, Scope, Table, Target};
use crate::types::{IpFamily, NamespacedName, Protocol, ServicePortName};

/// The answer for one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub verdict: Verdict,
    /// Where the connection may go; one of them is chosen.
    pub endpoints: Vec<SocketAddr>,
    /// Whose frontend it meets.
    pub(crate) service_port: Option<ServicePortName>,
    /// Of which kind that frontend is.
    pub frontend: Option<FrontendKind>,
    /// Why, in a sentence.
    pub(crate) reason: String,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to an endpoint.
    Endpoints,
    /// It is refused: RST, or port unreachable.
    Reject,
    /// Silence.
    Drop,
    /// It is no concern of ours.
    NotMatched,
}

impl Verdict {
    /// As in explain's JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Reject => "reject",
            Self::Drop => "drop",
            Self::NotMatched => "not-matched",
        }
    }
}

/// What only the running program knows: how far the kernel is what the table wants it to be.
pub trait Kernel {
    /// Whether a connection meets what the portal keeps for a while after its last Service has gone.
    fn lingers(&self, flow: &Flow) -> bool;

    /// Whether what is routed to the portal for this address is taken there, or was a moment ago.
    fn delivers(&self, ip: IpAddr) -> bool;

    /// Why there is no listener.
    fn not_bound(&self, key: &BindKey) -> Option<&str>;

    /// Why something is not routed to the portal.
    fn not_captured(&self, capture: &Capture) -> Option<&str>;
}

/// A kernel that does all that it is asked for, at once.
#[derive(Clone, Copy, Debug)]
pub struct Perfect;

impl Kernel for Perfect {
    fn lingers(&self, _: &Flow) -> bool {
        false
    }

    fn delivers(&self, _: IpAddr) -> bool {
        false
    }

    fn not_bound(&self, _: &BindKey) -> Option<&str> {
        None
    }

    fn not_captured(&self, _: &Capture) -> Option<&str> {
        None
    }
}

impl Table {
    /// What happens to a connection. Reads the same frontends and policies as the data path.
    pub fn decide(&self, flow: &Flow) -> Decision {
        self.decide_in(flow, &Perfect)
    }

    /// The same, in a kernel that may not have everything yet.
    pub(super) fn decide_in(&self, flow: &Flow, kernel: &dyn Kernel) -> Decision {
        match self.holder(flow, kernel) {
            Some((key, claim)) => match self.obstacle(&key, claim, kernel) {
                Some(obstacle) => not_served(flow, claim, &obstacle),
                None => self.judge(flow, claim),
            },
            None if kernel.lingers(flow) => Decision {
                verdict: Verdict::Reject,
                endpoints: Vec::new(),
                service_port: None,
                frontend: None,
                reason: format!(
                    "{} is no Service's any more: for a minute clients are refused",
                    flow.to
                ),
            },
            None => self.judge_unclaimed(flow, kernel),
        }
    }

    /// Why connections do not reach us that should.
    fn obstacle(&self, key: &BindKey, claim: &Claim, kernel: &dyn Kernel) -> Option<String> {
        let unbound = kernel.not_bound(key).filter(|_| claim.is_open());
        let unbound = unbound.map(|why| format!("nothing can listen there: {why}"));
        let capture = match (key.scope, claim.frontend.kind) {
            (Scope::Host, _) => return unbound,
            (Scope::Portal, FrontendKind::ClusterIp) => Capture::Address(key.addr.ip()),
            (Scope::Portal, _) => Capture::Port(key.addr, key.protocol),
        };
        let uncaptured = kernel.not_captured(&capture).map(str::to_owned);
        uncaptured.or(unbound)
    }

    /// The listener that the kernel would find: the most specific one.
    fn holder(&self, flow: &Flow, kernel: &dyn Kernel) -> Option<(BindKey, &Claim)> {
        let Flow { to, protocol, .. } = *flow;
        let at = |scope, addr| {
            let key = BindKey {
                scope,
                addr,
                protocol,
            };
            self.index.holder(&key).map(|claim| (key, claim))
        };
        let on_host = || {
            let wildcard = SocketAddr::new(IpFamily::of(to.ip()).unspecified(), to.port());
            let is_ours = self.context.is_host_address(to.ip());
            is_ours.then(|| at(Scope::Host, wildcard)).flatten()
        };
        let has_socket =
            |(key, claim): &(BindKey, &Claim)| claim.is_open() && kernel.not_bound(key).is_none();
        match at(Scope::Portal, to).or_else(|| at(Scope::Host, to)) {
            // Without a socket of its own an address of this host is covered by the wildcard one.
            Some(exact) if !has_socket(&exact) => on_host().filter(has_socket).or(Some(exact)),
            exact => exact.or_else(on_host),
        }
    }

    fn judge_unclaimed(&self, flow: &Flow, kernel: &dyn Kernel) -> Decision {
        let Flow { to, protocol, .. } = *flow;
        let ip = to.ip();
        let is_host_address = self.context.is_host_address(ip);
        let range = self.context.ranges.iter().find(|range| range.contains(&ip));
        let (verdict, reason) = match self.unserved(flow) {
            Some(reason) => (Verdict::NotMatched, reason),
            None if is_host_address => (
                Verdict::NotMatched,
                format!(
                    "{ip} is an address of this host, and {}/{protocol} is no node port and no Service's port there",
                    to.port()
                ),
            ),
            None if self.index.is_captured(&Capture::Address(ip)) => (
                Verdict::Reject,
                format!(
                    "{ip} is {}, which has no port {}/{protocol}",
                    self.holders_of(ip),
                    to.port()
                ),
            ),
            None => match range {
                // Whoever takes a port of it into the portal takes the rest along, where the range leads anyway.
                Some(range) if self.is_captured_in_part(ip) || kernel.delivers(ip) => (
                    Verdict::Reject,
                    format!(
                        "{ip} is in the service range {range}, and a Service has, or just had, other ports of it"
                    ),
                ),
                Some(range) => (
                    Verdict::Drop,
                    format!("{ip} is in the service range {range}, and no Service holds it"),
                ),
                None => (Verdict::NotMatched, self.unknown(flow)),
            },
        };
        Decision {
            verdict,
            endpoints: Vec::new(),
            service_port: None,
            frontend: None,
            reason,
        }
    }

    fn judge(&self, flow: &Flow, claim: &Claim) -> Decision {
        let frontend = &claim.frontend;
        let route = &frontend.route;
        let heard = frontend.policy.allows(flow.from);
        let listed = if heard && claim.has_any {
            frontend.endpoints(flow.from).to_vec()
        } else {
            Vec::new()
        };
        let is_loop = |e: &&SocketAddr| {
            self.index
                .own_listener(**e, route.name.protocol, &self.context)
                .is_some()
        };
        let endpoints: Vec<SocketAddr> = listed.iter().filter(|e| !is_loop(e)).copied().collect();
        let what = format!("{} {} of {}", frontend.kind.as_str(), flow.to, route.name);
        let (verdict, why) = if !heard {
            (Verdict::Drop, silence(flow, frontend, claim.has_any))
        } else if !endpoints.is_empty() {
            let rule = list_in_use(flow, frontend, endpoints.len());
            (Verdict::Endpoints, rule)
        } else if listed.is_empty() {
            let why = "no usable endpoint anywhere in the cluster";
            (Verdict::Reject, why.to_owned())
        } else {
            let why =
                "every endpoint is an address and port of a Service itself, which would be a loop";
            (Verdict::Reject, why.to_owned())
        };
        let caveat = match route.name.protocol {
            Protocol::Sctp => "; but portico does not carry SCTP",
            Protocol::Tcp | Protocol::Udp => "",
        };
        Decision {
            verdict,
            endpoints,
            service_port: Some(route.name.clone()),
            frontend: Some(frontend.kind),
            reason: format!("{what}: {why}{caveat}"),
        }
    }

    /// Why a frontend at this very address and port is not served, if there is one.
    fn unserved(&self, flow: &Flow) -> Option<String> {
        let (_, found) = self.placements().find(|(_, placement)| {
            let route = &placement.frontend.route;
            placement.address == flow.to
                && route.name.protocol == flow.protocol
                && placement.key().is_none()
        })?;
        let what = format!(
            "{} is the {} of {}",
            flow.to,
            found.frontend.kind.as_str(),
            found.frontend.route.name
        );
        match found.place {
            Serving::LeftAlone => Some(format!(
                "{what}, but also an address of this host, where another program answers"
            )),
            Serving::NoPortal => Some(format!(
                "{what}, but there is no portal and it is not an address of this host"
            )),
            Serving::In(_) => None,
        }
    }

    fn unknown(&self, flow: &Flow) -> String {
        let Flow { to, protocol, .. } = *flow;
        let holders = self.holders_of(to.ip());
        if !holders.is_empty() {
            return format!(
                "{} is {holders}, and port {}/{protocol} of it is not ours",
                to.ip(),
                to.port()
            );
        }
        format!("no Service has the address {}", to.ip())
    }

    /// Whether some port of an external or load-balancer IP is routed to the portal.
    fn is_captured_in_part(&self, ip: IpAddr) -> bool {
        self.placements().any(|(_, placement)| {
            placement.address.ip() == ip && matches!(placement.capture(), Some(Capture::Port(..)))
        })
    }

    /// The Services that want this routed to the portal.
    pub(crate) fn services_behind(&self, capture: &Capture) -> BTreeSet<&NamespacedName> {
        self.placements()
            .filter(|(_, placement)| placement.capture().as_ref() == Some(capture))
            .map(|(entry, _)| &entry.service.name)
            .collect()
    }

    /// Whose virtual IP this is: `clusterIP of ns/name, externalIP of ns/name2`.
    fn holders_of(&self, ip: IpAddr) -> String {
        let mut holders: Vec<String> = self
            .placements()
            .filter(|(_, placement)| placement.address.ip() == ip)
            .map(|(entry, placement)| {
                format!(
                    "{} of {}",
                    placement.frontend.kind.as_str(),
                    entry.service.name
                )
            })
            .collect();
        holders.sort_unstable();
        holders.dedup();
        holders.join(", ")
    }

    fn placements(&self) -> impl Iterator<Item = (&ServiceEntry, &Placement)> {
        self.entries.values().flat_map(|entry| {
            let ports = entry.ports.iter();
            ports.flat_map(move |port| port.frontends.iter().map(move |p| (entry, p)))
        })
    }
}

fn not_served(flow: &Flow, claim: &Claim, obstacle: &str) -> Decision {
    let frontend = &claim.frontend;
    let (kind, name) = (frontend.kind.as_str(), &frontend.route.name);
    Decision {
        verdict: Verdict::NotMatched,
        endpoints: Vec::new(),
        service_port: None,
        frontend: None,
        reason: format!("{} is the {kind} of {name}, but {obstacle}", flow.to),
    }
}

fn policy_name(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "internalTrafficPolicy",
        FrontendKind::ExternalIp | FrontendKind::LoadBalancerIp | FrontendKind::NodePort => {
            "externalTrafficPolicy"
        }
    }
}

fn silence(flow: &Flow, frontend: &Frontend, has_any: bool) -> String {
    let without_local = frontend.policy.target(flow.from) == Target::Local;
    if has_any && without_local && frontend.route.local.is_empty() {
        format!(
            "{} Local, and no usable endpoint on this node",
            policy_name(frontend.kind)
        )
    } else {
        format!("{} is not in loadBalancerSourceRanges", flow.from)
    }
}

fn list_in_use(flow: &Flow, frontend: &Frontend, count: usize) -> String {
    let policy = policy_name(frontend.kind);
    let rule = match (frontend.policy.target, frontend.policy.target(flow.from)) {
        (Target::Cluster, _) => format!("{policy} Cluster"),
        (Target::Local, Target::Local) => format!("{policy} Local"),
        (Target::Local, Target::Cluster) => {
            format!(
                "{policy} Local, but {} is a local pod or this host and so treated as Cluster",
                flow.from
            )
        }
    };
    let affinity = Affinity(&frontend.route);
    match count {
        1 => format!("{rule}, one endpoint{affinity}"),
        _ => format!("{rule}, one of {count} endpoints{affinity}"),
    }
}

struct Affinity<'a>(&'a Route);

impl fmt::Display for Affinity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.affinity {
            Some(timeout) => write!(
                f,
                ", the same for {} s after each connection of a client",
                timeout.as_secs()
            ),
            None => Ok(()),
        }
    }
}
