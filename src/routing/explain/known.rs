//! What answers are made from.

use crate::routing::entry::ServiceEntry;
use crate::routing::table::Table;
use crate::types::{Complaint, Complaints, NamespacedName, Subject};

/// What an answer is made from.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) table: &'a Table,
    pub(super) complaints: &'a Complaints,
}

impl<'a> Known<'a> {
    /// Every Service, by name.
    pub(super) fn entries(self) -> Vec<&'a ServiceEntry> {
        let mut entries: Vec<_> = self.table.entries.values().collect();
        entries.sort_unstable_by_key(|entry| &entry.service.name);
        entries
    }

    /// Everything that is wrong.
    pub(super) fn complaints(self) -> impl Iterator<Item = Complaint> {
        self.table
            .complaints()
            .into_iter()
            .chain(self.complaints.iter())
    }

    /// What is wrong with a Service and its slices.
    pub(super) fn complaints_of(self, entry: &ServiceEntry) -> impl Iterator<Item = Complaint> {
        let slices = entry.slices.as_deref().unwrap_or_default().iter();
        let mut subjects: Vec<Subject> = slices.map(|slice| Subject::of(&**slice)).collect();
        subjects.push(Subject::of(&*entry.service));
        let others = self.complaints.iter();
        let others = others.filter(move |complaint| subjects.contains(&complaint.subject));
        self.table.complaints_of(entry).into_iter().chain(others)
    }

    /// What is wrong with a Service that is not in the table.
    pub(super) fn complaints_about(self, name: &NamespacedName) -> impl Iterator<Item = Complaint> {
        let subject = Subject::service(name);
        let complaints = self.complaints.iter();
        complaints.filter(move |complaint| complaint.subject == subject)
    }

    /// Why there is no such Service.
    pub(super) fn why_unknown(self, name: &NamespacedName) -> &'static str {
        match self.complaints_about(name).next() {
            Some(_) => "its object cannot be used",
            None => "no such Service",
        }
    }
}
