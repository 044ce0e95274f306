//! One Service, worked out: its ports in each family, their endpoints and frontends.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::categorize::{Categorized, Uses, categorize};
use super::collect::{Refusal, collect, count_local_ready};
use super::context::Context;
use super::hold::{Held, held};
use super::policy::{Policies, is_external_local};
use super::{
    Balancer, BindKey, Capture, Frontend, FrontendKind, HealthCheck, Route, Scope, Settings,
    SourcePolicy, Target, VirtualIps,
};
use crate::types::{
    Complaint, Complaints, IpFamily, PerFamily, Problem, Protocol, Service, ServicePort,
    ServicePortName, ServiceType, Slices, Subject,
};

/// At most so many complaints of one sort are kept of one Service; a broken object can have thousands.
const MOST_OF_A_SORT: usize = 20;

/// At most so many addresses and ports of one Service are served: thousands of ports times thousands of external IPs fit
/// into one object, and must not take all memory.
const MAX_FRONTENDS: usize = 1 << 14;

/// Everything the table knows of one Service. What it was made from stays with it, so that explain speaks of the same state.
#[derive(Debug)]
pub(super) struct ServiceEntry {
    pub(super) service: Arc<Service>,
    pub(super) slices: Option<Slices>,
    /// Why it is none of our business.
    pub(super) skipped: Option<Skipped>,
    pub(super) ports: Box<[PortEntry]>,
    pub(super) health_check: Option<HealthCheck>,
    /// What is wrong with it and its slices by themselves.
    pub(super) complaints: Complaints,
}

/// ServicePorts of one family with policy Local and without an endpoint on this node, though there are some elsewhere
/// (kube-proxy's `sync_proxy_rules_no_local_endpoints_total`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoLocalEndpoints {
    /// By their internalTrafficPolicy.
    pub internal: usize,
    /// By their externalTrafficPolicy.
    pub external: usize,
}

/// Services that are not proxied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    ExternalName,
    Headless,
    /// By the label `service.kubernetes.io/headless`.
    LabelledHeadless,
    /// By the label `service.kubernetes.io/service-proxy-name`, or its absence.
    OtherProxy,
}

impl Skipped {
    pub(super) fn of(service: &Service, settings: &Settings) -> Option<Self> {
        if service.kind == ServiceType::ExternalName {
            Some(Self::ExternalName)
        } else if service.headless {
            Some(Self::Headless)
        } else if service.labelled_headless {
            Some(Self::LabelledHeadless)
        } else if service.proxy_name != settings.service_proxy_name {
            Some(Self::OtherProxy)
        } else {
            None
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::ExternalName => "type ExternalName: a name, not an address",
            Self::Headless => "headless: clients use the endpoints' own addresses",
            Self::LabelledHeadless => "by its label service.kubernetes.io/headless, no proxy's",
            Self::OtherProxy => {
                "by its label service.kubernetes.io/service-proxy-name, or for want of it, another proxy's"
            }
        }
    }
}

/// One ServicePort in one family.
#[derive(Debug)]
pub(super) struct PortEntry {
    pub(super) route: Arc<Route>,
    /// A usable endpoint exists somewhere in the cluster.
    pub(super) has_any: bool,
    /// The endpoints are those of before, since those of now are still to come.
    pub(super) held_until: Option<Instant>,
    pub(super) frontends: Box<[Placement]>,
}

impl PortEntry {
    /// Policy Local finds no endpoint on this node, though there are some elsewhere: for traffic from inside the cluster,
    /// and from outside.
    pub(super) fn lacks_local(&self) -> (bool, bool) {
        let lacks = self.has_any && self.route.local.is_empty();
        let wants = |internal: bool| {
            self.frontends.iter().any(|Placement { frontend, .. }| {
                frontend.policy.target == Target::Local
                    && (frontend.kind == FrontendKind::ClusterIp) == internal
            })
        };
        (lacks && wants(true), lacks && wants(false))
    }
}

/// One address and port by which a ServicePort is reached.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    pub(super) address: SocketAddr,
    pub(super) place: Serving,
    pub(super) frontend: Arc<Frontend>,
}

/// Where a frontend is served, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    In(Scope),
    /// A clusterIP that is an address of this host: some agent (NodeLocal DNS) answers there.
    LeftAlone,
    /// Not an address of this host, and there is no portal.
    NoPortal,
}

impl Placement {
    pub(super) fn key(&self) -> Option<BindKey> {
        let Serving::In(scope) = self.place else {
            return None;
        };
        let protocol = self.frontend.route.name.protocol;
        Some(BindKey {
            scope,
            addr: self.address,
            protocol,
        })
    }

