//! What a text is handed over in.

use std::fmt;

use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::types::one_line;

/// So many keys that appear twice are kept of a value.
const MOST_TWICE: usize = 100;
/// And so much of each.
const LONGEST_KEY: usize = 200;

/// Why a text is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// Which document, the first being 1.
    pub(crate) document: usize,
    /// The line in the whole text, the first being 1.
    pub line: usize,
    /// What is wrong there.
    pub(crate) message: String,
}

impl YamlError {
    pub(super) fn twice(key: &str, line: usize, document: usize) -> Self {
        Self {
            document,
            line,
            message: format!("the key {:?} appears twice", one_line(key, LONGEST_KEY)),
        }
    }

    /// Adds it to what is said of a value, unless that is much already.
    pub(super) fn keep(self, errors: &mut Vec<Self>) {
        if errors.len() < MOST_TWICE {
            errors.push(self);
        }
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)?;
        if self.document > 1 {
            write!(f, " (document {})", self.document)?;
        }
        Ok(())
    }
}

impl std::error::Error for YamlError {}

/// What is wrong with a value.
#[derive(Debug, Default)]
pub(in crate::wire) struct Faults {
    /// Keys that appear twice in it: the last one counts.
    pub(in crate::wire) twice: Vec<YamlError>,
    /// Nothing but its identity is there.
    pub(in crate::wire) refusal: Option<Refusal>,
}

/// What becomes of a text, in order.
#[derive(Debug)]
pub(in crate::wire) enum Piece<'a> {
    /// The outermost mapping of a document has the key `items`; this is what was said in it before. If it is a list, its
    /// elements follow. Those of an earlier list of that name do not count any more.
    Items(&'a Map<String, Value>),
    /// An element of that list.
    Item(Value, Faults),
    /// The end of a document. The elements that were handed over are missing from it.
    Document(Value, Faults),
    /// What is no YAML takes the place of a document. What came of that document is void.
    Broken(YamlError),
    /// Everything is void: the text is read in another way, from its beginning.
    Restart,
}
