//! The thread behind each resource: does what the [`Machine`] asks, and hands the objects over.

use std::collections::BTreeMap;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;

use super::Access;
use super::backoff::Random;
use super::client::{Client, Encoding, Reader};
use super::error::Error;
use super::list_watch::{Resource, Selection, Targets};
use super::machine::{Contact, Machine, Outcome, Request, Store};
use crate::types::{Complaint, Complaints, NamespacedName, Problem, Relist, Subject, Update};
use crate::wire::{self, Event, Events, Interner, Item, ItemError, StreamError};

/// Watches last this long at least, and up to twice that, so that nobody's watches end together.
const MIN_WATCH_SECONDS: u64 = 300;

/// Objects of a list that are handed over at once: enough to wake the merge thread seldom.
const PIECE: usize = 64;

/// Starts the reflector of one resource. It ends when the receiver is gone and there is something to send; until then it may
/// sit in a read that only the apiserver ends, so let it go with the process rather than join it.
pub fn spawn_reflector<T: Resource>(
    access: &Access,
    selection: &Selection,
    sender: Sender<Update<T>>,
) -> io::Result<JoinHandle<()>> {
    let client = Client::new(access).map_err(io::Error::other)?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = clock.map_or(0, |time| time.as_nanos() as u64) ^ T::KIND.as_str().len() as u64;
    let mut reflector = Reflector {
        client,
        targets: Targets::new::<T>(selection),
        machine: Machine::default(),
        random: Random::new(seed ^ (u64::from(std::process::id()) << 32)),
        interner: Interner::default(),
        sender,
        piece: Vec::new(),
        reports: Reports::default(),
    };
    thread::Builder::new()
        .name(T::THREAD.to_string())
        .spawn(move || while reflector.round().is_ok() {})
}

/// The receiver is gone: shutdown.
struct Closed;

struct Reflector<T> {
    client: Client,
    targets: Targets,
    machine: Machine,
    random: Random,
    interner: Interner,
    sender: Sender<Update<T>>,
    /// What a list or the beginning of a watch has brought and is not handed over yet.
    piece: Vec<T>,
    reports: Reports,
}

impl<T: Resource> Reflector<T> {
    /// One request, and what follows from it.
    fn round(&mut self) -> Result<(), Closed> {
        let request = self.machine.request();
        let (outcome, error) = match &request {
            Request::Page { continue_token, .. } => {
                self.page(&request, continue_token.is_empty())?
            }
            Request::WatchList { .. } | Request::Watch { .. } => self.watch(&request)?,
        };
        let (now, random) = (Instant::now(), self.random.unit());
        let decision = self.machine.step(outcome, now, random);
        match decision.store {
            Store::Keep => {}
            Store::Replace => {
                self.reports.absent = false;
                self.relist(Relist::End)?;
                self.complain()?;
            }
            Store::Clear => {
                if self.reports.absent::<T>(error.as_ref()) {
                    self.send(Update::Set(Vec::new()))?;
                }
            }
        }
        self.contact(decision.contact, error.as_ref())?;
        if !decision.wait.is_zero() {
            if let Some(error) = &error {
                log::debug!("{}s: {error}; next attempt in {:?}", T::KIND, decision.wait);
            }
            thread::sleep(decision.wait);
        }
        Ok(())
    }

    fn page(&mut self, request: &Request, first: bool) -> Result<(Outcome, Option<Error>), Closed> {
        let body = match self.open(request, Encoding::Gzip) {
            Ok(body) => body,
            Err(error) => return Ok(failed::<T>(error)),
        };
        if first {
            self.begin()?;
        }
        let kind = self.targets.current().kind;
        let (sender, piece, reports) = (&self.sender, &mut self.piece, &mut self.reports);
        let mut sent = Ok(());
        let mut each = |item| {
            piece.extend(reports.object(item));
            if piece.len() >= PIECE {
                sent = hand_over(sender, piece);
            }
        };
        let listed = wire::list(body, kind, &mut self.interner, &mut each);
        sent?;
        Ok(match listed {
            Ok(meta) => (Outcome::Page(meta), None),
            Err(error) => failed::<T>(error.into()),
        })
    }

