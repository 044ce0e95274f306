//! The rules that lib.rs's page states about the source itself.

mod circles;
mod names;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which modules each module may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("wire", &["types"]),
    ("routing", &["types"]),
    ("options", &["types", "wire", "routing"]),
    ("api", &["types", "wire"]),
    ("config", &["types", "wire"]),
    ("portal", &["types"]),
    ("proxier", &["types", "routing"]),
    ("health", &["types"]),
    ("control", &["types"]),
    ("sync", &["types", "routing", "portal", "proxier"]),
];

/// The packages of the design, and the module whose work each of them does.
const PACKAGES: &[(&str, &str)] = &[
    ("crossbeam-channel", "config"),
    ("ureq", "api"),
    ("serde", "wire"),
    ("serde_json", "wire"),
    ("mio", "proxier"),
    ("signal-hook", "app"),
    ("log", "app"),
    ("simplelog", "app"),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut found,
    );
    assert!(found.len() > 20, "the sources are where they were");
    found
}

/// `src/api/client.rs` and `src/api.rs` belong to `api`.
fn module_of(path: &Path) -> String {
    let inside = path
        .strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
        .unwrap();
    inside
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

/// The top-level modules named by `crate::x` in code (not in comments).
fn imports(text: &str) -> Vec<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut names: Vec<String> = code
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        for import in imports(&text) {
            if import != module && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A file's code without its unit tests, comments and strings.
fn code(text: &str) -> String {
    let program = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = program.lines().map(|line| {
        let line = line.split("//").next().unwrap();
        // What stands between quotes is every second piece.
        line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether code takes something of a package: a path that begins with it and names an item. rustc sees to it that what is
/// imported is used.
fn uses(code: &str, package: &str) -> bool {
    let path = format!("{}::", package.replace('-', "_"));
    code.match_indices(&path).any(|(at, _)| {
        let starts = !code[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
        starts && code[at + path.len()..].starts_with(|c: char| c.is_alphabetic() || c == '{')
    })
}

/// The lines of a section of Cargo.toml, each with the line above it.
fn section(name: &str) -> Vec<(String, String)> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let text = fs::read_to_string(manifest).unwrap();
    let heading = format!("[{name}]");
    let lines: Vec<&str> = text.lines().skip_while(|line| *line != heading).collect();
    let pairs = lines.windows(2).map(|pair| (pair[0], pair[1]));
    pairs
        .take_while(|(_, line)| !line.starts_with('['))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(above, line)| (above.to_owned(), line.to_owned()))
        .collect()
}

/// The names of the packages in a section.
fn packages(lines: &[(String, String)]) -> BTreeSet<&str> {
    let names = lines.iter().map(|(_, line)| line.split(" = ").next());
    names.map(Option::unwrap).collect()
}

#[test]
fn every_package_of_the_design_is_in_use() {
    let lines = section("dependencies");
    let (packages, sources) = (packages(&lines), sources());
    for (package, module) in PACKAGES {
        assert!(packages.contains(package), "{package} is no dependency");
        let used = sources
            .iter()
            .any(|(path, text)| module_of(path) == *module && uses(&code(text), package));
        assert!(used, "{module} does not use {package}");
    }
}

#[test]
fn every_dependency_is_used_has_a_reason_and_no_default_features() {
    let lines = section("dependencies");
    let program: Vec<String> = sources().iter().map(|(_, text)| code(text)).collect();
    for package in packages(&lines) {
        let used = program.iter().any(|code| uses(code, package));
        assert!(used, "{package} is not used");
    }
    for (above, line) in lines.iter().chain(&section("dev-dependencies")) {
        assert!(above.starts_with("# "), "no reason above {line}");
        assert!(line.contains("default-features = false"), "{line}");
        assert!(!line.contains("optional"), "{line}");
    }
}

/// Names and versions in a lock file.
fn locked(file: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(path).unwrap();
    let field = |package: &str, name: &str| {
        let value = package.split_once(&format!("{name} = \""))?.1;
        value.split_once('"').map(|(value, _)| value.to_owned())
    };
    let packages = text.split("[[package]]").skip(1);
    packages
        .map(|package| {
            (
                field(package, "name").unwrap(),
                field(package, "version").unwrap(),
            )
        })
        .collect()
}

#[test]
fn what_is_fuzzed_is_what_is_shipped() {
    let shipped = locked("Cargo.lock");
    let fuzzed = locked("tests/fuzz/Cargo.lock");
    let both: BTreeSet<&str> = shipped
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| fuzzed.iter().any(|(other, _)| other == name))
        .collect();
    assert!(both.contains("saphyr-parser"), "{both:?}");
    // The engine's own needs may add another version of a package, but not replace it.
    let wrong: Vec<_> = both
        .into_iter()
        .filter(|name| !fuzzed.iter().any(|p| p.0 == *name && shipped.contains(p)))
        .collect();
    assert!(
        wrong.is_empty(),
        "tests/fuzz/Cargo.lock differs in {wrong:?}"
    );
}

#[test]
fn serde_derives_stay_at_the_door() {
    for (path, text) in sources() {
        if module_of(&path) != "wire" {
            assert!(
                !text.contains("derive(Deserialize") && !text.contains("serde::Deserialize"),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn ureq_is_apis_alone() {
    for (path, text) in sources() {
        assert!(
            !text.contains("ureq::") || module_of(&path) == "api",
            "{}",
            path.display()
        );
    }
}

#[test]
fn nothing_is_unfinished_or_switched_off() {
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    for (path, text) in sources() {
        for mark in marks {
            assert!(!text.contains(mark), "{mark} in {}", path.display());
        }
        // Standard output is for answers; diagnostics go through log.
        if module_of(&path) != "app" && module_of(&path) != "main" {
            let before_tests = text.split("#[cfg(test)]").next().unwrap();
            assert!(
                !before_tests.contains("println!("),
                "println! in {}",
                path.display()
            );
        }
    }
}

/// A list of Kubernetes' own tests that fail, where each stands below the words of README.md that explain it.
#[test]
fn what_is_known_to_fail_is_a_limit_that_the_readme_lists() {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let read =
        |file: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let readme = read("README.md");
    let limits = readme.split("\n## Limits\n").nth(1).unwrap();
    let limits = one_line(limits.split("\n## ").next().unwrap());
    let mut limit = None;
    for line in read("scripts/real-cluster.d/known-failures").lines() {
        if let Some(words) = line.strip_prefix("# limit: ") {
            assert!(limits.contains(&one_line(words)), "no limit says {words:?}");
            limit = Some(words);
        } else if !line.starts_with('#') && !line.trim().is_empty() {
            assert!(limit.is_some(), "{line}: below no limit");
        }
    }
}

/// What newer compilers take and Debian 13's does not, as far as it can be told from the text: a `let` within a condition, and
/// a variable for format_args! that has something to fill in.
#[test]
fn the_oldest_compiler_is_enough() {
    for (path, text) in sources() {
        let text = text.replace("\n", " ");
        let chain = text.contains(concat!("&& ", "let "));
        let kept = text.split("= format_args!(").skip(1).any(|rest| {
            rest.split(';')
                .next()
                .is_some_and(|call| call.contains('{'))
        });
        assert!(!chain && !kept, "{} needs a newer Rust", path.display());
    }
}
