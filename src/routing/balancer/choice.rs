//! The balancer of a ServicePort: who has a say in which order.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::affinity::Pins;
use super::outcome::{Cause, Outcome};
use super::penalties::Penalties;
use super::rotation::Rotation;
use crate::routing::EndpointList;

/// The changing part of a ServicePort: rotation, affinity and penalties, shared by all workers and frontends.
///
/// Without affinity, and while no endpoint is penalised, choosing is one atomic increment.
#[derive(Debug, Default)]
pub struct Balancer {
    rotation: Rotation,
    /// How many endpoints are in `State::penalties`, readable without the lock.
    penalised: AtomicUsize,
    /// None until affinity or a penalty needs it, which for most ServicePorts is never.
    state: Mutex<Option<Box<State>>>,
}

#[derive(Debug, Default)]
struct State {
    pins: Pins,
    penalties: Penalties,
}

impl Balancer {
    /// A balancer whose rotation starts at `start` (modulo the number of endpoints) whenever the endpoints change.
    pub(crate) fn starting_at(start: u32) -> Self {
        Self {
            rotation: Rotation::starting_at(start),
            ..Self::default()
        }
    }

    /// Chooses an endpoint for a client: the one it is pinned to if affinity is on and that endpoint is usable, else the next
    /// in rotation. `tried` are endpoints that failed within this client connection: they are not chosen again while
    /// there are others, and a pin to one of them is replaced. None if there is nothing to choose from.
    pub fn choose(
        &self,
        endpoints: &EndpointList,
        client: IpAddr,
        affinity: Option<Duration>,
        tried: &[SocketAddr],
        now: Instant,
    ) -> Option<SocketAddr> {
        let Some(timeout) = affinity else {
            return self.rotate(endpoints, tried, now);
        };
        let mut guard = self.lock();
        let State { pins, penalties } = &mut **guard.get_or_insert_default();
        let is_penalised = |endpoint: &SocketAddr| penalties.is_penalised(endpoint, now);
        let usable = |endpoint: &SocketAddr| {
            !tried.contains(endpoint) && !is_penalised(endpoint) && endpoints.contains(endpoint)
        };
        let endpoint = match pins.of(client, timeout, now).filter(usable) {
            Some(pinned) => pinned,
            None => self.rotation.next(endpoints, tried, is_penalised)?,
        };
        pins.set(client, endpoint, timeout, now);
        Some(endpoint)
    }

    fn rotate(
        &self,
        endpoints: &EndpointList,
        tried: &[SocketAddr],
        now: Instant,
    ) -> Option<SocketAddr> {
        if self.penalised.load(Ordering::Relaxed) == 0 {
            return self.rotation.next(endpoints, tried, |_| false);
        }
        let guard = self.lock();
        let state = guard.as_deref();
        self.rotation.next(endpoints, tried, |endpoint| {
            state.is_some_and(|state| state.penalties.is_penalised(endpoint, now))
        })
    }

    /// What became of a pick.
    pub(super) fn report(&self, endpoint: SocketAddr, outcome: Outcome) {
        match outcome {
            // Says nothing of the endpoint.
            Outcome::Failed(Cause::NoPort | Cause::Circle, _) => {}
            Outcome::Failed(_, now) => {
                let mut guard = self.lock();
                let state = guard.get_or_insert_default();
                state.penalties.failed(endpoint, now);
                self.publish(state);
            }
            Outcome::Connected if self.penalised.load(Ordering::Relaxed) == 0 => {}
            Outcome::Connected => {
                if let Some(state) = self.lock().as_deref_mut() {
                    state.penalties.connected(&endpoint);
                    self.publish(state);
                }
            }
            // Neither rotation nor penalties count who is there.
            Outcome::Gone => {}
        }
    }

    /// The endpoints changed, or whether there is affinity: what is remembered of endpoints that are gone is forgotten, and
    /// the rotation restarts. `is_endpoint` tells those that remain.
    pub fn endpoints_changed(&self, is_endpoint: impl Fn(&SocketAddr) -> bool, affinity: bool) {
        self.rotation.restart();
        let mut guard = self.lock();
        let Some(state) = guard.as_deref_mut() else {
            return;
        };
        state
            .pins
            .retain(|endpoint| affinity && is_endpoint(endpoint));
        state.penalties.retain(is_endpoint);
        self.publish(state);
        if state.pins.is_empty() && state.penalties.len() == 0 {
            *guard = None;
        }
    }

