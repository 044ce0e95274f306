//! A cluster's state that tests can change and hand to a table.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use portico::routing::{
    ExplainRequest, Flow, Inputs, OutputFormat, Perfect, Query, Settings, Table, explain,
};
use portico::types::{
    Complaints, Conditions, Endpoint, EndpointPort, EndpointSlice, Hints, IpFamily, NamespacedName,
    Node, Problems, Protocol, Service, ServicePort, ServiceType, Slices, Snapshot, Subset,
    TrafficPolicy,
};
use serde_json::Value;

/// What the stores and the portal would know.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub services: BTreeMap<NamespacedName, Arc<Service>>,
    pub slices: BTreeMap<NamespacedName, Slices>,
    pub node: Option<Node>,
    pub service_cidrs: Vec<IpNet>,
    pub host_addresses: Vec<IpAddr>,
    /// None: the real time.
    pub now: Option<Instant>,
}

impl World {
    pub fn with(service: Service, slices: Vec<EndpointSlice>) -> Self {
        let mut world = Self::default();
        world.add(service, slices);
        world
    }

    pub fn add(&mut self, service: Service, slices: Vec<EndpointSlice>) {
        self.set_slices(&service.name, slices);
        self.add_service(service);
    }

    pub fn add_service(&mut self, service: Service) {
        self.services
            .insert(service.name.clone(), Arc::new(service));
    }

    pub fn set_slices(&mut self, service: &NamespacedName, slices: Vec<EndpointSlice>) {
        let slices: Slices = slices.into_iter().map(Arc::new).collect();
        self.slices.insert(service.clone(), slices);
    }

    pub fn feed<T>(&self, feed: impl FnOnce(&Inputs<'_>) -> T) -> T {
        let mut services = Snapshot {
            synced: true,
            ..Snapshot::default()
        };
        for (name, service) in &self.services {
            services.objects.insert(name.clone(), service.clone());
        }
        let mut slices = Snapshot {
            synced: true,
            ..Snapshot::default()
        };
        for (name, of_service) in &self.slices {
            slices.objects.insert(name.clone(), of_service.clone());
        }
        feed(&Inputs {
            services: &services,
            slices: &slices,
            node: self.node.as_ref(),
            service_cidrs: &self.service_cidrs,
            host_addresses: &self.host_addresses,
            now: self.now.unwrap_or_else(Instant::now),
        })
    }

    pub fn table(&self, settings: &Settings) -> Table {
        let mut table = Table::new(settings.clone());
        self.feed(|inputs| table.rebuild(inputs));
        table
    }
}

/// A Service of type ClusterIP with policy Cluster and nothing special.
pub fn service(name: &str, cluster_ips: &[&str], ports: Vec<ServicePort>) -> Service {
    Service {
        name: NamespacedName::parse(name).expect(name),
        kind: ServiceType::ClusterIp,
        headless: false,
        labelled_headless: false,
        cluster_ips: cluster_ips.iter().map(|text| ip(text)).collect(),
        ports: ports.into(),
        session_affinity: None,
        external_traffic_policy: TrafficPolicy::Cluster,
        internal_traffic_policy: TrafficPolicy::Cluster,
        health_check_node_port: 0,
        external_ips: Box::default(),
        load_balancer_ips: Box::default(),
        source_ranges: Box::default(),
        proxy_name: None,
        problems: Problems::default(),
    }
}

pub fn port(name: &str, protocol: Protocol, port: u16, node_port: u16) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol,
        port,
        node_port,
    }
}

/// A slice named after its Service and a number.
pub fn slice(
    service: &str,
    number: usize,
    family: IpFamily,
    ports: &[(&str, Protocol, u16)],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let service = NamespacedName::parse(service).expect(service);
    let ports = ports.iter().map(|(name, protocol, port)| EndpointPort {
        name: (*name).into(),
        protocol: *protocol,
        port: *port,
    });
    EndpointSlice {
        name: NamespacedName::new(service.namespace(), &format!("{}-{number}", service.name())),
        service,
        subsets: Box::new([Subset {
            family,
            ports: ports.collect(),
            endpoints: endpoints.into(),
        }]),
        last_change_trigger_time: None,
        problems: Problems::default(),
    }
}

pub fn endpoint(address: &str, node: Option<&str>) -> Endpoint {
    Endpoint {
        ip: ip(address),
        conditions: Conditions::READY,
        node: node.map(Arc::from),
        hints: None,
    }
}

pub fn hints(zones: &[&str], nodes: &[&str]) -> Option<Box<Hints>> {
    let names = |list: &[&str]| list.iter().map(|name| Arc::from(*name)).collect();
    Some(Box::new(Hints {
        zones: names(zones),
        nodes: names(nodes),
    }))
}

pub fn node(name: &str, zone: Option<&str>, addresses: &[&str], pod_cidrs: &[&str]) -> Node {
    Node {
        problems: Problems::default(),
        name: NamespacedName::cluster_scoped(name),
        zone: zone.map(Box::from),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        pod_cidrs: pod_cidrs.iter().map(|text| net(text)).collect(),
        eligible: true,
    }
}

#[track_caller]
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

#[track_caller]
pub fn net(text: &str) -> IpNet {
    text.trim().parse().expect(text)
}

/// What `portico explain NAMESPACE/NAME --output json` prints.
pub fn explain_service(table: &Table, name: &NamespacedName) -> Value {
    explain_json(table, Query::Service(name.clone()))
}

/// What `portico explain --from .. --to .. --output json` prints.
pub fn explain_flow(table: &Table, flow: Flow) -> Value {
    explain_json(table, Query::Flow(flow))
}

pub fn explain_json(table: &Table, query: Query) -> Value {
    let request = ExplainRequest {
        query,
        output: OutputFormat::Json,
    };
    let answer = explain::answer(table, &Complaints::default(), &request, &Perfect);
    serde_json::from_str(&answer).expect("one JSON document")
}

pub fn explain_text(table: &Table, query: Query) -> String {
    explain::answer(
        table,
        &Complaints::default(),
        &ExplainRequest {
            query,
            output: OutputFormat::Text,
        },
        &Perfect,
    )
}

/// The strings of a list, sorted; null and absent are empty.
pub fn sorted(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    let mut texts: Vec<String> = items
        .map(|item| item.as_str().expect("a string").to_owned())
        .collect();
    texts.sort_unstable();
    texts
}

/// One of the files in tests/cases.
pub fn cases(file: &str) -> Value {
    let path = format!("{}/tests/cases/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect(&path);
    serde_json::from_str(&text).expect(&path)
}

/// The elements of a list.
#[track_caller]
pub fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("not a list: {value}"))
}

/// A text field.
#[track_caller]
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no text {field} in {value}"))
}

/// All texts of a list; none of null.
pub fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| item.as_str().expect("a string"))
        .collect()
}
