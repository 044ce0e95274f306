//! The thread behind each resource: does what the [`Machine`] asks, and hands the objects over.

mod initial;
mod measure;
mod reports;
mod requests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;

use super::Access;
use super::backoff::Random;
use super::client::Client;
use super::error::Error;
use super::list_watch::{Resource, Selection, Targets};
use super::machine::{Contact, Failure, Machine, Request, Store};
use super::outage::Followed;
use crate::types::{Relist, Update};
use crate::wire::Interner;
use reports::Reports;

/// Who has been woken by another's success is not woken again for so long: they must not drive each other.
const WAKEFUL: Duration = Duration::from_secs(10);
/// The longest that a server's `Retry-After` is obeyed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Starts the reflector of one resource. It ends when the receiver is gone and there is something to send; until then it may
/// sit in a read that only the apiserver ends, so let it go with the process rather than join it.
pub fn spawn_reflector<T: Resource>(
    access: &Access,
    selection: &Selection,
    sender: Sender<Update<T>>,
) -> io::Result<JoinHandle<()>> {
    let whose = Followed {
        kind: T::KIND.as_str(),
        optional: T::OPTIONAL,
    };
    let silent = Arc::new(AtomicBool::new(false));
    let client = Client::with_notice(access, {
        let (access, silent) = (access.clone(), Arc::clone(&silent));
        move || {
            silent.store(true, Ordering::Relaxed);
            access.contacts().silent(whose, &access.server());
        }
    });
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = clock.map_or(0, |time| time.as_nanos() as u64) ^ T::KIND.as_str().len() as u64;
    let mut reflector = Reflector {
        access: access.clone(),
        client: client.map_err(io::Error::other)?,
        whose,
        silent,
        targets: Targets::new::<T>(selection),
        machine: Machine::default(),
        random: Random::new(seed ^ (u64::from(std::process::id()) << 32)),
        interner: Interner::default(),
        sender,
        piece: Vec::new(),
        held: 0,
        reports: Reports::default(),
        others: access.contacts().count(),
        woken: None,
    };
    thread::Builder::new()
        .name(T::THREAD.to_string())
        .spawn(move || while reflector.round().is_ok() {})
}

/// The receiver is gone: shutdown.
struct Closed;

struct Reflector<T> {
    access: Access,
    client: Client,
    whose: Followed,
    /// The server owed an answer for too long, which has been said.
    silent: Arc<AtomicBool>,
    targets: Targets,
    machine: Machine,
    random: Random,
    interner: Interner,
    sender: Sender<Update<T>>,
    /// What a list or the beginning of a watch has brought and is not handed over yet.
    piece: Vec<T>,
    /// How many objects there are; no fewer.
    held: usize,
    reports: Reports,
    /// How often somebody had regained contact when this one last looked.
    others: u64,
    /// When another's success has ended a wait of ours.
    woken: Option<Instant>,
}

impl<T: Resource> Reflector<T> {
    /// One request, and what follows from it.
    fn round(&mut self) -> Result<(), Closed> {
        let request = self.machine.request();
        let (outcome, error) = match &request {
            Request::Page { continue_token, .. } => self.page(&request, continue_token)?,
            Request::WatchList { .. } => self.watch_list(&request)?,
            Request::Watch { .. } => self.watch(&request)?,
        };
        self.client.set_deadline(None);
        self.client.set_answer_due(false);
        let (now, random) = (Instant::now(), self.random.unit());
        let decision = self.machine.step(outcome, now, random);
        match decision.store {
            Store::Keep => {}
            Store::Replace => self.end()?,
            Store::Clear => {
                if self.reports.absent::<T>(error.as_ref()) {
                    self.send(Update::Set(Vec::new()))?;
                }
            }
        }
        self.contact(decision.contact, error.as_ref())?;
        if !decision.wait.is_zero() {
            self.pause(decision.wait, error.as_ref());
        }
        Ok(())
    }

    /// Waits before the next request. Somebody else's success ends it, unless the server itself has asked for patience.
    fn pause(&mut self, wait: Duration, error: Option<&Error>) {
        let asked = error.and_then(Error::retry_after).unwrap_or_default();
        let wait = wait.max(asked.min(LONGEST_RETRY_AFTER));
        if let Some(error) = error {
            log::debug!("{}s: {error}; next attempt in {wait:?}", T::KIND);
        }
        let is_told = error.is_some_and(|error| error.failure(T::OPTIONAL) == Failure::Later);
        if is_told || self.woken.is_some_and(|woken| woken.elapsed() < WAKEFUL) {
            thread::sleep(wait);
            self.others = self.access.contacts().count();
        } else if self.access.contacts().wait(wait, self.others) {
            self.others = self.access.contacts().count();
            self.woken = Some(Instant::now());
            self.machine.woken();
        }
    }

    fn contact(&mut self, contact: Contact, error: Option<&Error>) -> Result<(), Closed> {
        let contacts = self.access.contacts();
        match (contact, error) {
            (Contact::Lost | Contact::Missing, Some(error)) => contacts.failed(self.whose, error),
            (Contact::Lost | Contact::Missing, None) => {}
            (Contact::Regained, _) => self.regained(),
            (Contact::Same, None) if self.silent.load(Ordering::Relaxed) => self.regained(),
            (Contact::Same, _) => {}
        }
        match contact {
            Contact::Lost => self.send(Update::Unavailable),
            Contact::Missing | Contact::Regained | Contact::Same => Ok(()),
        }
    }

    fn regained(&mut self) {
        self.silent.store(false, Ordering::Relaxed);
        self.access.contacts().regained(self.whose);
        self.others = self.access.contacts().count();
    }

    /// Everything is about to be said anew.
    fn begin(&mut self) -> Result<(), Closed> {
        self.piece.clear();
        self.held = 0;
        self.reports.forget_all();
        self.send(Update::Relist(Relist::Begin))
    }

    /// Everything has been said.
    fn end(&mut self) -> Result<(), Closed> {
        self.reports.absent = false;
        self.relist(Relist::End)?;
        self.complain()
    }

    /// Hands over what is wrong with objects, if that is news.
    fn complain(&mut self) -> Result<(), Closed> {
        match self.reports.news::<T>() {
            Some(complaints) => self.send(Update::Complaints(complaints)),
            None => Ok(()),
        }
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
