//! What the reflectors of one apiserver tell each other: that it cannot be reached is logged once for all of them, and who
//! reaches it again wakes the others.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::Error;
use super::outage::{Followed, Outage};

/// One apiserver, as all reflectors see it.
#[derive(Default)]
pub(super) struct Contacts {
    state: Mutex<State>,
    regained: Condvar,
}

#[derive(Default)]
struct State {
    outage: Outage,
    /// How often somebody has regained contact.
    regained: u64,
    /// What is said once, for all kinds and for good.
    said: Vec<&'static str>,
}

impl Contacts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kind is not followed.
    pub(super) fn failed(&self, whose: Followed, error: &Error) {
        match self.lock().outage.failed(whose, error) {
            Some(line) if whose.optional => log::info!("{line}"),
            Some(line) => log::warn!("{line}"),
            None => log::debug!("{}s: {error}", whose.kind),
        }
    }

    /// The server owes an answer, and says nothing.
    pub(super) fn silent(&self, whose: Followed, server: &str) {
        if let Some(line) = self.lock().outage.silent(whose.kind, server) {
            log::warn!("{line}");
        }
    }

    /// True the first time that somebody asks this.
    pub(super) fn is_first(&self, what: &'static str) -> bool {
        let said = &mut self.lock().said;
        let is_first = !said.contains(&what);
        if is_first {
            said.push(what);
        }
        is_first
    }

    /// A kind is followed, after it was not.
    pub(super) fn regained(&self, whose: Followed) {
        let mut state = self.lock();
        state.regained += 1;
        if let Some(line) = state.outage.regained(whose.kind) {
            log::info!("{line}");
        }
        self.regained.notify_all();
    }

    /// How often somebody has regained contact: what happens after this call can be waited for.
    pub(super) fn count(&self) -> u64 {
        self.lock().regained
    }

    /// Waits for so long, or until somebody has regained contact since the count was this. True in that case.
    pub(super) fn wait(&self, most: Duration, since: u64) -> bool {
        let end = Instant::now() + most;
        let mut state = self.lock();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if state.regained != since || left.is_zero() {
                return state.regained != since;
            }
            let waited = self.regained.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn who_regains_contact_wakes_the_others() {
        let contacts = Arc::new(Contacts::default());
        let since = contacts.count();
        assert!(!contacts.wait(Duration::ZERO, since));
        let waiting = Arc::clone(&contacts);
        let thread = thread::spawn(move || waiting.wait(Duration::from_secs(600), since));
        contacts.regained(Followed {
            kind: "Service",
            optional: false,
        });
        assert!(thread.join().expect("no panic"));
        // Before the wait had begun.
        assert!(contacts.wait(Duration::from_secs(600), since));
    }
}