    fn watch(&mut self, request: &Request) -> Result<(Outcome, Option<Error>), Closed> {
        let body = match self.open(request, Encoding::Identity) {
            Ok(body) => body,
            Err(error) => return Ok(failed::<T>(error)),
        };
        let opened = Instant::now();
        // Until the bookmark that ends the initial events, objects are collected.
        let mut collecting = matches!(request, Request::WatchList { .. });
        if collecting {
            self.begin()?;
        }
        let kind = self.targets.current().kind;
        let mut events = Events::new(body);
        let mut any = false;
        let error = loop {
            let event = match events.next::<T>(kind, &mut self.interner) {
                Some(Ok(event)) => event,
                None => break None,
                Some(Err(StreamError::Read(error))) => {
                    log::debug!("{} watch: the connection broke: {error}", T::KIND);
                    break None;
                }
                Some(Err(error @ StreamError::Malformed(_))) => break Some(Error::from(error)),
            };
            if let Event::Error(status) = event {
                break Some(Error::Status {
                    code: status.code,
                    status: Box::new(status),
                    retry_after: None,
                });
            }
            any = true;
            match collecting {
                true => collecting = !self.collect(event)?,
                false => self.apply(event)?,
            }
        };
        let outcome = Outcome::Ended {
            events: any,
            lasted: opened.elapsed(),
            error: error.as_ref().map(|error| error.failure(false)),
        };
        Ok((outcome, error))
    }

    /// Sends a request; answers that only say that another form of it is wanted lead to that at once.
    fn open(&mut self, request: &Request, encoding: Encoding) -> Result<Reader, Error> {
        loop {
            let target = self.targets.current();
            let timeout = MIN_WATCH_SECONDS + self.random.bits() % MIN_WATCH_SECONDS;
            let url = target.url(request, timeout);
            let error = match self.client.get(&url, encoding) {
                Ok(body) => {
                    self.targets.settle();
                    self.reports.simpler.clear();
                    return Ok(body);
                }
                Err(error) => error,
            };
            // A watch or a later page cannot go on with other objects than it began with.
            let begins = match request {
                Request::WatchList { .. } => true,
                Request::Page { continue_token, .. } => continue_token.is_empty(),
                Request::Watch { .. } => false,
            };
            let again = match error.code() {
                Some(400) => self.targets.bad_request(),
                Some(404) => self.targets.not_found() && begins,
                Some(_) | None => false,
            };
            if !again {
                return Err(error);
            }
            let path = self.targets.current().path;
            let level = match self.reports.simpler(path) {
                true => log::Level::Info,
                false => log::Level::Debug,
            };
            let kind = T::KIND;
            log::log!(
                level,
                "{kind}s: {error}; asking for {path} in a simpler way"
            );
        }
    }

    /// An event before everything has been delivered. True with the one that says that it has.
    fn collect(&mut self, event: Event<T>) -> Result<bool, Closed> {
        match event {
            // The objects begin with their state at one moment, and what happens meanwhile may come in between.
            Event::Added(item) | Event::Modified(item) => {
                let name = item.name.clone();
                match self.reports.object(Ok(item)) {
                    Some(object) => self.piece.push(object),
                    // What it was before, if anything, is not true any more.
                    None => self.relist(Relist::Gone(name))?,
                }
                if self.piece.len() >= PIECE {
                    hand_over(&self.sender, &mut self.piece)?;
                }
            }
            Event::Deleted(item) => self.relist(Relist::Gone(item.name))?,
            Event::Bookmark {
                resource_version,
                initial_events_end: true,
            } => {
                let contact = self.machine.initialized(resource_version);
                self.reports.absent = false;
                self.relist(Relist::End)?;
                self.complain()?;
                self.contact(contact, None)?;
                return Ok(true);
            }
            Event::Bookmark { .. } | Event::Error(_) => {}
            Event::Skipped(why) => log::warn!("{} watch: skipped {why}", T::KIND),
        }
        Ok(false)
    }

    fn apply(&mut self, event: Event<T>) -> Result<(), Closed> {
        let contact = match event {
            Event::Added(item) => self.change(item, true)?,
            Event::Modified(item) => self.change(item, false)?,
            Event::Deleted(item) => {
                self.reports.forget(&item.name);
                self.send(Update::Remove(item.name))?;
                self.complain()?;
                self.machine.observed(&item.resource_version, false)
            }
            Event::Bookmark {
                resource_version, ..
            } => self.machine.observed(&resource_version, false),
            Event::Error(_) => Contact::Same,
            Event::Skipped(why) => {
                log::warn!("{} watch: skipped {why}", T::KIND);
                Contact::Same
            }
        };
        self.contact(contact, None)
    }

    fn change(&mut self, item: Item<T>, added: bool) -> Result<Contact, Closed> {
        let (name, version) = (item.name.clone(), item.resource_version.clone());
        let update = match self.reports.object(Ok(item)) {
            Some(object) => Update::Add(object),
            // What it was before is not true any more.
            None => Update::Remove(name),
        };
        self.send(update)?;
        self.complain()?;
        Ok(self.machine.observed(&version, added))
    }

    fn contact(&mut self, contact: Contact, error: Option<&Error>) -> Result<(), Closed> {
        match (contact, error) {
            (Contact::Same, _) => {}
            (Contact::Lost, error) => {
                let error = error.map_or("the connection ended".to_string(), Error::to_string);
                log::warn!(
                    "cannot follow {}s, going on with what is known: {error}",
                    T::KIND
                );
                self.send(Update::Unavailable)?;
            }
            (Contact::Regained, _) => log::info!("following {}s again", T::KIND),
        }
        Ok(())
    }

