//! The apiserver as a source: over real sockets, and by the recordings.

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use portico::api::{self, Access, AccessOptions, Resource, Selection};
use portico::types::{Service, Update};
use serde_json::json;

use crate::util::apiserver::ApiServer;

fn access(server: &ApiServer) -> Access {
    let options = AccessOptions {
        kubeconfig: None::<PathBuf>,
        master: Some(server.url()),
    };
    Access::load(&options).expect("a master URL")
}

fn follow<T: Resource>(server: &ApiServer) -> Receiver<Update<T>> {
    let selection = Selection {
        service_proxy_name: None,
        node_name: "node-1".to_string(),
    };
    let (sender, receiver) = unbounded();
    api::spawn_reflector(&access(server), &selection, sender).expect("a thread");
    receiver
}

#[test]
fn objects_come_and_change() {
    let server = ApiServer::start();
    server.put(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}}));
    let updates = follow::<Service>(&server);
    let next = || {
        updates
            .recv_timeout(Duration::from_secs(5))
            .expect("an update")
    };
    let Update::Set(all) = next() else {
        panic!("no set first")
    };
    assert_eq!(all.len(), 1);
    server.put(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "dns"},
        "spec": {"clusterIP": "10.96.0.11", "ports": [{"port": 53, "protocol": "UDP"}]}}));
    assert!(matches!(next(), Update::Add(service) if service.name.to_string() == "shop/dns"));
    server.delete("services", "shop", "web");
    assert!(matches!(next(), Update::Remove(name) if name.to_string() == "shop/web"));
}
