//! One word for one thing: a type's name stands for one type in the whole crate.

use std::collections::BTreeMap;

use super::sources;

/// Names that stand for several types on purpose, and why that misleads nobody.
const SHARED: &[(&str, &str)] = &[("Error", "each layer's own, as in std")];

/// Names that still stand for several types: this list may only become shorter.
const LEFT: &[&str] = &[
    "BindError",
    "Cause",
    "Changes",
    "Closed",
    "Decision",
    "DetectLocal",
    "Event",
    "Events",
    "Form",
    "HealthCheck",
    "Held",
    "Id",
    "Kind",
    "Known",
    "Ledger",
    "Line",
    "Link",
    "List",
    "Listeners",
    "Logging",
    "Measured",
    "Message",
    "Object",
    "Order",
    "Outcome",
    "Patience",
    "Pause",
    "Port",
    "PortalKind",
    "Problem",
    "Reader",
    "Refusal",
    "Request",
    "Route",
    "Scope",
    "Server",
    "ServicePortCounters",
    "Shared",
    "Slot",
    "Socket",
    "Source",
    "State",
    "Store",
    "Subject",
    "Target",
    "Verdict",
    "Watch",
    "World",
    "Writer",
];

#[test]
fn a_type_name_stands_for_one_type() {
    let mut places = BTreeMap::<String, Vec<String>>::new();
    for (path, text) in sources() {
        let code = text.split("#[cfg(test)]").next().unwrap();
        for name in code.lines().filter_map(defined) {
            let file = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
            let file = file.unwrap().display().to_string();
            places.entry(name.to_owned()).or_default().push(file);
        }
    }
    assert!(places.len() > 200, "types are found: {}", places.len());
    let twice = |name: &str| places.get(name).is_some_and(|places| places.len() > 1);
    for (name, _) in SHARED {
        assert!(twice(name), "{name} is listed as shared, and is not");
    }
    places.retain(|name, places| {
        places.len() > 1 && !SHARED.iter().any(|(shared, _)| shared == name)
    });
    let found: Vec<&str> = places.keys().map(String::as_str).collect();
    assert_eq!(found, LEFT, "{places:#?}");
}

/// The type that a line at the left margin defines. Types inside functions and associated types are their own business.
fn defined(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub").map_or(line, |rest| {
        let rest = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        rest.map_or(&line[3..], |(_, rest)| rest).trim_start()
    });
    let kinds = ["struct ", "enum ", "trait ", "type "];
    let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric()).next()
}
