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

/// The text in these bytes: UTF-8, or UTF-16 with a byte order mark, as some editors and shells write it. The mark is no part
/// of it.
pub(crate) fn decode_text(bytes: Vec<u8>) -> Result<String, &'static str> {
    let unit: fn([u8; 2]) -> u16 = match bytes.get(..2) {
        Some([0xff, 0xfe]) => u16::from_le_bytes,
        Some([0xfe, 0xff]) => u16::from_be_bytes,
        _ => {
            let text = String::from_utf8(bytes);
            let text = text.map_err(|_| "neither UTF-8 nor UTF-16 with a byte order mark")?;
            return Ok(match text.strip_prefix('\u{feff}') {
                Some(text) => text.to_owned(),
                None => text,
            });
        }
    };
    let pairs = bytes[2..].chunks(2);
    let units = pairs.map(|pair| <[u8; 2]>::try_from(pair).map(unit));
    let units = units.collect::<Result<Vec<u16>, _>>();
    let text = units.ok().and_then(|units| String::from_utf16(&units).ok());
    text.ok_or("begins like UTF-16, but is not")
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

    #[test]
    fn encodings() {
        let rows: [(&[u8], Result<&str, &str>); 9] = [
            (b"", Ok("")),
            ("a ü".as_bytes(), Ok("a ü")),
            (b"\xef\xbb\xbfa", Ok("a")),
            (b"\xff\xfea\0\xfc\0", Ok("aü")),
            (b"\xfe\xff\0a\0\xfc", Ok("aü")),
            (b"\xff\xfe", Ok("")),
            (b"\xff\xfea", Err("begins like UTF-16, but is not")),
            (b"\xff\xfe\0\xd8", Err("begins like UTF-16, but is not")),
            (
                b"a\xfc",
                Err("neither UTF-8 nor UTF-16 with a byte order mark"),
            ),
        ];
        for (bytes, expect) in rows {
            let text = decode_text(bytes.to_vec());
            assert_eq!(text.as_deref().map_err(|error| *error), expect, "{bytes:?}");
        }
    }
}
