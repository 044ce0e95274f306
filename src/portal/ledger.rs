//! What is captured, and which kernel objects that needs. Pure.
//!
//! Captures come and go; several may need the same object (two ports of one address). The ledger counts, and turns each
//! change into the few operations that the kernel must carry out. A capture that goes stays in place for [`LINGER`]
//! without listeners, so that late clients are refused rather than lost; a range goes at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::holdings::HeldCapture;
use crate::types::{Capture, Protocol};

/// How long a virtual IP that lost its last use stays routed to us.
pub const LINGER: Duration = Duration::from_secs(60);

/// Where captured traffic is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In a namespace of our own.
    Netns {
        /// Whether the kernel routes by port. Without it a port's whole address is captured.
        policy: bool,
    },
    /// In the host's namespace.
    Host {
        /// Whether the kernel routes by port. Without it a port's whole address is captured.
        policy: bool,
    },
}

/// One thing in the kernel. The order is that of adding: what delivers comes before what brings traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    /// The address is delivered inside the portal's namespace.
    Inner(IpAddr),
    /// The rest of a range is dropped inside.
    InnerHole(IpNet),
    /// The address is delivered in the host's namespace.
    Local(IpAddr),
    /// The rest of a range is dropped by the host.
    Hole(IpNet),
    /// The host sends this to the portal.
    Route(IpNet),
    /// The host sends this port to the portal.
    Rule(SocketAddr, Protocol),
}

impl Object {
    /// Whether it is in the portal's namespace. Those go first when adding, last when removing.
    pub(crate) fn is_inside(&self) -> bool {
        match self {
            Self::Inner(_) | Self::InnerHole(_) => true,
            Self::Local(_) | Self::Hole(_) | Self::Route(_) | Self::Rule(..) => false,
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(ip) => write!(f, "a local route for {ip} in the portal"),
            Self::InnerHole(net) => write!(f, "a blackhole route for {net} in the portal"),
            Self::Local(ip) => write!(f, "a local route for {ip}"),
            Self::Hole(net) => write!(f, "a blackhole route for {net}"),
            Self::Route(net) => write!(f, "a route for {net}"),
            Self::Rule(addr, protocol) => write!(f, "a rule for {addr}/{protocol}"),
        }
    }
}

/// A change to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(crate) enum Op {
    Add(Object),
    Remove(Object),
}

/// The state of a capture that is in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// In use.
    Active,
    /// Given up; goes when this entry of `due` does.
    Lingering(Due),
}

/// When, and a number that tells equal times apart.
type Due = (Instant, u64);

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Ledger {
    layout: Layout,
    held: HashMap<Capture, Hold>,
    uses: HashMap<Object, usize>,
    due: BTreeMap<Due, Capture>,
    serial: u64,
}

/// How often each object that a change touches was in use before, in the order of touching.
#[derive(Default)]
struct Before {
    order: Vec<Object>,
    uses: HashMap<Object, usize>,
}

