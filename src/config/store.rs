//! What every source says about one kind of object, and the one state that follows from it. Pure: `now` is an argument.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::kind::{Edit, Endpoints, Kind, Services};
use crate::types::{
    Broadcast, Complaint, Complaints, CowMap, NamespacedName, Object, Relist, Snapshot, Subject,
    Update,
};

/// Services by key.
pub type ServiceStore = Store<Services>;
/// The slices of each Service.
pub type EndpointsStore = Store<Endpoints>;

/// How long the first snapshot waits for a source that says nothing once another one has spoken.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Merges what several sources say about one kind. Where two of them have the same key, the one configured first wins.
///
/// One source's silence, failure or end never changes what another one said.
pub struct Store<K: Kind> {
    sources: Vec<Source<K::Object>>,
    view: CowMap<NamespacedName, K::Value>,
    /// Keys that may differ from what was told last.
    dirty: HashSet<NamespacedName>,
    told: Snapshot<K::Value>,
    synced: bool,
    started: Instant,
    /// The sources' names by rank, for complaints.
    names: Vec<String>,
    /// Objects that several sources have: the rank of the one that counts, and of the next.
    doubles: BTreeMap<NamespacedName, (usize, usize)>,
    complaints_changed: bool,
}

struct Source<T> {
    objects: HashMap<NamespacedName, Arc<T>>,
    /// What a relist has brought so far.
    incoming: HashMap<NamespacedName, Arc<T>>,
    delivered: bool,
    ended: bool,
    complaints: Complaints,
}

impl<K: Kind> Store<K> {
    /// A store for this many sources; a source's index is its rank.
    pub fn new(sources: usize, now: Instant) -> Self {
        let source = || Source {
            objects: HashMap::new(),
            incoming: HashMap::new(),
            delivered: false,
            ended: false,
            complaints: Complaints::default(),
        };
        Self {
            sources: std::iter::repeat_with(source).take(sources).collect(),
            view: CowMap::default(),
            dirty: HashSet::new(),
            told: Snapshot::default(),
            synced: false,
            started: now,
            names: Vec::new(),
            doubles: BTreeMap::new(),
            complaints_changed: false,
        }
    }

    /// The same store, with names for its sources.
    #[must_use]
    pub fn named(mut self, names: &[String]) -> Self {
        self.names = names.to_vec();
        self
    }

    /// Takes in what a source says.
    pub fn apply(&mut self, source: usize, update: Update<K::Object>) {
        let Some(teller) = self.sources.get_mut(source) else {
            return;
        };
        let edits = match update {
            Update::Set(objects) => {
                teller.begin();
                teller.bring(objects);
                teller.replace()
            }
            Update::Relist(Relist::Begin) => {
                teller.begin();
                Vec::new()
            }
            Update::Relist(Relist::Objects(objects)) => {
                teller.bring(objects);
                Vec::new()
            }
            Update::Relist(Relist::Gone(key)) => {
                teller.incoming.remove(&key);
                Vec::new()
            }
            Update::Relist(Relist::End) => teller.replace(),
            Update::Add(object) => teller.add(object).into_iter().collect(),
            Update::Remove(key) => teller.remove(&key).into_iter().collect(),
            // Nothing it said is taken back, and whether it is waited for depends on what it delivered alone.
            Update::Unavailable => Vec::new(),
            Update::Complaints(complaints) => {
                self.complaints_changed |= teller.complaints != complaints;
                teller.complaints = complaints;
                Vec::new()
            }
        };
        let edits = self.visible(source, edits);
        self.dirty.extend(K::merge(&mut self.view, edits));
    }

    /// A source will say nothing any more. Its objects stay; it is not waited for.
    pub fn end(&mut self, source: usize) {
        if let Some(source) = self.sources.get_mut(source) {
            source.ended = true;
        }
    }

    /// What has become different since the last call; None if nothing has. Keys that changed and changed back are not told.
    pub fn take(&mut self, now: Instant) -> Option<Broadcast<K::Value>> {
        self.synced = self.synced || self.received_whole(now);
        let (view, told) = (&self.view, &self.told.objects);
        let dirty = self.dirty.drain();
        let changed: Vec<NamespacedName> =
            dirty.filter(|key| view.get(key) != told.get(key)).collect();
        // The burst of a first list must not keep its room.
        self.dirty.shrink_to(64);
        let complaints_changed = std::mem::take(&mut self.complaints_changed);
        if changed.is_empty() && self.synced == self.told.synced && !complaints_changed {
            return None;
        }
        self.told = Snapshot {
            objects: self.view.clone(),
            synced: self.synced,
            complaints: match complaints_changed {
                true => self.complaints(),
                false => self.told.complaints.clone(),
            },
        };
        Some(Broadcast {
            snapshot: self.told.clone(),
            changed,
        })
    }

