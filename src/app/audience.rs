//! The servers that others ask: health, metrics, control. Started before there is anything to tell.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Sender, bounded};
use serde_json::{Value, json};

use super::error::Error;
use super::events::{Events, Occasion};
use super::observers::Observers;
use super::process;
use super::sync::Question;
use crate::api::Access;
use crate::control::ControlServer;
use crate::health::{
    self, HealthServer, ListenFailed, ProxyHealth, RestDurations, RestRequests, ServerName,
    Sources, SyncMetrics,
};
use crate::options::Options;
use crate::routing::ExplainRequest;
use crate::types::counters::{RequestCounters, RequestDurations};

/// An answer of the sync thread may wait for a sync of everything, which is far quicker than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// The running servers.
pub(super) struct Audience {
    pub(super) observers: Observers,
    pub(super) control: Option<ControlServer>,
}

impl Audience {
    pub(super) fn start(
        options: &Options,
        access: Option<&Access>,
        asking: &Sender<Question>,
        events: &Events,
    ) -> Result<Self, Error> {
        let health = Arc::new(Mutex::new(ProxyHealth::new(2 * options.sync_period)));
        let families = process::address_families();
        let metrics = Arc::new(SyncMetrics::new(SystemTime::now(), families.clone()));
        let server = HealthServer::start(health::ServerSettings {
            healthz: options.healthz_bind_address,
            metrics: options.metrics_bind_address,
            bind_address_hard_fail: options.bind_address_hard_fail,
            health: Arc::clone(&health),
            sync_metrics: Arc::clone(&metrics),
            sources: sources(options, access, asking),
            configuration: options.effective.clone(),
            flags: options.gates.flagz.then(|| options.flags.clone()),
            statusz: options.gates.statusz,
            listen_failed: listen_failed(events.clone()),
        })?;
        Ok(Self {
            observers: Observers::new(families, health, metrics, server),
            control: control(options, asking),
        })
    }
}

fn listen_failed(events: Events) -> ListenFailed {
    Box::new(move |server, address, error| {
        events.report(match server {
            ServerName::Healthz => Occasion::HealthzFailed(format!("{address}: {error}")),
            ServerName::Metrics => Occasion::MetricsFailed(format!("{address}: {error}")),
            ServerName::HealthCheck(service) => Occasion::HealthCheckFailed {
                service: service.clone(),
                message: format!("port {}: {error}", address.port()),
            },
        });
    })
}

fn sources(options: &Options, access: Option<&Access>, asking: &Sender<Question>) -> Sources {
    let (wanted, asking) = (options.metrics_per_service, asking.clone());
    let requests = access.map(|access| Arc::clone(access.requests()));
    let timed = requests.clone();
    let probing = asking.clone();
    Sources {
        service_ports: Box::new(move || match wanted {
            true => ask(&asking, Question::Counters).unwrap_or_default(),
            false => Vec::new(),
        }),
        rest_requests: Box::new(move || requests.as_deref().map(rest_requests).unwrap_or_default()),
        rest_durations: Box::new(move || timed.as_deref().map(rest_durations).unwrap_or_default()),
        ask_sync: Box::new(move || {
            // It may be stopping: then there is nobody to be probed for much longer.
            let _ = probing.send(Question::Alive);
        }),
        trouble: Box::new(Vec::new),
    }
}

fn rest_requests(counters: &RequestCounters) -> Vec<RestRequests> {
    let row = |(code, method, count): (String, &str, u64)| RestRequests {
        code,
        method: method.to_owned(),
        host: counters.host().to_owned(),
        count,
    };
    counters.get().into_iter().map(row).collect()
}

fn rest_durations(counters: &RequestCounters) -> Vec<RestDurations> {
    let row = |(verb, took): (&str, RequestDurations)| RestDurations {
        verb: verb.to_owned(),
        host: counters.host().to_owned(),
        buckets: RequestDurations::BOUNDS
            .into_iter()
            .zip(took.buckets)
            .collect(),
        count: took.count,
        sum: took.sum.as_secs_f64(),
    };
    counters.durations().into_iter().map(row).collect()
}

/// Serves `--control-socket`. One that cannot be had is no reason not to carry traffic.
fn control(options: &Options, asking: &Sender<Question>) -> Option<ControlServer> {
    let path = options.control_socket.as_ref()?;
    let asking = asking.clone();
    ControlServer::start(path, move |question| answer(&asking, &question))
        .inspect_err(|error| {
            log::warn!("explain will get no answers from this process: {error}");
        })
        .ok()
}

fn answer(asking: &Sender<Question>, question: &Value) -> Value {
    let request = match ExplainRequest::from_json(question) {
        Ok(request) => request,
        Err(error) => return json!({"error": error.to_string()}),
    };
    match ask(asking, |answer| Question::Explain(request, answer)) {
        Some(text) => json!({"answer": text}),
        None => json!({"error": "portico is stopping"}),
    }
}

/// Asks the sync thread; None if it has ended.
fn ask<T>(asking: &Sender<Question>, question: impl FnOnce(Sender<T>) -> Question) -> Option<T> {
    let (sender, answer) = bounded(1);
    asking.send(question(sender)).ok()?;
    answer.recv_timeout(PATIENCE).ok()
}
