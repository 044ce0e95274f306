//! The plan itself: what is open and what has failed, and what follows from a change.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use socket2::Socket;

use super::notice::Notice;
use super::retry::Retry;
use crate::portal::{self, BindError};
use crate::proxier::{ListenerChange, ListenerId};
use crate::routing::Frontend;
use crate::types::{BindKey, Capture};

/// Listeners that are made at once: workers take up some while others are being made, and what is needed on the way stays
/// small.
const PORTION: usize = 512;

/// A listener that should be there.
#[derive(Clone, Debug)]
pub(crate) struct WantedListener {
    pub(crate) key: BindKey,
    pub(crate) frontend: Arc<Frontend>,
}

/// Something that has happened.
#[derive(Debug)]
pub(crate) enum PlanInput {
    /// The routing table is another than before.
    Changed {
        /// Listeners that should not be there (None), or that should be so; the former come first.
        bindings: Vec<(BindKey, Option<Arc<Frontend>>)>,
        captures_added: Vec<Capture>,
        captures_removed: Vec<Capture>,
    },
    /// What came of [`PlanAction::Open`].
    Opened(Vec<(WantedListener, Result<Arc<Socket>, BindError>)>),
    /// What came of [`PlanAction::Filter`].
    Filtered(WantedListener, Result<(), BindError>),
    /// What came of [`PlanAction::Capture`]: what was to be added, and what of it was not.
    Captured {
        asked: Vec<Capture>,
        refused: Vec<(Capture, portal::Error)>,
    },
    /// What failed may work now: try again soon.
    Hope,
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Debug)]
pub(crate) enum PlanAction {
    /// Tell the proxier. Has no outcome.
    Tell(Vec<ListenerChange>),
    /// Make these listeners.
    Open(Vec<WantedListener>),
    /// ListenerChange which sources an open listener hears to what its new frontend says.
    Filter(WantedListener, Arc<Socket>),
    /// Capture some addresses, and give others up.
    Capture {
        add: Vec<Capture>,
        remove: Vec<Capture>,
    },
    /// Tell the log. Has no outcome.
    Say(Notice),
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Plan {
    open: HashMap<BindKey, OpenListener>,
    failed: BTreeMap<BindKey, FailedListener>,
    /// What could not be captured, and why.
    uncaptured: BTreeMap<Capture, String>,
    next_id: u64,
    retry: Retry,
}

#[derive(Debug)]
struct OpenListener {
    id: ListenerId,
    socket: Arc<Socket>,
    /// Which sources it hears.
    allow: Option<Arc<[IpNet]>>,
}

#[derive(Debug)]
struct FailedListener {
    frontend: Arc<Frontend>,
    why: String,
}

impl Plan {
    /// `longest_wait` bounds the time between two attempts at something that failed.
    pub(crate) fn new(longest_wait: Duration) -> Self {
        Self {
            open: HashMap::new(),
            failed: BTreeMap::new(),
            uncaptured: BTreeMap::new(),
            next_id: 0,
            retry: Retry::new(longest_wait),
        }
    }

    /// Takes in what has happened, and has everything carried out that follows from it: what an action's outcome brings
    /// comes before what was planned later.
    pub(crate) fn run(
        &mut self,
        input: PlanInput,
        now: Instant,
        mut carry_out: impl FnMut(PlanAction) -> Option<PlanInput>,
    ) {
        let mut actions: VecDeque<PlanAction> = self.step(input, now).into();
        while let Some(action) = actions.pop_front() {
            let outcome = carry_out(action);
            let next = outcome.map_or_else(Vec::new, |outcome| self.step(outcome, now));
            next.into_iter()
                .rev()
                .for_each(|action| actions.push_front(action));
        }
    }

