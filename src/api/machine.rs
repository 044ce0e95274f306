//! The list-and-watch protocol as a state machine: client-go's reflector, without its sockets, clock and threads.
//!
//! The shell asks [`Machine::request`] what to do, does it, and reports the [`Outcome`] to [`Machine::step`], which says how
//! long to wait before the next request and what has become of the store. Where it departs from client-go: that a server
//! refuses watch-list streaming, or does not end it, is remembered; two watches in a row that end within a second are followed
//! by a pause; a page is asked for again where the server only asks for patience; the backoff is reset by two minutes without
//! failure, or by somebody else's success.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use crate::wire::ListMeta;

/// Objects in one page of a list.
pub(crate) const PAGE: u32 = 500;
/// A watch that ends sooner, and without an event, failed.
const VERY_SHORT: Duration = Duration::from_secs(1);
/// How often a resource that this server does not offer us is asked for again.
const ABSENT_RETRY: Duration = Duration::from_secs(600);

/// What to ask the apiserver next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A watch that begins with all objects, at least as fresh as this version (any, if empty).
    WatchList {
        /// `resourceVersion`
        version: String,
    },
    /// One page of a list. The first page (without `continue_token`) begins a new collection.
    Page {
        /// `resourceVersion`; None leaves it out: the newest state, read through etcd.
        version: Option<String>,
        /// Whether to ask for [`PAGE`] objects at most.
        limit: bool,
        /// Of the page before; empty for the first.
        continue_token: String,
    },
    /// What happens after this version.
    Watch {
        /// `resourceVersion`
        version: String,
    },
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A page came whole.
    Page(ListMeta),
    /// The request was refused or could not be made; for lists also: the response broke.
    Failed(Failure),
    /// The server does not say that all objects have been sent, although it has had the time: it does not know watch-list.
    Unfinished,
    /// The stream began, and this was its end.
    Ended {
        /// Whether any event came.
        events: bool,
        /// From its opening to its end.
        lasted: Duration,
        /// What an ERROR event or an undecodable one said. None for a clean end, a broken connection and silence: what was
        /// missed is asked for again from the last version.
        error: Option<Failure>,
    },
}

/// What went wrong, by what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing listens there, or it hangs up without an answer.
    Refused,
    /// 429, and what says when to come back: the same again, later.
    Later,
    /// 410: the version or the continue token is too old.
    Expired,
    /// The version is newer than what this server has seen.
    TooLarge,
    /// 400, 422: the request is not understood.
    Unsupported,
    /// 404 for a resource that we can do without.
    Absent,
    /// Everything else.
    Other,
}

/// What follows from an outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// How long to wait before the next request.
    pub wait: Duration,
    /// What becomes of the objects.
    pub store: Store,
    /// Whether contact with the apiserver has just been lost or regained.
    pub contact: Contact,
}

/// What becomes of the objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// They stay as they are.
    #[default]
    Keep,
    /// The collected pages replace them.
    Replace,
    /// There are none.
    Clear,
}

/// A change in contact with the apiserver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contact {
    /// As before.
    #[default]
    Same,
    /// The first failure of an outage.
    Lost,
    /// Another one of it.
    Missing,
    /// The first success after one.
    Regained,
}

/// Where the reflector is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Fetches everything by a watch. An expired version: again without one. Unsupported and what else fails: `Listing`.
    Streaming,
    /// Fetches everything by pages. Expired or too new: once more without a version. Else, after a pause, anew.
    Listing(Listing),
    /// Follows changes from `last_version`. A broken stream: again from there. Expired, refused: everything anew.
    Watching {
        /// The previous watch ended within a second: the next such end is followed by a pause.
        hasty: bool,
        /// Begun at "" or "0", where objects come in any order: their versions do not count before the first other event.
        unordered: bool,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Listing {
    version: Option<String>,
    limit: bool,
    continue_token: String,
    /// The first page's: the state that all pages show.
    listed_version: Option<String>,
    /// The list without a limit that follows on an expired continue token; the second such failure is final.
    whole: bool,
}

/// The protocol's memory.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
    /// The newest version known; empty at the start.
    last_version: String,
    /// `last_version` is of no use for a list: too old, or too new.
    version_unavailable: bool,
    /// The server pages even what its cache could answer: keep the limit.
    paginated: bool,
    /// False once the server has refused it, or does not know it.
    watch_list: bool,
    /// The last watch-list ended before it was complete.
    incomplete: bool,
    /// The objects have been received whole before.
    followed: bool,
    backoff: Backoff,
    /// The last thing heard of the apiserver was a failure.
    lost: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            state: State::Streaming,
            last_version: String::new(),
            version_unavailable: false,
            paginated: false,
            watch_list: true,
            incomplete: false,
            followed: false,
            backoff: Backoff::default(),
            lost: false,
        }
    }
}

