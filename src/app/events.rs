//! Kubernetes Events (events.k8s.io/v1), as kube-proxy writes them: about our Node, and about Services that we cannot serve as
//! they ask.

use std::io;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::{Access, Client};
use crate::types::NamespacedName;

/// Events that may wait for the apiserver. More are dropped: they are a courtesy, the log has it all.
const BACKLOG: usize = 64;
/// What dashboards and filters know.
const CONTROLLER: &str = "kube-proxy";

/// Something worth an Event.
#[derive(Clone, Debug)]
pub(super) enum Occasion {
    /// The proxy starts.
    Starting,
    /// A healthCheckNodePort cannot be listened on.
    HealthCheckFailed {
        /// Whose.
        service: NamespacedName,
        /// Where, and what the kernel said.
        message: String,
    },
}

/// Where occasions are reported. Never waits.
#[derive(Clone, Debug)]
pub(super) struct Events(Option<Sender<Occasion>>);

impl Events {
    /// Starts the thread `events`. Without an apiserver there is nobody to write to.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(super) fn start(access: Option<&Access>, node_name: &str) -> io::Result<Self> {
        let Some(access) = access else {
            return Ok(Self(None));
        };
        let (sender, occasions) = bounded(BACKLOG);
        let writer = Writer {
            access: access.clone(),
            node_name: node_name.to_owned(),
            refused: false,
        };
        thread::Builder::new()
            .name("events".into())
            .spawn(move || writer.run(&occasions))?;
        Ok(Self(Some(sender)))
    }

    /// Reports an occasion, or drops it when the apiserver is too far behind.
    pub(super) fn report(&self, occasion: Occasion) {
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(occasion);
        }
    }
}

struct Writer {
    access: Access,
    node_name: String,
    /// The apiserver has said no, and the log has it.
    refused: bool,
}

impl Writer {
    fn run(mut self, occasions: &Receiver<Occasion>) {
        while let Ok(first) = occasions.recv() {
            // The connection lives as long as there is something to say: Events are rare, connections cost memory.
            let mut client = Client::new(&self.access);
            for occasion in std::iter::once(first).chain(occasions.try_iter()) {
                let (path, event) = describe(&occasion, &self.node_name, OffsetDateTime::now_utc());
                let written = match &mut client {
                    Ok(client) => client.post_json(&path, &event.to_string()),
                    // Certificates that went away since the start; the reflectors say so.
                    Err(_) => return,
                };
                self.note(written.err().map(|error| error.to_string()));
            }
        }
    }

    fn note(&mut self, error: Option<String>) {
        let before = std::mem::replace(&mut self.refused, error.is_some());
        if let Some(error) = error.filter(|_| !before) {
            log::debug!("going without Events: {error}");
        }
    }
}

/// The collection to write to, and the object.
fn describe(occasion: &Occasion, node: &str, now: OffsetDateTime) -> (String, Value) {
    let (regarding, reason, action, kind, note) = match occasion {
        Occasion::Starting => {
            // The Node's name stands for its uid, as kube-proxy has it: the real one is not known yet.
            let regarding = json!({"kind": "Node", "name": node, "uid": node});
            (
                regarding,
                "Starting",
                "StartKubeProxy",
                "Normal",
                String::new(),
            )
        }
        Occasion::HealthCheckFailed { service, message } => {
            let regarding = json!({
                "apiVersion": "v1", "kind": "Service",
                "namespace": service.namespace(), "name": service.name(),
            });
            let note = format!(
                "node {node} failed to start healthcheck {:?} on {message}",
                service.to_string()
            );
            (
                regarding,
                "FailedToStartServiceHealthcheck",
                "Listen",
                "Warning",
                note,
            )
        }
    };
    // Events about objects without a namespace live in the default one.
    let namespace = regarding["namespace"]
        .as_str()
        .unwrap_or("default")
        .to_owned();
    let name = regarding["name"].as_str().unwrap_or(node);
    // client-go names them so: object and time.
    let name = format!("{name}.{:x}", now.unix_timestamp_nanos());
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": micro_time(now),
        "reportingController": CONTROLLER,
        "reportingInstance": format!("{CONTROLLER}-{node}"),
        "action": action, "reason": reason, "regarding": regarding, "note": note, "type": kind,
    });
    (
        format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"),
        event,
    )
}

/// The API's MicroTime takes six digits, no more.
fn micro_time(now: OffsetDateTime) -> String {
    let whole = now
        .replace_nanosecond(0)
        .unwrap_or(now)
        .format(&Rfc3339)
        .unwrap_or_default();
    format!("{}.{:06}Z", whole.trim_end_matches('Z'), now.microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_like_kube_proxys() {
        let now = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_789).unwrap();
        let (path, event) = describe(&Occasion::Starting, "node-1", now);
        assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/default/events");
        assert_eq!(event["eventTime"], "2023-11-14T22:13:20.123456Z");
        assert_eq!(
            event["regarding"],
            json!({"kind": "Node", "name": "node-1", "uid": "node-1"})
        );
        assert_eq!(
            (&event["reason"], &event["action"]),
            (&json!("Starting"), &json!("StartKubeProxy"))
        );

        let occasion = Occasion::HealthCheckFailed {
            service: NamespacedName::new("shop", "web"),
            message: "port 31000: Address already in use".into(),
        };
        let (path, event) = describe(&occasion, "node-1", now);
        assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/shop/events");
        assert_eq!(event["type"], "Warning");
        let note = "node node-1 failed to start healthcheck \"shop/web\" on port 31000: Address already in use";
        assert_eq!(event["note"], note);
    }
}
