//! Reads the files under a path, each when it has changed, and says what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

use super::ledger::{Entry, Key, Ledger};
use super::watcher::{Points, way_to};
use crate::types::Object as _;
use crate::wire::{self, Interner, Object};

/// Beyond any manifest that means well.
const LARGEST_FILE: u64 = 64 << 20;

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
    identity: Identity,
    /// It could be decoded then.
    good: bool,
}

/// Differs when a file's content may differ.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
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
            changes.take_in(&file, entry, Vec::new());
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
        if seen.is_some_and(|seen| seen.identity == Identity::of(&metadata)) {
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
        let objects = load(file, metadata).and_then(|text| self.decode(file, &text));
        let seen = Seen {
            identity: Identity::of(metadata),
            good: objects.is_ok(),
        };
        self.files.insert(file.to_owned(), seen);
        match objects {
            Ok(objects) => {
                log::info!("manifests: {}: {} objects", file.display(), objects.len());
                let keys: Vec<Key> = objects.iter().map(key_of).collect();
                let entry = self.ledger.write(file, &keys);
                changes.take_in(file, entry, objects);
            }
            Err(problem) => {
                let outcome = match self.ledger.knows(file) {
                    true => "what it said before stays in force",
                    false => "nothing in it is used",
                };
                log::error!("manifests: {}: {problem}; {outcome}", file.display());
            }
        }
    }

    /// All objects of a text, or what is wrong with it: the first problem, and how many there are.
    fn decode(&mut self, file: &Path, text: &str) -> Result<Vec<Object>, String> {
        let documents = wire::yaml::documents(text).map_err(|error| error.to_string())?;
        let (mut objects, mut problems, mut foreign) = (Vec::new(), Vec::new(), 0);
        for (number, document) in (1..).zip(documents) {
            for object in wire::objects(document, &mut self.interner) {
                match object {
                    Ok(object) => objects.push(object),
                    Err(error) if error.foreign => foreign += 1,
                    Err(error) => problems.push(format!("document {number}: {error}")),
                }
            }
        }
        if foreign > 0 {
            let file = file.display();
            log::debug!("manifests: {file}: {foreign} objects of other kinds are passed over");
        }
        match problems.as_slice() {
            [] => Ok(objects),
            [problem] => Err(problem.clone()),
            [first, more @ ..] => Err(format!("{first} (and {} more)", more.len())),
        }
    }
}

impl Changes {
    fn take_in(&mut self, file: &Path, entry: Entry, objects: Vec<Object>) {
        let objects = objects.into_iter().zip(entry.in_force);
        self.objects
            .extend(objects.filter_map(|(object, in_force)| in_force.then_some(object)));
        self.removed.extend(entry.removed);
        self.reread.extend(entry.reread);
        for (key, winner) in entry.doubles {
            let (file, winner) = (file.display(), winner.display());
            log::warn!("manifests: {file}: {key} is defined more than once; {winner} is used");
        }
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

fn load(file: &Path, metadata: &Metadata) -> Result<String, String> {
    if !metadata.is_file() {
        return Err("is no regular file".into());
    }
    if metadata.len() > LARGEST_FILE {
        return Err(format!("is larger than {LARGEST_FILE} bytes"));
    }
    let read = || -> io::Result<String> {
        // Should it have become a pipe by now: not waiting for a writer.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(flags);
        let mut text = String::new();
        options
            .open(file)?
            .take(LARGEST_FILE)
            .read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error| format!("cannot be read: {error}"))
}
