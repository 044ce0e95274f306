//! Text from outside, made fit for a line of the log.

use std::borrow::Cow;

/// The text on one line: what would end the line, steer a terminal or turn the writing round is escaped, and what goes beyond
/// `most` bytes is left out, which is said.
pub(crate) fn one_line(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most && !text.contains(is_unfit) {
        return Cow::Borrowed(text);
    }
    let mut line = String::new();
    for c in text.chars() {
        let before = line.len();
        match is_unfit(c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
        if line.len() > most {
            line.truncate(before);
            line.push_str(&format!("... ({} bytes)", text.len()));
            break;
        }
    }
    Cow::Owned(line)
}

fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let rows = [
            ("", ""),
            ("as it is: \"ü\" \\n", "as it is: \"ü\" \\n"),
            ("a\nb\r\n\tc", "a\\nb\\r\\n\\tc"),
            (
                "\u{1b}[31mred\u{7f}\u{9b}2J",
                "\\u{1b}[31mred\\u{7f}\\u{9b}2J",
            ),
            ("\u{202e}gnorw\u{2029}", "\\u{202e}gnorw\\u{2029}"),
            (
                "0123456789012345678901234567890",
                "012345678901234567890123456789... (31 bytes)",
            ),
            (
                "01234567890123456789012345678ü",
                "01234567890123456789012345678... (31 bytes)",
            ),
            (
                "01234567890123456789012345678\n",
                "01234567890123456789012345678... (30 bytes)",
            ),
        ];
        for (text, expect) in rows {
            assert_eq!(one_line(text, 30), expect);
        }
        assert!(matches!(one_line("unchanged", 9), Cow::Borrowed(_)));
    }
}