    /// Takes in what has happened; says what to do, in this order.
    pub(super) fn step(&mut self, input: PlanInput, now: Instant) -> Vec<PlanAction> {
        match input {
            PlanInput::Changed {
                bindings,
                captures_added,
                captures_removed,
            } => self.changed(bindings, captures_added, captures_removed),
            PlanInput::Opened(made) => self.opened(made, now),
            PlanInput::Filtered(wanted, result) => self.filtered(wanted, result),
            PlanInput::Captured { asked, refused } => self.captured(asked, refused, now),
            PlanInput::Hope => {
                self.retry.reset();
                if self.lacks_something() {
                    self.retry.arm(now);
                }
                Vec::new()
            }
            PlanInput::Tick => match self.retry.take_due(now) {
                true => self.try_again(),
                false => Vec::new(),
            },
        }
    }

    /// When [`PlanInput::Tick`] brings something to do, if ever.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.retry.at()
    }

    /// Listeners that are open now.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Listeners that could not be opened, each with whose it is and why.
    pub(crate) fn unopened(&self) -> impl Iterator<Item = (&BindKey, &Frontend, &str)> {
        let failed = self.failed.iter();
        failed.map(|(key, failed)| (key, &*failed.frontend, &*failed.why))
    }

    /// Why there is no listener.
    pub(crate) fn why_not_open(&self, key: &BindKey) -> Option<&str> {
        self.failed.get(key).map(|failed| &*failed.why)
    }

    /// What could not be captured, and why.
    pub(crate) fn uncaptured(&self) -> impl Iterator<Item = (&Capture, &str)> {
        self.uncaptured
            .iter()
            .map(|(capture, why)| (capture, &**why))
    }

    /// Why something is not captured.
    pub(crate) fn why_not_captured(&self, capture: &Capture) -> Option<&str> {
        self.uncaptured.get(capture).map(String::as_str)
    }

    fn lacks_something(&self) -> bool {
        !(self.failed.is_empty() && self.uncaptured.is_empty())
    }

