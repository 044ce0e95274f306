//! Byte counts on their way to a Service's counters.

use std::sync::Arc;

use crate::types::counters::ServiceCounters;

/// Adds up what consecutive events moved for one Service, so that two workers that serve the same Service do not
/// fight over its counters at every read. Flushed at the end of each turn of the loop.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counters: Option<Arc<ServiceCounters>>,
    received: u64,
    sent: u64,
}

impl Tally {
    /// Bytes went from a client to an endpoint.
    pub(crate) fn received(&mut self, counters: &Arc<ServiceCounters>, bytes: usize) {
        self.turn_to(counters);
        self.received += bytes as u64;
    }

    /// Bytes went from an endpoint to a client.
    pub(crate) fn sent(&mut self, counters: &Arc<ServiceCounters>, bytes: usize) {
        self.turn_to(counters);
        self.sent += bytes as u64;
    }

    fn turn_to(&mut self, counters: &Arc<ServiceCounters>) {
        let current = self.counters.as_ref();
        if !current.is_some_and(|current| Arc::ptr_eq(current, counters)) {
            self.flush();
            self.counters = Some(Arc::clone(counters));
        }
    }

    /// Brings the counters up to date.
    pub(crate) fn flush(&mut self) {
        let Some(counters) = &self.counters else {
            return;
        };
        if self.received > 0 {
            counters.received_bytes.add(self.received);
            self.received = 0;
        }
        if self.sent > 0 {
            counters.sent_bytes.add(self.sent);
            self.sent = 0;
        }
    }
}