    fn publish(&self, state: &State) {
        let penalised = state.penalties.len();
        self.penalised.store(penalised, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<State>>> {
        // Nothing under the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::balancer::penalties::FIRST;

    const HOUR: Duration = Duration::from_secs(3600);

    fn endpoints(count: u8) -> Vec<SocketAddr> {
        (1..=count)
            .map(|n| SocketAddr::from(([10, 0, 0, n], 80)))
            .collect()
    }

    fn client(n: usize) -> IpAddr {
        IpAddr::from((n as u32).to_be_bytes())
    }

    fn fail(balancer: &Balancer, endpoint: SocketAddr, now: Instant) {
        balancer.report(endpoint, Outcome::Failed(Cause::Refused, now));
    }

    /// Which of the endpoints, counted from 1.
    fn choose(balancer: &Balancer, of: &[SocketAddr], tried: &[SocketAddr], now: Instant) -> usize {
        let chosen = balancer.choose(&of.into(), client(1), None, tried, now);
        let chosen = chosen.unwrap();
        1 + of.iter().position(|e| *e == chosen).unwrap()
    }

    #[test]
    fn failed_endpoints_are_passed_over_for_a_while() {
        let (of, start) = (endpoints(3), Instant::now());
        let balancer = Balancer::default();
        fail(&balancer, of[0], start);
        let choices: Vec<usize> = (0..4).map(|_| choose(&balancer, &of, &[], start)).collect();
        assert!(!choices.contains(&1), "{choices:?}");
        // An even share for those left.
        assert_eq!(choices.iter().filter(|n| **n == 2).count(), 2);
        let later = start + FIRST;
        assert!((0..3).any(|_| choose(&balancer, &of, &[], later) == 1));
        fail(&balancer, of[0], later);
        assert!((0..6).all(|_| choose(&balancer, &of, &[], later) != 1));
        balancer.report(of[0], Outcome::Connected);
        assert!((0..3).any(|_| choose(&balancer, &of, &[], later) == 1));
    }

    #[test]
    fn without_better_ones_penalised_endpoints_are_used() {
        let (of, now) = (endpoints(2), Instant::now());
        let balancer = Balancer::default();
        fail(&balancer, of[0], now);
        fail(&balancer, of[1], now);
        let both = [
            choose(&balancer, &of, &[], now),
            choose(&balancer, &of, &[], now),
        ];
        assert_ne!(both[0], both[1]);
        let none = EndpointList::default();
        assert_eq!(balancer.choose(&none, client(1), None, &[], now), None);
        assert_eq!(
            balancer.choose(&none, client(1), Some(HOUR), &[], now),
            None
        );
    }

    #[test]
    fn a_pin_moves_away_from_an_endpoint_that_fails() {
        let (of, now) = (endpoints(3), Instant::now());
        let balancer = Balancer::default();
        let choose = |offered: &[SocketAddr], tried: &[SocketAddr]| {
            balancer
                .choose(&offered.into(), client(1), Some(HOUR), tried, now)
                .unwrap()
        };
        let first = choose(&of, &[]);
        assert_eq!(choose(&of, &[]), first);
        let second = choose(&of, &[first]);
        assert_ne!(second, first);
        assert_eq!(choose(&of, &[]), second);
        fail(&balancer, second, now);
        let third = choose(&of, &[]);
        assert_ne!(third, second);
        assert_eq!(choose(&of, &[]), third);
        // No other is on offer.
        assert_eq!(choose(&[second], &[]), second);
    }

    #[test]
    fn affinity_slides_and_expires() {
        let (of, start) = (EndpointList::from(&endpoints(3)[..]), Instant::now());
        let balancer = Balancer::default();
        let timeout = Duration::from_secs(10);
        let choose = |seconds| {
            let now = start + Duration::from_secs(seconds);
            balancer
                .choose(&of, client(1), Some(timeout), &[], now)
                .unwrap()
        };
        let first = choose(0);
        assert_eq!([choose(10), choose(20), choose(30)], [first; 3]);
        assert_ne!(choose(41), first);
    }

    #[test]
    fn what_is_known_of_vanished_endpoints_is_forgotten() {
        let (of, now) = (endpoints(2), Instant::now());
        let balancer = Balancer::default();
        let list = EndpointList::from(&of[..]);
        let pinned = balancer.choose(&list, client(1), Some(HOUR), &[], now);
        assert_eq!(pinned, Some(of[0]));
        fail(&balancer, of[1], now);
        balancer.endpoints_changed(|e| *e == of[0], true);
        assert_eq!(balancer.penalised.load(Ordering::Relaxed), 0);
        assert!(!balancer.lock().as_ref().unwrap().pins.is_empty());
        balancer.endpoints_changed(|e| *e == of[0], false);
        assert!(balancer.lock().is_none());
    }
}
