//! What stores tell the rest of the program.

use std::sync::Arc;

use super::{Complaints, CowMap, NamespacedName};

/// The merged state of one kind of object over all sources, as it was at one moment. Cheap to clone and to keep.
#[derive(Debug)]
pub struct Snapshot<V> {
    /// Every object, by key.
    pub objects: CowMap<NamespacedName, V>,
    /// Every configured source has delivered, or has been unavailable for long enough not to be waited for.
    /// Nothing may be opened or closed on the word of a snapshot that is not synced.
    pub synced: bool,
    /// What is wrong with what sources say and that no object carries.
    pub complaints: Arc<Complaints>,
}

impl<V> Clone for Snapshot<V> {
    fn clone(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            synced: self.synced,
            complaints: self.complaints.clone(),
        }
    }
}

impl<V> Default for Snapshot<V> {
    fn default() -> Self {
        Self {
            objects: CowMap::default(),
            synced: false,
            complaints: Arc::default(),
        }
    }
}

/// A snapshot with what is new in it, so that a change costs what changed.
#[derive(Debug)]
pub struct Broadcast<V> {
    /// The newest state.
    pub snapshot: Snapshot<V>,
    /// Keys added, changed or removed since the listener was last told; no duplicates, any order.
    pub changed: Vec<NamespacedName>,
}

impl<V> Clone for Broadcast<V> {
    fn clone(&self) -> Self {
        Self {
            snapshot: self.snapshot.clone(),
            changed: self.changed.clone(),
        }
    }
}

/// The slices of one Service over all sources, in the order of their names.
pub type Slices = Arc<[Arc<super::EndpointSlice>]>;
