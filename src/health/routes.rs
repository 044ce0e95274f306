//! Which question gets which answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::exposition::{Sources, expose, expose_slis};
use super::healthz::{HealthCheck, Now, ProxyHealth, Verdict};
use super::http::{Body, JSON, Request, Response, TEXT};
use super::metrics::SyncMetrics;
use super::zpages::{flagz, ping, statusz};
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
pub(super) struct Answers {
    pub(super) health: Arc<Mutex<ProxyHealth>>,
    pub(super) metrics: Arc<SyncMetrics>,
    pub(super) sources: Sources,
    /// The whole body of /configz.
    pub(super) configz: String,
    /// For /flagz.
    pub(super) flags: Vec<(String, String)>,
}

impl Answers {
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
        let (verdict, counter) = match request.path.as_str() {
            "/healthz" => (self.health().healthz(now), &self.metrics.healthz),
            "/livez" => (self.health().livez(now), &self.metrics.livez),
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
            "/flagz" => flagz(request, &self.flags),
            "/statusz" => statusz(request, self.metrics.started, now.wall),
            "/proxyMode" => Response::new(200, TEXT, "userspace"),
            "/configz" => Response::new(200, JSON, self.configz.clone()),
            _ => Response::not_found(),
        }
    }

    fn health(&self) -> MutexGuard<'_, ProxyHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn respond(verdict: Verdict) -> Response {
    Response::new(if verdict.good { 200 } else { 503 }, JSON, verdict.body)
}
