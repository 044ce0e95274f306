//! The lines of `portico check`.

use std::fmt;

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// How it stands.
    pub(crate) verdict: Verdict,
    /// What was looked at and what was found; and after a colon or semicolon what to do.
    pub(crate) text: String,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// Something does not work.
    Missing,
    /// Works, or may work; worth knowing.
    Note,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Missing => "missing",
            Verdict::Note => "note",
        };
        write!(f, "{verdict:<8} {}", self.text)
    }
}

pub(super) fn ok(text: String) -> Line {
    let verdict = Verdict::Ok;
    Line { verdict, text }
}

pub(super) fn missing(text: String) -> Line {
    let verdict = Verdict::Missing;
    Line { verdict, text }
}

pub(super) fn note(text: String) -> Line {
    let verdict = Verdict::Note;
    Line { verdict, text }
}
