//! The table of flows. Pure: the caller says what time it is, and owns what a flow carries (`S`: its socket).
//!
//! A flow is `New` until it has gone both ways for [`SETTLED`], then a `Stream`: a resolver's single question is forgotten sooner
//! than a conversation. Each stage has one timeout, so its flows, kept in the order of last use, are in the order of expiry
//! as well: the next to expire, and the oldest to make room, is the first of a list.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::proxier::slab::{Slab, SlabKey};

/// How long a flow must have gone both ways to be a stream; nf_conntrack's two seconds.
pub(crate) const SETTLED: Duration = Duration::from_secs(2);

/// How much is kept, how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowLimits {
    /// Flows at most.
    pub(crate) max_flows: usize,
    /// Silence after which a flow ends that is no stream.
    pub(crate) timeout: Duration,
    /// Silence after which a stream ends.
    pub(crate) stream_timeout: Duration,
}

/// What tells flows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    /// The listener that the client spoke to.
    pub(crate) listener: SlabKey,
    /// The client.
    pub(crate) client: SocketAddr,
    /// The address that the client spoke to, where the listener has several.
    pub(crate) local: Option<IpAddr>,
}

/// One client's conversation with one endpoint.
#[derive(Debug)]
pub(crate) struct UdpFlow<S> {
    /// Whose it is.
    pub(crate) key: FlowKey,
    /// What the caller keeps with it.
    pub(crate) carried: S,
    began: Instant,
    used: Instant,
    replied: bool,
    stage: Stage,
    older: Option<SlabKey>,
    newer: Option<SlabKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New = 0,
    Stream = 1,
}

/// Flows of one stage, from the one used longest ago to the one used last.
#[derive(Clone, Copy, Debug, Default)]
struct AgeList {
    oldest: Option<SlabKey>,
    newest: Option<SlabKey>,
}

/// The flows of one worker.
#[derive(Debug)]
pub(crate) struct Flows<S> {
    limits: FlowLimits,
    flows: Slab<UdpFlow<S>>,
    by_key: HashMap<FlowKey, SlabKey>,
    /// Indexed by stage.
    lists: [AgeList; 2],
}

impl<S> UdpFlow<S> {
    /// The endpoint has answered.
    pub(crate) fn has_replied(&self) -> bool {
        self.replied
    }
}

impl<S> Flows<S> {
    /// None yet.
    pub(crate) fn new(limits: FlowLimits) -> Self {
        Self {
            limits,
            flows: Slab::default(),
            by_key: HashMap::new(),
            lists: [AgeList::default(); 2],
        }
    }

    /// The flow of this client.
    pub(crate) fn find(&self, key: &FlowKey) -> Option<SlabKey> {
        self.by_key.get(key).copied()
    }

    /// The flow of this name, if it has not ended.
    pub(crate) fn get(&self, key: SlabKey) -> Option<&UdpFlow<S>> {
        self.flows.get(key)
    }

    /// The flow of this name, if it has not ended.
    pub(crate) fn get_mut(&mut self, key: SlabKey) -> Option<&mut UdpFlow<S>> {
        self.flows.get_mut(key)
    }

    /// The flow that has to end before another can begin, if the table is full: of those that are no streams the one
    /// used longest ago, else of the streams.
    pub(crate) fn in_the_way(&self) -> Option<SlabKey> {
        if self.flows.len() < self.limits.max_flows.max(1) {
            return None;
        }
        self.oldest()
    }

    /// The flow that is missed least.
    pub(crate) fn oldest(&self) -> Option<SlabKey> {
        self.lists.iter().find_map(|list| list.oldest)
    }

    /// Begins a flow. None if the table is full, or this client has one.
    pub(crate) fn begin(&mut self, now: Instant, key: FlowKey, carried: S) -> Option<SlabKey> {
        if self.in_the_way().is_some() || self.by_key.contains_key(&key) {
            return None;
        }
        let flow = UdpFlow {
            key,
            carried,
            began: now,
            used: now,
            replied: false,
            stage: Stage::New,
            older: None,
            newer: None,
        };
        let name = self.flows.insert(flow).ok()?;
        self.by_key.insert(key, name);
        self.append(name);
        self.check_invariants();
        Some(name)
    }

    /// A datagram of the client's passed.
    pub(crate) fn used_by_client(&mut self, now: Instant, name: SlabKey) {
        self.used(now, name, false);
    }

    /// A datagram of the endpoint's passed.
    pub(crate) fn used_by_endpoint(&mut self, now: Instant, name: SlabKey) {
        self.used(now, name, true);
    }