    fn changed(
        &mut self,
        bindings: Vec<(BindKey, Option<Arc<Frontend>>)>,
        captures_added: Vec<Capture>,
        captures_removed: Vec<Capture>,
    ) -> Vec<PlanAction> {
        let (mut changes, mut filters, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for (key, frontend) in bindings {
            let Some(frontend) = frontend else {
                self.failed.remove(&key);
                changes.extend(self.close(&key));
                continue;
            };
            let Some(open) = self.open.get(&key) else {
                wanted.push(WantedListener { key, frontend });
                continue;
            };
            if open.allow == frontend.policy.allow {
                changes.push(ListenerChange::Replace {
                    id: open.id,
                    frontend,
                });
            } else {
                let socket = Arc::clone(&open.socket);
                filters.push(PlanAction::Filter(WantedListener { key, frontend }, socket));
            }
        }
        for capture in &captures_removed {
            self.uncaptured.remove(capture);
        }
        let mut actions = vec![PlanAction::Tell(changes)];
        actions.extend(filters);
        actions.extend(in_portions(wanted));
        actions.push(PlanAction::Capture {
            add: captures_added,
            remove: captures_removed,
        });
        actions.retain(PlanAction::does_something);
        self.settle();
        actions
    }

    fn try_again(&mut self) -> Vec<PlanAction> {
        let failed = self.failed.iter().map(|(key, failed)| WantedListener {
            key: *key,
            frontend: Arc::clone(&failed.frontend),
        });
        let mut actions = in_portions(failed.collect());
        actions.push(PlanAction::Capture {
            add: self.uncaptured.keys().copied().collect(),
            remove: Vec::new(),
        });
        actions.retain(PlanAction::does_something);
        actions
    }

    fn opened(
        &mut self,
        made: Vec<(WantedListener, Result<Arc<Socket>, BindError>)>,
        now: Instant,
    ) -> Vec<PlanAction> {
        let (mut changes, mut actions) = (Vec::new(), Vec::new());
        for (wanted, result) in made {
            let said = match result {
                Ok(socket) => {
                    let said = self.failed.remove(&wanted.key).map(|_| Notice::Opened {
                        port: wanted.frontend.route.name.clone(),
                        key: wanted.key,
                    });
                    changes.push(self.serve(wanted, socket));
                    said
                }
                Err(error) => self.not_opened(wanted, error.to_string(), now),
            };
            actions.extend(said.map(PlanAction::Say));
        }
        self.settle();
        actions.insert(0, PlanAction::Tell(changes));
        actions.retain(PlanAction::does_something);
        actions
    }

    fn serve(
        &mut self,
        WantedListener { key, frontend }: WantedListener,
        socket: Arc<Socket>,
    ) -> ListenerChange {
        let id = ListenerId(self.next_id);
        self.next_id += 1;
        let open = OpenListener {
            id,
            socket: Arc::clone(&socket),
            allow: frontend.policy.allow.clone(),
        };
        self.open.insert(key, open);
        ListenerChange::Open {
            id,
            protocol: key.protocol,
            addr: key.addr,
            socket,
            frontend,
        }
    }

    fn not_opened(&mut self, wanted: WantedListener, why: String, now: Instant) -> Option<Notice> {
        self.retry.arm(now);
        let WantedListener { key, frontend } = wanted;
        let port = frontend.route.name.clone();
        let failed = FailedListener {
            frontend,
            why: why.clone(),
        };
        let before = self.failed.insert(key, failed);
        let is_new = before.is_none_or(|before| before.why != why);
        is_new.then_some(Notice::NotOpened { port, key, why })
    }

    fn filtered(
        &mut self,
        wanted: WantedListener,
        result: Result<(), BindError>,
    ) -> Vec<PlanAction> {
        let Some(open) = self.open.get_mut(&wanted.key) else {
            return Vec::new();
        };
        let Err(error) = result else {
            let WantedListener { frontend, .. } = wanted;
            open.allow.clone_from(&frontend.policy.allow);
            let id = open.id;
            return vec![PlanAction::Tell(vec![ListenerChange::Replace {
                id,
                frontend,
            }])];
        };
        // A listener that hears the wrong sources is worse than none.
        let closed = self.close(&wanted.key).into_iter().collect();
        let notice = Notice::NotFiltered {
            port: wanted.frontend.route.name.clone(),
            key: wanted.key,
            why: error.to_string(),
        };
        vec![
            PlanAction::Tell(closed),
            PlanAction::Say(notice),
            PlanAction::Open(vec![wanted]),
        ]
    }

    fn captured(
        &mut self,
        asked: Vec<Capture>,
        refused: Vec<(Capture, portal::Error)>,
        now: Instant,
    ) -> Vec<PlanAction> {
        let mut before: BTreeMap<Capture, String> = BTreeMap::new();
        for capture in asked {
            before.extend(self.uncaptured.remove_entry(&capture));
        }
        let mut notices = Vec::new();
        for (capture, error) in refused {
            let why = error.to_string();
            if before.remove(&capture).as_ref() != Some(&why) {
                notices.push(Notice::NotCaptured { why: why.clone() });
            }
            self.uncaptured.insert(capture, why);
            self.retry.arm(now);
        }
        notices.extend(
            before
                .into_values()
                .map(|why_not_before| Notice::Captured { why_not_before }),
        );
        self.settle();
        notices.into_iter().map(PlanAction::Say).collect()
    }

    fn close(&mut self, key: &BindKey) -> Option<ListenerChange> {
        let open = self.open.remove(key)?;
        Some(ListenerChange::Close { id: open.id })
    }

    /// Nothing to try again: the next failure is the first.
    fn settle(&mut self) {
        if !self.lacks_something() {
            self.retry.reset();
        }
    }
}

impl PlanAction {
    fn does_something(&self) -> bool {
        match self {
            Self::Tell(changes) => !changes.is_empty(),
            Self::Open(wanted) => !wanted.is_empty(),
            Self::Capture { add, remove } => !(add.is_empty() && remove.is_empty()),
            Self::Filter(..) | Self::Say(_) => true,
        }
    }
}

fn in_portions(wanted: Vec<WantedListener>) -> Vec<PlanAction> {
    let mut wanted = wanted.into_iter();
    let portion = || {
        let portion: Vec<_> = wanted.by_ref().take(PORTION).collect();
        (!portion.is_empty()).then_some(PlanAction::Open(portion))
    };
    std::iter::from_fn(portion).collect()
}