impl Ledger {
    /// An empty one.
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            held: HashMap::new(),
            uses: HashMap::new(),
            due: BTreeMap::new(),
            serial: 0,
        }
    }

    /// One that goes on where another left off.
    pub(super) fn resume(layout: Layout, held: &[HeldCapture], now: Instant) -> Self {
        let mut ledger = Self::new(layout);
        for HeldCapture { capture, lingers } in held {
            ledger.count_up(capture, &mut Before::default());
            let hold = match lingers {
                None => Hold::Active,
                Some(left) => ledger.linger(*capture, now + *left),
            };
            ledger.held.insert(*capture, hold);
        }
        ledger
    }

    /// Everything in it, for [`Self::resume`].
    pub(super) fn held(&self, now: Instant) -> Vec<HeldCapture> {
        let held = self.held.iter().map(|(capture, hold)| HeldCapture {
            capture: *capture,
            lingers: match hold {
                Hold::Active => None,
                Hold::Lingering((at, _)) => Some(at.saturating_duration_since(now)),
            },
        });
        held.collect()
    }

    /// Decides how ports are captured. No port may be held yet: it would be given up in another way than it was captured.
    pub(crate) fn set_layout(&mut self, layout: Layout) {
        let held = |capture: &Capture| matches!(capture, Capture::Port(..));
        debug_assert!(layout == self.layout || !self.held.keys().any(held));
        self.layout = layout;
    }

    /// Records a change and says what the kernel must do, in order: additions first, then removals.
    pub(crate) fn apply(&mut self, add: &[Capture], remove: &[Capture], now: Instant) -> Vec<Op> {
        let mut before = Before::default();
        for capture in remove {
            if self.held.get(capture) == Some(&Hold::Active) {
                self.give_up(*capture, now, &mut before);
            }
        }
        for capture in add {
            match self.held.insert(*capture, Hold::Active) {
                Some(Hold::Active) => {}
                Some(Hold::Lingering(due)) => {
                    self.due.remove(&due);
                }
                None => self.count_up(capture, &mut before),
            }
        }
        self.difference(before)
    }

    /// Lets go of what has lingered long enough.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Op> {
        let mut before = Before::default();
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let capture = entry.remove();
            self.held.remove(&capture);
            self.count_down(&capture, &mut before);
        }
        self.difference(before)
    }

    /// When `tick` next has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.keys().next().map(|due| due.0)
    }

    /// These objects could not be added: forgets the captures that need them, and says which those were and what else
    /// goes with them.
    pub(crate) fn revoke(&mut self, failed: &HashSet<Object>) -> (Vec<Capture>, Vec<Op>) {
        if failed.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let layout = self.layout;
        let needs = |capture: &Capture| objects(layout, capture).any(|o| failed.contains(&o));
        let revoked: Vec<Capture> = self.held.keys().copied().filter(needs).collect();
        let mut before = Before::default();
        for capture in &revoked {
            if let Some(Hold::Lingering(due)) = self.held.remove(capture) {
                self.due.remove(&due);
            }
            self.count_down(capture, &mut before);
        }
        let mut ops = self.difference(before);
        ops.retain(|op| !matches!(op, Op::Remove(object) if failed.contains(object)));
        (revoked, ops)
    }

    /// Everything that should be in the kernel now.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.uses.keys()
    }

    /// Whether this address is captured, in part or whole, or was until a moment ago.
    pub(crate) fn delivers(&self, ip: IpAddr) -> bool {
        self.uses.contains_key(&Object::Inner(ip)) || self.uses.contains_key(&Object::Local(ip))
    }

    /// Whether this was captured until a moment ago, and nothing is behind it any more.
    pub(crate) fn lingers(&self, capture: &Capture) -> bool {
        matches!(self.held.get(capture), Some(Hold::Lingering(_)))
    }

    /// The objects that a capture needs.
    pub(crate) fn needs(&self, capture: &Capture) -> Vec<Object> {
        objects(self.layout, capture).collect()
    }

    fn give_up(&mut self, capture: Capture, now: Instant, before: &mut Before) {
        if let Capture::Range(_) = capture {
            self.held.remove(&capture);
            return self.count_down(&capture, before);
        }
        let hold = self.linger(capture, now + LINGER);
        self.held.insert(capture, hold);
    }

    fn linger(&mut self, capture: Capture, until: Instant) -> Hold {
        self.serial += 1;
        let due = (until, self.serial);
        self.due.insert(due, capture);
        Hold::Lingering(due)
    }

    fn count_up(&mut self, capture: &Capture, before: &mut Before) {
        for object in objects(self.layout, capture) {
            let uses = self.uses.entry(object).or_default();
            before.note(object, *uses);
            *uses += 1;
        }
    }

    fn count_down(&mut self, capture: &Capture, before: &mut Before) {
        for object in objects(self.layout, capture) {
            let uses = self.uses.get(&object).copied().unwrap_or(0);
            before.note(object, uses);
            if uses > 1 {
                self.uses.insert(object, uses - 1);
            } else {
                self.uses.remove(&object);
            }
        }
    }

    fn difference(&self, before: Before) -> Vec<Op> {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for object in before.order {
            let was = before.uses.get(&object).is_some_and(|uses| *uses > 0);
            match (was, self.uses.contains_key(&object)) {
                (false, true) => added.push(object),
                (true, false) => removed.push(object),
                (false, false) | (true, true) => {}
            }
        }
        added.sort_by_key(|object| !object.is_inside());
        removed.sort_by_key(Object::is_inside);
        let added = added.into_iter().map(Op::Add);
        added.chain(removed.into_iter().map(Op::Remove)).collect()
    }
}

impl Before {
    fn note(&mut self, object: Object, uses: usize) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.uses.entry(object) {
            entry.insert(uses);
            self.order.push(object);
        }
    }
}

/// What a capture needs, in the order of adding.
fn objects(layout: Layout, capture: &Capture) -> impl Iterator<Item = Object> + use<> {
    let whole = |ip: IpAddr| match layout {
        Layout::Netns { .. } => [Some(Object::Inner(ip)), Some(Object::Route(ip.into()))],
        Layout::Host { .. } => [Some(Object::Local(ip)), None],
    };
    let needs = match (*capture, layout) {
        (Capture::Address(ip), _) => whole(ip),
        (Capture::Port(addr, protocol), Layout::Netns { policy: true }) => [
            Some(Object::Inner(addr.ip())),
            Some(Object::Rule(addr, protocol)),
        ],
        (Capture::Port(addr, protocol), Layout::Host { policy: true }) => {
            [Some(Object::Rule(addr, protocol)), None]
        }
        (
            Capture::Port(addr, _),
            Layout::Netns { policy: false } | Layout::Host { policy: false },
        ) => whole(addr.ip()),
        (Capture::Range(net), Layout::Netns { .. }) => {
            [Some(Object::InnerHole(net)), Some(Object::Route(net))]
        }
        (Capture::Range(net), Layout::Host { .. }) => [Some(Object::Hole(net)), None],
    };
    needs.into_iter().flatten()
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