    fn used(&mut self, now: Instant, name: SlabKey, reply: bool) {
        let Some(flow) = self.flows.get(name) else {
            return;
        };
        let replied = flow.replied || reply;
        let settled = replied && now.saturating_duration_since(flow.began) >= SETTLED;
        let stage = if settled { Stage::Stream } else { flow.stage };
        // The usual case within one turn of the loop: it is the last in its list already.
        let moves = stage != flow.stage || flow.newer.is_some();
        if moves {
            self.unlink(name);
        }
        if let Some(flow) = self.flows.get_mut(name) {
            flow.used = flow.used.max(now);
            flow.replied = replied;
            flow.stage = stage;
        }
        if moves {
            self.append(name);
        }
        self.check_invariants();
    }

    /// Ends a flow.
    pub(crate) fn end(&mut self, name: SlabKey) -> Option<UdpFlow<S>> {
        self.unlink(name);
        let flow = self.flows.remove(name)?;
        self.by_key.remove(&flow.key);
        self.check_invariants();
        Some(flow)
    }

    /// When the next flow expires, if none is used before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ends = self.lists.iter().filter_map(|list| {
            let flow = self.flows.get(list.oldest?)?;
            Some(self.expiry(flow))
        });
        ends.min()
    }

    /// A flow that has expired; it is still to be ended.
    pub(crate) fn expired(&self, now: Instant) -> Option<SlabKey> {
        let mut oldest = self.lists.iter().filter_map(|list| list.oldest);
        oldest.find(|name| {
            let flow = self.flows.get(*name);
            flow.is_some_and(|flow| self.expiry(flow) <= now)
        })
    }

    /// The names of the flows of a listener that `keep` does not want.
    pub(crate) fn unwanted(
        &mut self,
        listener: SlabKey,
        keep: impl Fn(&UdpFlow<S>) -> bool,
    ) -> Vec<SlabKey> {
        let flows = self.flows.iter_mut();
        flows
            .filter(|(_, flow)| flow.key.listener == listener && !keep(flow))
            .map(|(name, _)| name)
            .collect()
    }

    fn expiry(&self, flow: &UdpFlow<S>) -> Instant {
        let timeout = match flow.stage {
            Stage::New => self.limits.timeout,
            Stage::Stream => self.limits.stream_timeout,
        };
        flow.used + timeout
    }

    /// Puts a flow that is in no list at the end of the list of its stage.
    fn append(&mut self, name: SlabKey) {
        let Some(stage) = self.flows.get(name).map(|flow| flow.stage) else {
            return;
        };
        let list = &mut self.lists[stage as usize];
        let before = list.newest.replace(name);
        match before {
            None => list.oldest = Some(name),
            Some(before) => {
                if let Some(before) = self.flows.get_mut(before) {
                    before.newer = Some(name);
                }
            }
        }
        if let Some(flow) = self.flows.get_mut(name) {
            flow.older = before;
            flow.newer = None;
        }
    }

    /// Takes a flow out of its list.
    fn unlink(&mut self, name: SlabKey) {
        let Some(flow) = self.flows.get(name) else {
            return;
        };
        let (stage, older, newer) = (flow.stage, flow.older, flow.newer);
        let list = &mut self.lists[stage as usize];
        match older {
            None => list.oldest = newer,
            Some(older) => {
                if let Some(older) = self.flows.get_mut(older) {
                    older.newer = newer;
                }
            }
        }
        let list = &mut self.lists[stage as usize];
        match newer {
            None => list.newest = older,
            Some(newer) => {
                if let Some(newer) = self.flows.get_mut(newer) {
                    newer.older = older;
                }
            }
        }
    }

    /// Walking the lists costs as much as they are long: only small tables, as tests have them, are checked.
    fn check_invariants(&self) {
        if !cfg!(debug_assertions) || self.flows.len() > 64 {
            return;
        }
        assert_eq!(self.flows.len(), self.by_key.len());
        let mut listed = 0;
        for (stage, list) in [Stage::New, Stage::Stream].into_iter().zip(self.lists) {
            let (mut next, mut before, mut used) = (list.oldest, None, None);
            while let Some(name) = next {
                let flow = self.flows.get(name);
                assert!(flow.is_some(), "{name:?} is listed and does not exist");
                let Some(flow) = flow else { return };
                assert_eq!(flow.stage, stage);
                assert_eq!(flow.older, before);
                assert!(Some(flow.used) >= used, "not in the order of last use");
                assert_eq!(self.by_key.get(&flow.key), Some(&name));
                used = Some(flow.used);
                before = Some(name);
                next = flow.newer;
                listed += 1;
            }
            assert_eq!(list.newest, before);
        }
        assert_eq!(listed, self.flows.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxier::rng::{Rng, seeds};

    const LIMITS: FlowLimits = FlowLimits {
        max_flows: 12,
        timeout: Duration::from_secs(30),
        stream_timeout: Duration::from_secs(120),
    };

    /// What a table should hold, kept the slow way.
    #[derive(Clone, Copy, Debug)]
    struct Shadow {
        name: SlabKey,
        key: FlowKey,
        endpoint: SocketAddr,
        began: Instant,
        used: Instant,
        order: u64,
        replied: bool,
        stream: bool,
    }

    impl Shadow {
        fn expiry(&self) -> Instant {
            self.used
                + if self.stream {
                    LIMITS.stream_timeout
                } else {
                    LIMITS.timeout
                }
        }

        fn touch(&mut self, now: Instant, order: u64, reply: bool) {
            (self.used, self.order) = (now, order);
            self.replied |= reply;
            self.stream |= self.replied && now - self.began >= SETTLED;
        }
    }

    fn key(listener: SlabKey, rng: &mut Rng) -> FlowKey {
        FlowKey {
            listener,
            client: SocketAddr::from(([10, 0, 0, 1], rng.below(30) as u16)),
            local: None,
        }
    }

    #[test]
    fn simulation_against_a_plain_list() {
        seeds(256, |mut rng| {
            let mut names = Slab::default();
            let listeners = [names.insert(()).unwrap(), names.insert(()).unwrap()];
            let mut now = Instant::now();
            let mut flows = Flows::new(LIMITS);
            let mut shadow: Vec<Shadow> = Vec::new();
            let (mut begun, mut ended) = (0u64, 0u64);
            for order in 0..600 {
                match rng.below(8) {
                    0..=3 => {
                        let key = key(*rng.choose(&listeners), &mut rng);
                        let known = shadow.iter_mut().find(|flow| flow.key == key);
                        assert_eq!(flows.find(&key), known.as_ref().map(|flow| flow.name));
                        if let Some(flow) = known {
                            flows.used_by_client(now, flow.name);
                            flow.touch(now, order, false);
                            continue;
                        }
                        let in_the_way = shadow
                            .iter()
                            .min_by_key(|flow| (flow.stream, flow.order))
                            .filter(|_| shadow.len() == LIMITS.max_flows)
                            .map(|flow| flow.name);
                        assert_eq!(flows.in_the_way(), in_the_way);
                        if let Some(name) = in_the_way {
                            assert!(flows.end(name).is_some());
                            assert!(flows.end(name).is_none());
                            shadow.retain(|flow| flow.name != name);
                            ended += 1;
                        }
                        let endpoint = SocketAddr::from(([10, 1, 0, rng.below(3) as u8], 53));
                        let name = flows.begin(now, key, endpoint).unwrap();
                        begun += 1;
                        shadow.push(Shadow {
                            name,
                            key,
                            endpoint,
                            began: now,
                            used: now,
                            order,
                            replied: false,
                            stream: false,
                        });
                    }
                    4 | 5 => {
                        if !shadow.is_empty() {
                            let at = rng.below(shadow.len());
                            flows.used_by_endpoint(now, shadow[at].name);
                            shadow[at].touch(now, order, true);
                            assert!(flows.get(shadow[at].name).unwrap().has_replied());
                        }
                    }
                    6 => now += Duration::from_millis(rng.below(20_000) as u64),
                    _ => {
                        let listener = *rng.choose(&listeners);
                        let gone = SocketAddr::from(([10, 1, 0, rng.below(3) as u8], 53));
                        let unwanted = flows.unwanted(listener, |flow| flow.carried != gone);
                        for name in unwanted {
                            assert!(flows.end(name).is_some());
                            ended += 1;
                        }
                        shadow.retain(|f| f.key.listener != listener || f.endpoint != gone);
                    }
                }
                while let Some(name) = flows.expired(now) {
                    let at = shadow.iter().position(|flow| flow.name == name).unwrap();
                    assert!(shadow.remove(at).expiry() <= now);
                    assert!(flows.end(name).is_some());
                    ended += 1;
                }
                assert_eq!(flows.deadline(), shadow.iter().map(Shadow::expiry).min());
                assert!(flows.deadline().is_none_or(|deadline| deadline > now));
                assert_eq!(begun - ended, shadow.len() as u64);
                assert_eq!(flows.flows.len(), shadow.len());
            }
        });
    }

    #[test]
    fn a_question_is_forgotten_sooner_than_a_conversation() {
        let listener = Slab::default().insert(()).unwrap();
        let key = FlowKey {
            listener,
            client: SocketAddr::from(([10, 0, 0, 1], 1)),
            local: None,
        };
        let start = Instant::now();
        let mut flows = Flows::new(LIMITS);
        let name = flows.begin(start, key, ()).unwrap();
        flows.used_by_endpoint(start, name);
        assert_eq!(flows.deadline(), Some(start + LIMITS.timeout));
        flows.used_by_client(start + SETTLED, name);
        let deadline = start + SETTLED + LIMITS.stream_timeout;
        assert_eq!(flows.deadline(), Some(deadline));
        assert_eq!(flows.expired(deadline - Duration::from_millis(1)), None);
        assert_eq!(flows.expired(deadline), Some(name));
    }
}
