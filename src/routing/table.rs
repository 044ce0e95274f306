//! The whole routing state.

use std::sync::Arc;

use super::{BindKey, Delta, Frontend, Inputs, Settings};
use crate::types::NamespacedName;

/// The whole routing state: what every address and port leads to.
#[derive(Debug)]
pub struct Table {
    settings: Settings,
}

impl Table {
    /// An empty table.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// What the user has set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes over new states of the named Services or of their slices. Costs what these Services cost, unless something
    /// else in `inputs` differs from last time too: then it is a `rebuild`.
    pub fn update<'a>(
        &mut self,
        inputs: &Inputs<'_>,
        changed: impl Iterator<Item = &'a NamespacedName>,
    ) -> Delta {
        let _ = (inputs, changed.count());
        Delta::default()
    }

    /// Takes over everything in `inputs`. The delta still says only what is different.
    pub fn rebuild(&mut self, inputs: &Inputs<'_>) -> Delta {
        let _ = inputs;
        Delta::default()
    }

    /// Every listener there should be now.
    pub fn bindings(&self) -> impl Iterator<Item = (BindKey, &Arc<Frontend>)> {
        std::iter::empty()
    }
}
