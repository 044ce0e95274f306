//! A map that is cheap to snapshot and cheap to change afterwards.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash};
use std::sync::Arc;

/// A power of two. With n keys a change after a snapshot copies n / 256 entries and 256 pointers at most: the cost of a
/// change hardly grows with the cluster (a plain `Arc<HashMap>` would copy all of it).
const SHARDS: usize = 256;

/// SipHash with fixed keys: object names come from whoever may write objects, and shards must agree between clones.
type Hasher = BuildHasherDefault<DefaultHasher>;
type Shard<K, V> = Option<Arc<HashMap<K, V, Hasher>>>;

/// A hash map in shards, each shared between snapshots until one of them changes it.
pub struct CowMap<K, V> {
    shards: Arc<[Shard<K, V>; SHARDS]>,
    len: usize,
}

impl<K: Clone + Eq + Hash, V: Clone> CowMap<K, V> {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.shards[shard_of(key)].as_ref()?.get(key)
    }

    /// Sets the value of a key; returns the value it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let shard = &mut Arc::make_mut(&mut self.shards)[shard_of(&key)];
        let old = Arc::make_mut(shard.get_or_insert_default()).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes a key; returns the value it had.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        // Looked up first: an absent key must not copy a shard.
        self.get(key)?;
        let shard = &mut Arc::make_mut(&mut self.shards)[shard_of(key)];
        let old = Arc::make_mut(shard.as_mut()?).remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    /// Every entry, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flatten().flat_map(|shard| shard.iter())
    }
}

fn shard_of<K: Hash>(key: &K) -> usize {
    use std::hash::BuildHasher;
    // The upper bits: the map inside a shard uses the lower ones of the same hash.
    (Hasher::default().hash_one(key) >> 56) as usize % SHARDS
}

impl<K, V> Clone for CowMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            shards: self.shards.clone(),
            len: self.len,
        }
    }
}

impl<K, V> Default for CowMap<K, V> {
    fn default() -> Self {
        Self {
            shards: Arc::new([const { None }; SHARDS]),
            len: 0,
        }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for CowMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.shards.iter().flatten().flat_map(|shard| shard.iter()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_does_not_see_later_changes() {
        let mut map = CowMap::default();
        for key in 0..1000 {
            assert_eq!(map.insert(key, key), None);
        }
        let before = map.clone();
        assert_eq!(map.insert(7, 70), Some(7));
        assert_eq!(map.remove(&8), Some(8));
        assert_eq!(map.remove(&8), None);
        assert_eq!(
            (map.len(), map.get(&7), map.get(&8)),
            (999, Some(&70), None)
        );
        assert_eq!(
            (before.len(), before.get(&7), before.get(&8)),
            (1000, Some(&7), Some(&8))
        );
        assert_eq!(before.iter().count(), 1000);
    }

    #[test]
    fn a_change_copies_one_shard_only() {
        let mut map: CowMap<u32, u32> = (0..10_000).fold(CowMap::default(), |mut map, key| {
            map.insert(key, key);
            map
        });
        let before = map.clone();
        map.insert(1, 2);
        let same = |(a, b): (&Shard<u32, u32>, &Shard<u32, u32>)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let copied = map
            .shards
            .iter()
            .zip(before.shards.iter())
            .filter(|pair| !same(*pair))
            .count();
        assert_eq!(copied, 1);
    }
}
