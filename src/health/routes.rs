//! Which question gets which answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::exposition::{Sources, expose, expose_slis};
use super::healthz::{HealthCheck, Now, ProbeAnswer, ProxyHealth};
use super::http::{Body, JSON, Request, Response, TEXT};
use super::metrics::SyncMetrics;
use super::ping::ping;
use super::zpages::{flagz, statusz};
use crate::types::{IpFamily, NamespacedName};

/// The Prometheus text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a listener is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Role {
    Healthz,
    Metrics,
    /// Of this Service; the family is that of the listener.
    HealthCheck(NamespacedName, IpFamily),
}

/// Everything that answers are made from.
pub(super) struct Answerer {
    pub(super) health: Arc<Mutex<ProxyHealth>>,
    pub(super) metrics: Arc<SyncMetrics>,
    pub(super) sources: Sources,
    /// The whole body of /configz.
    pub(super) configz: String,
    /// For /flagz; None: not served.
    pub(super) flags: Option<Vec<(String, String)>>,
    /// /statusz is served.
    pub(super) statusz: bool,
}

impl Answerer {
    /// The answer to a request on a listener. `check` is what is known about the role's Service.
    pub(super) fn answer(
        &self,
        role: &Role,
        check: Option<HealthCheck>,
        request: &Request,
        now: Now,
    ) -> Response {
        match role {
            Role::Healthz => self.probe(request, now),
            Role::Metrics => self.metrics(request, now),
            Role::HealthCheck(service, family) => {
                let local = check.map_or(0, |check| match family {
                    IpFamily::V4 => check.local_v4,
                    IpFamily::V6 => check.local_v6,
                });
                let mut response = respond(self.health().health_check(service, local, now));
                let weight = ("X-Load-Balancing-Endpoint-Weight", local.to_string());
                response.headers.push(weight);
                response
            }
        }
    }

    fn probe(&self, request: &Request, now: Now) -> Response {
        if self.health().ask(now) {
            (self.sources.ask_sync)();
        }
        let outside = (self.sources.trouble)();
        let (verdict, counter) = match request.path.as_str() {
            "/healthz" => (self.health().healthz(&outside, now), &self.metrics.healthz),
            "/livez" => (self.health().livez(&outside, now), &self.metrics.livez),
            "/readyz" => return respond(self.health().readyz(&outside, now)),
            _ => return Response::not_found(),
        };
        counter.count(verdict.good);
        respond(verdict)
    }

    fn metrics(&self, request: &Request, now: Now) -> Response {
        match request.path.as_str() {
            "/metrics" => {
                let mut response = Response::new(200, EXPOSITION, "");
                response.body = Body::Pieces(Box::new(expose(&self.metrics, &self.sources)));
                response
            }
            "/metrics/slis" if request.delete => {
                self.metrics.pings.reset();
                Response::new(200, TEXT, "metrics reset\n")
            }
            "/metrics/slis" => Response::new(200, EXPOSITION, expose_slis(&self.metrics)),
            "/healthz" => ping(request, &self.metrics),
            "/healthz/ping" => Response::new(200, TEXT, "ok"),
            "/flagz" => match &self.flags {
                Some(flags) => flagz(request, flags),
                None => Response::not_found(),
            },
            "/statusz" if self.statusz => {
                statusz(request, &self.paths(), self.metrics.started, now.wall)
            }
            "/proxyMode" => Response::new(200, TEXT, "userspace"),
            "/configz" => Response::new(200, JSON, self.configz.clone()),
            _ => Response::not_found(),
        }
    }

    /// What the metrics server has.
    fn paths(&self) -> Vec<&'static str> {
        let all = [
            "/configz",
            "/flagz",
            "/healthz",
            "/healthz/ping",
            "/metrics",
            "/metrics/slis",
            "/proxyMode",
            "/statusz",
        ];
        let served = |path: &&str| *path != "/flagz" || self.flags.is_some();
        all.into_iter().filter(served).collect()
    }

    fn health(&self) -> MutexGuard<'_, ProxyHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn respond(verdict: ProbeAnswer) -> Response {
    Response::new(if verdict.good { 200 } else { 503 }, JSON, verdict.body)
}
