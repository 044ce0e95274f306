//! What happens to one connection, and why.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::entry::{Entry, Place, Placement};
use super::index::Claim;
use super::{BindKey, Capture, Flow, Frontend, FrontendKind, Route, Scope, Table, Target};
use crate::types::{IpFamily, Protocol, ServicePortName};

/// The answer for one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub verdict: Verdict,
    /// Where the connection may go; one of them is chosen.
    pub endpoints: Vec<SocketAddr>,
    /// Whose frontend it meets.
    pub service_port: Option<ServicePortName>,
    /// Of which kind that frontend is.
    pub frontend: Option<FrontendKind>,
    /// Why, in a sentence.
    pub reason: String,
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
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Reject => "reject",
            Self::Drop => "drop",
            Self::NotMatched => "not-matched",
        }
    }
}

/// Whether a connection meets what the portal keeps for a while after its last Service has gone.
pub type Lingers<'a> = dyn Fn(&Flow) -> bool + 'a;

impl Table {
    /// What happens to a connection. Reads the same frontends and policies as the data path.
    pub fn decide(&self, flow: &Flow) -> Decision {
        self.decide_beside(flow, &|_| false)
    }

    /// The same, beside what still `lingers` though no Service is behind it any more.
    pub(super) fn decide_beside(&self, flow: &Flow, lingers: &Lingers<'_>) -> Decision {
        match self.holder(flow) {
            Some(claim) => self.judge(flow, claim),
            None if lingers(flow) => Decision {
                verdict: Verdict::Reject,
                endpoints: Vec::new(),
                service_port: None,
                frontend: None,
                reason: format!(
                    "{} is no Service's any more: for a minute clients are refused",
                    flow.to
                ),
            },
            None => self.judge_unclaimed(flow),
        }
    }

    /// The listener that the kernel would find: the most specific one.
    fn holder(&self, flow: &Flow) -> Option<&Claim> {
        let Flow { to, protocol, .. } = *flow;
        let at = |scope, addr| {
            let key = BindKey {
                scope,
                addr,
                protocol,
            };
            self.index.holder(&key)
        };
        let on_host = || {
            let wildcard = SocketAddr::new(IpFamily::of(to.ip()).unspecified(), to.port());
            let is_ours = self.context.is_host_address(to.ip());
            is_ours.then(|| at(Scope::Host, wildcard)).flatten()
        };
        match at(Scope::Portal, to).or_else(|| at(Scope::Host, to)) {
            // Without a socket of its own an address of this host is covered by the wildcard one.
            Some(exact) if !exact.is_open() => {
                on_host().filter(|claim| claim.is_open()).or(Some(exact))
            }
            exact => exact.or_else(on_host),
        }
    }

    /// Whose listener a connection to this endpoint would reach. The data path never goes there: it would be a loop.
    pub(super) fn own_listener(
        &self,
        endpoint: SocketAddr,
        protocol: Protocol,
    ) -> Option<&Frontend> {
        let at = |scope, addr| {
            let key = BindKey {
                scope,
                addr,
                protocol,
            };
            self.index.binding(&key).map(|frontend| &**frontend)
        };
        let wildcard = SocketAddr::new(IpFamily::of(endpoint.ip()).unspecified(), endpoint.port());
        let on_host = self.context.is_host_address(endpoint.ip());
        at(Scope::Portal, endpoint)
            .or_else(|| at(Scope::Host, endpoint))
            .or_else(|| at(Scope::Host, wildcard).filter(|_| on_host))
    }

    fn judge_unclaimed(&self, flow: &Flow) -> Decision {
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
            frontend.endpoints(flow.from)
        } else {
            &[]
        };
        let is_loop = |e: &&SocketAddr| self.own_listener(**e, route.name.protocol).is_some();
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
            Place::LeftAlone => Some(format!(
                "{what}, but also an address of this host, where another program answers"
            )),
            Place::NoPortal => Some(format!(
                "{what}, but there is no portal and it is not an address of this host"
            )),
            Place::In(_) => None,
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

    fn placements(&self) -> impl Iterator<Item = (&Entry, &Placement)> {
        self.entries.values().flat_map(|entry| {
            let ports = entry.ports.iter();
            ports.flat_map(move |port| port.frontends.iter().map(move |p| (entry, p)))
        })
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
