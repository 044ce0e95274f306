//! Which endpoint is next: rotation, ClientIP affinity, and penalties for endpoints that do not answer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::EndpointList;

/// For how long an endpoint is passed over after it has failed for the first time; doubles each time it fails again.
const FIRST_PENALTY: Duration = Duration::from_secs(1);
const LONGEST_PENALTY: Duration = Duration::from_secs(30);

/// How many clients one ServicePort remembers. Beyond that those not seen for longest are forgotten: a flood of addresses
/// costs some megabytes, not all of memory.
const MAX_PINS: usize = 1 << 16;
/// Below this many clients none is looked at for having expired.
const MIN_PURGE: usize = 64;

/// The changing part of a ServicePort: rotation, affinity and penalties, shared by all workers and frontends.
///
/// Without affinity, and while no endpoint is penalised, choosing is one atomic increment.
#[derive(Debug, Default)]
pub struct Balancer {
    next: AtomicUsize,
    /// Where the rotation begins: nodes that learn of new endpoints at the same time should not all begin with the same one.
    start: usize,
    /// The length of `State::penalties`, readable without the lock.
    penalised: AtomicUsize,
    /// None until affinity or a penalty needs it, which for most ServicePorts is never.
    state: Mutex<Option<Box<State>>>,
}

#[derive(Debug, Default)]
struct State {
    pins: HashMap<IpAddr, Pin>,
    /// Expired pins are looked for when there are this many.
    purge_at: usize,
    penalties: HashMap<SocketAddr, Penalty>,
}

/// A client with affinity.
#[derive(Clone, Copy, Debug)]
struct Pin {
    endpoint: SocketAddr,
    last_used: Instant,
}

/// An endpoint to which a connection could not be made, and none has been made since.
#[derive(Clone, Copy, Debug)]
struct Penalty {
    until: Instant,
    length: Duration,
}

impl Balancer {
    /// A balancer whose rotation starts at `start` (modulo the number of endpoints) whenever the endpoints change.
    pub(crate) fn starting_at(start: u32) -> Self {
        let start = start as usize;
        Self {
            next: AtomicUsize::new(start),
            start,
            ..Self::default()
        }
    }

    /// Chooses an endpoint for a client: the one it is pinned to if affinity is on and that endpoint is usable, else the next
    /// in rotation. `tried` are endpoints that failed within this client connection: they are not chosen again while
    /// there are others, and a pin to one of them is replaced. None if there is nothing to choose from.
    pub fn pick(
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
        let state = guard.get_or_insert_default();
        let usable = |endpoint: &SocketAddr| {
            !tried.contains(endpoint)
                && !state.is_penalised(endpoint, now)
                && endpoints.contains(endpoint)
        };
        let pinned = state.pins.get(&client).filter(|pin| {
            now.saturating_duration_since(pin.last_used) <= timeout && usable(&pin.endpoint)
        });
        let endpoint = match pinned {
            Some(pin) => pin.endpoint,
            None => self.choose(endpoints, tried, |endpoint| {
                state.is_penalised(endpoint, now)
            })?,
        };
        state.pin(client, endpoint, timeout, now);
        Some(endpoint)
    }

    fn rotate(
        &self,
        endpoints: &EndpointList,
        tried: &[SocketAddr],
        now: Instant,
    ) -> Option<SocketAddr> {
        if self.penalised.load(Ordering::Relaxed) == 0 {
            return self.choose(endpoints, tried, |_| false);
        }
        let guard = self.lock();
        let state = guard.as_deref();
        self.choose(endpoints, tried, |endpoint| {
            state.is_some_and(|state| state.is_penalised(endpoint, now))
        })
    }