    pub(super) fn capture(&self) -> Option<Capture> {
        if self.place != Serving::In(Scope::Portal) {
            return None;
        }
        let protocol = self.frontend.route.name.protocol;
        match (self.frontend.kind, protocol) {
            (FrontendKind::ClusterIp, _) => Some(Capture::Address(self.address.ip())),
            (_, Protocol::Tcp | Protocol::Udp) => Some(Capture::Port(self.address, protocol)),
            (_, Protocol::Sctp) => None,
        }
    }
}

impl ServiceEntry {
    /// Works out a Service. What did not change since `old` is shared with it.
    pub(super) fn new(
        service: &Arc<Service>,
        slices: Option<&Slices>,
        (settings, now): (&Settings, Instant),
        context: &Context,
        old: Option<&Self>,
    ) -> Self {
        let skipped = Skipped::of(service, settings);
        let mut entry = Self {
            service: service.clone(),
            slices: slices.cloned(),
            skipped,
            ports: Box::default(),
            health_check: None,
            complaints: Complaints::default(),
        };
        let mut complaints = Complaints::at_most(MOST_OF_A_SORT);
        match skipped {
            Some(Skipped::OtherProxy) => of_labels(service, &mut complaints),
            Some(_) | None => of_objects(&entry, &mut complaints),
        }
        if skipped.is_none() {
            let mut derive = Derive {
                settings,
                now,
                context,
                entry: &entry,
                old,
                complaints: &mut complaints,
                room: MAX_FRONTENDS,
            };
            let (ports, health_check) = (derive.ports(), derive.health_check());
            entry.ports = ports;
            entry.health_check = health_check;
        }
        entry.complaints = complaints;
        entry
    }

    /// When a port of it stops going on with what it had, if one does.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.ports.iter().filter_map(|port| port.held_until).min()
    }

    /// How many ports want an endpoint on this node in vain.
    pub(super) fn no_local_endpoints(&self) -> PerFamily<NoLocalEndpoints> {
        let mut lacking = PerFamily::<NoLocalEndpoints>::default();
        for port in &self.ports {
            let (internal, external) = port.lacks_local();
            let lacking = lacking.get_mut(port.route.family);
            lacking.internal += usize::from(internal);
            lacking.external += usize::from(external);
        }
        lacking
    }

    /// The same port of the same family; `at` is where it probably stands.
    fn port(&self, at: usize, name: &ServicePortName, family: IpFamily) -> Option<&PortEntry> {
        let is_it = |port: &&PortEntry| port.route.family == family && port.route.name == *name;
        let probably = self.ports.get(at).filter(is_it);
        probably.or_else(|| self.ports.iter().find(is_it))
    }
}

/// What was wrong on the wire already.
fn of_objects(entry: &ServiceEntry, complaints: &mut Complaints) {
    let service = &*entry.service;
    complaints.add_object(service, None);
    let whose = Subject::of(service);
    for slice in entry.slices.iter().flat_map(|slices| slices.iter()) {
        complaints.add_object(&**slice, Some(&whose));
    }
}

/// Another proxy's Service is its to check, but for what makes it that proxy's.
fn of_labels(service: &Service, complaints: &mut Complaints) {
    let problems = service.problems.iter();
    let labels = problems.filter(|problem| problem.field.starts_with("metadata.labels"));
    complaints.extend(labels.map(|problem| Complaint {
        subject: Subject::of(service),
        problem: problem.clone(),
    }));
}

struct Derive<'a> {
    settings: &'a Settings,
    now: Instant,
    context: &'a Context,
    entry: &'a ServiceEntry,
    old: Option<&'a ServiceEntry>,
    complaints: &'a mut Complaints,
    /// How many more frontends there may be.
    room: usize,
}

