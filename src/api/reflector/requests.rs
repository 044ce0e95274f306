//! Requests and what comes back: pages of lists, and watches.

use std::time::Instant;

use super::initial::Initial;
use super::measure::{MOST_OBJECTS, Measured, Progress, TOO_MANY};
use super::{Closed, Reflector, hand_over};
use crate::api::client::{Encoding, Reader};
use crate::api::error::{Error, Refusal};
use crate::api::list_watch::Resource;
use crate::api::machine::{Contact, Outcome, Request};
use crate::types::{Relist, Update};
use crate::wire::{self, Event, Events, Item, StreamError};

/// Watches last this long at least, and up to twice that, so that nobody's watches end together.
const MIN_WATCH_SECONDS: u64 = 300;
/// Objects of a list that are handed over at once: enough to wake the merge thread seldom.
const PIECE: usize = 64;

/// How a request ended, and the error behind it.
type Ended = (Outcome, Option<Error>);

impl<T: Resource> Reflector<T> {
    pub(super) fn page(&mut self, request: &Request, token: &str) -> Result<Ended, Closed> {
        let body = match self.open(request, Encoding::Gzip) {
            Ok(body) => body,
            Err(error) => return Ok(failed::<T>(error)),
        };
        if token.is_empty() {
            self.begin()?;
        }
        let kind = self.targets.current().kind;
        self.client.set_answer_due(true);
        let progress = Progress::from(self.held);
        let (sender, piece, reports) = (&self.sender, &mut self.piece, &mut self.reports);
        let mut sent = Ok(());
        let mut each = |item| {
            progress.add();
            piece.extend(reports.object(item));
            if piece.len() >= PIECE {
                sent = hand_over(sender, piece);
            }
        };
        let body = Measured::new(body, &self.client, &progress);
        let listed = wire::list(body, kind, &mut self.interner, &mut each);
        sent?;
        self.held = progress.objects();
        let error = match listed {
            Ok(meta) if !meta.continue_token.is_empty() && meta.continue_token == token => {
                self.broken("it goes on with the page that it has just sent")
            }
            Ok(meta) => return Ok((Outcome::Page(meta), None)),
            Err(error) => match progress.end() {
                Some(why) => self.broken(why),
                None => self.of_server(&error),
            },
        };
        if progress.end().is_some() {
            // What has come of it is not kept until the next attempt.
            self.begin()?;
        }
        Ok(failed::<T>(error))
    }

    pub(super) fn watch_list(&mut self, request: &Request) -> Result<Ended, Closed> {
        let mut initial = Initial::new(Instant::now());
        self.client
            .set_deadline(Some(initial.deadline(Instant::now())));
        let body = match self.open(request, Encoding::Identity) {
            Ok(body) => body,
            Err(error) => return Ok(failed::<T>(error)),
        };
        let opened = Instant::now();
        self.begin()?;
        let mut events = Events::new(body);
        let mut any = false;
        // Until the bookmark that ends the initial events, objects are collected.
        while !initial.is_over(Instant::now()) {
            let asked = Instant::now();
            self.client.set_deadline(Some(initial.deadline(asked)));
            let event = self.next(&mut events);
            initial.waited(asked.elapsed());
            match event {
                Some(Ok(event)) => {
                    any = true;
                    if self.collect(event)? {
                        self.client.set_deadline(None);
                        return self.follow(events, any, opened);
                    }
                }
                // The deadline has ended the connection.
                _ if initial.is_over(Instant::now()) => break,
                end => return Ok(ended(end.and_then(Result::err), any, opened)),
            }
            if self.held > MOST_OBJECTS {
                self.begin()?;
                let error = self.broken(TOO_MANY);
                return Ok(ended(Some(error), any, opened));
            }
        }
        self.unfinished();
        Ok((Outcome::Unfinished, None))
    }

    pub(super) fn watch(&mut self, request: &Request) -> Result<Ended, Closed> {
        match self.open(request, Encoding::Identity) {
            Ok(body) => self.follow(Events::new(body), false, Instant::now()),
            Err(error) => Ok(failed::<T>(error)),
        }
    }

    /// The events of a watch until it ends. `any`: some have come already.
    fn follow(
        &mut self,
        mut events: Events<Reader>,
        mut any: bool,
        opened: Instant,
    ) -> Result<Ended, Closed> {
        loop {
            let event = match self.next(&mut events) {
                Some(Ok(event)) => event,
                end => return Ok(ended(end.and_then(Result::err), any, opened)),
            };
            any = true;
            self.apply(event)?;
            if self.held > MOST_OBJECTS {
                // A list tells how many there are.
                let error = self.broken(TOO_MANY);
                return Ok(ended(Some(error), any, opened));
            }
        }
    }

    /// The next event; an error that ends the watch; or None when it ends, or its connection.
    fn next(&mut self, events: &mut Events<Reader>) -> Option<Result<Event<T>, Error>> {
        let kind = self.targets.current().kind;
        match events.next::<T>(kind, &mut self.interner)? {
            Ok(Event::Error(status)) => Some(Err(Error::Status(Box::new(Refusal {
                server: self.access.server(),
                code: status.code,
                is_status: true,
                status,
                ..Refusal::default()
            })))),
            Ok(event) => Some(Ok(event)),
            Err(StreamError::Read(error)) => {
                log::debug!("{} watch: the connection broke: {error}", T::KIND);
                None
            }
            Err(error @ StreamError::Malformed(_)) => Some(Err(self.of_server(&error))),
        }
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
                self.held += 1;
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
                self.end()?;
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
            Event::Added(item) => {
                self.held += 1;
                self.change(item, true)?
            }
            Event::Modified(item) => self.change(item, false)?,
            Event::Deleted(item) => {
                self.held = self.held.saturating_sub(1);
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

    /// The server does not say when a watch-list is complete. One word for all kinds.
    fn unfinished(&self) {
        let server = self.access.server();
        if self.access.contacts().is_first("watch-list") {
            log::warn!(
                "{server} does not say when the first events of a watch are complete (no watch-list streaming): using lists \
                 instead"
            );
        }
    }

    /// An answer that cannot be used.
    fn broken(&self, what: &str) -> Error {
        let server = self.access.server();
        Error::Malformed(format!("{}s of {server}: {what}", T::KIND))
    }

    fn of_server(&self, error: &StreamError) -> Error {
        let server = self.access.server();
        match error {
            StreamError::Read(_) => Error::Unreachable(format!("{server}: {error}")),
            StreamError::Malformed(_) => Error::Malformed(format!("{server}: {error}")),
        }
    }
}

fn failed<T: Resource>(error: Error) -> Ended {
    let failure = error.failure(T::OPTIONAL);
    (Outcome::Failed(failure), Some(error))
}

fn ended(error: Option<Error>, events: bool, opened: Instant) -> Ended {
    let outcome = Outcome::Ended {
        events,
        lasted: opened.elapsed(),
        error: error.as_ref().map(|error| error.failure(false)),
    };
    (outcome, error)
}
