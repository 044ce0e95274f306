//! How a worker is spoken to, and what workers share.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mio::Waker;

use super::Change;
use super::listeners::OwnSockets;
use crate::routing::Frontend;
use crate::types::Protocol;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Listeners come, change and go; one allocation for all workers.
    Changes(Arc<[Change]>),
    /// A connection that another worker accepted while it had more than its share.
    Accepted(Accepted),
    /// Close every listener.
    StopAccepting,
    /// Return from the loop; sessions end with the thread.
    Shutdown,
}

/// A client's connection that has no session yet.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The client's socket.
    pub(crate) socket: OwnedFd,
    /// Its address.
    pub(crate) client: SocketAddr,
    /// Where it may go.
    pub(crate) frontend: Arc<Frontend>,
    /// When it was accepted.
    pub(crate) at: Instant,
}

/// One worker's end of [`Shared`].
#[derive(Debug)]
struct Mailbox {
    messages: Mutex<Vec<Message>>,
    waker: Waker,
    load: Load,
}

/// Sessions of one worker. On a cache line of its own: every worker writes its own at each connection.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Load(AtomicUsize);

/// What workers and the [`super::Proxier`] share.
#[derive(Debug)]
pub(crate) struct Shared {
    mailboxes: Box<[Mailbox]>,
    own: RwLock<OwnSockets>,
    idle: (Mutex<()>, Condvar),
    /// Somebody waits on `idle`: else the end of a session need not ask the kernel to wake anybody.
    is_awaited: AtomicBool,
    /// When files last ran out, from when that is said until it is said to be over.
    shortage: Mutex<Option<Instant>>,
    is_short: AtomicBool,
}

/// How long files must have sufficed before that is said: at the brink, every connection that ends lets one in.
const QUIET: Duration = Duration::from_secs(5);

impl Shared {
    /// One mailbox for each waker.
    pub(crate) fn new(wakers: Vec<Waker>) -> Self {
        let mailboxes = wakers.into_iter().map(|waker| Mailbox {
            messages: Mutex::default(),
            waker,
            load: Load::default(),
        });
        Self {
            mailboxes: mailboxes.collect(),
            own: RwLock::default(),
            idle: Default::default(),
            is_awaited: AtomicBool::new(false),
            shortage: Mutex::default(),
            is_short: AtomicBool::new(false),
        }
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.mailboxes.len()
    }

    /// Puts a message into a worker's mailbox; wakes it unless an earlier message has and is still unread.
    pub(crate) fn send(&self, worker: usize, message: Message) {
        let Some(mailbox) = self.mailboxes.get(worker) else {
            return;
        };
        let mut messages = lock(&mailbox.messages);
        messages.push(message);
        let first = messages.len() == 1;
        drop(messages);
        if first {
            if let Err(error) = mailbox.waker.wake() {
                log::error!("cannot wake worker-{worker}: {error}");
            }
        }
    }

    /// Takes a worker's messages.
    pub(crate) fn receive(&self, worker: usize) -> Vec<Message> {
        let mailbox = self.mailboxes.get(worker);
        mailbox.map_or_else(Vec::new, |mailbox| {
            std::mem::take(&mut *lock(&mailbox.messages))
        })
    }

    /// Keeps the set of our own sockets up to date.
    pub(crate) fn note(&self, changes: &[Change]) {
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        changes.iter().for_each(|change| own.note(change));
    }

    /// A connection from us to this endpoint would come back to us.
    pub(crate) fn is_own(&self, endpoint: SocketAddr, protocol: Protocol) -> bool {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        own.contains(endpoint, protocol)
    }

    /// A worker has one session more.
    pub(crate) fn session_began(&self, worker: usize) {
        if let Some(mailbox) = self.mailboxes.get(worker) {
            mailbox.load.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A worker has one session less.
    pub(crate) fn session_ended(&self, worker: usize) {
        let Some(mailbox) = self.mailboxes.get(worker) else {
            return;
        };
        // Either the waiter sees this count or this sees the waiter: each writes first, then reads, in one order for all.
        let last = mailbox.load.0.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.is_awaited.load(Ordering::SeqCst) {
            drop(lock(&self.idle.0));
            self.idle.1.notify_all();
        }
    }

    /// The worker with the fewest sessions, and how many fewer it has than this one.
    pub(crate) fn least_loaded(&self, than: usize) -> (usize, usize) {
        let load = |m: &Mailbox| m.load.0.load(Ordering::Relaxed);
        let own = self.mailboxes.get(than).map_or(0, load);
        let loads = self.mailboxes.iter().map(load).enumerate();
        match loads.min_by_key(|(_, load)| *load) {
            Some((worker, load)) => (worker, own.saturating_sub(load)),
            None => (than, 0),
        }
    }

    /// Sessions of all workers.
    pub(crate) fn active(&self) -> usize {
        let load = |m: &Mailbox| m.load.0.load(Ordering::SeqCst);
        self.mailboxes.iter().map(load).sum()
    }

    /// Files have run out. Says so, unless that was said.
    pub(crate) fn files_ran_out(&self, now: Instant, error: &io::Error) {
        if lock(&self.shortage).replace(now).is_none() {
            log::warn!("new connections wait until files are free (raise LimitNOFILE): {error}");
            self.is_short.store(true, Ordering::Relaxed);
        }
    }

    /// A file could be opened. Says so, if it was said that files had run out.
    pub(crate) fn files_suffice(&self, now: Instant) {
        if !self.is_short.load(Ordering::Relaxed) {
            return;
        }
        let long_ago = |at: &mut Instant| now.saturating_duration_since(*at) >= QUIET;
        if lock(&self.shortage).take_if(long_ago).is_some() {
            self.is_short.store(false, Ordering::Relaxed);
            log::info!("files suffice again for new connections");
        }
    }

    /// Waits until no worker has a session; false at the deadline.
    pub(crate) fn wait_idle(&self, deadline: Instant) -> bool {
        let mut guard = lock(&self.idle.0);
        self.is_awaited.store(true, Ordering::SeqCst);
        while self.active() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.idle.1.wait_timeout(guard, left);
            guard = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// A panic of another thread ends the process anyway (release) or fails its own test.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
