//! What is wrong with objects that can mean nothing, and what has been said about how they are asked for.

use std::collections::BTreeMap;

use crate::api::error::Error;
use crate::api::list_watch::Resource;
use crate::types::{Complaint, Complaints, NamespacedName, Problem, Subject};
use crate::wire::{Item, ItemError};

/// So many objects that can mean nothing are remembered, to be forgotten when they can.
const MOST_UNUSABLE: usize = 1000;

/// What is wrong with objects that can mean nothing.
#[derive(Default)]
pub(super) struct Reports {
    unusable: BTreeMap<NamespacedName, Problem>,
    /// How many more there have been since the last list began.
    left_out: usize,
    /// Objects without a name, since then.
    nameless: Complaints,
    changed: bool,
    pub(super) absent: bool,
    /// Paths asked in a simpler way since one of them last answered.
    pub(super) simpler: Vec<&'static str>,
}

impl Reports {
    /// True the first time since a server last understood what it was asked: one that is no apiserver never does.
    pub(super) fn simpler(&mut self, path: &'static str) -> bool {
        let news = !self.simpler.contains(&path);
        if news {
            self.simpler.push(path);
        }
        news
    }

    /// Notes what is wrong with an object; gives the object, if there is one for us.
    pub(super) fn object<T: Resource>(&mut self, item: Result<Item<T>, ItemError>) -> Option<T> {
        let item = match item {
            Ok(item) => item,
            Err(ItemError { problem }) => {
                let subject = Subject::Kind(T::KIND);
                self.changed |= self.nameless.add(Complaint { subject, problem });
                return None;
            }
        };
        // What is wrong inside an object that is used all the same is said by that object.
        match item.object {
            Ok(object) => {
                self.forget(&item.name);
                object
            }
            Err(problem) => {
                self.unusable(item.name, problem);
                None
            }
        }
    }

    fn unusable(&mut self, name: NamespacedName, problem: Problem) {
        if self.unusable.len() < MOST_UNUSABLE || self.unusable.contains_key(&name) {
            let before = self.unusable.insert(name, problem.clone());
            self.changed |= before != Some(problem);
        } else {
            self.left_out += 1;
            self.changed |= self.left_out == 1;
        }
    }

    pub(super) fn forget(&mut self, name: &NamespacedName) {
        if !self.unusable.is_empty() {
            self.changed |= self.unusable.remove(name).is_some();
        }
    }

    /// Everything is about to be said anew.
    pub(super) fn forget_all(&mut self) {
        self.changed |= !self.unusable.is_empty() || !self.nameless.is_empty();
        self.unusable.clear();
        self.left_out = 0;
        self.nameless = Complaints::default();
    }

    /// All there is, if it is not what it was at the last call.
    pub(super) fn news<T: Resource>(&mut self) -> Option<Complaints> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut complaints = self.nameless.clone();
        complaints.extend(self.unusable.iter().map(|(name, problem)| Complaint {
            subject: Subject::Object(T::KIND, name.clone()),
            problem: problem.clone(),
        }));
        if self.left_out > 0 {
            complaints.leave_out(&Subject::Kind(T::KIND), self.left_out);
        }
        Some(complaints)
    }

    /// The resource is not there for us; true if that is news.
    pub(super) fn absent<T: Resource>(&mut self, error: Option<&Error>) -> bool {
        let news = !std::mem::replace(&mut self.absent, true);
        if let Some(error) = error.filter(|_| news) {
            let code = error.code().unwrap_or_default();
            log::info!(
                "going without {}s: this server does not have them ({code})",
                T::KIND
            );
        }
        news
    }
}
