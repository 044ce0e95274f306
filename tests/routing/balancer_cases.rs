//! cases/roundrobin-cases.json: what userspace kube-proxy 1.20 did, but for the shuffle.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use portico::routing::Balancer;
use serde_json::Value;

use super::world::*;

#[derive(Default)]
struct Interpreter {
    ports: BTreeMap<String, Port>,
    /// The cases' endpoint names, as addresses.
    addresses: BTreeMap<String, SocketAddr>,
    variables: BTreeMap<String, Vec<SocketAddr>>,
    last_order: String,
}

#[derive(Default)]
struct Port {
    balancer: Balancer,
    endpoints: Vec<SocketAddr>,
    affinity: Option<Duration>,
    pins: BTreeMap<IpAddr, SocketAddr>,
}

impl Interpreter {
    fn address(&mut self, name: &str) -> SocketAddr {
        let next = self.addresses.len() as u32 + 1;
        let fresh = SocketAddr::new(std::net::Ipv4Addr::from(0x0a00_0000 + next).into(), 80);
        *self.addresses.entry(name.to_owned()).or_insert(fresh)
    }

    /// `S[1]`, `E1`, or the name of an endpoint.
    fn value(&mut self, expression: &str) -> SocketAddr {
        let (name, index) = match expression.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse().expect("an index")),
            None => (expression, 0_usize),
        };
        match self.variables.get(name) {
            Some(values) => values[index],
            None => self.address(expression),
        }
    }

    fn set_endpoints(&mut self, service: &str, ports: &BTreeMap<String, Vec<String>>) {
        let prefix = format!("{service}:");
        for name in ports.keys() {
            self.ports.entry(format!("{prefix}{name}")).or_default();
        }
        let keys: Vec<String> = self
            .ports
            .keys()
            .filter(|key| key.starts_with(&prefix))
            .cloned()
            .collect();
        for key in keys {
            let names = ports.get(&key[prefix.len()..]).cloned().unwrap_or_default();
            let endpoints: Vec<_> = names.iter().map(|name| self.address(name)).collect();
            let port = self.ports.get_mut(&key).expect("known");
            if port.endpoints != endpoints {
                port.balancer
                    .endpoints_changed(|e| endpoints.contains(e), port.affinity.is_some());
                port.endpoints = endpoints;
            }
        }
    }

    fn pick(&mut self, step: &Value, now: Instant) -> Option<SocketAddr> {
        let port = self
            .ports
            .entry(text(step, "service").to_owned())
            .or_default();
        let client = step["client"].as_str().map(ip);
        let affinity = port.affinity.filter(|_| client.is_some());
        let client = client.unwrap_or(ip("0.0.0.0"));
        let reset = step["reset_affinity"] == true;
        let tried: Vec<_> = port
            .pins
            .get(&client)
            .copied()
            .filter(|_| reset)
            .into_iter()
            .collect();
        let endpoints = port.endpoints.iter().copied().collect();
        let picked = port
            .balancer
            .choose(&endpoints, client, affinity, &tried, now)?;
        port.pins.insert(client, picked);
        Some(picked)
    }

    fn step(&mut self, step: &Value, now: Instant) {
        match text(step, "op") {
            "add_service" => {
                let port = self
                    .ports
                    .entry(text(step, "service").to_owned())
                    .or_default();
                let timeout = step["timeout_s"].as_u64().map(Duration::from_secs);
                port.affinity = timeout.filter(|_| step["affinity"] == "ClientIP");
            }
            "set_endpoints" => {
                let ports = step["ports"].as_object().expect("ports");
                let owned = |names: &Value| texts(names).into_iter().map(str::to_owned).collect();
                let ports = ports
                    .iter()
                    .map(|(name, list)| (name.clone(), owned(list)))
                    .collect();
                self.set_endpoints(text(step, "service"), &ports);
            }
            "delete_endpoints" => self.set_endpoints(text(step, "service"), &BTreeMap::new()),
            "bind_order" => {
                let mut expect: Vec<_> = texts(&step["permutation_of"])
                    .into_iter()
                    .map(|name| self.address(name))
                    .collect();
                let order = self.ports[text(step, "service")].endpoints.clone();
                let mut same = order.clone();
                expect.sort_unstable();
                same.sort_unstable();
                assert_eq!(same, expect, "{step}");
                self.last_order = text(step, "as").to_owned();
                self.variables.insert(self.last_order.clone(), order);
            }
            "bind" => {
                let value = self.value(text(step, "value"));
                self.variables
                    .insert(text(step, "as").to_owned(), vec![value]);
            }
            // What pointed to an endpoint that is gone points to the first of the new order.
            "rebind" => {
                let order = self.variables[&self.last_order].clone();
                for (_, value) in self
                    .variables
                    .iter_mut()
                    .filter(|(name, _)| name.starts_with('C'))
                {
                    if !order.contains(&value[0]) {
                        *value = vec![order[0]];
                    }
                }
            }
            "pick" => {
                let picked = self.pick(step, now);
                match (step["bind"].as_str(), step["expect"].as_str()) {
                    (Some(name), _) => {
                        self.variables
                            .insert(name.to_owned(), vec![picked.expect("an endpoint")]);
                    }
                    (None, Some(expect)) => assert_eq!(picked, Some(self.value(expect)), "{step}"),
                    (None, None) => {
                        assert_eq!(step["expect_error"], true, "{step}");
                        assert_eq!(picked, None, "{step}");
                    }
                }
            }
            other => panic!("unknown op {other}"),
        }
    }
}

#[test]
fn rotation_and_affinity_are_those_of_userspace_kube_proxy() {
    let now = Instant::now();
    for case in list(&cases("roundrobin-cases.json")["cases"]) {
        eprintln!("{} {}", text(case, "id"), text(case, "name"));
        let mut interpreter = Interpreter::default();
        for step in list(&case["steps"]) {
            interpreter.step(step, now);
        }
    }
}