impl<'a> Derive<'a> {
    fn slices(&self) -> &'a [Arc<crate::types::EndpointSlice>] {
        self.entry.slices.as_deref().unwrap_or_default()
    }

    /// Something about this Service, its field or the whole of it.
    fn complain(&mut self, field: &str, what: impl fmt::Display) {
        self.complaints.add(Complaint {
            subject: Subject::of(&*self.entry.service),
            problem: Problem::new(field, what),
        });
    }

    fn ports(&mut self) -> Box<[PortEntry]> {
        let service = &self.entry.service;
        let mut ports = Vec::new();
        for family in IpFamily::ALL {
            let Some(cluster_ip) = service.cluster_ip(family) else {
                continue;
            };
            let addresses = self.addresses(cluster_ip, family);
            let policies = Policies::new(self.context, service, family);
            let mut seen = HashSet::new();
            for port in &service.ports {
                let name = ServicePortName {
                    service: service.name.clone(),
                    port: port.name.clone(),
                    protocol: port.protocol,
                };
                if !seen.insert((&port.name, port.protocol)) {
                    let what = format!("port {name}/{}: listed twice", port.protocol);
                    self.complain("", what);
                    continue;
                }
                if port.protocol == Protocol::Sctp {
                    self.complain("", format_args!("port {name}/SCTP: SCTP is not served"));
                }
                let old = self
                    .old
                    .and_then(|old| old.port(ports.len(), &name, family));
                let entry = self.port((name, family, port), &addresses, &policies, old);
                self.room -= entry.frontends.len();
                ports.push(entry);
            }
        }
        if self.room == 0 {
            let what =
                format!("too many addresses and ports: no more than {MAX_FRONTENDS} are served");
            self.complain("", what);
        }
        ports.into()
    }

    /// The Service's virtual IPs, without those that nobody may have.
    fn addresses(&mut self, cluster_ip: IpAddr, family: IpFamily) -> Vec<(FrontendKind, IpAddr)> {
        let (entry, context) = (self.entry, self.context);
        let service = &entry.service;
        let external_ips = context.external_ips(service);
        if external_ips.len() < service.external_ips.len() {
            let what = "not served, by feature gate AllowServiceExternalIPs=false";
            self.complain("spec.externalIPs", what);
        }
        let external = external_ips
            .iter()
            .map(|ip| (FrontendKind::ExternalIp, *ip));
        let balancer = service
            .load_balancer_ips
            .iter()
            .map(|ip| (FrontendKind::LoadBalancerIp, *ip));
        let mut addresses = vec![(FrontendKind::ClusterIp, cluster_ip)];
        let mut seen = HashSet::new();
        let of_family = external
            .chain(balancer)
            .filter(|(_, ip)| IpFamily::of(*ip) == family);
        addresses.extend(of_family.filter(|address| seen.insert(*address)));
        addresses.retain(|(kind, ip)| match Refusal::of(*ip, family) {
            None | Some(Refusal::LinkLocal) => true,
            Some(refusal) => {
                let kind = kind.as_str();
                self.complain(
                    "",
                    format_args!("{kind} {ip} is not served: it is {refusal}"),
                );
                false
            }
        });
        let left_alone = |(kind, ip): &(FrontendKind, IpAddr)| {
            place(self.context, *kind, *ip) == Serving::LeftAlone
        };
        if addresses.iter().any(left_alone) {
            let what = format!(
                "clusterIP {cluster_ip} is left alone: it is an address of this host, where another program answers"
            );
            self.complain("", what);
        }
        addresses
    }

    fn complain_of_refused(&mut self, port: &ServicePortName, refused: &[(SocketAddr, Refusal)]) {
        let [(address, refusal), rest @ ..] = refused else {
            return;
        };
        let more = match rest.len() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let what = format!("port {port}: endpoint {address} is refused: it is {refusal}{more}");
        self.complain("", what);
    }

    fn port(
        &mut self,
        (name, family, port): (ServicePortName, IpFamily, &ServicePort),
        addresses: &[(FrontendKind, IpAddr)],
        policies: &Policies<'_>,
        old: Option<&PortEntry>,
    ) -> PortEntry {
        let key = (family, &*port.name, port.protocol);
        let found = collect(self.slices(), key, self.context);
        self.complain_of_refused(&name, &found.refused);
        let uses = policies.uses(port);
        let mut endpoints = categorize(&found.candidates, uses, self.context.place());
        let held = match found.candidates.is_empty() {
            true => self.held(family, port, uses),
            false => None,
        };
        let held_until = held.map(|held| {
            endpoints = held.endpoints;
            held.until
        });
        let route = self.route(name, family, &endpoints, old);
        let virtual_ips = addresses.iter().map(|(kind, ip)| {
            let place = place(self.context, *kind, *ip);
            (*kind, place, SocketAddr::new(*ip, port.port))
        });
        let node_ips = match port.node_port {
            0 => Vec::new(),
            _ => self.context.node_port_binds(family),
        };
        let node_ports = node_ips.into_iter().map(|ip| {
            let address = SocketAddr::new(ip, port.node_port);
            (FrontendKind::NodePort, Serving::In(Scope::Host), address)
        });
        let maker = FrontendMaker {
            route: &route,
            endpoints: &endpoints,
            policies,
            old,
        };
        let mut frontends = Vec::new();
        for (kind, place, address) in virtual_ips.chain(node_ports).take(self.room) {
            let frontend = maker.frontend(kind, address.ip(), &frontends);
            frontends.push(Placement {
                address,
                place,
                frontend,
            });
        }
        PortEntry {
            has_any: endpoints.has_any,
            held_until,
            frontends: frontends.into(),
            route,
        }
    }

    fn held(&self, family: IpFamily, port: &ServicePort, uses: Uses) -> Option<Held> {
        let time = (self.now, self.settings.hold);
        held(self.slices(), (family, port), uses, self.old, time)
    }

    fn route(
        &self,
        name: ServicePortName,
        family: IpFamily,
        endpoints: &Categorized,
        old: Option<&PortEntry>,
    ) -> Arc<Route> {
        let old = old.map(|old| &old.route);
        let cluster = endpoints.cluster.as_deref().unwrap_or_default();
        let local = endpoints.local.as_deref().unwrap_or_default();
        let affinity = self.entry.service.session_affinity;
        let same_endpoints = old.is_some_and(|old| old.cluster == *cluster && old.local == *local);
        if let Some(old) = old.filter(|old| same_endpoints && old.affinity == affinity) {
            return old.clone();
        }
        if let Some(old) = old {
            let is_endpoint =
                |e: &SocketAddr| cluster.binary_search(e).is_ok() || local.binary_search(e).is_ok();
            old.balancer
                .endpoints_changed(is_endpoint, affinity.is_some());
        }
        let shared_cluster = old
            .filter(|old| old.cluster == *cluster)
            .map(|old| old.cluster.clone());
        let shared_cluster = shared_cluster.unwrap_or_else(|| cluster.into());
        let start = || Arc::new(Balancer::starting_at(self.rotation_start(&name, family)));
        Arc::new(Route {
            local: if cluster == local {
                shared_cluster.clone()
            } else {
                local.into()
            },
            cluster: shared_cluster,
            affinity,
            balancer: old.map_or_else(start, |old| old.balancer.clone()),
            counters: old.map(|old| old.counters.clone()).unwrap_or_default(),
            name,
            family,
        })
    }

    /// Another one on every node: a new endpoint list reaches all nodes at once, and they should not all begin with the
    /// same endpoint.
    fn rotation_start(&self, name: &ServicePortName, family: IpFamily) -> u32 {
        let mut hasher = DefaultHasher::new();
        (&self.settings.node_name, name, family).hash(&mut hasher);
        hasher.finish() as u32
    }

    fn health_check(&mut self) -> Option<HealthCheck> {
        let service = &self.entry.service;
        if service.kind != ServiceType::LoadBalancer || !is_external_local(service) {
            return None;
        }
        if service.health_check_node_port == 0 {
            let what = "0, so load balancers cannot tell which nodes have endpoints";
            self.complain("spec.healthCheckNodePort", what);
            return None;
        }
        let count = |family| match service.cluster_ip(family) {
            Some(_) => count_local_ready(self.slices(), family, self.context),
            None => 0,
        };
        Some(HealthCheck {
            port: service.health_check_node_port,
            local_v4: count(IpFamily::V4),
            local_v6: count(IpFamily::V6),
        })
    }
}

