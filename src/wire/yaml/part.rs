//! A text's parts, one document each.

use std::io::Read;

use super::utf8::Utf8;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The characters up to the next marker at the beginning of a line: to `---`, which begins a document, or behind `...`, which
/// ends one. No YAML has them elsewhere, so what is wrong in one part cannot hide the next.
///
/// Two things that Kubernetes' parser takes and ours does not are mended on the way: a byte order mark before a document, where
/// files were put one behind the other, and a tab between a key's colon and its value, which becomes a space. (So it does behind
/// a colon in a text of several lines; nothing that we read has one there.)
pub(super) struct Part<'t, R> {
    text: &'t mut Utf8<R>,
    at_line_start: bool,
    /// Nothing has come in this line.
    blank: bool,
    /// Something has come that is neither a directive nor a comment: those belong to the document behind the marker.
    begun: bool,
    /// Something has come that belongs to the document itself.
    inside: bool,
    /// This line begins the document.
    beginning: bool,
    /// This line is the last one.
    ending: bool,
    line: LineState,
}

/// What has come in a line.
#[derive(Default)]
struct LineState {
    last: Option<char>,
    /// The quotes that are open.
    quotes: Option<char>,
    /// Nothing but blanks has come since a colon.
    colon: bool,
}

impl<'t, R: Read> Part<'t, R> {
    /// The part that begins where the text is.
    pub(super) fn new(text: &'t mut Utf8<R>) -> Self {
        Self {
            text,
            at_line_start: true,
            blank: true,
            begun: false,
            inside: false,
            beginning: false,
            ending: false,
            line: LineState::default(),
        }
    }

    /// At the beginning of a line; false if it is not of this part.
    fn begin_line(&mut self) -> bool {
        let line = self
            .text
            .ahead(BYTE_ORDER_MARK.len_utf8() + "---".len() + 1);
        let marked = line.strip_prefix(BYTE_ORDER_MARK);
        let line = marked.unwrap_or(line);
        let (begins, ends) = (is_marker(line, "---"), is_marker(line, "..."));
        if self.ending || (self.begun && begins) {
            return false;
        }
        if marked.is_some() && (begins || !self.inside) {
            self.text.take_char();
        }
        (self.beginning, self.ending) = (begins, ends);
        self.blank = true;
        self.line = LineState::default();
        true
    }
}

impl<R: Read> Iterator for Part<'_, R> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let first = self.at_line_start;
        if first && !self.begin_line() {
            return None;
        }
        let next = self.text.take_char()?;
        self.at_line_start = next == '\n';
        if self.blank && !next.is_whitespace() {
            self.blank = false;
            let aside = next == '#' || (next == '%' && first);
            self.begun |= !aside;
            self.inside |= !aside && !self.beginning;
        }
        Some(self.line.mend(next))
    }
}

impl LineState {
    fn mend(&mut self, next: char) -> char {
        let within_word = self.last.is_some_and(char::is_alphanumeric);
        match (self.quotes, next) {
            (None, '\t') if self.colon => return ' ',
            (None, '"' | '\'') if !within_word => self.quotes = Some(next),
            (Some(quotes), next) if quotes == next && self.last != Some('\\') => self.quotes = None,
            _ => {}
        }
        self.colon = next == ':' || (self.colon && next == ' ');
        self.last = Some(next);
        next
    }
}

fn is_marker(line: &str, marker: &str) -> bool {
    let rest = line.strip_prefix(marker);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}
