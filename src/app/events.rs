//! Kubernetes Events (events.k8s.io/v1), as kube-proxy writes them: about our Node, and about Services that we cannot serve as
//! they ask.

use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::{Access, Client};
use crate::types::{NamespacedName, one_line};

/// Events that may wait for the apiserver. More are dropped: they are a courtesy, the log has it all.
const BACKLOG: usize = 64;
/// What dashboards and filters know.
const CONTROLLER: &str = "kube-proxy";
/// The API refuses an Event whose note has more than 1024 bytes; what is cut off says so in the rest.
const LONGEST_NOTE: usize = 1000;
/// What was being done when something about the Node itself is reported.
const START: &str = "StartKubeProxy";

/// Something worth an Event.
#[derive(Clone, Debug)]
pub(super) enum Occasion {
    /// The proxy starts.
    Starting,
    /// /healthz cannot be served: where, and what the kernel said.
    HealthzFailed(String),
    /// /metrics cannot be served: where, and what the kernel said.
    MetricsFailed(String),
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
pub(super) struct Events(Option<Sender<Message>>);

#[derive(Debug)]
enum Message {
    Report(Occasion),
    /// Dropped when everything before it has been written.
    Flush(Sender<()>),
}

impl Events {
    /// Starts the thread `events`. Without an apiserver there is nobody to write to.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(super) fn start(access: Option<&Access>, node_name: &str) -> io::Result<Self> {
        let Some(access) = access else {
            return Ok(Self(None));
        };
        let (sender, messages) = bounded(BACKLOG);
        let writer = Writer {
            access: access.clone(),
            node_name: node_name.to_owned(),
            refused: false,
        };
        thread::Builder::new()
            .name("events".into())
            .spawn(move || writer.run(&messages))?;
        Ok(Self(Some(sender)))
    }

    /// Reports an occasion, or drops it when the apiserver is too far behind.
    pub(super) fn report(&self, occasion: Occasion) {
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(Message::Report(occasion));
        }
    }

    /// Before the process ends over what it has reported: waits until that is written, but no longer than this.
    pub(super) fn flush(&self, patience: Duration) {
        let Some(sender) = &self.0 else { return };
        let (done, written) = bounded(0);
        if sender.try_send(Message::Flush(done)).is_ok() {
            // Nothing is ever sent: it is dropped, or the time is over.
            let _ = written.recv_timeout(patience);
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
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            // The connection lives as long as there is something to say: Events are rare, connections cost memory.
            let mut client = Client::new(&self.access);
            for message in std::iter::once(first).chain(messages.try_iter()) {
                let occasion = match message {
                    Message::Report(occasion) => occasion,
                    Message::Flush(done) => {
                        drop(done);
                        continue;
                    }
                };
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
        Occasion::Starting => (about_node(node), "Starting", START, "Normal", String::new()),
        Occasion::HealthzFailed(message) => (
            about_node(node),
            "FailedToStartProxierHealthcheck",
            START,
            "Warning",
            format!("failed to start proxy healthz on {message}"),
        ),
        Occasion::MetricsFailed(message) => (
            about_node(node),
            "FailedToStartMetricServer",
            START,
            "Warning",
            format!("failed to start metrics server on {message}"),
        ),
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
        "action": action, "reason": reason, "regarding": regarding, "type": kind,
        "note": one_line(&note, LONGEST_NOTE),
    });
    (
        format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"),
        event,
    )
}

/// The Node's name stands for its uid, as kube-proxy has it: the real one is not known yet.
fn about_node(node: &str) -> Value {
    json!({"kind": "Node", "name": node, "uid": node})
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

        for (occasion, reason, note) in [
            (
                Occasion::HealthzFailed("0.0.0.0:10256: in use".into()),
                "FailedToStartProxierHealthcheck",
                "failed to start proxy healthz on 0.0.0.0:10256: in use",
            ),
            (
                Occasion::MetricsFailed("127.0.0.1:10249: in use".into()),
                "FailedToStartMetricServer",
                "failed to start metrics server on 127.0.0.1:10249: in use",
            ),
        ] {
            let (_, event) = describe(&occasion, "node-1", now);
            assert_eq!(event["regarding"]["kind"], "Node");
            let found = (&event["type"], &event["reason"], &event["note"]);
            assert_eq!(found, (&json!("Warning"), &json!(reason), &json!(note)));
        }

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
