//! How a worker is spoken to.

use std::io;
use std::sync::{Mutex, PoisonError};

use mio::Waker;

use super::mail::Mail;

/// Mail for one worker, and what wakes it.
#[derive(Debug)]
pub(crate) struct WorkerMailbox {
    unread: Mutex<Vec<Mail>>,
    waker: Waker,
}

impl WorkerMailbox {
    /// An empty one.
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            unread: Mutex::default(),
            waker,
        }
    }

    /// Puts mail in; wakes the worker unless earlier mail has and is still unread.
    pub(crate) fn send(&self, mail: Mail) -> io::Result<()> {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        unread.push(mail);
        let first = unread.len() == 1;
        drop(unread);
        if first { self.waker.wake() } else { Ok(()) }
    }

    /// Takes everything out.
    pub(crate) fn receive(&self) -> Vec<Mail> {
        std::mem::take(&mut *self.unread.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
