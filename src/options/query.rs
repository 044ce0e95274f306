//! What is asked of `portico explain`, from its words and flags.

use crate::routing::{Flow, Query};
use crate::types::NamespacedName;

/// From the words after `explain` and the values of `--from` and `--to` (empty: not given).
pub(super) fn parse(words: &[String], from: &str, to: &str) -> Result<Query, String> {
    match (words, from.is_empty(), to.is_empty()) {
        ([], true, true) => Ok(Query::All),
        ([name], true, true) => NamespacedName::parse(name)
            .map(Query::Service)
            .ok_or_else(|| format!("{name:?}: expected NAMESPACE/NAME")),
        ([], false, false) => Flow::parse(from, to)
            .map(Query::Flow)
            .map_err(|error| error.to_string()),
        ([], ..) => Err("--from and --to go together".to_owned()),
        ([_], ..) => Err("ask for NAMESPACE/NAME or for --from and --to, not for both".to_owned()),
        ([_, ..], ..) => Err("explain takes one NAMESPACE/NAME at most".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(words: &[&str], from: &str, to: &str) -> Result<Query, String> {
        let words: Vec<String> = words.iter().map(|&w| w.to_owned()).collect();
        parse(&words, from, to)
    }

    #[test]
    fn three_questions() {
        assert_eq!(ask(&[], "", ""), Ok(Query::All));
        let name = NamespacedName::new("shop", "web");
        assert_eq!(ask(&["shop/web"], "", ""), Ok(Query::Service(name)));
        let flow = Flow::parse("fd00::1", "[fd00::2]:53/SCTP").unwrap();
        assert_eq!(
            ask(&[], "fd00::1", "[fd00::2]:53/SCTP"),
            Ok(Query::Flow(flow))
        );
    }

    #[test]
    fn everything_else_is_a_mistake() {
        let table: [(&[&str], &str, &str); 7] = [
            (&["web"], "", ""),
            (&["a/b", "c/d"], "", ""),
            (&["a/b"], "10.0.0.1", "10.0.0.2:80"),
            (&[], "10.0.0.1", ""),
            (&[], "", "10.0.0.1:80"),
            (&[], "here", "there"),
            (&[], "10.0.0.1", "[fd00::1]:80"),
        ];
        for (words, from, to) in table {
            assert!(ask(words, from, to).is_err(), "{words:?} {from} {to}");
        }
    }
}
