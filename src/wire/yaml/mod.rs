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
mod piece;
mod refusal;
mod scalar;
mod utf8;

#[cfg(test)]
mod tests;

use std::io::{self, Read};

use serde_json::Value;

use composer::Composer;
use part::Part;
pub use piece::YamlError;
pub(super) use piece::{Faults, Piece};
pub(in crate::wire) use refusal::Refusal;
use utf8::Utf8;

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
