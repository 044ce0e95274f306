//! A text's parts, one document each.

use std::io::Read;

use super::utf8::Utf8;

/// The characters up to the next marker at the beginning of a line: to `---`, which begins a document, or behind `...`, which
/// ends one. No YAML has them elsewhere, so what is wrong in one part cannot hide the next.
pub(super) struct Part<'t, R> {
    text: &'t mut Utf8<R>,
    at_line_start: bool,
    /// Nothing has come in this line.
    blank: bool,
    /// Something has come that is neither a directive nor a comment: those belong to the document behind the marker.
    begun: bool,
    /// This line is the last one.
    ending: bool,
}

impl<'t, R: Read> Part<'t, R> {
    /// The part that begins where the text is.
    pub(super) fn new(text: &'t mut Utf8<R>) -> Self {
        Self {
            text,
            at_line_start: true,
            blank: true,
            begun: false,
            ending: false,
        }
    }
}

impl<R: Read> Iterator for Part<'_, R> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let first = self.at_line_start;
        if first {
            let line = self.text.ahead("---".len() + 1);
            if self.ending || (self.begun && is_marker(line, "---")) {
                return None;
            }
            self.ending = is_marker(line, "...");
            self.blank = true;
        }
        let next = self.text.take_char()?;
        self.at_line_start = next == '\n';
        if self.blank && !next.is_whitespace() {
            self.blank = false;
            self.begun |= next != '#' && !(next == '%' && first);
        }
        Some(next)
    }
}

fn is_marker(line: &str, marker: &str) -> bool {
    let rest = line.strip_prefix(marker);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}
