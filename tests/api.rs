//! The apiserver as a source: by the recordings, over real sockets, and at random.

mod connection;
mod random;
mod recordings;
mod reflector;
mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use portico::api::{self, Access, AccessOptions, Resource, Selection};
use portico::types::{Object, Relist, Update};

/// Longer than any wait that a test provokes: several backoffs in a row come to half a minute, and other tests want the
/// processors, too.
const PATIENCE: Duration = Duration::from_secs(90);

fn access(url: &str) -> Access {
    let options = AccessOptions {
        kubeconfig: None,
        master: Some(url.to_string()),
        ..AccessOptions::default()
    };
    Access::load(&options).expect("a master URL")
}

/// What a reflector says, one word for each update.
struct Updates<T>(Receiver<Update<T>>);

impl<T: Resource> Updates<T> {
    fn from(access: &Access) -> Self {
        let selection = Selection {
            service_proxy_name: None,
            node_name: "node-1".to_string(),
        };
        let (sender, receiver) = unbounded();
        api::spawn_reflector(access, &selection, sender).expect("a thread");
        Self(receiver)
    }

    #[track_caller]
    fn next(&self) -> String {
        let mut relisted = None;
        loop {
            let update = self.0.recv_timeout(PATIENCE);
            match update.expect("an update in time") {
                Update::Relist(Relist::Begin) => relisted = Some(BTreeMap::new()),
                Update::Relist(Relist::Objects(objects)) => {
                    let all = relisted.as_mut().expect("begun");
                    all.extend(
                        objects
                            .into_iter()
                            .map(|object| (object.name().clone(), object)),
                    );
                }
                Update::Relist(Relist::Gone(name)) => {
                    relisted.as_mut().expect("begun").remove(&name);
                }
                Update::Relist(Relist::End) => {
                    let all = relisted.expect("begun");
                    return describe(Update::Set(all.into_values().collect()));
                }
                other => return describe(other),
            }
        }
    }

    #[track_caller]
    fn expect(&self, updates: &[&str]) {
        for update in updates {
            assert_eq!(self.next(), *update);
        }
    }
}

fn describe<T: Object>(update: Update<T>) -> String {
    match update {
        Update::Set(mut objects) => {
            objects.sort_by_key(|object| object.name().to_string());
            let names = objects.iter().map(|object| format!(" {}", object.name()));
            format!("set{}", names.collect::<String>())
        }
        Update::Add(object) => format!("add {}", object.name()),
        Update::Remove(name) => format!("remove {name}"),
        Update::Unavailable => "unavailable".to_string(),
        Update::Complaints(complaints) => {
            let said: Vec<String> = complaints.iter().map(|it| it.to_string()).collect();
            format!("complaints {}", said.join("; "))
        }
        Update::Relist(_) => unreachable!("has been put together"),
    }
}
