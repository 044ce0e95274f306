//! `sessionAffinity: ClientIP`: clients that stay with an endpoint, until they have been silent for too long.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How many clients one ServicePort remembers. Beyond that those not seen for longest are forgotten: a flood of addresses
/// costs some megabytes, not all of memory.
const MOST: usize = 1 << 16;
/// Below this many clients none is looked at for having expired.
const FEW: usize = 64;

/// Which endpoint each client stays with.
#[derive(Debug, Default)]
pub(super) struct Pins {
    by_client: HashMap<IpAddr, Pin>,
    /// Expired pins are looked for when there are this many.
    purge_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    endpoint: SocketAddr,
    last_used: Instant,
}

impl Pins {
    /// No client is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    /// The endpoint of this client, if it has been there within the timeout.
    pub(super) fn of(&self, client: IpAddr, timeout: Duration, now: Instant) -> Option<SocketAddr> {
        let pin = self.by_client.get(&client)?;
        let age = now.saturating_duration_since(pin.last_used);
        (age <= timeout).then_some(pin.endpoint)
    }

    /// This client goes there now.
    pub(super) fn set(
        &mut self,
        client: IpAddr,
        endpoint: SocketAddr,
        timeout: Duration,
        now: Instant,
    ) {
        let pin = Pin {
            endpoint,
            last_used: now,
        };
        if let Some(known) = self.by_client.get_mut(&client) {
            *known = pin;
            return;
        }
        if self.by_client.len() >= self.purge_at.max(FEW) {
            self.purge(timeout, now);
        }
        self.by_client.insert(client, pin);
    }

    /// Forgets clients of endpoints that are no more.
    pub(super) fn retain(&mut self, is_endpoint: impl Fn(&SocketAddr) -> bool) {
        self.by_client.retain(|_, pin| is_endpoint(&pin.endpoint));
        self.by_client.shrink_to(FEW);
    }

    /// Forgets expired pins; if there are too many all the same, the older half. Looked for again when there are twice as
    /// many, so that a pin costs the same however many there are.
    fn purge(&mut self, timeout: Duration, now: Instant) {
        let age = |pin: &Pin| now.saturating_duration_since(pin.last_used);
        self.by_client.retain(|_, pin| age(pin) <= timeout);
        if self.by_client.len() >= MOST {
            let mut ages: Vec<Duration> = self.by_client.values().map(age).collect();
            let middle = ages.len() / 2;
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            // Of pins of exactly that age as many as there is room for.
            let mut room = middle;
            self.by_client.retain(|_, pin| {
                let keep = age(pin) < median || (age(pin) == median && room > 0);
                room = room.saturating_sub(usize::from(keep));
                keep
            });
        }
        self.purge_at = (self.by_client.len() * 2).clamp(FEW, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const ENDPOINT: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

    fn client(n: usize) -> IpAddr {
        IpAddr::from((n as u32).to_be_bytes())
    }

    #[test]
    fn pins_slide_and_expire() {
        let (mut pins, start) = (Pins::default(), Instant::now());
        let timeout = Duration::from_secs(10);
        for seconds in [0, 10, 20] {
            pins.set(
                client(1),
                ENDPOINT,
                timeout,
                start + Duration::from_secs(seconds),
            );
        }
        for (seconds, there) in [(20, true), (30, true), (31, false)] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(pins.of(client(1), timeout, now).is_some(), there);
        }
        assert_eq!(pins.of(client(2), timeout, start), None);
    }

    #[test]
    fn the_memory_for_clients_is_bounded_and_expired_ones_go() {
        let (mut pins, mut now) = (Pins::default(), Instant::now());
        for n in 0..MOST * 2 {
            now += Duration::from_millis(1);
            pins.set(client(n), ENDPOINT, HOUR, now);
            assert!(pins.by_client.len() <= MOST);
        }
        // The newest are remembered.
        assert!(pins.of(client(MOST * 2 - 1), HOUR, now).is_some());
        assert!(pins.by_client.len() >= MOST / 2);
        now += HOUR + HOUR;
        for n in 0..=MOST {
            pins.set(client(n), ENDPOINT, HOUR, now);
        }
        assert!(pins.by_client.len() <= MOST);

        // Many clients at the very same moment.
        let mut pins = Pins::default();
        for n in 0..=MOST {
            pins.set(client(n), ENDPOINT, HOUR, now);
        }
        let count = pins.by_client.len();
        assert!((MOST / 2..=MOST).contains(&count), "{count}");
    }
}
