//! Named sources, each with a channel of its own.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::types::Update;

/// What a source may be ahead of the merge thread. A source that is faster waits; none can fill the memory.
/// Its room is there from the start: 200 bytes for each Service.
const BACKLOG: usize = 64;

/// Collects the sources of one kind before its merge thread starts. The order of the first calls of
/// [`channel`](Self::channel) is the order of precedence.
pub struct Mux<T> {
    sources: Vec<Source<T>>,
}

/// One source: its name and the two ends of its channel.
struct Source<T> {
    name: String,
    sender: Sender<Update<T>>,
    receiver: Receiver<Update<T>>,
}

impl<T> Default for Mux<T> {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
        }
    }
}

impl<T> Mux<T> {
    /// The channel of the source of this name, made at the first call. When all its senders are dropped the source has ended,
    /// and what it said stays.
    pub fn channel(&mut self, name: &str) -> Sender<Update<T>> {
        if let Some(source) = self.sources.iter().find(|source| source.name == name) {
            return source.sender.clone();
        }
        let (sender, receiver) = bounded(BACKLOG);
        self.sources.push(Source {
            name: name.to_owned(),
            sender: sender.clone(),
            receiver,
        });
        sender
    }

    /// The receiving ends, by rank. Our own senders end here, so that a channel can disconnect.
    pub(super) fn into_receivers(self) -> Vec<(String, Receiver<Update<T>>)> {
        let sources = self.sources.into_iter();
        sources
            .map(|source| (source.name, source.receiver))
            .collect()
    }
}
