//! Reads the files under a path, each when it has changed, and says what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

use super::ledger::{Key, Ledger, Rewrite};
use super::watcher::{Points, way_to};
use crate::types::{Complaint, Complaints, NamespacedName, Object as _, ObjectKind, Subject};
use crate::wire::{self, Interner, Manifests, Object};

/// The files under one path: what they said, and when to read them again.
pub(super) struct Reader {
    root: PathBuf,
    ledger: Ledger,
    files: BTreeMap<PathBuf, Seen>,
    interner: Interner,
    /// A file that was written more recently than this is left alone: its writer may not be done.
    pub(super) still: Duration,
}

/// What one round of reading found.
#[derive(Default)]
pub(super) struct Changes {
    /// New or changed, all of them in force; of two with the same key the later one is.
    pub(super) objects: Vec<Object>,
    /// Nobody says these any more.
    pub(super) removed: Vec<Key>,
    /// Some file can be used, or there is none.
    pub(super) usable: bool,
    /// A file was left alone because it is being written: read again soon.
    pub(super) unfinished: bool,
    reread: BTreeSet<PathBuf>,
}

/// What a file was when it was read last.
struct Seen {
    identity: FileIdentity,
    /// It could be decoded then.
    good: bool,
    /// What was wrong with it.
    complaints: Complaints,
}

/// Differs when a file's content may differ.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileIdentity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Reader {
    /// Nothing is read yet; `root` is absolute.
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            ledger: Ledger::default(),
            files: BTreeMap::new(),
            interner: Interner::default(),
            still: Duration::ZERO,
        }
    }

    /// What all this is read from.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Every directory whose changes can change what is read.
    pub(super) fn points(&self) -> Points {
        let mut points = Points::new();
        way_to(&self.root, &mut points);
        // Files proper are covered by the watch on their directory.
        let files = list(&self.root).unwrap_or_default();
        for link in files.iter().filter(|file| file.is_symlink()) {
            way_to(link, &mut points);
        }
        points
    }

    /// Reads what has changed since the last call. Fails when the root itself cannot be read; everything stays as it is then.
    pub(super) fn read(&mut self) -> io::Result<Changes> {
        let present = list(&self.root)?;
        let mut changes = Changes::default();
        // First what is new, then what is gone: an object that moves to another file must not be missed in between.
        for file in &present {
            self.read_if_changed(file, &mut changes);
        }
        let gone: Vec<PathBuf> = self
            .files
            .keys()
            .filter(|file| !present.contains(file))
            .cloned()
            .collect();
        for file in gone {
            self.files.remove(&file);
            log::info!("manifests: {} is gone", file.display());
            let entry = self.ledger.strike(&file);
            changes.take_in(entry, Vec::new());
        }
        // What was hidden behind objects that are gone now.
        while let Some(file) = changes.reread.pop_first() {
            if let Ok(metadata) = fs::metadata(&file) {
                self.read_file(&file, &metadata, &mut changes);
            }
        }
        changes.removed.retain(|key| !self.ledger.says(key));
        changes
            .objects
            .retain(|object| self.ledger.says(&key_of(object)));
        changes.usable = self.files.is_empty() || self.files.values().any(|seen| seen.good);
        Ok(changes)
    }

    fn read_if_changed(&mut self, file: &Path, changes: &mut Changes) {
        // A dangling link, or deleted just now: the next round has it or not.
        let Ok(metadata) = fs::metadata(file) else {
            return;
        };
        let seen = self.files.get(file);
        if seen.is_some_and(|seen| seen.identity == FileIdentity::of(&metadata)) {
            return;
        }
        let age = metadata
            .modified()
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        // A time in the future says nothing.
        if age.is_some_and(|age| age < self.still) {
            changes.unfinished = true;
            return;
        }
        self.read_file(file, &metadata, changes);
    }

    fn read_file(&mut self, file: &Path, metadata: &Metadata, changes: &mut Changes) {
        let identity = FileIdentity::of(metadata);
        let found = load(file, metadata, &mut self.interner);
        // Written meanwhile: of what it was and what it is, this may be a mixture.
        if fs::metadata(file).is_ok_and(|now| FileIdentity::of(&now) != identity) {
            changes.unfinished = true;
            return;
        }
        let mut seen = Seen {
            identity,
            good: false,
            complaints: Complaints::default(),
        };
        let known = self.ledger.knows(file);
        match found {
            Ok(found) if found.unidentified && known => {
                // It may be one of those that it said before.
                seen.complaints = complaints(file, &found);
                let kept = "all that it said before stays in force";
                seen.complaints.add(of_file(file, kept));
            }
            Ok(found) => {
                seen.good = true;
                seen.complaints = complaints(file, &found);
                seen.complaints.extend(self.enter(file, found, changes));
            }
            Err(problem) => {
                let outcome = match known {
                    true => "what it said before stays in force",
                    false => "nothing in it is used",
                };
                let complaint = of_file(file, format_args!("{problem}; {outcome}"));
                seen.complaints.add(complaint);
            }
        }
        self.files.insert(file.to_owned(), seen);
    }

    /// Puts what a file says in force. Returns a complaint for each object that it says twice.
    fn enter(&mut self, file: &Path, found: Manifests, changes: &mut Changes) -> Vec<Complaint> {
        let (place, count) = (file.display(), found.objects.len());
        log::info!("manifests: {place}: {count} objects");
        if found.foreign > 0 {
            let foreign = found.foreign;
            log::debug!("manifests: {place}: {foreign} objects of other kinds are passed over");
        }
        let said = found.objects.iter().map(key_of);
        // What an object said when it could be read goes on.
        let unusable = found.unusable.into_iter();
        let kept = unusable.map(key);
        let kept = kept.filter(|key| self.ledger.is_owner(file, key));
        let keys: Vec<Key> = said.chain(kept).collect();
        let entry = self.ledger.write(file, &keys);
        let twice = twice_in_one(file, &keys[..count], &entry);
        changes.take_in(entry, found.objects);
        twice
    }

    /// What one would look for in the files and not find.
    pub(super) fn lack(&self) -> Option<&'static str> {
        match self.ledger.has_services_and_slices() {
            _ if self.ledger.is_empty() => Some("there is nothing in it that a proxy reads"),
            (true, false) => Some(
                "it has Services and no EndpointSlices: they have the endpoints that other sources say",
            ),
            (false, true) => Some(
                "it has EndpointSlices and no Services: they are for the Services that other sources say",
            ),
            (true, true) | (false, false) => None,
        }
    }

    /// What is wrong with the files now.
    pub(super) fn complaints(&self) -> Complaints {
        let mut all = Complaints::default();
        for seen in self.files.values() {
            all.append(&seen.complaints);
        }
        all.extend(self.ledger.doubles().map(|(key, first, second)| {
            let (first, second) = (first.display(), second.display());
            let what = format!("defined in {first} and in {second}; what {first} says is used");
            Complaint::new(key.into(), what)
        }));
        all
    }
}

