//! The merge thread: waits for sources, feeds the store, tells the listeners.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Select, Sender, bounded};

use super::broadcaster::{Broadcaster, Handler, Subscription};
use super::kind::{Endpoints, Kind, Nodes, ServiceCidrs, Services};
use super::mux::Mux;
use super::store::Store;
use crate::types::{Broadcast, Update};

/// Services from all sources.
pub type ServiceConfig = Config<Services>;
/// Endpoints from all sources.
pub type EndpointsConfig = Config<Endpoints>;
/// Nodes from all sources.
pub type NodeConfig = Config<Nodes>;
/// ServiceCIDRs from all sources.
pub(crate) type ServiceCidrConfig = Config<ServiceCidrs>;

/// Updates taken in before listeners are told, so that a source that never pauses cannot keep them waiting for ever.
const MOST_AT_ONCE: usize = 4096;

/// The running merge of one kind. Dropping it stops the thread and waits for it.
pub struct Config<K: Kind> {
    broadcaster: Broadcaster<K::Value>,
    /// Dropped to stop the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl<K: Kind> Config<K> {
    /// Starts the merge thread over the sources of `mux`.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn start(mux: Mux<K::Object>) -> io::Result<Self> {
        let broadcaster = Broadcaster::default();
        let (stop, stopped) = bounded(0);
        let merge = Merge::<K>::new(mux, broadcaster.clone(), stopped);
        let thread = thread::Builder::new()
            .name(K::THREAD.into())
            .spawn(|| merge.run())?;
        Ok(Self {
            broadcaster,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Adds a listener; see [`Broadcaster::register`].
    pub fn register(&self, handler: Box<dyn Handler<K::Value>>) {
        self.broadcaster.register(handler);
    }

    /// Adds a listener that reads at its own pace.
    pub fn subscribe(&self) -> Subscription<K::Value> {
        self.broadcaster.subscribe()
    }
}

impl<K: Kind> Drop for Config<K> {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // Only a panic can make this fail, and it has been reported where it happened.
            let _ = thread.join();
        }
        self.broadcaster.close();
    }
}

struct Merge<K: Kind> {
    store: Store<K>,
    broadcaster: Broadcaster<K::Value>,
    stopped: Receiver<()>,
    names: Vec<String>,
    /// By rank; None once the source has ended.
    channels: Vec<Option<Receiver<Update<K::Object>>>>,
}

/// What the thread woke up for.
enum Event<T> {
    Said(usize, Update<T>),
    Ended(usize),
    Deadline,
    Stop,
}

impl<K: Kind> Merge<K> {
    fn new(mux: Mux<K::Object>, broadcaster: Broadcaster<K::Value>, stopped: Receiver<()>) -> Self {
        let (names, channels): (Vec<_>, Vec<_>) = mux.into_receivers().into_iter().unzip();
        Self {
            store: Store::new(names.len(), Instant::now()).named(&names),
            broadcaster,
            stopped,
            names,
            channels: channels.into_iter().map(Some).collect(),
        }
    }

    fn run(mut self) {
        let mut synced = false;
        loop {
            match self.wait(self.store.deadline()) {
                Event::Stop => return,
                event => self.take_in(event),
            }
            // The rest of the burst, without waiting.
            for _ in 0..MOST_AT_ONCE {
                match self.wait(Some(Instant::now())) {
                    Event::Deadline => break,
                    Event::Stop => return,
                    event => self.take_in(event),
                }
            }
            if let Some(update) = self.store.take(Instant::now()) {
                if update.snapshot.synced && !synced {
                    synced = true;
                    self.report_whole(&update);
                }
                self.broadcaster.broadcast(&update);
            }
        }
    }

    fn take_in(&mut self, event: Event<K::Object>) {
        match event {
            Event::Said(rank, update) => self.store.apply(rank, update),
            Event::Ended(rank) => {
                self.store.end(rank);
                if let Some(channel) = self.channels.get_mut(rank) {
                    *channel = None;
                }
            }
            Event::Deadline | Event::Stop => {}
        }
    }

    fn wait(&self, deadline: Option<Instant>) -> Event<K::Object> {
        let mut select = Select::new();
        let channels = self.channels.iter().enumerate();
        let open: Vec<(usize, &Receiver<_>)> = channels
            .filter_map(|(rank, channel)| Some((rank, channel.as_ref()?)))
            .collect();
        for (_, channel) in &open {
            select.recv(channel);
        }
        select.recv(&self.stopped);
        let operation = match deadline {
            Some(deadline) => match select.select_deadline(deadline) {
                Ok(operation) => operation,
                Err(_) => return Event::Deadline,
            },
            None => select.select(),
        };
        match open.get(operation.index()) {
            Some((rank, channel)) => match operation.recv(channel) {
                Ok(update) => Event::Said(*rank, update),
                Err(_) => Event::Ended(*rank),
            },
            None => {
                // Nobody sends: it can only have been disconnected.
                let _ = operation.recv(&self.stopped);
                Event::Stop
            }
        }
    }

    fn report_whole(&self, update: &Broadcast<K::Value>) {
        let absent: Vec<&str> = self
            .store
            .absent()
            .filter_map(|rank| self.names.get(rank).map(String::as_str))
            .collect();
        let count = update.snapshot.objects.len();
        if absent.is_empty() {
            log::info!("{} received whole: {count}", K::PLURAL);
        } else {
            let absent = absent.join(", ");
            log::warn!(
                "{} received: {count}, without {absent}, which has said nothing yet",
                K::PLURAL
            );
        }
    }
}
