//! Which file said what. Pure: files and keys only; objects pass by.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::types::{NamespacedName, ObjectKind, Subject};

/// An object's identity over all kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub(super) enum Key {
    Service(NamespacedName),
    EndpointSlice(NamespacedName),
    Node(NamespacedName),
    ServiceCidr(NamespacedName),
}

impl From<&Key> for Subject {
    fn from(key: &Key) -> Self {
        let (kind, name) = match key {
            Key::Service(name) => (ObjectKind::Service, name),
            Key::EndpointSlice(name) => (ObjectKind::EndpointSlice, name),
            Key::Node(name) => (ObjectKind::Node, name),
            Key::ServiceCidr(name) => (ObjectKind::ServiceCidr, name),
        };
        Self::Object(kind, name.clone())
    }
}

/// Every file's keys, and for each key the file whose object is in force: the first by path.
#[derive(Default)]
pub(super) struct Ledger {
    files: BTreeMap<Arc<Path>, HashSet<Key>>,
    owners: HashMap<Key, Arc<Path>>,
}

/// What a file's new content means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rewrite {
    /// For each object, in order: it is in force.
    pub(super) in_force: Vec<bool>,
    /// Objects that nobody says any more.
    pub(super) removed: Vec<Key>,
    /// For each object, in order: the same file said it before.
    pub(super) repeated: Vec<bool>,
    /// Files to read again: an object of theirs was hidden and is not any more.
    pub(super) reread: Vec<PathBuf>,
}

impl Ledger {
    /// A file says these objects and no others.
    pub(super) fn write(&mut self, file: &Path, keys: &[Key]) -> Rewrite {
        let known = self.files.remove_entry(file);
        let (file, before) = known.unwrap_or_else(|| (file.into(), HashSet::new()));
        let mut entry = Rewrite::default();
        let mut said = HashSet::with_capacity(keys.len());
        for key in keys {
            let owner = self.owners.get(key).filter(|owner| **owner != file);
            let first = said.insert(key.clone());
            let in_force = first && owner.is_none_or(|owner| file < *owner);
            entry.repeated.push(!first);
            if in_force {
                self.owners.insert(key.clone(), file.clone());
            }
            entry.in_force.push(in_force);
        }
        for key in before.difference(&said) {
            self.release(&file, key, &mut entry);
        }
        self.files.insert(file, said);
        entry
    }

    /// A file is gone.
    pub(super) fn strike(&mut self, file: &Path) -> Rewrite {
        let entry = self.write(file, &[]);
        self.files.remove(file);
        entry
    }

    /// No file says anything.
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Whether some file has a Service, and whether one has an EndpointSlice.
    pub(super) fn has_services_and_slices(&self) -> (bool, bool) {
        let has = |kind: fn(&Key) -> bool| self.owners.keys().any(kind);
        let services = has(|key| matches!(key, Key::Service(_)));
        (services, has(|key| matches!(key, Key::EndpointSlice(_))))
    }

    /// Some file says it.
    pub(super) fn says(&self, key: &Key) -> bool {
        self.owners.contains_key(key)
    }

    /// It is this file's object that is in force.
    pub(super) fn is_owner(&self, file: &Path, key: &Key) -> bool {
        self.owners.get(key).is_some_and(|owner| **owner == *file)
    }

    /// Objects that several files say: the file whose object is in force, and the next.
    pub(super) fn doubles(&self) -> impl Iterator<Item = (&Key, &Path, &Path)> {
        let mut found: BTreeMap<&Key, (&Path, &Path)> = BTreeMap::new();
        for (file, keys) in &self.files {
            for key in keys {
                let Some(owner) = self.owners.get(key).filter(|owner| *owner != file) else {
                    continue;
                };
                found.entry(key).or_insert((owner, file));
            }
        }
        found
            .into_iter()
            .map(|(key, (owner, other))| (key, owner, other))
    }

    /// The file has said something, if only that there is nothing.
    pub(super) fn knows(&self, file: &Path) -> bool {
        self.files.contains_key(file)
    }

    fn release(&mut self, file: &Path, key: &Key, entry: &mut Rewrite) {
        if !self.is_owner(file, key) {
            return;
        }
        match self.files.iter().find(|(_, keys)| keys.contains(key)) {
            Some((heir, _)) => {
                self.owners.insert(key.clone(), heir.clone());
                if !entry.reread.iter().any(|file| **file == **heir) {
                    entry.reread.push(heir.to_path_buf());
                }
            }
            None => {
                self.owners.remove(key);
                entry.removed.push(key.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &str) -> Vec<Key> {
        let names = names.split_whitespace();
        names
            .map(|name| Key::Service(NamespacedName::new("ns", name)))
            .collect()
    }

    /// Written compactly: in force (`+`) or not (`-`, `=` if repeated), removed, doubles with winners and losers, files to
    /// read again.
    fn text(entry: Rewrite, ledger: &Ledger) -> String {
        let name = |key: &Key| match key {
            Key::Service(name)
            | Key::EndpointSlice(name)
            | Key::Node(name)
            | Key::ServiceCidr(name) => name.name().to_owned(),
        };
        let mut removed: Vec<String> = entry.removed.iter().map(name).collect();
        removed.sort();
        let in_force: String = entry
            .in_force
            .iter()
            .zip(&entry.repeated)
            .map(|flags| match flags {
                (true, _) => '+',
                (false, true) => '=',
                (false, false) => '-',
            })
            .collect();
        let doubles: Vec<String> = ledger
            .doubles()
            .map(|(key, a, b)| format!("{}@{}{}", name(key), a.display(), b.display()))
            .collect();
        format!(
            "{in_force} removed={removed:?} doubles={doubles:?} reread={:?}",
            entry.reread
        )
    }

    #[test]
    fn the_first_file_owns_a_key() {
        // (file, its keys or None when it goes away, what follows)
        let rows = [
            ("b", Some("x y"), "++ removed=[] doubles=[] reread=[]"),
            ("b", Some("x y"), "++ removed=[] doubles=[] reread=[]"),
            (
                "c",
                Some("y z"),
                r#"-+ removed=[] doubles=["y@bc"] reread=[]"#,
            ),
            (
                "a",
                Some("z"),
                r#"+ removed=[] doubles=["y@bc", "z@ac"] reread=[]"#,
            ),
            // y goes on with what c says; x is gone.
            ("b", None, r#" removed=["x"] doubles=["z@ac"] reread=["c"]"#),
            (
                "c",
                Some("y z"),
                r#"+- removed=[] doubles=["z@ac"] reread=[]"#,
            ),
            ("a", Some("w"), r#"+ removed=[] doubles=[] reread=["c"]"#),
            ("c", Some("z z"), r#"+= removed=["y"] doubles=[] reread=[]"#),
            ("c", Some(""), r#" removed=["z"] doubles=[] reread=[]"#),
            ("a", None, r#" removed=["w"] doubles=[] reread=[]"#),
            ("a", None, " removed=[] doubles=[] reread=[]"),
        ];
        let mut ledger = Ledger::default();
        for (row, (file, said, expect)) in rows.into_iter().enumerate() {
            let entry = match said {
                Some(names) => ledger.write(Path::new(file), &keys(names)),
                None => ledger.strike(Path::new(file)),
            };
            assert_eq!(text(entry, &ledger), expect, "row {row}");
        }
        assert!(ledger.files.len() == 1 && ledger.owners.is_empty());
    }
}
