//! What kube-proxy's health says nothing about: what has not come, what could not be opened, a sync thread that stands still.
//! Pure: the time is an argument.

use std::time::{Duration, Instant};

/// Lines in one answer; how many more there are is said.
const MOST: usize = 20;

/// How far the proxy has come, as the sync thread knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Services and endpoints have been received whole, and acted upon.
    pub started: bool,
    /// What is wanted and not open, a line each.
    pub unopened: Vec<String>,
    /// What whoever looks should know besides, and that keeps nothing from being served.
    pub notes: Vec<String>,
}

/// Whether the sync thread answers. It is asked at each probe, so that nothing wakes while nobody looks.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    asked: Option<Instant>,
}

impl Pulse {
    /// A probe has come; true if the thread is to be asked, because no question is open.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        let is_new = self.asked.is_none();
        self.asked.get_or_insert(now);
        is_new
    }

    /// It has answered.
    pub(super) fn answered(&mut self) {
        self.asked = None;
    }

    /// For how long it has not answered, once that is longer than it may be.
    pub(super) fn missed(&self, now: Instant, limit: Duration) -> Option<Duration> {
        let waited = now.saturating_duration_since(self.asked?);
        (waited >= limit).then_some(waited)
    }
}

impl Standing {
    /// What to say: first what the proxy waits for, then what is not open, then the rest. `outside` is what is wrong with the
    /// sources, as they know it.
    pub(super) fn lines(&self, outside: &[String], missed: Option<Duration>) -> Vec<String> {
        let missed =
            missed.map(|time| format!("the sync thread has not answered for {} s", time.as_secs()));
        let waiting = (!self.started)
            .then(|| "Services and endpoints have not been received whole yet".to_owned());
        let all = missed
            .into_iter()
            .chain(waiting)
            .chain(outside.iter().cloned());
        let all = all
            .chain(self.unopened.iter().cloned())
            .chain(self.notes.iter().cloned());
        let mut lines: Vec<String> = all.collect();
        let more = lines.len().saturating_sub(MOST);
        if more > 0 {
            lines.truncate(MOST);
            lines.push(format!("and {more} more"));
        }
        lines
    }

    /// Everything that is known is open.
    pub(super) fn is_ready(&self) -> bool {
        self.started && self.unopened.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_is_missed_only_while_a_question_is_open() {
        const LIMIT: Duration = Duration::from_secs(60);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::default();
        assert_eq!(pulse.missed(at(1000), LIMIT), None, "nobody has asked");
        assert!(pulse.ask(at(1000)));
        assert!(!pulse.ask(at(1010)), "one question at a time");
        assert_eq!(pulse.missed(at(1059), LIMIT), None);
        assert_eq!(pulse.missed(at(1060), LIMIT), Some(LIMIT));
        pulse.answered();
        assert_eq!(pulse.missed(at(2000), LIMIT), None);
        assert!(pulse.ask(at(2000)));
    }

    #[test]
    fn lines_are_in_order_and_bounded() {
        let mut standing = Standing::default();
        let trouble = ["the apiserver refuses".to_owned()];
        let lines = standing.lines(&trouble, Some(Duration::from_secs(61)));
        assert_eq!(
            lines,
            [
                "the sync thread has not answered for 61 s",
                "Services and endpoints have not been received whole yet",
                "the apiserver refuses",
            ]
        );
        assert!(!standing.is_ready());
        standing.started = true;
        standing.notes = vec!["portal host: netns cannot work".to_owned()];
        assert_eq!(standing.lines(&[], None), standing.notes);
        assert!(
            standing.is_ready(),
            "a note keeps nothing from being served"
        );
        standing.unopened = (0..25).map(|i| i.to_string()).collect();
        assert!(!standing.is_ready());
        let lines = standing.lines(&[], None);
        assert_eq!(
            (lines.len(), lines.last().map(String::as_str)),
            (MOST + 1, Some("and 6 more"))
        );
    }
}