impl Machine {
    /// What to ask now.
    pub fn request(&self) -> Request {
        match &self.state {
            State::Streaming => Request::WatchList {
                version: match self.version_unavailable {
                    true => String::new(),
                    false => self.last_version.clone(),
                },
            },
            // The version belongs to the first page only: the token has it, and both together are refused.
            State::Listing(list) => Request::Page {
                version: list
                    .version
                    .clone()
                    .filter(|_| list.continue_token.is_empty()),
                limit: list.limit,
                continue_token: list.continue_token.clone(),
            },
            State::Watching { .. } => Request::Watch {
                version: self.last_version.clone(),
            },
        }
    }

    /// The stream has delivered everything there was, as of this version: the collection replaces the store, and the stream
    /// goes on as a watch.
    pub fn initialized(&mut self, version: String) -> Contact {
        self.version_unavailable = false;
        self.incomplete = false;
        self.followed = true;
        self.watch(version);
        self.succeeded()
    }

    /// An event of a watch. `version` is its object's; `added`: it was of type ADDED.
    pub fn observed(&mut self, version: &str, added: bool) -> Contact {
        if let State::Watching { unordered, .. } = &mut self.state {
            *unordered &= added;
            if !*unordered && !version.is_empty() {
                version.clone_into(&mut self.last_version);
            }
        }
        self.succeeded()
    }

    /// Somebody else has regained contact with the server: what follows counts as the first failure again.
    pub fn woken(&mut self) {
        self.backoff = Backoff::default();
    }

    /// Takes note of how the request ended. `random` is in `0.0..1.0`.
    pub fn step(&mut self, outcome: Outcome, now: Instant, random: f64) -> Decision {
        // What was there before is not taken back because somebody says that there is no such thing.
        let outcome = match outcome {
            Outcome::Failed(Failure::Absent) if self.followed => Outcome::Failed(Failure::Other),
            outcome => outcome,
        };
        if outcome == Outcome::Failed(Failure::Absent) {
            self.begin();
            return Decision {
                wait: ABSENT_RETRY.mul_f64(1.0 + random),
                store: Store::Clear,
                contact: self.succeeded(),
            };
        }
        let contact = match &outcome {
            Outcome::Page(_) => self.succeeded(),
            Outcome::Failed(failure) => self.failed(*failure),
            Outcome::Unfinished => Contact::Same,
            Outcome::Ended { error, .. } => {
                error.map_or(Contact::Same, |failure| self.failed(failure))
            }
        };
        let (pause, store) = match self.state.clone() {
            State::Streaming => (self.streaming(outcome), Store::Keep),
            State::Listing(list) => self.listing(list, outcome),
            State::Watching { hasty, .. } => (self.watching(hasty, outcome), Store::Keep),
        };
        Decision {
            wait: match pause {
                Pause::None => Duration::ZERO,
                Pause::Backoff => self.backoff.next(now, random),
            },
            store,
            contact,
        }
    }

    fn streaming(&mut self, outcome: Outcome) -> Pause {
        match outcome {
            Outcome::Failed(Failure::Refused | Failure::Later) => Pause::Backoff,
            Outcome::Failed(Failure::Expired | Failure::TooLarge)
            | Outcome::Ended {
                error: Some(Failure::Expired | Failure::TooLarge),
                ..
            } if !self.version_unavailable => {
                self.version_unavailable = true;
                Pause::None
            }
            Outcome::Ended {
                events,
                lasted,
                error: None,
            } if (events || lasted >= VERY_SHORT) && !self.incomplete => {
                self.incomplete = true;
                // Everything is asked for again; at once only if this did not fail at once.
                if lasted >= VERY_SHORT {
                    Pause::None
                } else {
                    Pause::Backoff
                }
            }
            Outcome::Failed(failure) => {
                self.watch_list &= failure != Failure::Unsupported;
                self.list();
                Pause::None
            }
            Outcome::Unfinished => {
                self.watch_list = false;
                self.list();
                Pause::None
            }
            Outcome::Ended { .. } | Outcome::Page(_) => {
                self.incomplete = false;
                self.list();
                Pause::None
            }
        }
    }

