//! On random states, explain agrees with the oracle, and the data path's values with explain.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use portico::routing::{BindKey, Filter, Flow, Query, Scope, Table, Verdict};
use portico::types::{IpFamily, NamespacedName, Protocol};
use serde_json::Value;

use super::generate::{self, Case};
use super::oracle::{self, Lists, Outcome};
use super::world::*;
use crate::util::rng::seeds;

fn set(list: &Value) -> BTreeSet<String> {
    sorted(list).into_iter().collect()
}

#[test]
fn connections_are_decided_as_the_oracle_does() {
    seeds(250, |mut rng| {
        let case = generate::case(&mut rng);
        let table = case.world.table(&case.settings);
        for _ in 0..60 {
            let flow = generate::flow(&mut rng, &case.world);
            let answer = explain_flow(&table, flow);
            let expect = oracle::decide(&case, &flow);
            let found = Outcome {
                verdict: expect.verdict,
                endpoints: set(&answer["endpoints"]),
                whose: answer["servicePort"].as_str().map(|name| {
                    let kind = answer["frontend"].as_str().expect("a kind");
                    let kinds = ["clusterIP", "externalIP", "loadBalancerIP", "nodePort"];
                    (
                        name.to_owned(),
                        kinds.into_iter().find(|k| *k == kind).expect("known"),
                    )
                }),
            };
            assert_eq!(
                answer["verdict"], expect.verdict,
                "{flow}: {answer}\n{expect:?}\n{case:#?}"
            );
            assert_eq!(found, expect, "{flow}: {answer}\n{case:#?}");
            follows_the_data_path(&case, &table, &flow);
        }
    });
}

/// What a connection meets in the kernel and in the proxier: the listener that is bound, its filter, its endpoints.
fn follows_the_data_path(case: &Case, table: &Table, flow: &Flow) {
    if flow.protocol == Protocol::Sctp {
        return;
    }
    let decision = table.decide(flow);
    let wildcard = SocketAddr::new(IpFamily::of(flow.to.ip()).unspecified(), flow.to.port());
    let bound = |scope, addr| {
        let key = BindKey {
            scope,
            addr,
            protocol: flow.protocol,
        };
        table
            .bindings()
            .find(|(bound, _)| *bound == key)
            .map(|(_, frontend)| frontend)
    };
    let ip = flow.to.ip();
    let on_host = ip.is_loopback() || case.world.host_addresses.contains(&ip);
    let listener = bound(Scope::Portal, flow.to)
        .or_else(|| bound(Scope::Host, flow.to))
        .or_else(|| bound(Scope::Host, wildcard).filter(|_| on_host));
    match decision.verdict {
        Verdict::Endpoints => {
            let listener = listener.expect("bound");
            assert!(listener.policy.allows(flow.from));
            assert_eq!(listener.endpoints(flow.from).to_vec(), decision.endpoints);
        }
        Verdict::Drop if decision.frontend.is_some() => {
            assert!(!listener.expect("bound").policy.allows(flow.from));
        }
        Verdict::Reject => {
            assert!(listener.is_none_or(|listener| listener.endpoints(flow.from).is_empty()));
        }
        Verdict::Drop | Verdict::NotMatched => assert!(listener.is_none()),
    }
}

#[test]
fn services_are_explained_as_the_oracle_categorizes() {
    seeds(250, |mut rng| {
        let case = generate::case(&mut rng);
        let table = case.world.table(&case.settings);
        for name in case.world.services.keys() {
            let answer = explain_service(&table, name);
            assert_eq!(answer["service"], name.to_string());
            for port in list(&answer["ports"]) {
                agrees(&case, name, port);
            }
            let text = explain_text(&table, Query::Service(name.clone()));
            assert!(text.starts_with(&format!("{name}: type ")), "{text}");
        }
        let all = explain_json(&table, Query::All(Filter::default()));
        assert_eq!(list(&all["services"]).len(), case.world.services.len());
        assert_eq!(list(&all["problems"]).len(), table.complaints().len());
        let text = explain_text(&table, Query::All(Filter::default()));
        assert!(
            table
                .complaints()
                .iter()
                .all(|complaint| text.contains(&complaint.to_string()))
        );
    });
}

fn agrees(case: &Case, name: &NamespacedName, explained: &Value) {
    let service = &case.world.services[name];
    let port = service
        .ports
        .iter()
        .find(|port| {
            let full = match &*port.name {
                "" => name.to_string(),
                port => format!("{name}:{port}"),
            };
            explained["servicePort"] == full && explained["protocol"] == port.protocol.as_str()
        })
        .expect("a port of the Service");
    let family = IpFamily::ALL
        .into_iter()
        .find(|f| explained["ipFamily"] == f.as_str());
    let expect = oracle::categorize(case, service, port, family.expect("a family"));
    let found = Lists {
        cluster: set(&explained["cluster"]),
        local: set(&explained["local"]),
        all: set(&explained["all"]),
        has_any: explained["hasAny"].as_bool().expect("hasAny"),
    };
    assert_eq!(found, expect, "{explained}\n{case:#?}");
    let used = list(&explained["endpoints"])
        .iter()
        .filter(|endpoint| endpoint["used"] == true);
    let used: BTreeSet<String> = used
        .map(|endpoint| text(endpoint, "address").to_owned())
        .collect();
    assert_eq!(used, expect.all, "{explained}");
}
