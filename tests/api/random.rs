//! The protocol's state machine under any sequence of answers.

use std::time::{Duration, Instant};

use portico::api::machine::{Contact, Failure, Machine, Outcome, Request, Store};
use portico::wire::ListMeta;

use crate::util::rng::{Rng, seeds};

const FAILURES: [Failure; 6] = [
    Failure::Refused,
    Failure::Later,
    Failure::Expired,
    Failure::TooLarge,
    Failure::Unsupported,
    Failure::Other,
];

/// What the server has said, to hold the machine to it.
struct Model {
    rng: Rng,
    machine: Machine,
    now: Instant,
    /// The newest version that the machine may know.
    version: u64,
    /// The version of the stream or list in force, as text; the machine must watch from here.
    known: String,
    token: String,
    lost: bool,
    /// The continue token has just expired: the whole list comes next, without a limit.
    expired_page: bool,
    /// Requests in a row without a wait that brought nothing.
    hurried: u32,
}

impl Model {
    fn new(rng: Rng) -> Self {
        Self {
            rng,
            machine: Machine::default(),
            now: Instant::now(),
            version: 10,
            known: String::new(),
            token: String::new(),
            lost: false,
            expired_page: false,
            hurried: 0,
        }
    }

    fn next_version(&mut self) -> String {
        self.version += 1 + self.rng.below(5) as u64;
        self.version.to_string()
    }

    fn failure(&mut self) -> Failure {
        *self.rng.choose(&FAILURES)
    }

    fn contact(&mut self, contact: Contact) {
        match contact {
            Contact::Same => {}
            Contact::Missing => assert!(self.lost, "missing before it was lost"),
            Contact::Lost => assert!(!std::mem::replace(&mut self.lost, true), "lost twice"),
            Contact::Regained => {
                assert!(std::mem::replace(&mut self.lost, false), "regained twice")
            }
        }
    }

    /// One request and its answer; true if the answer was worth the request.
    fn round(&mut self) {
        let request = self.machine.request();
        let (outcome, useful) = match &request {
            Request::WatchList { version } => {
                assert!(version.is_empty() || *version == self.known, "{request:?}");
                self.stream(true)
            }
            Request::Watch { version } => {
                assert_eq!(
                    *version, self.known,
                    "a watch from anywhere else loses events"
                );
                self.stream(false)
            }
            Request::Page {
                version,
                limit,
                continue_token,
            } => {
                assert_eq!(*continue_token, self.token, "pages in order");
                if continue_token.is_empty() {
                    let fine = |version: &String| version == "0" || *version == self.known;
                    assert!(version.as_ref().is_none_or(fine), "{request:?}");
                    let paged = *limit || self.expired_page;
                    assert!(version.is_some() || paged, "a quorum read comes in pages");
                } else {
                    assert_eq!(*version, None, "the token has the version");
                }
                self.page()
            }
        };
        // What comes later is the very same.
        if outcome != Outcome::Failed(Failure::Later) {
            let paging = !self.token.is_empty();
            self.expired_page = paging && outcome == Outcome::Failed(Failure::Expired);
            self.token.clear();
        }
        let mut done = false;
        if let Outcome::Page(meta) = &outcome {
            self.token.clone_from(&meta.continue_token);
            done = meta.continue_token.is_empty();
        }
        let random = self.rng.below(1000) as f64 / 1000.0;
        let decision = self.machine.step(outcome.clone(), self.now, random);
        self.contact(decision.contact);
        assert_eq!(decision.store == Store::Replace, done, "{outcome:?}");
        if done {
            // The first page's version; pages of one list share it here.
            self.known = self.version.to_string();
        }
        let wait = decision.wait;
        let range = Duration::from_millis(800)..=Duration::from_secs(60);
        assert!(wait.is_zero() || range.contains(&wait), "{wait:?}");
        self.hurried = match useful || !wait.is_zero() {
            true => 0,
            false => self.hurried + 1,
        };
        // Watch-list without a version, a list with one and a list without one are the most that is tried at once.
        assert!(self.hurried <= 4, "a loop without a pause: {outcome:?}");
        self.now += wait + Duration::from_millis(self.rng.below(3000) as u64);
    }

    fn page(&mut self) -> (Outcome, bool) {
        if self.rng.one_in(3) {
            return (Outcome::Failed(self.failure()), false);
        }
        let more = self.rng.one_in(2);
        let meta = ListMeta {
            resource_version: if self.token.is_empty() {
                self.next_version()
            } else {
                self.version.to_string()
            },
            continue_token: if more {
                format!("C{}", self.rng.below(1000))
            } else {
                String::new()
            },
        };
        (Outcome::Page(meta), true)
    }

    fn stream(&mut self, mut collecting: bool) -> (Outcome, bool) {
        if self.rng.one_in(3) {
            return (Outcome::Failed(self.failure()), false);
        }
        if collecting && self.rng.one_in(10) {
            return (Outcome::Unfinished, false);
        }
        let mut events = false;
        while !self.rng.one_in(4) {
            events = true;
            let version = self.next_version();
            if collecting {
                if self.rng.one_in(3) {
                    collecting = false;
                    let contact = self.machine.initialized(version.clone());
                    self.contact(contact);
                    self.known = version;
                }
                continue;
            }
            let added = self.rng.one_in(2);
            let contact = self.machine.observed(&version, added);
            self.contact(contact);
            self.known = version;
        }
        let error = self.rng.one_in(3).then(|| self.failure());
        let lasted = Duration::from_millis(*self.rng.choose(&[0, 10, 999, 1000, 5000, 300_000]));
        let useful = lasted >= Duration::from_secs(1) || (events && !collecting);
        let outcome = Outcome::Ended {
            events,
            lasted,
            error,
        };
        (outcome, useful)
    }
}

#[test]
fn no_answer_confuses_the_protocol() {
    seeds(500, |rng| {
        let mut model = Model::new(rng);
        for _ in 0..300 {
            model.round();
        }
    });
}

#[test]
fn a_server_that_recovers_is_followed_again() {
    seeds(200, |rng| {
        let mut model = Model::new(rng);
        for _ in 0..50 {
            model.round();
        }
        // From any state a few good answers lead to a watch.
        let good = |machine: &Machine| match machine.request() {
            Request::WatchList { .. } => None,
            Request::Page { .. } => Some(Outcome::Page(ListMeta {
                resource_version: "9999".to_string(),
                continue_token: String::new(),
            })),
            Request::Watch { .. } => None,
        };
        match good(&model.machine) {
            Some(page) => {
                let decision = model.machine.step(page, model.now, 0.0);
                assert_eq!(decision.store, Store::Replace);
            }
            None => {
                model.machine.initialized("9999".to_string());
            }
        }
        assert!(matches!(model.machine.request(), Request::Watch { .. }));
    });
}