    /// The next in rotation among the best there are: neither tried nor penalised; else only penalised; else any.
    fn choose(
        &self,
        endpoints: &EndpointList,
        tried: &[SocketAddr],
        is_penalised: impl Fn(&SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let untried = |endpoint: &SocketAddr| !tried.contains(endpoint);
        let good = |endpoint: &SocketAddr| untried(endpoint) && !is_penalised(endpoint);
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let next = endpoints.get(turn.checked_rem(endpoints.len())?)?;
        if good(&next) {
            return Some(next);
        }
        // By turn among those left, not the neighbour of the one passed over: that one would get a double share.
        nth(endpoints, turn, good)
            .or_else(|| nth(endpoints, turn, untried))
            .or(Some(next))
    }

    /// A connection to this endpoint could not be made: others are preferred for a while.
    pub(crate) fn failed(&self, endpoint: SocketAddr, now: Instant) {
        let mut guard = self.lock();
        let state = guard.get_or_insert_default();
        state
            .penalties
            .entry(endpoint)
            .and_modify(|penalty| {
                // Connections that were under way when the first one failed say nothing new.
                if now >= penalty.until {
                    penalty.length = (penalty.length * 2).min(LONGEST_PENALTY);
                    penalty.until = now + penalty.length;
                }
            })
            .or_insert(Penalty {
                until: now + FIRST_PENALTY,
                length: FIRST_PENALTY,
            });
        self.publish(state);
    }

    /// A connection to this endpoint was made: it is as good as any.
    pub(crate) fn succeeded(&self, endpoint: SocketAddr) {
        if self.penalised.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(state) = self.lock().as_deref_mut() {
            state.penalties.remove(&endpoint);
            self.publish(state);
        }
    }

    /// The endpoints changed, or whether there is affinity: what is remembered of endpoints that are gone is forgotten, and
    /// the rotation restarts. `is_endpoint` tells those that remain.
    pub fn endpoints_changed(&self, is_endpoint: impl Fn(&SocketAddr) -> bool, affinity: bool) {
        self.next.store(self.start, Ordering::Relaxed);
        let mut guard = self.lock();
        let Some(state) = guard.as_deref_mut() else {
            return;
        };
        state
            .pins
            .retain(|_, pin| affinity && is_endpoint(&pin.endpoint));
        state.pins.shrink_to(MIN_PURGE);
        state.penalties.retain(|endpoint, _| is_endpoint(endpoint));
        self.publish(state);
        if state.pins.is_empty() && state.penalties.is_empty() {
            *guard = None;
        }
    }

    fn publish(&self, state: &State) {
        self.penalised
            .store(state.penalties.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<State>>> {
        // Nothing under the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_penalised(&self, endpoint: &SocketAddr, now: Instant) -> bool {
        self.penalties
            .get(endpoint)
            .is_some_and(|penalty| now < penalty.until)
    }

    fn pin(&mut self, client: IpAddr, endpoint: SocketAddr, timeout: Duration, now: Instant) {
        let pin = Pin {
            endpoint,
            last_used: now,
        };
        if let Some(known) = self.pins.get_mut(&client) {
            *known = pin;
            return;
        }
        if self.pins.len() >= self.purge_at.max(MIN_PURGE) {
            self.purge(timeout, now);
        }
        self.pins.insert(client, pin);
    }

    /// Forgets expired pins; if there are too many all the same, the older half. Looked for again when there are twice as
    /// many, so that a pin costs the same however many there are.
    fn purge(&mut self, timeout: Duration, now: Instant) {
        let age = |pin: &Pin| now.saturating_duration_since(pin.last_used);
        self.pins.retain(|_, pin| age(pin) <= timeout);
        if self.pins.len() >= MAX_PINS {
            let mut ages: Vec<Duration> = self.pins.values().map(age).collect();
            let middle = ages.len() / 2;
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            // Of pins of exactly that age as many as there is room for.
            let mut room = middle;
            self.pins.retain(|_, pin| {
                let keep = age(pin) < median || (age(pin) == median && room > 0);
                room = room.saturating_sub(usize::from(keep));
                keep
            });
        }
        self.purge_at = (self.pins.len() * 2).clamp(MIN_PURGE, MAX_PINS);
    }
}

/// The one whose turn it is among those that qualify.
fn nth(
    endpoints: &EndpointList,
    turn: usize,
    qualifies: impl Fn(&SocketAddr) -> bool,
) -> Option<SocketAddr> {
    let count = endpoints.iter().filter(&qualifies).count();
    let index = turn.checked_rem(count)?;
    endpoints.iter().filter(&qualifies).nth(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn endpoints(count: u8) -> Vec<SocketAddr> {
        (1..=count)
            .map(|n| SocketAddr::from(([10, 0, 0, n], 80)))
            .collect()
    }

    fn client(n: usize) -> IpAddr {
        IpAddr::from((n as u32).to_be_bytes())
    }

    /// Which of the endpoints, counted from 1.
    fn pick(balancer: &Balancer, of: &[SocketAddr], tried: &[SocketAddr], now: Instant) -> usize {
        let picked = balancer.pick(&of.into(), client(1), None, tried, now);
        let picked = picked.unwrap();
        1 + of.iter().position(|e| *e == picked).unwrap()
    }

    #[test]
    fn a_rotation_may_start_anywhere_and_restarts_there() {
        let (of, now) = (endpoints(3), Instant::now());
        let balancer = Balancer::starting_at(u32::MAX);
        let first = pick(&balancer, &of, &[], now);
        let second = pick(&balancer, &of, &[], now);
        assert_ne!(first, second);
        balancer.endpoints_changed(|e| of.contains(e), false);
        assert_eq!(pick(&balancer, &of, &[], now), first);
    }

    #[test]
    fn failed_endpoints_are_passed_over_for_a_while() {
        let (of, start) = (endpoints(3), Instant::now());
        let balancer = Balancer::default();
        balancer.failed(of[0], start);
        let picks: Vec<usize> = (0..4).map(|_| pick(&balancer, &of, &[], start)).collect();
        assert!(!picks.contains(&1), "{picks:?}");
        // An even share for those left.
        assert_eq!(picks.iter().filter(|n| **n == 2).count(), 2);
        let later = start + FIRST_PENALTY;
        assert!((0..3).any(|_| pick(&balancer, &of, &[], later) == 1));

        // It fails again: two seconds. Failures within a penalty do not lengthen it.
        balancer.failed(of[0], later);
        balancer.failed(of[0], later + Duration::from_millis(1));
        let almost = later + 2 * FIRST_PENALTY - Duration::from_millis(1);
        assert!((0..6).all(|_| pick(&balancer, &of, &[], almost) != 1));
        assert!((0..3).any(|_| pick(&balancer, &of, &[], later + 2 * FIRST_PENALTY) == 1));

        // It never grows beyond the longest; success ends it, and it starts small again.
        let mut now = later;
        for _ in 0..20 {
            now += LONGEST_PENALTY;
            balancer.failed(of[0], now);
        }
        assert!((0..3).any(|_| pick(&balancer, &of, &[], now + LONGEST_PENALTY) == 1));
        balancer.succeeded(of[0]);
        assert!((0..3).any(|_| pick(&balancer, &of, &[], now) == 1));
        balancer.failed(of[0], now);
        assert!((0..3).any(|_| pick(&balancer, &of, &[], now + FIRST_PENALTY) == 1));
    }

    #[test]
    fn without_better_ones_penalised_endpoints_are_used() {
        let (of, now) = (endpoints(2), Instant::now());
        let balancer = Balancer::default();
        balancer.failed(of[0], now);
        balancer.failed(of[1], now);
        let both = [
            pick(&balancer, &of, &[], now),
            pick(&balancer, &of, &[], now),
        ];
        assert_ne!(both[0], both[1]);
        // Not tried but penalised is better than tried; when all were tried any will do.
        assert_eq!(pick(&balancer, &of, &of[..1], now), 2);
        assert_eq!(pick(&balancer, &of, &of[..1], now), 2);
        pick(&balancer, &of, &of, now);
        let none = EndpointList::default();
        assert_eq!(balancer.pick(&none, client(1), None, &[], now), None);
        assert_eq!(balancer.pick(&none, client(1), Some(HOUR), &[], now), None);
    }

    #[test]
    fn a_pin_moves_away_from_an_endpoint_that_fails() {
        let (of, now) = (endpoints(3), Instant::now());
        let balancer = Balancer::default();
        let pick = |offered: &[SocketAddr], tried: &[SocketAddr]| {
            balancer
                .pick(&offered.into(), client(1), Some(HOUR), tried, now)
                .unwrap()
        };
        let first = pick(&of, &[]);
        assert_eq!(pick(&of, &[]), first);
        let second = pick(&of, &[first]);
        assert_ne!(second, first);
        assert_eq!(pick(&of, &[]), second);
        balancer.failed(second, now);
        let third = pick(&of, &[]);
        assert_ne!(third, second);
        assert_eq!(pick(&of, &[]), third);
        // No other is on offer.
        assert_eq!(pick(&[second], &[]), second);
    }

    #[test]
    fn affinity_slides_and_expires() {
        let (of, start) = (EndpointList::from(&endpoints(3)[..]), Instant::now());
        let balancer = Balancer::default();
        let timeout = Duration::from_secs(10);
        let pick = |seconds| {
            let now = start + Duration::from_secs(seconds);
            balancer
                .pick(&of, client(1), Some(timeout), &[], now)
                .unwrap()
        };
        let first = pick(0);
        assert_eq!([pick(10), pick(20), pick(30)], [first; 3]);
        assert_ne!(pick(41), first);
    }

    #[test]
    fn the_memory_for_clients_is_bounded_and_expired_ones_go() {
        let (of, start) = (EndpointList::from(&endpoints(3)[..]), Instant::now());
        let balancer = Balancer::default();
        let pins = || balancer.lock().as_ref().unwrap().pins.len();
        let mut now = start;
        for n in 0..MAX_PINS * 2 {
            now += Duration::from_millis(1);
            balancer.pick(&of, client(n), Some(HOUR), &[], now);
            assert!(pins() <= MAX_PINS);
        }
        // The newest are remembered.
        assert!(
            balancer
                .lock()
                .as_ref()
                .unwrap()
                .pins
                .contains_key(&client(MAX_PINS * 2 - 1))
        );
        assert!(pins() >= MAX_PINS / 2);
        now += HOUR + HOUR;
        for n in 0..=MAX_PINS {
            balancer.pick(&of, client(n), Some(HOUR), &[], now);
        }
        assert!(pins() <= MAX_PINS);

        // Many clients at the very same moment.
        let balancer = Balancer::default();
        for n in 0..=MAX_PINS {
            balancer.pick(&of, client(n), Some(HOUR), &[], now);
        }
        let pins = balancer.lock().as_ref().unwrap().pins.len();
        assert!((MAX_PINS / 2..=MAX_PINS).contains(&pins), "{pins}");
    }

    #[test]
    fn what_is_known_of_vanished_endpoints_is_forgotten() {
        let (of, now) = (endpoints(2), Instant::now());
        let balancer = Balancer::default();
        let list = EndpointList::from(&of[..]);
        let pinned = balancer.pick(&list, client(1), Some(HOUR), &[], now);
        let pinned = pinned.unwrap();
        balancer.failed(of[1], now);
        balancer.endpoints_changed(|e| *e == of[0], true);
        assert_eq!(pinned, of[0]);
        assert_eq!(balancer.penalised.load(Ordering::Relaxed), 0);
        assert_eq!(balancer.lock().as_ref().unwrap().pins.len(), 1);
        balancer.endpoints_changed(|e| *e == of[0], false);
        assert!(balancer.lock().is_none());
    }
}
