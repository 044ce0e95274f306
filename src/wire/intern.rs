//! Strings that repeat: a cluster has thousands of endpoints and few node names.

use std::collections::HashSet;
use std::sync::Arc;

/// Hands out one shared copy of each string. Each reflector has its own.
#[derive(Debug, Default)]
pub struct Interner {
    known: HashSet<Arc<str>>,
    /// At this size, strings that nobody uses any more are dropped.
    sweep_at: usize,
}

impl Interner {
    const MIN_SWEEP: usize = 1024;

    /// The shared copy of a string.
    pub(crate) fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_at = (self.known.len() * 2).max(Self::MIN_SWEEP);
        }
        let shared: Arc<str> = text.into();
        self.known.insert(shared.clone());
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_copy_of_each_and_none_of_the_forgotten() {
        let mut interner = Interner::default();
        let kept = interner.intern("node-1");
        assert!(Arc::ptr_eq(&kept, &interner.intern("node-1")));
        for i in 0..100_000 {
            interner.intern(&format!("gone-{i}"));
        }
        assert!(interner.known.len() <= Interner::MIN_SWEEP);
        assert!(Arc::ptr_eq(&kept, &interner.intern("node-1")));
    }
}
