//! One snapshot, many listeners.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::types::{Broadcast, NamespacedName, Snapshot};

/// A listener. Called on the merge thread (at registration: on the caller's), one call at a time; it must not block, and
/// must not register listeners of the same kind.
pub trait Handler<V>: Send {
    /// The newest snapshot, and what is new in it.
    fn on_update(&mut self, update: &Broadcast<V>);
}

/// Fans snapshots out to listeners. Clones share the listeners.
pub struct Broadcaster<V>(Arc<Mutex<Listeners<V>>>);

struct Listeners<V> {
    handlers: Vec<Box<dyn Handler<V>>>,
    /// None until the first broadcast.
    current: Option<Snapshot<V>>,
}

impl<V> Default for Broadcaster<V> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Listeners {
            handlers: Vec::new(),
            current: None,
        })))
    }
}

impl<V> Clone for Broadcaster<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: Clone> Broadcaster<V> {
    /// Adds a listener. If there has been a broadcast, it is told the current snapshot at once, every key as changed.
    pub fn register(&self, mut handler: Box<dyn Handler<V>>) {
        let mut listeners = lock(&self.0);
        if let Some(snapshot) = &listeners.current {
            handler.on_update(&Broadcast {
                snapshot: snapshot.clone(),
                changed: snapshot
                    .objects
                    .iter()
                    .map(|(key, _)| key.clone())
                    .collect(),
            });
        }
        listeners.handlers.push(handler);
    }

    /// Tells every listener.
    pub fn broadcast(&self, update: &Broadcast<V>) {
        let mut listeners = lock(&self.0);
        listeners.current = Some(update.snapshot.clone());
        for handler in &mut listeners.handlers {
            handler.on_update(update);
        }
    }

    /// Forgets the listeners: subscriptions see their signal disconnect.
    pub(super) fn close(&self) {
        lock(&self.0).handlers.clear();
    }
}

impl<V: Clone + Send + Sync + 'static> Broadcaster<V> {
    /// Adds a listener that reads at its own pace.
    pub fn subscribe(&self) -> Subscription<V> {
        let (sender, signal) = bounded(1);
        let slot = Arc::new(Mutex::new(None));
        let mailbox = Mailbox {
            slot: Arc::downgrade(&slot),
            signal: sender,
        };
        self.register(Box::new(mailbox));
        Subscription { slot, signal }
    }
}

/// A listener's mailbox that holds one letter: the newest snapshot, with every key that changed since the last one was taken.
pub struct Subscription<V> {
    slot: Arc<Slot<V>>,
    signal: Receiver<()>,
}

impl<V> Subscription<V> {
    /// Readable when [`take`](Self::take) has something (rarely: had something). Disconnected once the merge thread has
    /// ended, which is shutdown.
    pub fn signal(&self) -> &Receiver<()> {
        &self.signal
    }

    /// The newest snapshot with all that changed since the last call; None if nothing did.
    pub fn take(&self) -> Option<Broadcast<V>> {
        // Before the letter: one that comes in between leaves its signal standing.
        let _ = self.signal.try_recv();
        let letter = lock(&self.slot).take()?;
        Some(Broadcast {
            snapshot: letter.snapshot,
            changed: letter.changed.into_iter().collect(),
        })
    }
}

type Slot<V> = Mutex<Option<Letter<V>>>;

struct Letter<V> {
    snapshot: Snapshot<V>,
    changed: HashSet<NamespacedName>,
}

/// The broadcaster's end of a [`Subscription`].
struct Mailbox<V> {
    /// Weak: a subscription that is dropped frees its snapshot.
    slot: Weak<Slot<V>>,
    signal: Sender<()>,
}

impl<V: Send + Sync> Handler<V> for Mailbox<V> {
    fn on_update(&mut self, update: &Broadcast<V>) {
        let Some(slot) = self.slot.upgrade() else {
            return;
        };
        let mut slot = lock(&slot);
        let mut changed = slot.take().map_or_else(HashSet::new, |old| old.changed);
        changed.extend(update.changed.iter().cloned());
        *slot = Some(Letter {
            snapshot: update.snapshot.clone(),
            changed,
        });
        drop(slot);
        // Full: the signal already stands.
        let _ = self.signal.try_send(());
    }
}

/// What a panicking holder left is still the newest that there is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