/// Where a virtual IP is served.
fn place(context: &Context, kind: FrontendKind, ip: IpAddr) -> Serving {
    let on_host = context.is_host_address(ip);
    match (kind, context.virtual_ips) {
        (FrontendKind::ClusterIp, VirtualIps::Captured) if on_host => Serving::LeftAlone,
        _ if on_host => Serving::In(Scope::Host),
        (_, VirtualIps::Captured) => Serving::In(Scope::Portal),
        (_, VirtualIps::HostAddressesOnly) => Serving::NoPortal,
    }
}

/// Makes frontends of one ServicePort, or finds that one of them will do.
struct FrontendMaker<'a> {
    route: &'a Arc<Route>,
    endpoints: &'a Categorized,
    policies: &'a Policies<'a>,
    old: Option<&'a PortEntry>,
}

impl FrontendMaker<'_> {
    fn frontend(&self, kind: FrontendKind, ip: IpAddr, made: &[Placement]) -> Arc<Frontend> {
        let policy = self.policies.of(kind, ip, self.endpoints);
        let old = self.old.map_or(&[][..], |old| &old.frontends);
        let same = |known: &&Placement| self.is_same(&known.frontend, kind, &policy);
        match made.iter().rev().chain(old).find(same) {
            Some(known) => known.frontend.clone(),
            None => Arc::new(Frontend {
                kind,
                route: self.route.clone(),
                policy,
            }),
        }
    }

    fn is_same(&self, known: &Frontend, kind: FrontendKind, policy: &SourcePolicy) -> bool {
        known.kind == kind && Arc::ptr_eq(&known.route, self.route) && known.policy == *policy
    }
}
