//! What one list may bring: an end to what has none.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::api::client::{Client, Reader};

/// Objects of one kind. Kubernetes' own limit is 10,000 Services; this many fit into some 200 MB.
pub(super) const MOST_OBJECTS: usize = 100_000;
pub(super) const TOO_MANY: &str = "more objects than portico holds (100000 of a kind)";
/// Bytes of one response, decompressed.
const MOST_BYTES: u64 = 2 << 30;
/// A list goes on without a whole object for so long.
const NO_PROGRESS: Duration = Duration::from_secs(30);

/// How far a list has come.
#[derive(Default)]
pub(super) struct Progress {
    objects: Cell<usize>,
    /// Why it was ended.
    end: Cell<Option<&'static str>>,
}

impl Progress {
    /// A list that goes on from these.
    pub(super) fn from(held: usize) -> Rc<Self> {
        Rc::new(Self {
            objects: Cell::new(held),
            end: Cell::new(None),
        })
    }

    /// One more object, good or bad.
    pub(super) fn add(&self) {
        self.objects.set(self.objects.get() + 1);
    }

    pub(super) fn objects(&self) -> usize {
        self.objects.get()
    }

    pub(super) fn end(&self) -> Option<&'static str> {
        self.end.get()
    }
}

/// A body that ends in an error when it is more than can be meant.
pub(super) struct Measured<'c> {
    body: Reader,
    client: &'c Client,
    progress: Rc<Progress>,
    bytes: u64,
    /// How many objects there were when the deadline was set, and the deadline.
    seen: (usize, Instant),
}

impl<'c> Measured<'c> {
    pub(super) fn new(body: Reader, client: &'c Client, progress: &Rc<Progress>) -> Self {
        let deadline = Instant::now() + NO_PROGRESS;
        client.set_deadline(Some(deadline));
        Self {
            body,
            client,
            progress: Rc::clone(progress),
            bytes: 0,
            seen: (progress.objects(), deadline),
        }
    }

    fn ended(&self, why: &'static str) -> io::Error {
        self.progress.end.set(Some(why));
        io::Error::other(why)
    }
}

impl Read for Measured<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let objects = self.progress.objects();
        if objects > MOST_OBJECTS {
            return Err(self.ended(TOO_MANY));
        }
        if objects != self.seen.0 {
            let deadline = Instant::now() + NO_PROGRESS;
            self.client.set_deadline(Some(deadline));
            self.seen = (objects, deadline);
        }
        let read = self.body.read(room);
        self.bytes += *read.as_ref().unwrap_or(&0) as u64;
        if self.bytes > MOST_BYTES {
            return Err(self.ended("more than 2 GiB in one response"));
        }
        if Instant::now() >= self.seen.1 {
            return Err(self.ended("no further object in 30 s"));
        }
        read
    }
}
