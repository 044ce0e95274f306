//! What workers share with each other and with whoever runs them.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use mio::Waker;

use super::change::ListenerChange;
use super::files::Files;
use super::loads::Loads;
use super::mail::Mail;
use super::mailbox::WorkerMailbox;
use super::own::{LoopRisk, OwnSockets};
use super::shortage::ShortageLog;
use super::told::Told;
use crate::types::Protocol;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Shared {
    mailboxes: Box<[WorkerMailbox]>,
    own: RwLock<OwnSockets>,
    /// Files of all workers.
    pub(crate) files: Arc<Files>,
    /// Sessions of each worker.
    pub(crate) loads: Loads,
    /// What was said of files.
    pub(crate) shortage: ShortageLog,
    /// ServicePorts whose clients go in circles.
    pub(crate) circles: Told,
}

impl Shared {
    /// One mailbox for each waker.
    pub(crate) fn new(wakers: Vec<Waker>) -> Self {
        Self {
            files: Arc::default(),
            loads: Loads::new(wakers.len()),
            mailboxes: wakers.into_iter().map(WorkerMailbox::new).collect(),
            own: RwLock::default(),
            shortage: ShortageLog::default(),
            circles: Told::default(),
        }
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.mailboxes.len()
    }

    /// Tells a worker.
    pub(crate) fn send(&self, worker: usize, mail: Mail) {
        let sent = self.mailboxes.get(worker).map(|mailbox| mailbox.send(mail));
        if let Some(Err(error)) = sent {
            log::error!("cannot wake worker-{worker}: {error}");
        }
    }

    /// Takes a worker's mail.
    pub(crate) fn receive(&self, worker: usize) -> Vec<Mail> {
        let mailbox = self.mailboxes.get(worker);
        mailbox.map_or_else(Vec::new, WorkerMailbox::receive)
    }

    /// Keeps the set of our own sockets up to date.
    pub(crate) fn note(&self, changes: &[ListenerChange]) {
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        let before = own.len();
        changes.iter().for_each(|change| own.note(change));
        self.files.take(own.len());
        self.files.give(before);
    }

    /// How many listeners are open.
    pub(crate) fn listeners(&self) -> usize {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        own.len()
    }

    /// See [`OwnSockets::set_host_addresses`].
    pub(crate) fn set_host_addresses(&self, addresses: Arc<[IpAddr]>) {
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        own.set_host_addresses(addresses);
    }

    /// Whether what is sent to this endpoint may come back.
    pub(crate) fn loop_risk(&self, endpoint: SocketAddr, protocol: Protocol) -> LoopRisk {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        match own.loop_risk(endpoint, protocol) {
            // Who listens at other ports is not known: should it be a proxy after all, this ends the circle.
            LoopRisk::None if self.files.are_strained() => LoopRisk::Possible,
            risk => risk,
        }
    }
}
