//! No two files import each other, not even by way of others. Names are followed through the re-exports of `mod.rs` files to
//! the file that defines them: a circle that only goes through a re-export is one all the same.

use std::collections::{BTreeMap, BTreeSet};

use super::sources;

/// What is left of them: this list may only become shorter.
const LEFT: &[&str] = &[
    "api/access.rs -> api/client/mod.rs",
    "api/client/answer.rs -> api/client/mod.rs",
    "api/client/mod.rs -> api/access.rs",
    "api/client/mod.rs -> api/client/answer.rs",
    "api/kubeconfig/exec.rs -> api/kubeconfig/section.rs",
    "api/kubeconfig/section.rs -> api/kubeconfig/user.rs",
    "api/kubeconfig/user.rs -> api/kubeconfig/exec.rs",
    "api/kubeconfig/user.rs -> api/kubeconfig/section.rs",
    "app/daemon.rs -> app/mod.rs",
    "app/mod.rs -> app/daemon.rs",
    "routing/entry.rs -> routing/hold.rs",
    "routing/hold.rs -> routing/entry.rs",
];

/// A path of module names below the crate: `["portal", "netlink"]`.
type Module = Vec<String>;

/// What one file says of names.
#[derive(Default)]
struct Room {
    file: String,
    children: BTreeSet<String>,
    /// Name as seen from outside -> the path that it stands for.
    handed_on: BTreeMap<String, Module>,
    /// Paths that the file's own code uses, absolute.
    uses: BTreeSet<Module>,
}

struct House(BTreeMap<Module, Room>);

#[test]
fn no_circles_between_files() {
    let house = House::read();
    let arrows = house.arrows();
    assert!(arrows.len() > 100, "imports are read: {}", arrows.len());
    let circles = circles(&arrows);
    assert_eq!(circles, LEFT);
}

#[test]
fn a_circle_through_a_face_is_seen() {
    let house = House::of(&[
        ("a/mod.rs", "mod b;\nmod c;\npub(crate) use b::B;"),
        ("a/b.rs", "use super::c::{self, C};\npub(crate) struct B;"),
        (
            "a/c.rs",
            "use crate::a::B;\n#[cfg(test)]\nmod tests { use crate::a::d::D; }",
        ),
        ("a/d.rs", "use super::{B, c::C};"),
    ]);
    let circles = circles(&house.arrows());
    assert_eq!(circles, ["a/b.rs -> a/c.rs", "a/c.rs -> a/b.rs"]);
}

impl House {
    fn read() -> Self {
        let texts = sources();
        let named = texts.iter().map(|(path, text)| {
            let inside = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
            (inside.unwrap().to_str().unwrap(), text.as_str())
        });
        Self::of(&named.collect::<Vec<_>>())
    }

    fn of(files: &[(&str, &str)]) -> Self {
        let rooms = files.iter().map(|(file, text)| {
            let module = module_of(file);
            let room = Room::read(file, &module, &plain(text));
            (module, room)
        });
        Self(rooms.collect())
    }

    /// Every import: from file, to file.
    fn arrows(&self) -> BTreeSet<(String, String)> {
        let mut arrows = BTreeSet::new();
        for room in self.0.values() {
            for path in &room.uses {
                if let Some(to) = self.defined_in(path).filter(|to| **to != room.file) {
                    arrows.insert((room.file.clone(), to.clone()));
                }
            }
        }
        arrows
    }

    /// The file in which what a path names stands.
    fn defined_in(&self, path: &[String]) -> Option<&String> {
        let (mut path, mut hops) = (path.to_vec(), 0);
        'follow: loop {
            let mut module = Module::new();
            for (at, name) in path.iter().enumerate() {
                let room = self.0.get(&module);
                if let Some(target) = room.and_then(|room| room.handed_on.get(name)) {
                    path = [target.as_slice(), &path[at + 1..]].concat();
                    hops += 1;
                    assert!(hops < 20, "a re-export of itself: {path:?}");
                    continue 'follow;
                }
                module.push(name.clone());
                if !self.0.contains_key(&module) {
                    module.pop();
                    break;
                }
            }
            return self.0.get(&module).map(|room| &room.file);
        }
    }
}

