//! YAML or JSON text -> JSON values, the one form in which configuration and manifests are decoded.
//!
//! Scalars mean what they mean to Kubernetes' own parser (`yes` is true, `0120` is 80). Aliases and merge keys (`<<`) are
//! resolved, within limits: a file that somebody else wrote must not be able to exhaust memory or the stack.
//!
//! Configuration is small and comes whole ([`documents`]). Manifests may be large and come in pieces (`read`): of a file,
//! a few kilobytes are in memory, and of a `List`, one item.

mod composer;
mod json;
mod part;
mod refusal;
mod scalar;
mod utf8;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Read};

use serde_json::{Map, Value};

use composer::Composer;
use part::Part;
pub(in crate::wire) use refusal::Refusal;
use utf8::Utf8;

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
    fn twice(key: &str, line: usize, document: usize) -> Self {
        Self {
            document,
            line,
            message: format!("the key {:?} appears twice", one_line(key, LONGEST_KEY)),
        }
    }

    /// Adds it to what is said of a value, unless that is much already.
    fn keep(self, errors: &mut Vec<Self>) {
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

/// The documents in a text, YAML (separated by `---`) or JSON (one after another). Empty documents are left out.
pub fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // JSON proper is left to serde_json: faster, and exact about tabs and escapes. What is flow-style YAML goes on below.
    if text.trim_start().starts_with(['{', '[']) {
        let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect();
        if let Ok(values) = values {
            return Ok(values);
        }
    }
    let (documents, _) = compose(text, true)?;
    Ok(documents)
}

/// As [`documents`], but a key that appears twice is no error: its last value counts, and it is among the complaints.
pub fn documents_lenient(text: &str) -> Result<(Vec<Value>, Vec<YamlError>), YamlError> {
    compose(text, false)
}

fn compose(text: &str, strict: bool) -> Result<(Vec<Value>, Vec<YamlError>), YamlError> {
    let (mut documents, mut items, mut duplicates) = (Vec::new(), Vec::new(), Vec::new());
    let mut refused = None;
    let mut each = |piece: Piece<'_>| match piece {
        Piece::Items(_) => items.clear(),
        Piece::Item(item, faults) => {
            items.push(item);
            duplicates.extend(faults.twice);
            refused = refused.or(faults.refusal);
        }
        Piece::Document(mut document, faults) => {
            match &mut document {
                Value::Object(entries) if !items.is_empty() => {
                    let items = std::mem::take(&mut items);
                    entries.insert("items".to_string(), Value::Array(items));
                }
                _ => {}
            }
            documents.push(document);
            duplicates.extend(faults.twice);
            refused = refused.or(faults.refusal);
        }
        Piece::Broken(_) | Piece::Restart => items.clear(),
    };
    let mut text = Utf8::new(text.as_bytes());
    let mut begun = 0;
    while !text.ahead(1).is_empty() {
        begun = part(&mut text, &mut each, strict, begun)?;
    }
    match refused {
        None => Ok((documents, duplicates)),
        Some(refusal) => Err(YamlError {
            document: begun,
            line: 1,
            message: refusal.to_string(),
        }),
    }
}

/// Reads one of a text's parts, with `begun` documents before it. Returns how many have begun now.
fn part<R: Read>(
    text: &mut Utf8<R>,
    each: &mut dyn FnMut(Piece<'_>),
    strict: bool,
    begun: usize,
) -> Result<usize, YamlError> {
    let (line, replaced) = (text.line(), text.replaced());
    let mut part = Part::new(text);
    let outcome = Composer::new(each, strict, line, begun, replaced).read(&mut part);
    // Behind an error there is more.
    part.for_each(drop);
    outcome
}

/// What is wrong with a value.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Keys that appear twice in it: the last one counts.
    pub(super) twice: Vec<YamlError>,
    /// Nothing but its identity is there.
    pub(super) refusal: Option<Refusal>,
}

/// What becomes of a text, in order.
#[derive(Debug)]
pub(super) enum Piece<'a> {
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

/// Hands over the documents of a text in pieces, without the empty ones. What is no YAML costs its document alone.
/// `open` begins at the text's beginning each time.
pub(super) fn read<R: Read>(
    open: impl Fn() -> io::Result<R>,
    each: &mut dyn FnMut(Piece<'_>),
) -> io::Result<()> {
    let mut text = Utf8::new(open()?);
    // JSON proper: as above.
    if text.skip_blank().starts_with(['{', '[']) {
        if json::read(text, each)? {
            return Ok(());
        }
        each(Piece::Restart);
    }
    text = Utf8::new(open()?);
    let mut begun = 0;
    while !text.ahead(1).is_empty() {
        let outcome = part(&mut text, each, false, begun);
        text.check()?;
        match outcome {
            Ok(now) => begun = now,
            Err(error) => {
                begun = error.document;
                each(Piece::Broken(error));
            }
        }
    }
    text.check()
}
