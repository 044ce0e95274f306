//! Names for what a worker holds: slots that know when they were re-used, and the tokens that epoll hands back.

use mio::Token;

/// Slots per slab at most, 2^20: a token has to hold the index, on 32-bit machines too.
const INDEX_BITS: u32 = 20;
const KIND_BITS: u32 = 3;
const GENERATION_BITS: u32 = if usize::BITS == 64 {
    32
} else {
    usize::BITS - INDEX_BITS - KIND_BITS
};

/// The name of a value in a [`Slab`]. Once the value is removed the name is void, even when its slot is re-used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

/// Values in slots, found by [`Key`] without hashing.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
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
    pub(crate) fn insert(&mut self, value: T) -> Result<Key, T> {
        if let Some(index) = self.free.pop() {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.value = Some(value);
                let generation = slot.generation;
                return Ok(Key { index, generation });
            }
        }
        if self.slots.len() >> INDEX_BITS != 0 {
            return Err(value);
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot {
            generation: 0,
            value: Some(value),
        });
        Ok(Key {
            index,
            generation: 0,
        })
    }

    /// The value of this name, unless it was removed.
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        slot.value
            .as_ref()
            .filter(|_| slot.generation == key.generation)
    }

    /// The value of this name, unless it was removed.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        slot.value
            .as_mut()
            .filter(|_| slot.generation == key.generation)
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
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
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(i, slot)| {
            let key = Key {
                index: i as u32,
                generation: slot.generation,
            };
            slot.value.as_mut().map(|value| (key, value))
        })
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Messages wait.
    Mailbox,
    /// A TCP listener.
    Listener(Key),
    /// A session's socket to its client.
    Client(Key),
    /// A session's socket to its endpoint.
    Endpoint(Key),
    /// A UDP listener.
    UdpListener(Key),
    /// A UDP flow's socket to its endpoint.
    Flow(Key),
}

impl Subject {
    /// As epoll keeps it.
    pub(crate) const fn token(self) -> Token {
        let (kind, key) = match self {
            Self::Mailbox => return Token(0),
            Self::Listener(key) => (1, key),
            Self::Client(key) => (2, key),
            Self::Endpoint(key) => (3, key),
            Self::UdpListener(key) => (4, key),
            Self::Flow(key) => (5, key),
        };
        let generation = (key.generation as usize) << (INDEX_BITS + KIND_BITS);
        Token(generation | (key.index as usize) << KIND_BITS | kind)
    }

    /// Back from epoll; None if it is not a token of ours.
    pub(crate) fn of(token: Token) -> Option<Self> {
        let key = Key {
            index: (token.0 >> KIND_BITS) as u32 & ((1 << INDEX_BITS) - 1),
            generation: (token.0 >> (INDEX_BITS + KIND_BITS)) as u32,
        };
        match token.0 & ((1 << KIND_BITS) - 1) {
            0 => Some(Self::Mailbox),
            1 => Some(Self::Listener(key)),
            2 => Some(Self::Client(key)),
            3 => Some(Self::Endpoint(key)),
            4 => Some(Self::UdpListener(key)),
            5 => Some(Self::Flow(key)),
            _ => None,
        }
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

    #[test]
    fn tokens_survive_epoll() {
        let index = (1 << INDEX_BITS) - 1;
        let generation = u32::MAX >> (32 - GENERATION_BITS);
        for key in [
            Key {
                index: 0,
                generation: 0,
            },
            Key { index, generation },
        ] {
            let all = [
                Subject::Mailbox,
                Subject::Listener(key),
                Subject::Client(key),
                Subject::Endpoint(key),
                Subject::UdpListener(key),
                Subject::Flow(key),
            ];
            for subject in all {
                assert_eq!(Subject::of(subject.token()), Some(subject));
            }
        }
        assert_eq!(Subject::of(Token(7)), None);
    }
}
