//! Whether the proxy keeps up with what it is told, and how that reads. Pure: the time is an argument.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::standing::{Pulse, Standing};
use crate::types::{IpFamily, NamespacedName, PerFamily};

/// One moment, on the clock that measures and on the one that people read.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Now {
    pub instant: Instant,
    pub wall: SystemTime,
}

impl Now {
    /// This moment.
    pub fn read() -> Self {
        Self {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// kube-proxy's `ProxyHealthServer`: healthy unless some family has had an update waiting for longer than the limit, or, in
/// addition, the sync thread has not answered for so long. It never asks whether the apiserver can be reached: that, and what
/// is not open, is in the bodies, and decides about /readyz.
#[derive(Debug)]
pub struct ProxyHealth {
    timeout: Duration,
    families: PerFamily<Family>,
    node_eligible: bool,
    pulse: Pulse,
    standing: Standing,
}

#[derive(Debug, Default)]
struct Family {
    /// The oldest update that no sync has carried out yet.
    queued: Option<Instant>,
    /// The last sync; a family without one does not count.
    updated: Option<SystemTime>,
}

/// A status and the JSON that goes with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProbeAnswer {
    pub(super) good: bool,
    pub(super) body: String,
}

/// What a healthCheckNodePort tells a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`
    pub port: u16,
    /// Distinct addresses of ready endpoints on this node, IPv4.
    pub local_v4: usize,
    /// The same for IPv6.
    pub local_v6: usize,
}

impl ProxyHealth {
    /// Healthy, the node eligible. `timeout` is twice the sync period.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            families: Default::default(),
            node_eligible: true,
            pulse: Pulse::default(),
            standing: Standing::default(),
        }
    }

    /// A probe has come; true if the sync thread is to be asked whether it is alive.
    pub(super) fn ask(&mut self, now: Now) -> bool {
        self.pulse.ask(now.instant)
    }

    /// The sync thread is alive.
    pub fn answered(&mut self) {
        self.pulse.answered();
    }

    /// How far the proxy has come.
    pub fn set_standing(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// There is something to sync for this family.
    pub fn queued_update(&mut self, family: IpFamily, now: Now) {
        let family = self.families.get_mut(family);
        family.queued.get_or_insert(now.instant);
    }

    /// A sync for this family has succeeded.
    pub fn updated(&mut self, family: IpFamily, now: Now) {
        *self.families.get_mut(family) = Family {
            queued: None,
            updated: Some(now.wall),
        };
    }

    /// Whether load balancers should send traffic to this node at all.
    pub fn set_node_eligible(&mut self, eligible: bool) {
        self.node_eligible = eligible;
    }

    /// No family is late, and the sync thread answers.
    pub(crate) fn healthy(&self, now: Now) -> bool {
        let on_time = |(_, family, _): (_, &Family, _)| self.on_time(family, now);
        self.missed(now).is_none() && self.counted().all(on_time)
    }

    fn missed(&self, now: Now) -> Option<Duration> {
        self.pulse.missed(now.instant, self.timeout)
    }

    /// /healthz; `outside` is what is wrong with the sources.
    pub(super) fn healthz(&self, outside: &[String], now: Now) -> ProbeAnswer {
        ProbeAnswer {
            good: self.healthy(now) && self.node_eligible,
            body: self.body(Some(self.node_eligible), outside, now),
        }
    }

    /// /livez
    pub(super) fn livez(&self, outside: &[String], now: Now) -> ProbeAnswer {
        ProbeAnswer {
            good: self.healthy(now),
            body: self.body(None, outside, now),
        }
    }

    /// /readyz, which kube-proxy does not have: everything that is known is open.
    pub(super) fn readyz(&self, outside: &[String], now: Now) -> ProbeAnswer {
        let good = self.healthy(now) && self.standing.is_ready();
        let problems = self
            .problems(outside, now)
            .unwrap_or_else(|| "[]".to_owned());
        let body = format!(r#"{{"ready":{good},"problems":{problems}}}"#);
        ProbeAnswer { good, body }
    }

    /// What is not as it should be, as a JSON list; None if there is nothing.
    fn problems(&self, outside: &[String], now: Now) -> Option<String> {
        let lines = self.standing.lines(outside, self.missed(now));
        (!lines.is_empty()).then(|| serde_json::Value::from(lines).to_string())
    }

    /// A healthCheckNodePort; None for a Service that has none (any more).
    pub(super) fn health_check(
        &self,
        service: &NamespacedName,
        local_endpoints: usize,
        now: Now,
    ) -> ProbeAnswer {
        let healthy = self.healthy(now);
        let (namespace, name) = (json(service.namespace()), json(service.name()));
        ProbeAnswer {
            good: healthy && local_endpoints > 0,
            body: format!(
                "{{\n\t\"service\": {{\n\t\t\"namespace\": {namespace},\n\t\t\"name\": {name}\n\t}},\n\t\
                 \"localEndpoints\": {local_endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
            ),
        }
    }

    /// kube-proxy's, and behind it what is wrong, where something is.
    fn body(&self, node_eligible: Option<bool>, outside: &[String], now: Now) -> String {
        let late = self
            .counted()
            .find(|(_, family, _)| !self.on_time(family, now));
        let last_updated = late.map_or(now.wall, |(_, _, updated)| updated);
        let mut body = format!(
            r#"{{"lastUpdated":"{}","currentTime":"{}""#,
            timestamp(last_updated),
            timestamp(now.wall)
        );
        if let Some(eligible) = node_eligible {
            let _ = write!(body, r#","nodeEligible":{eligible}"#);
        }
        let healthy = self.healthy(now);
        let _ = write!(body, r#","healthy":{healthy},"status":{{"#);
        for (i, (name, family, updated)) in self.counted().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let (updated, healthy) = (timestamp(updated), self.on_time(family, now));
            let _ = write!(
                body,
                r#"{comma}"{name}":{{"lastUpdated":"{updated}","healthy":{healthy}}}"#
            );
        }
        body.push('}');
        if let Some(problems) = self.problems(outside, now) {
            let _ = write!(body, r#","problems":{problems}"#);
        }
        body.push('}');
        body
    }

    fn on_time(&self, family: &Family, now: Now) -> bool {
        let waiting = family
            .queued
            .map(|queued| now.instant.saturating_duration_since(queued));
        waiting.is_none_or(|waiting| waiting < self.timeout)
    }

    /// The families that have been synced, with the time of the last sync.
    fn counted(&self) -> impl Iterator<Item = (IpFamily, &Family, SystemTime)> {
        let families = self.families.iter();
        families.filter_map(|(name, family)| Some((name, family, family.updated?)))
    }
}

/// A JSON string.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// As Go prints it: RFC 3339, as many digits of a second as there are.
fn timestamp(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Nothing to say besides.
    const STARTED: Standing = Standing {
        started: true,
        unopened: Vec::new(),
        notes: Vec::new(),
    };

    fn clock() -> impl Fn(u64) -> Now {
        let start = Instant::now();
        move |seconds| Now {
            instant: start + Duration::from_secs(seconds),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds),
        }
    }

    #[test]
    fn late_is_a_queued_update_that_waits_for_the_timeout() {
        enum Do {
            Queue(IpFamily),
            Sync(IpFamily),
            Look(bool),
        }
        use Do::{Look, Queue, Sync};
        use IpFamily::{V4, V6};
        let steps = [
            (0, Look(true)), // nothing registered
            (0, Queue(V4)),
            (999, Look(true)), // never updated: does not count
            (1000, Sync(V4)),
            (9000, Look(true)), // nothing queued: no matter how long ago
            (9000, Queue(V4)),
            (9030, Queue(V4)), // the oldest counts
            (9059, Look(true)),
            (9060, Look(false)),
            (9061, Sync(V6)),
            (9061, Look(false)), // the other family does not help
            (9062, Sync(V4)),
            (9062, Look(true)),
            (9063, Queue(V6)),
            (9123, Look(false)),
        ];
        let at = clock();
        let mut health = ProxyHealth::new(TIMEOUT);
        for (seconds, step) in steps {
            match step {
                Queue(family) => health.queued_update(family, at(seconds)),
                Sync(family) => health.updated(family, at(seconds)),
                Look(healthy) => {
                    let now = at(seconds);
                    let verdicts = [health.healthz(&[], now).good, health.livez(&[], now).good];
                    assert_eq!(
                        (health.healthy(now), verdicts),
                        (healthy, [healthy; 2]),
                        "at {seconds}"
                    );
                }
            }
        }
    }

    #[test]
    fn bodies() {
        let at = clock();
        let mut health = ProxyHealth::new(TIMEOUT);
        health.set_standing(STARTED);
        let livez = r#"{"lastUpdated":"2023-11-14T22:13:20Z","currentTime":"2023-11-14T22:13:20Z","healthy":true,"status":{}}"#;
        assert_eq!(health.livez(&[], at(0)).body, livez);
        health.updated(IpFamily::V4, at(0));
        health.updated(IpFamily::V6, at(1));
        health.queued_update(IpFamily::V4, at(2));
        let healthz = concat!(
            r#"{"lastUpdated":"2023-11-14T22:13:30Z","currentTime":"2023-11-14T22:13:30Z","nodeEligible":true,"healthy":true,"#,
            r#""status":{"IPv4":{"lastUpdated":"2023-11-14T22:13:20Z","healthy":true},"#,
            r#""IPv6":{"lastUpdated":"2023-11-14T22:13:21Z","healthy":true}}}"#
        );
        let verdict = health.healthz(&[], at(10));
        assert_eq!((verdict.good, verdict.body.as_str()), (true, healthz));
        let healthz = concat!(
            r#"{"lastUpdated":"2023-11-14T22:13:20Z","currentTime":"2023-11-14T22:15:00Z","nodeEligible":true,"healthy":false,"#,
            r#""status":{"IPv4":{"lastUpdated":"2023-11-14T22:13:20Z","healthy":false},"#,
            r#""IPv6":{"lastUpdated":"2023-11-14T22:13:21Z","healthy":true}}}"#
        );
        let verdict = health.healthz(&[], at(100));
        assert_eq!((verdict.good, verdict.body.as_str()), (false, healthz));
    }

    #[test]
    fn a_node_that_is_leaving_fails_healthz_alone() {
        let at = clock();
        let mut health = ProxyHealth::new(TIMEOUT);
        health.set_node_eligible(false);
        let (healthz, livez) = (health.healthz(&[], at(0)), health.livez(&[], at(0)));
        assert!(!healthz.good && livez.good);
        assert!(
            healthz
                .body
                .contains(r#""nodeEligible":false,"healthy":true"#)
        );
        assert!(!livez.body.contains("nodeEligible"));
        let web = NamespacedName::new("shop", "web");
        assert!(
            health.health_check(&web, 1, at(0)).good,
            "nor does it fail a health check"
        );
    }

    #[test]
    fn health_checks_count_local_endpoints() {
        let at = clock();
        let mut health = ProxyHealth::new(TIMEOUT);
        health.updated(IpFamily::V4, at(0));
        health.queued_update(IpFamily::V4, at(0));
        let web = NamespacedName::new("shop", "web");
        let body = |count, healthy| {
            format!(
                "{{\n\t\"service\": {{\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t}},\n\t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
            )
        };
        for (count, seconds, good, healthy) in [
            (2, 0, true, true),
            (0, 0, false, true),
            (2, 60, false, false),
        ] {
            let verdict = health.health_check(&web, count, at(seconds));
            let expect = ProbeAnswer {
                good,
                body: body(count, healthy),
            };
            assert_eq!(verdict, expect);
        }
    }

    #[test]
    fn what_is_wrong_is_in_the_bodies_and_decides_about_readyz() {
        let at = clock();
        let mut health = ProxyHealth::new(TIMEOUT);
        let trouble = ["the apiserver says nothing".to_owned()];
        let waiting = "Services and endpoints have not been received whole yet";
        let healthz = health.healthz(&trouble, at(0));
        let tail = format!(
            r#","healthy":true,"status":{{}},"problems":["{waiting}","{}"]}}"#,
            trouble[0]
        );
        assert!(
            healthz.good && healthz.body.ends_with(&tail),
            "{}",
            healthz.body
        );
        assert!(!health.readyz(&[], at(0)).good);

        health.set_standing(STARTED);
        let ready = r#"{"ready":true,"problems":["the apiserver says nothing"]}"#;
        let verdict = health.readyz(&trouble, at(0));
        assert_eq!((verdict.good, verdict.body.as_str()), (true, ready));
        health.set_standing(Standing {
            unopened: vec!["Service shop/web: in use".into()],
            ..STARTED
        });
        let unready = r#"{"ready":false,"problems":["Service shop/web: in use"]}"#;
        let verdict = health.readyz(&[], at(0));
        assert_eq!((verdict.good, verdict.body.as_str()), (false, unready));
        assert!(health.healthz(&[], at(0)).good);
    }

    #[test]
    fn a_sync_thread_that_stands_still_is_not_healthy() {
        let at = clock();
        let mut health = ProxyHealth::new(TIMEOUT);
        health.set_standing(STARTED);
        assert!(health.ask(at(0)) && !health.ask(at(59)));
        assert!(health.healthz(&[], at(59)).good);
        let verdicts = [
            health.healthz(&[], at(60)),
            health.livez(&[], at(60)),
            health.readyz(&[], at(60)),
        ];
        for verdict in verdicts {
            assert!(!verdict.good);
            let why = "the sync thread has not answered for 60 s";
            assert!(verdict.body.contains(why), "{}", verdict.body);
        }
        health.answered();
        assert!(health.healthz(&[], at(61)).good);
    }

    #[test]
    fn fractions_of_a_second_are_printed_without_trailing_zeros() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1, 120_000_000);
        assert_eq!(timestamp(time), "1970-01-01T00:00:01.12Z");
    }
}
