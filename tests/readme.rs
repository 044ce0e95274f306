//! README.md agrees with the tree, and is short enough to be read to its end.

use std::path::Path;

use crate::cli::{help, text};

/// What stands between two marks, each time.
fn between<'a>(text: &'a str, begin: &str, end: char) -> Vec<&'a str> {
    let rests = text.split(begin).skip(1);
    rests
        .filter_map(|rest| Some(rest.split_once(end)?.0))
        .collect()
}

/// The rows of the table under a heading, cell by cell.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let section = text.split(heading).nth(1).expect("the heading is there");
    let table = section
        .lines()
        .skip_while(|line| !line.starts_with("|--"))
        .skip(1);
    table
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn it_is_short() {
    let lines = text("README.md").lines().count();
    assert!(lines <= 160, "{lines} lines");
}

#[test]
fn its_links_lead_somewhere() {
    let readme = text("README.md");
    let headings: Vec<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-").replace('?', ""))
        .collect();
    for link in between(&readme, "](", ')') {
        match link.strip_prefix('#') {
            Some(anchor) => assert!(headings.iter().any(|h| h == anchor), "no heading #{anchor}"),
            None if link.starts_with("https://") => {}
            None => drop(text(link)),
        }
    }
    for script in between(&readme, "scripts/", ' ') {
        let name = script.split(['`', ')', '\n']).next().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("scripts")
            .join(name);
        assert!(path.exists(), "{} is missing", path.display());
    }
    let repository = env!("CARGO_PKG_REPOSITORY");
    assert!(readme.contains(&format!("git clone {repository}")));
}

#[test]
fn it_names_the_rust_of_the_manifest() {
    let wanted = format!("Rust {} or newer", env!("CARGO_PKG_RUST_VERSION"));
    assert!(text("README.md").contains(&wanted), "{wanted}");
}

#[test]
fn its_flags_exist() {
    let help = help(&["--help"]);
    // Of the program's own: a script's or cargo's flag stands behind that one's name.
    for flag in between(&text("README.md"), "`--", '`') {
        let flag = format!("--{}", flag.split([' ', '=']).next().unwrap());
        let known = help.contains(&flag) || text("scripts/demo").contains(&flag);
        assert!(known, "{flag} is unknown");
    }
}

/// Five figures, each from a table that a script wrote.
#[test]
fn its_figures_are_measured() {
    let tables = text("scripts/figures.md");
    let readme = text("README.md");
    let figures = rows(&readme, "## Figures");
    assert_eq!(figures.len(), 5);
    for row in figures {
        let figure = row[1];
        assert!(
            tables.contains(figure),
            "{figure} is not in scripts/figures.md"
        );
    }
    for trace in ["Traceback", "goroutine", "^^^"] {
        assert!(!tables.contains(trace), "{trace} in scripts/figures.md");
    }
}
