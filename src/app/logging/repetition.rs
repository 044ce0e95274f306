//! A line that comes again and again is said a few times and then counted: what a peer can cause must not fill the log. Pure:
//! the time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use log::Level;

/// For so long a line counts as said.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines that are told apart in a window.
const MOST_LINES: usize = 256;

/// The lines of the current window.
#[derive(Debug, Default)]
pub(super) struct Repetition {
    began: Option<Instant>,
    said: HashMap<Box<str>, Count>,
    /// Lines of the data path beyond those that are told apart.
    others: u64,
}

#[derive(Debug)]
struct Count {
    came: u64,
    most: u64,
    level: Level,
}

/// How often the same line may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Something that is so now: often enough for whoever repairs it.
    State,
    /// A client's connection, of which there may be any number.
    Connection,
}

impl Cause {
    fn most(self) -> u64 {
        match self {
            Self::State => 20,
            Self::Connection => 1,
        }
    }
}

impl Repetition {
    /// Whether to say a line now.
    pub(super) fn admit(&mut self, line: &str, level: Level, cause: Cause, now: Instant) -> bool {
        self.began.get_or_insert(now);
        if let Some(count) = self.said.get_mut(line) {
            count.came += 1;
            return count.came <= count.most;
        }
        if self.said.len() < MOST_LINES {
            let count = Count {
                came: 1,
                most: cause.most(),
                level,
            };
            self.said.insert(line.into(), count);
            return true;
        }
        self.others += u64::from(cause == Cause::Connection);
        cause == Cause::State
    }

    /// Ends a window that is over; gives what it kept silent, to be said.
    pub(super) fn summary(&mut self, now: Instant) -> Vec<(Level, String)> {
        let over = self.began.is_some_and(|began| now >= began + WINDOW);
        if !over {
            return Vec::new();
        }
        let Self { said, others, .. } = std::mem::take(self);
        let silent = said
            .into_iter()
            .filter(|(_, count)| count.came > count.most);
        let said = silent.map(|(line, count)| {
            let times = count.came - count.most;
            (count.level, format!("{line} ({times} more times)"))
        });
        let mut lines: Vec<_> = said.collect();
        lines.sort_unstable();
        if others > 0 {
            let line = format!("{others} more failures of connections");
            lines.push((Level::Debug, line));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBUG: Level = Level::Debug;

    #[test]
    fn said_once_then_counted() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut log = Repetition::default();
        for (millis, line, said) in [
            (0, "a: refused", true),
            (1, "a: refused", false),
            (2, "b: refused", true),
            (9999, "a: refused", false),
        ] {
            assert_eq!(log.summary(at(millis)), []);
            let found = log.admit(line, DEBUG, Cause::Connection, at(millis));
            assert_eq!(found, said, "{millis} {line}");
        }
        assert_eq!(
            log.summary(at(10_000)),
            [(DEBUG, "a: refused (2 more times)".to_owned())]
        );
        assert!(log.admit("a: refused", DEBUG, Cause::Connection, at(10_000)));
        assert_eq!(log.summary(at(20_000)), []);
    }

    #[test]
    fn what_is_so_may_be_said_more_often() {
        let now = Instant::now();
        let mut log = Repetition::default();
        let said = (0..100).filter(|_| log.admit("a", Level::Warn, Cause::State, now));
        assert_eq!(said.count(), 20);
        assert_eq!(
            log.summary(now + WINDOW),
            [(Level::Warn, "a (80 more times)".to_owned())]
        );
    }

    #[test]
    fn lines_are_bounded() {
        let now = Instant::now();
        let mut log = Repetition::default();
        let many = 0..MOST_LINES + 50;
        let said = many.filter(|i| log.admit(&i.to_string(), DEBUG, Cause::Connection, now));
        assert_eq!(said.count(), MOST_LINES);
        assert!(log.admit("a Service's own problem", Level::Warn, Cause::State, now));
        let summary = log.summary(now + WINDOW);
        let expect = (DEBUG, "50 more failures of connections".to_owned());
        assert_eq!(summary, [expect]);
    }
}
