//! What has been said already.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After so long without it, something is news again.
const QUIET: Duration = Duration::from_secs(600);
/// So many names are remembered; of more than that nothing is said.
const MOST: usize = 1000;

/// Names of which something was said, so that it is said once.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<Box<str>, Instant>>);

impl Told {
    /// It is the case of this name now; true if that is to be said.
    pub(crate) fn is_news(&self, name: &impl Display, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = name.to_string().into_boxed_str();
        if let Some(last) = told.get_mut(&name) {
            let quiet = now.saturating_duration_since(*last) >= QUIET;
            *last = now;
            return quiet;
        }
        if told.len() >= MOST {
            told.retain(|_, last| now.saturating_duration_since(*last) < QUIET);
        }
        let room = told.len() < MOST;
        if room {
            told.insert(name, now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_until_it_has_been_quiet_and_not_without_end() {
        let (told, now) = (Told::default(), Instant::now());
        let later = now + QUIET / 2;
        assert!(told.is_news(&"a", now) && told.is_news(&"b", now));
        assert!(!told.is_news(&"a", later));
        assert!(!told.is_news(&"a", now + QUIET));
        assert!(told.is_news(&"b", now + QUIET));
        let end = now + 3 * QUIET;
        assert!(told.is_news(&"a", end));
        let said = (0..2 * MOST).filter(|n| told.is_news(n, end)).count();
        assert_eq!(said, MOST - 1);
        assert!(told.is_news(&"c", end + QUIET));
    }
}