    /// Hands over what is wrong with objects, if that is news.
    fn complain(&mut self) -> Result<(), Closed> {
        match self.reports.news::<T>() {
            Some(complaints) => self.send(Update::Complaints(complaints)),
            None => Ok(()),
        }
    }

    /// Everything is about to be said anew.
    fn begin(&mut self) -> Result<(), Closed> {
        self.piece.clear();
        self.reports.forget_all();
        self.send(Update::Relist(Relist::Begin))
    }

    fn relist(&mut self, relist: Relist<T>) -> Result<(), Closed> {
        // In the order in which it came.
        hand_over(&self.sender, &mut self.piece)?;
        self.send(Update::Relist(relist))
    }

    fn send(&self, update: Update<T>) -> Result<(), Closed> {
        send(&self.sender, update)
    }
}

fn hand_over<T>(sender: &Sender<Update<T>>, piece: &mut Vec<T>) -> Result<(), Closed> {
    match std::mem::take(piece) {
        piece if piece.is_empty() => Ok(()),
        piece => send(sender, Update::Relist(Relist::Objects(piece))),
    }
}

fn send<T>(sender: &Sender<Update<T>>, update: Update<T>) -> Result<(), Closed> {
    sender.send(update).map_err(|_| Closed)
}

fn failed<T: Resource>(error: Error) -> (Outcome, Option<Error>) {
    let failure = error.failure(T::OPTIONAL);
    (Outcome::Failed(failure), Some(error))
}

/// So many objects that can mean nothing are remembered, to be forgotten when they can.
const MOST_UNUSABLE: usize = 1000;

/// What is wrong with objects that can mean nothing.
#[derive(Default)]
struct Reports {
    unusable: BTreeMap<NamespacedName, Problem>,
    /// How many more there have been since the last list began.
    left_out: usize,
    /// Objects without a name, since then.
    nameless: Complaints,
    changed: bool,
    absent: bool,
    /// Paths asked in a simpler way since one of them last answered.
    simpler: Vec<&'static str>,
}

impl Reports {
    /// True the first time since a server last understood what it was asked: one that is no apiserver never does.
    fn simpler(&mut self, path: &'static str) -> bool {
        let news = !self.simpler.contains(&path);
        if news {
            self.simpler.push(path);
        }
        news
    }

    /// Notes what is wrong with an object; gives the object, if there is one for us.
    fn object<T: Resource>(&mut self, item: Result<Item<T>, ItemError>) -> Option<T> {
        let item = match item {
            Ok(item) => item,
            Err(ItemError { problem }) => {
                let subject = Subject::Kind(T::KIND);
                self.changed |= self.nameless.add(Complaint { subject, problem });
                return None;
            }
        };
        // What is wrong inside an object that is used all the same is said by that object.
        match item.object {
            Ok(object) => {
                self.forget(&item.name);
                object
            }
            Err(problem) => {
                self.unusable(item.name, problem);
                None
            }
        }
    }

    fn unusable(&mut self, name: NamespacedName, problem: Problem) {
        if self.unusable.len() < MOST_UNUSABLE || self.unusable.contains_key(&name) {
            let before = self.unusable.insert(name, problem.clone());
            self.changed |= before != Some(problem);
        } else {
            self.left_out += 1;
            self.changed |= self.left_out == 1;
        }
    }

    fn forget(&mut self, name: &NamespacedName) {
        if !self.unusable.is_empty() {
            self.changed |= self.unusable.remove(name).is_some();
        }
    }

    /// Everything is about to be said anew.
    fn forget_all(&mut self) {
        self.changed |= !self.unusable.is_empty() || !self.nameless.is_empty();
        self.unusable.clear();
        self.left_out = 0;
        self.nameless = Complaints::default();
    }

    /// All there is, if it is not what it was at the last call.
    fn news<T: Resource>(&mut self) -> Option<Complaints> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut complaints = self.nameless.clone();
        complaints.extend(self.unusable.iter().map(|(name, problem)| Complaint {
            subject: Subject::Object(T::KIND, name.clone()),
            problem: problem.clone(),
        }));
        if self.left_out > 0 {
            complaints.leave_out(&Subject::Kind(T::KIND), self.left_out);
        }
        Some(complaints)
    }

    /// The resource is not there for us; true if that is news.
    fn absent<T: Resource>(&mut self, error: Option<&Error>) -> bool {
        let news = !std::mem::replace(&mut self.absent, true);
        if let Some(error) = error.filter(|_| news) {
            let code = error.code().unwrap_or_default();
            let why = "this server does not have them, or not for our role";
            log::info!("going without {}s: {why} ({code})", T::KIND);
        }
        news
    }
}