    fn listing(&mut self, mut list: Listing, outcome: Outcome) -> (Pause, Store) {
        let first_page = list.continue_token.is_empty();
        match outcome {
            Outcome::Page(meta) => {
                let version = list.listed_version.take().unwrap_or(meta.resource_version);
                if meta.continue_token.is_empty() {
                    self.version_unavailable = false;
                    self.followed = true;
                    self.watch(version);
                    return (Pause::None, Store::Replace);
                }
                self.paginated |= list.version.as_deref() == Some("0");
                list.continue_token = meta.continue_token;
                list.listed_version = Some(version);
                self.state = State::Listing(list);
                (Pause::None, Store::Keep)
            }
            Outcome::Failed(Failure::Expired) if !first_page && !list.whole => {
                self.state = State::Listing(Listing {
                    version: list.version,
                    whole: true,
                    ..Listing::default()
                });
                (Pause::None, Store::Keep)
            }
            Outcome::Failed(Failure::Expired | Failure::TooLarge) if !self.version_unavailable => {
                self.version_unavailable = true;
                self.list();
                (Pause::None, Store::Keep)
            }
            Outcome::Failed(Failure::Later) => (Pause::Backoff, Store::Keep),
            Outcome::Failed(_) | Outcome::Unfinished | Outcome::Ended { .. } => {
                self.begin();
                (Pause::Backoff, Store::Keep)
            }
        }
    }

    fn watching(&mut self, hasty: bool, outcome: Outcome) -> Pause {
        match outcome {
            Outcome::Failed(Failure::Refused | Failure::Later)
            | Outcome::Ended {
                error: Some(Failure::Later),
                ..
            } => {
                self.watch(self.last_version.clone());
                Pause::Backoff
            }
            Outcome::Ended {
                events,
                lasted,
                error: None,
            } if events || lasted >= VERY_SHORT => {
                let short = lasted < VERY_SHORT;
                self.watch(self.last_version.clone());
                if let State::Watching { hasty, .. } = &mut self.state {
                    *hasty = short;
                }
                if short && hasty {
                    Pause::Backoff
                } else {
                    Pause::None
                }
            }
            Outcome::Failed(_) | Outcome::Unfinished | Outcome::Ended { .. } | Outcome::Page(_) => {
                self.begin();
                Pause::Backoff
            }
        }
    }

    /// Everything is to be fetched again.
    fn begin(&mut self) {
        if self.watch_list {
            self.state = State::Streaming;
        } else {
            self.list();
        }
    }

    fn list(&mut self) {
        let version = match (self.version_unavailable, self.last_version.as_str()) {
            (true, _) => None,
            (false, "") => Some("0".to_string()),
            (false, version) => Some(version.to_string()),
        };
        // Without a limit a cache can answer "at least this version"; with one it would have to ask etcd.
        let known = version.as_deref().is_some_and(|version| version != "0");
        self.state = State::Listing(Listing {
            version,
            limit: !known || self.paginated,
            ..Listing::default()
        });
    }

    fn watch(&mut self, version: String) {
        self.state = State::Watching {
            hasty: false,
            unordered: version.is_empty() || version == "0",
        };
        self.last_version = version;
    }

    fn succeeded(&mut self) -> Contact {
        match std::mem::take(&mut self.lost) {
            true => Contact::Regained,
            false => Contact::Same,
        }
    }

    fn failed(&mut self, failure: Failure) -> Contact {
        match failure {
            // The protocol's own way of going on; and watch-list, which lists are there for.
            Failure::Expired | Failure::TooLarge | Failure::Absent => Contact::Same,
            Failure::Unsupported | Failure::Other if self.state == State::Streaming => {
                Contact::Same
            }
            Failure::Refused | Failure::Later | Failure::Unsupported | Failure::Other => {
                match std::mem::replace(&mut self.lost, true) {
                    true => Contact::Missing,
                    false => Contact::Lost,
                }
            }
        }
    }
}

/// Whether to wait before the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    None,
    Backoff,
}

#[cfg(test)]
mod tests;