/// What is wrong with a file as a whole, or with a document in it.
fn of_file(file: &Path, what: impl fmt::Display) -> Complaint {
    Complaint::new(Subject::Other(file.display().to_string().into()), what)
}

/// What is wrong in a file, other than what it says twice.
fn complaints(file: &Path, found: &Manifests) -> Complaints {
    let place = file.display();
    let mut all = Complaints::default();
    all.extend(found.broken.iter().map(|error| {
        of_file(
            file,
            format_args!("{error}; nothing in this document is used"),
        )
    }));
    all.extend(found.duplicates.iter().map(|(object, problem)| {
        Complaint::new(
            object.clone(),
            format_args!("{problem}; the last one counts ({place})"),
        )
    }));
    all.extend(found.errors.iter().map(|error| {
        let mut complaint = error.complaint.clone();
        complaint.locate(format_args!("{place}, document {}", error.document));
        complaint
    }));
    all
}

/// Objects that one file defines twice.
fn twice_in_one(file: &Path, keys: &[Key], entry: &Rewrite) -> Vec<Complaint> {
    let twice = keys.iter().zip(&entry.repeated);
    let twice = twice.filter_map(|(key, repeated)| repeated.then_some(key));
    let place = file.display();
    twice
        .map(|key| {
            let what = format!("defined more than once in {place}; the first is used");
            Complaint::new(key.into(), what)
        })
        .collect()
}

impl Changes {
    fn take_in(&mut self, entry: Rewrite, mut objects: Vec<Object>) {
        let mut in_force = entry.in_force.into_iter();
        objects.retain(|_| in_force.next().unwrap_or(false));
        if self.objects.is_empty() {
            self.objects = objects;
        } else {
            self.objects.append(&mut objects);
        }
        self.removed.extend(entry.removed);
        self.reread.extend(entry.reread);
    }
}

fn key((kind, name): (ObjectKind, NamespacedName)) -> Key {
    match kind {
        ObjectKind::Service => Key::Service(name),
        ObjectKind::EndpointSlice => Key::EndpointSlice(name),
        ObjectKind::Node => Key::Node(name),
        ObjectKind::ServiceCidr => Key::ServiceCidr(name),
    }
}

fn key_of(object: &Object) -> Key {
    match object {
        Object::Service(service) => Key::Service(service.name().clone()),
        Object::EndpointSlice(slice) => Key::EndpointSlice(slice.name().clone()),
        Object::Node(node) => Key::Node(node.name().clone()),
        Object::ServiceCidr(cidr) => Key::ServiceCidr(cidr.name().clone()),
    }
}

/// The files that count, by name: the path itself, or what is in it.
fn list(root: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(root)?.is_dir() {
        return Ok(vec![root.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let counts = ["yaml", "yml", "json"].map(Some);
        if !hidden && counts.contains(&path.extension().and_then(|e| e.to_str())) && !path.is_dir()
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn load(file: &Path, metadata: &Metadata, interner: &mut Interner) -> Result<Manifests, String> {
    if !metadata.is_file() {
        return Err("is no regular file".into());
    }
    // Should it have become a pipe by now: not waiting for a writer.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(flags);
    // No further than it went when it was looked at: of one that grows meanwhile the rest is read in the next round.
    let open = || Ok(options.open(file)?.take(metadata.len()));
    wire::manifests(open, interner).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_while_it_was_read_is_left_alone() {
        let file = std::env::temp_dir().join(format!("portico-reader-{}.yaml", std::process::id()));
        let node =
            |name: &str| format!("{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}}}");
        fs::write(&file, node("before")).expect("written");
        let before = fs::metadata(&file).expect("there");
        fs::write(&file, node("afterwards")).expect("written");
        let after = fs::metadata(&file).expect("there");
        let mut reader = Reader::new(file.clone());
        for (metadata, unfinished) in [(before, true), (after, false)] {
            let mut changes = Changes::default();
            reader.read_file(&file, &metadata, &mut changes);
            assert_eq!(changes.unfinished, unfinished);
            assert_eq!(changes.objects.is_empty(), unfinished);
            assert_eq!(reader.ledger.knows(&file), !unfinished);
        }
        fs::remove_file(&file).expect("removed");
    }
}
