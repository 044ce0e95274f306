//! One event loop.

use std::sync::Arc;

use mio::{Events, Poll, Token};

use super::Config;
use super::mailbox::{Message, Shared};

/// The token of a worker's mailbox.
pub const MAILBOX: Token = Token(0);

/// One thread's state.
#[derive(Debug)]
pub struct Worker {
    index: usize,
    poll: Poll,
    shared: Arc<Shared>,
}

impl Worker {
    /// A worker that has nothing to do yet.
    pub fn new(index: usize, poll: Poll, shared: Arc<Shared>, _config: &Config) -> Self {
        Self {
            index,
            poll,
            shared,
        }
    }

    /// Runs until told to shut down.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut messages = Vec::new();
        loop {
            let _ = self.poll.poll(&mut events, None);
            self.shared.receive(self.index, &mut messages);
            for message in messages.drain(..) {
                if matches!(message, Message::Shutdown) {
                    return;
                }
            }
        }
    }
}
