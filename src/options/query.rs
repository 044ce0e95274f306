//! What is asked of `portico explain`, from its words and flags.

use super::setting::Own;
use crate::routing::{Filter, Flow, Query};
use crate::types::NamespacedName;

/// From the words after `explain` and its flags.
pub(super) fn parse(words: &[String], own: &Own) -> Result<Query, String> {
    let (from, to) = (&*own.from, &*own.to);
    let one_connection = !from.is_empty() || !to.is_empty();
    if one_connection && (own.problems || !own.namespace.is_empty()) {
        return Err("--namespace and --problems do not go with --from and --to".to_owned());
    }
    match (words, from.is_empty(), to.is_empty()) {
        ([], true, true) => Ok(Query::All(Filter {
            namespace: (!own.namespace.is_empty()).then(|| own.namespace.as_str().into()),
            problems_only: own.problems,
        })),
        ([_], true, true) if own.problems => {
            Err("--problems is of all Services; one Service's are in its answer".to_owned())
        }
        ([name], true, true) => service(name, &own.namespace).map(Query::Service),
        ([], false, false) => Flow::parse(from, to)
            .map(Query::Flow)
            .map_err(|error| error.to_string()),
        ([], ..) => Err("--from and --to go together".to_owned()),
        ([_], ..) => Err("ask for NAMESPACE/NAME or for --from and --to, not for both".to_owned()),
        ([_, ..], ..) => Err("explain takes one NAMESPACE/NAME at most".to_owned()),
    }
}

/// `NAMESPACE/NAME`, or `NAME` where the namespace is given.
fn service(name: &str, namespace: &str) -> Result<NamespacedName, String> {
    let text = match (namespace, name.contains('/')) {
        ("", _) => name.to_owned(),
        (_, false) => format!("{namespace}/{name}"),
        (_, true) => return Err(format!("{name:?}: with --namespace expected NAME alone")),
    };
    NamespacedName::parse(&text).ok_or_else(|| format!("{name:?}: expected NAMESPACE/NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(words: &[&str], from: &str, to: &str) -> Result<Query, String> {
        ask_with(words, from, to, "", false)
    }

    fn ask_with(
        words: &[&str],
        from: &str,
        to: &str,
        namespace: &str,
        problems: bool,
    ) -> Result<Query, String> {
        let words: Vec<String> = words.iter().map(|&w| w.to_owned()).collect();
        let own = Own {
            from: from.to_owned(),
            to: to.to_owned(),
            namespace: namespace.to_owned(),
            problems,
            ..Own::default()
        };
        parse(&words, &own)
    }

    #[test]
    fn all_services_or_some() {
        let filter = Filter {
            namespace: Some("shop".into()),
            problems_only: true,
        };
        assert_eq!(ask_with(&[], "", "", "shop", true), Ok(Query::All(filter)));
        let web = NamespacedName::new("shop", "web");
        let found = ask_with(&["web"], "", "", "shop", false);
        assert_eq!(found, Ok(Query::Service(web)));
        for (words, from, namespace, problems) in [
            (&["shop/web"][..], "", "shop", false),
            (&["shop/web"], "", "", true),
            (&[], "10.0.0.1", "shop", false),
            (&[], "10.0.0.1", "", true),
        ] {
            let to = if from.is_empty() { "" } else { "10.0.0.2:80" };
            assert!(
                ask_with(words, from, to, namespace, problems).is_err(),
                "{words:?}"
            );
        }
    }

    #[test]
    fn three_questions() {
        assert_eq!(ask(&[], "", ""), Ok(Query::All(Filter::default())));
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