    /// When [`take`](Self::take) may have something to tell without any further update.
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = !self.synced && self.sources.iter().any(|source| source.delivered);
        waiting.then(|| self.started + PATIENCE)
    }

    /// Ranks of the sources that have not delivered.
    pub(crate) fn absent(&self) -> impl Iterator<Item = usize> {
        let sources = self.sources.iter().enumerate();
        sources.filter_map(|(rank, source)| (!source.delivered).then_some(rank))
    }

    /// One source must have delivered; the others must have delivered too, or have been given the time.
    fn received_whole(&self, now: Instant) -> bool {
        let patient = now < self.started + PATIENCE;
        let waited_for = |source: &Source<_>| !source.delivered && !source.ended && patient;
        self.sources.iter().any(|source| source.delivered) && !self.sources.iter().any(waited_for)
    }

    /// What edits of one source's objects mean for the merged state.
    fn visible(&mut self, source: usize, edits: Vec<Edit<K::Object>>) -> Vec<Edit<K::Object>> {
        if self.sources.len() == 1 {
            return edits;
        }
        self.find_doubles(&edits);
        let (before, after) = self.sources.split_at(source);
        let visible = |edit: Edit<K::Object>| {
            let key = edit.old.as_ref().or(edit.new.as_ref())?.name();
            if before.iter().any(|other| other.objects.contains_key(key)) {
                return None;
            }
            let others = after.iter().skip(1);
            let below = others.filter_map(|other| other.objects.get(key)).next();
            Some(Edit {
                old: edit.old.as_ref().or(below).cloned(),
                new: edit.new.as_ref().or(below).cloned(),
            })
        };
        edits.into_iter().filter_map(visible).collect()
    }

    /// Which of these keys several sources have.
    fn find_doubles(&mut self, edits: &[Edit<K::Object>]) {
        for edit in edits {
            let Some(object) = edit.old.as_ref().or(edit.new.as_ref()) else {
                continue;
            };
            let key = object.name();
            let sources = self.sources.iter().enumerate();
            let mut holders = sources
                .filter_map(|(rank, source)| source.objects.contains_key(key).then_some(rank));
            let before = match (holders.next(), holders.next()) {
                (Some(first), Some(second)) => self.doubles.insert(key.clone(), (first, second)),
                (_, _) => self.doubles.remove(key),
            };
            self.complaints_changed |= before.as_ref() != self.doubles.get(key);
        }
    }

    /// All there are, the sources' own and ours about what two of them say.
    fn complaints(&self) -> Arc<Complaints> {
        let mut doubles = Complaints::default();
        let name = |rank: &usize| self.names.get(*rank).map_or("another source", |name| name);
        doubles.extend(self.doubles.iter().map(|(key, (first, second))| {
            let subject = Subject::Object(K::Object::KIND, key.clone());
            let (first, second) = (name(first), name(second));
            let what = format!("defined by {first} and by {second}; what {first} says is used");
            Complaint::new(subject, what)
        }));
        // Each has had its share.
        let mut all = Complaints::at_most(usize::MAX);
        let sources = self.sources.iter().map(|source| &source.complaints);
        for complaints in sources.chain([&doubles]) {
            all.append(complaints);
        }
        Arc::new(all)
    }
}

impl<T: Object> Source<T> {
    /// Everything is told anew.
    fn begin(&mut self) {
        self.incoming = HashMap::with_capacity(self.objects.len());
    }

    /// Objects that are equal to what is kept are dropped for it at once: a relist that says nothing new takes no memory but
    /// for a table of pointers.
    fn bring(&mut self, objects: Vec<T>) {
        for object in objects {
            let kept = self.objects.get(object.name());
            let kept = kept.filter(|kept| ***kept == object).cloned();
            let object = kept.unwrap_or_else(|| Arc::new(object));
            // Removed first: a map keeps the key it has, and two copies of a name are one too many.
            self.incoming.remove(object.name());
            self.incoming.insert(object.name().clone(), object);
        }
    }

    fn replace(&mut self) -> Vec<Edit<T>> {
        self.delivered = true;
        let incoming = std::mem::take(&mut self.incoming);
        let mut gone = std::mem::replace(&mut self.objects, incoming);
        let mut edits = Vec::new();
        for (key, new) in &self.objects {
            let old = gone.remove(key);
            if old.as_ref().is_none_or(|old| !Arc::ptr_eq(old, new)) {
                let new = Some(new.clone());
                edits.push(Edit { old, new });
            }
        }
        let removed = gone.into_values().map(|old| Edit {
            old: Some(old),
            new: None,
        });
        edits.extend(removed);
        edits
    }

    fn add(&mut self, object: T) -> Option<Edit<T>> {
        if self
            .objects
            .get(object.name())
            .is_some_and(|kept| **kept == object)
        {
            return None;
        }
        // Removed first: a map keeps the key it has, and two copies of a name are one too many.
        let old = self.objects.remove(object.name());
        let new = Arc::new(object);
        self.objects.insert(new.name().clone(), new.clone());
        Some(Edit {
            old,
            new: Some(new),
        })
    }

    fn remove(&mut self, key: &NamespacedName) -> Option<Edit<T>> {
        let old = self.objects.remove(key)?;
        Some(Edit {
            old: Some(old),
            new: None,
        })
    }
}
