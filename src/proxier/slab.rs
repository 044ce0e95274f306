//! Slots that know when they were re-used.

/// Slots per slab at most, 2^20: a token of epoll's has to hold the index, on 32-bit machines too.
pub(crate) const INDEX_BITS: u32 = 20;
/// What is left for the generation, when a token's three bits of kind are taken off.
pub(crate) const GENERATION_BITS: u32 = if usize::BITS == 64 {
    32
} else {
    usize::BITS - INDEX_BITS - 3
};

/// The name of a value in a [`Slab`]. Once the value is removed the name is void, even when its slot is re-used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SlabKey {
    /// Below 2^[`INDEX_BITS`].
    pub(crate) index: u32,
    /// Below 2^[`GENERATION_BITS`].
    pub(crate) generation: u32,
}

/// Values in slots, found by [`SlabKey`] without hashing.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<SlabSlot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct SlabSlot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds a value; gives it back if there is no slot left.
    pub(crate) fn insert(&mut self, value: T) -> Result<SlabKey, T> {
        if let Some(index) = self.free.pop() {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.value = Some(value);
                let generation = slot.generation;
                return Ok(SlabKey { index, generation });
            }
        }
        if self.slots.len() >> INDEX_BITS != 0 {
            return Err(value);
        }
        let index = self.slots.len() as u32;
        self.slots.push(SlabSlot {
            generation: 0,
            value: Some(value),
        });
        Ok(SlabKey {
            index,
            generation: 0,
        })
    }

    /// The value of this name, unless it was removed.
    pub(crate) fn get(&self, key: SlabKey) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        slot.value
            .as_ref()
            .filter(|_| slot.generation == key.generation)
    }

    /// The value of this name, unless it was removed.
    pub(crate) fn get_mut(&mut self, key: SlabKey) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        slot.value
            .as_mut()
            .filter(|_| slot.generation == key.generation)
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: SlabKey) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1) & (u32::MAX >> (32 - GENERATION_BITS));
        self.free.push(key.index);
        Some(value)
    }

    /// Every value with its name.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (SlabKey, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(i, slot)| {
            let key = SlabKey {
                index: i as u32,
                generation: slot.generation,
            };
            slot.value.as_mut().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_name_stays_void_when_its_slot_is_used_again() {
        let mut slab = Slab::default();
        let a = slab.insert('a').unwrap();
        assert_eq!(slab.remove(a), Some('a'));
        let b = slab.insert('b').unwrap();
        assert_ne!(a, b);
        assert_eq!(slab.get(a), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.get_mut(b), Some(&mut 'b'));
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.slots.len(), 1, "the slot was used again");
        assert_eq!(slab.iter_mut().map(|(key, _)| key).collect::<Vec<_>>(), [b]);
    }
}