impl Room {
    fn read(file: &str, module: &Module, text: &str) -> Self {
        let mut room = Self {
            file: file.to_owned(),
            ..Self::default()
        };
        let (mut code, mut statements) = (String::new(), Vec::new());
        for statement in text.split_inclusive(';') {
            // A `use` begins a line of its own, behind whatever ended before it.
            let begins = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
            let begin = begins.iter().filter_map(|b| find_line(statement, b)).min();
            match begin {
                Some(at) => {
                    code.push_str(&statement[..at]);
                    statements.push(statement[at..].trim_end_matches(';').to_owned());
                }
                None => code.push_str(statement),
            }
        }
        for line in code.lines() {
            let declared = line.trim_start().trim_start_matches("pub(crate) ");
            let declared = declared.trim_start_matches("pub(super) ");
            let name = declared.trim_start_matches("pub ").strip_prefix("mod ");
            if let Some(name) = name.and_then(|name| name.strip_suffix(';')) {
                room.children.insert(name.to_owned());
            }
        }
        for statement in statements {
            let (public, tree) = statement.split_once("use ").unwrap();
            for (path, name) in leaves(tree.trim()) {
                let Some(path) = room.absolute(module, &path) else {
                    continue;
                };
                if public.is_empty() {
                    room.uses.insert(path);
                } else {
                    room.handed_on.insert(name, path);
                }
            }
        }
        for path in inline_paths(&code) {
            room.uses.extend(room.absolute(module, &path));
        }
        room
    }

    /// None for what other crates define.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let first = path.first()?;
        let mut base = match first.as_str() {
            "crate" => Module::new(),
            "self" | "super" => module.clone(),
            child if self.children.contains(child) => {
                return Some([module.as_slice(), path].concat());
            }
            _ => return None,
        };
        let supers = path.iter().take_while(|name| *name == "super").count();
        base.truncate(base.len().checked_sub(supers)?);
        base.extend(path.iter().skip(supers.max(1)).cloned());
        Some(base)
    }
}

/// Where a line of the text begins with this, spaces aside.
fn find_line(text: &str, begin: &str) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with(begin) {
            return Some(at + indent);
        }
        at += line.len();
    }
    None
}

/// The paths of a `use` tree, each with the name that it gets.
fn leaves(tree: &str) -> Vec<(Module, String)> {
    let names = |path: &str| -> Module { path.split("::").map(|n| n.trim().to_owned()).collect() };
    let Some((prefix, group)) = tree.split_once('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let mut path = names(path);
        if path
            .last()
            .is_some_and(|last| last == "self" || last == "*")
        {
            path.pop();
        }
        let last = path.last().cloned().unwrap_or_default();
        let name = if name.is_empty() {
            last
        } else {
            name.trim().to_owned()
        };
        return vec![(path, name)];
    };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut parts, mut depth, mut part) = (Vec::new(), 0, String::new());
    for c in group.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match c {
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            _ => part.push(c),
        }
    }
    parts.push(part);
    let parts = parts
        .iter()
        .map(|part| part.trim())
        .filter(|p| !p.is_empty());
    parts
        .flat_map(|part| leaves(&format!("{}{part}", prefix.trim())))
        .collect()
}

/// `crate::a::b`, `super::a`, `child::b` in code, without the `use` statements.
fn inline_paths(code: &str) -> Vec<Module> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let tokens = code.split(|c: char| !(word(c) || c == ':'));
    tokens
        .filter(|token| token.contains("::"))
        .map(|token| token.split("::").map(str::to_owned).collect::<Module>())
        .filter(|path| {
            path.iter()
                .all(|name| !name.is_empty() && !name.contains(':'))
        })
        .collect()
}

/// Code without comments, strings and tests.
fn plain(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap();
    let lines = text.lines().map(|line| match line.find("//") {
        Some(at) if !line[..at].contains('"') => &line[..at],
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn module_of(file: &str) -> Module {
    let path = file.trim_end_matches(".rs");
    let names = path.split('/').map(str::to_owned);
    names
        .filter(|name| !["mod", "lib", "main"].contains(&name.as_str()))
        .collect()
}

/// The arrows between files that reach each other both ways.
fn circles(arrows: &BTreeSet<(String, String)>) -> Vec<String> {
    let reach = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(at) = next.pop() {
            for (_, to) in arrows.iter().filter(|(from, _)| *from == at) {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let back = arrows.iter().filter(|(from, to)| reach(to).contains(from));
    back.map(|(from, to)| format!("{from} -> {to}")).collect()
}
