//! What a word that nobody knows was most likely meant to be.

/// Longer words are no slips of the finger.
const LONGEST: usize = 64;

/// The known word that takes the fewest letters changed, added, left out; None if that would be another word.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = match word.len() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    if word.len() > LONGEST {
        return None;
    }
    let near = known.map(|it| (distance(word, it), it));
    let near = near.filter(|(distance, _)| *distance <= most);
    near.min_by_key(|(distance, _)| *distance).map(|(_, it)| it)
}

/// Levenshtein's, by bytes: names of flags and commands are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        for ((y, pair), above) in b.bytes().zip(row.windows(2)).zip(row.iter().skip(1)) {
            let diagonal = pair.first().copied().unwrap_or_default() + usize::from(x != y);
            let left = next.last().copied().unwrap_or_default() + 1;
            next.push(diagonal.min(left).min(above + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expect) in [
            ("", "", 0),
            ("", "abc", 3),
            ("check", "check", 0),
            ("chekc", "check", 2),
            ("explian", "explain", 2),
            ("manifest", "manifests", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expect, "{a} {b}");
            assert_eq!(distance(b, a), expect, "{b} {a}");
        }
    }

    #[test]
    fn only_slips_of_the_finger() {
        let known = ["check", "explain", "help", "version"];
        for (word, expect) in [
            ("explian", Some("explain")),
            ("chek", Some("check")),
            ("hlp", Some("help")),
            ("serve", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), expect, "{word}");
        }
    }
}
