//! The control path without its threads and sockets, for `scripts/guard` to count instructions of: so many Services with
//! ten endpoints each, then so many changes of one endpoint, each decoded from a watch's text, stored, broadcast and
//! worked into the routing table.
//!
//! `change-cost SERVICES CHANGES`

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use portico::config::{EndpointsStore, Kind as Stored, ServiceStore, Store};
use portico::routing::{Delta, Inputs, Settings, Table};
use portico::types::{Broadcast, Service, Snapshot, Update};
use portico::wire::{Decode, Event, Events, Interner, Kind};

type Failure = Box<dyn Error>;

const ENDPOINTS: usize = 10;

fn main() -> Result<(), Failure> {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .map(|arg| arg.parse())
        .collect::<Result<_, _>>()?;
    let [services, changes] = numbers[..] else {
        return Err("usage: change-cost SERVICES CHANGES".into());
    };
    let mut path = Path::new(services)?;
    let listeners = path.table.bindings().count();
    let mut followed = 0;
    for change in 0..changes {
        followed += path.change(change % services, change + 1)?.bindings.len();
    }
    println!("{listeners} listeners; {changes} changes changed {followed}");
    if listeners == services && followed == changes {
        Ok(())
    } else {
        Err("each Service should have one listener, and each change should change one".into())
    }
}

struct Path {
    now: Instant,
    interner: Interner,
    services: Snapshot<Arc<Service>>,
    slices: EndpointsStore,
    table: Table,
}

impl Path {
    /// Everything at once, as after the first lists.
    fn new(services: usize) -> Result<Self, Failure> {
        let (mut service_text, mut slice_text) = (String::new(), String::new());
        for index in 0..services {
            write_service(&mut service_text, index)?;
            write_slice(&mut slice_text, index, 0)?;
        }
        let now = Instant::now();
        let mut interner = Interner::default();
        let mut store = ServiceStore::new(1, now);
        let objects = decode(&service_text, Kind::Service, &mut interner)?;
        store.apply(0, Update::Set(objects));
        let mut slices = EndpointsStore::new(1, now);
        let objects = decode(&slice_text, Kind::EndpointSlice, &mut interner)?;
        slices.apply(0, Update::Set(objects));
        let mut path = Self {
            now,
            interner,
            services: told(&mut store, now)?.snapshot,
            slices,
            table: Table::new(Settings::default()),
        };
        let first = told(&mut path.slices, now)?;
        path.table.rebuild(&Inputs {
            services: &path.services,
            slices: &first.snapshot,
            node: None,
            service_cidrs: &[],
            host_addresses: &[],
            now,
        });
        Ok(path)
    }

    /// One endpoint of one Service becomes another one.
    fn change(&mut self, index: usize, version: usize) -> Result<Delta, Failure> {
        let mut text = String::new();
        write_slice(&mut text, index, version)?;
        for object in decode(&text, Kind::EndpointSlice, &mut self.interner)? {
            self.slices.apply(0, Update::Add(object));
        }
        let told = told(&mut self.slices, self.now)?;
        let inputs = Inputs {
            services: &self.services,
            slices: &told.snapshot,
            node: None,
            service_cidrs: &[],
            host_addresses: &[],
            now: self.now,
        };
        Ok(self.table.update(&inputs, told.changed.iter()))
    }
}

fn told<K: Stored>(store: &mut Store<K>, now: Instant) -> Result<Broadcast<K::Value>, Failure> {
    Ok(store.take(now).ok_or("the store has nothing to tell")?)
}

/// The objects of a watch's events.
fn decode<T: Decode>(text: &str, kind: Kind, interner: &mut Interner) -> Result<Vec<T>, Failure> {
    let mut events = Events::new(text.as_bytes());
    let mut objects = Vec::new();
    while let Some(event) = events.next::<T>(kind, interner) {
        match event? {
            Event::Added(item) | Event::Modified(item) => {
                objects.extend(item.object.map_err(|problem| problem.to_string())?);
            }
            Event::Deleted(_) | Event::Bookmark { .. } | Event::Error(_) | Event::Skipped(_) => {
                return Err("an event that was not sent".into());
            }
        }
    }
    Ok(objects)
}

fn write_service(text: &mut String, index: usize) -> Result<(), Failure> {
    let (high, low) = (index / 250, index % 250 + 1);
    Ok(writeln!(
        text,
        r#"{{"type":"ADDED","object":{{"kind":"Service","apiVersion":"v1","metadata":{{"name":"svc-{index}","namespace":"default","uid":"9b1c54a2-3a55-4e1d-8f7c-{index:012}","resourceVersion":"1","creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"svc-{index}"}}}},"spec":{{"ports":[{{"name":"http","protocol":"TCP","port":80,"targetPort":8080}}],"clusterIP":"10.96.{high}.{low}","clusterIPs":["10.96.{high}.{low}"],"type":"ClusterIP","sessionAffinity":"None","ipFamilies":["IPv4"]}},"status":{{"loadBalancer":{{}}}}}}}}"#
    )?)
}

fn write_slice(text: &mut String, index: usize, version: usize) -> Result<(), Failure> {
    write!(
        text,
        r#"{{"type":"MODIFIED","object":{{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{{"name":"svc-{index}-0","namespace":"default","uid":"1c6f0e9b-0c2c-4f7e-9b6b-{index:012}","resourceVersion":"{}","creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"kubernetes.io/service-name":"svc-{index}"}}}},"addressType":"IPv4","ports":[{{"name":"http","port":8080,"protocol":"TCP"}}],"endpoints":["#,
        version + 1
    )?;
    for endpoint in 0..ENDPOINTS {
        // The last one is another one with every version.
        let changed = version > 0 && endpoint + 1 == ENDPOINTS;
        let (net, number) = if changed {
            (251, version)
        } else {
            (128, index * ENDPOINTS + endpoint)
        };
        let separator = if endpoint == 0 { "" } else { "," };
        write!(
            text,
            r#"{separator}{{"addresses":["10.{}.{}.{}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},"nodeName":"node-{endpoint}","zone":"zone-{}","targetRef":{{"kind":"Pod","namespace":"default","name":"svc-{index}-{endpoint}","uid":"00000000-0000-4000-8000-{index:012}"}}}}"#,
            net + number / 65536,
            number / 256 % 256,
            number % 256,
            endpoint % 3,
        )?;
    }
    Ok(writeln!(text, "]}}}}")?)
}
