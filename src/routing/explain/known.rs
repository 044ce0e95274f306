//! What answers are made from.

use super::request::Filter;
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
    /// The Services that are asked for, by name.
    pub(super) fn entries(self, filter: &Filter) -> Vec<&'a ServiceEntry> {
        let entries = self.table.entries.values();
        let is_asked_for = |entry: &&ServiceEntry| filter.has(&entry.service.name);
        let mut entries: Vec<_> = entries.filter(is_asked_for).collect();
        entries.sort_unstable_by_key(|entry| &entry.service.name);
        entries
    }

    /// Everything that is wrong there; of a namespace, what is about its objects.
    pub(super) fn complaints(self, filter: &Filter) -> Vec<Complaint> {
        let all = self.table.complaints().into_iter();
        all.chain(self.complaints.iter())
            .filter(|complaint| match &complaint.subject {
                Subject::Object(_, name) => filter.has(name),
                Subject::Kind(_) | Subject::Other(_) => filter.namespace.is_none(),
            })
            .collect()
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

impl Filter {
    fn has(&self, name: &NamespacedName) -> bool {
        let namespace = self.namespace.as_deref();
        namespace.is_none_or(|namespace| namespace == name.namespace())
    }
}

/// How much there is.
pub(super) struct Totals {
    pub(super) services: usize,
    pub(super) not_proxied: usize,
    /// ServicePorts, in each family by itself.
    pub(super) ports: usize,
    pub(super) without_endpoints: usize,
    pub(super) problems: usize,
}

impl Totals {
    pub(super) fn of(entries: &[&ServiceEntry], complaints: &[Complaint]) -> Self {
        let ports = || entries.iter().flat_map(|entry| &entry.ports);
        Self {
            services: entries.len(),
            not_proxied: entries
                .iter()
                .filter(|entry| entry.skipped.is_some())
                .count(),
            ports: ports().count(),
            without_endpoints: ports().filter(|port| !port.has_any).count(),
            problems: complaints.len(),
        }
    }
}
