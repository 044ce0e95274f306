//! Answers to "why does this connection go there", from the same values that the data path follows.

mod json;
mod request;
mod text;
mod view;

pub use request::{ExplainRequest, Flow, OutputFormat, Query};

use super::entry::Entry;
use super::{Kernel, Table};
use crate::types::{Complaint, Complaints, NamespacedName, Subject};

/// The answer to a request, as printed on stdout: one JSON document, or lines of text. Ends with a newline.
/// `complaints` are those about what is no part of the table.
pub fn answer(
    table: &Table,
    complaints: &Complaints,
    request: &ExplainRequest,
    kernel: &dyn Kernel,
) -> String {
    let known = Known { table, complaints };
    match request.output {
        OutputFormat::Text => answer_text(known, &request.query, kernel),
        OutputFormat::Json => format!("{}\n", answer_json(known, &request.query, kernel)),
    }
}

/// What an answer is made from.
#[derive(Clone, Copy)]
struct Known<'a> {
    table: &'a Table,
    complaints: &'a Complaints,
}

fn answer_text(known: Known<'_>, query: &Query, kernel: &dyn Kernel) -> String {
    match query {
        Query::All => text::everything(known),
        Query::Service(name) => match known.table.entries.get(name) {
            Some(entry) => text::service(known, entry),
            None => text::unknown_service(known, name),
        },
        Query::Flow(flow) => text::decision(&known.table.decide_in(flow, kernel)),
    }
}

fn answer_json(known: Known<'_>, query: &Query, kernel: &dyn Kernel) -> serde_json::Value {
    match query {
        Query::All => json::everything(known),
        Query::Service(name) => match known.table.entries.get(name) {
            Some(entry) => json::service(known, entry),
            None => json::unknown_service(known, name),
        },
        Query::Flow(flow) => json::decision(&known.table.decide_in(flow, kernel)),
    }
}

impl<'a> Known<'a> {
    /// Every Service, by name.
    fn entries(self) -> Vec<&'a Entry> {
        let mut entries: Vec<_> = self.table.entries.values().collect();
        entries.sort_unstable_by_key(|entry| &entry.service.name);
        entries
    }

    /// Everything that is wrong.
    fn complaints(self) -> impl Iterator<Item = Complaint> {
        self.table
            .complaints()
            .into_iter()
            .chain(self.complaints.iter())
    }

    /// What is wrong with a Service and its slices.
    fn complaints_of(self, entry: &Entry) -> impl Iterator<Item = Complaint> {
        let slices = entry.slices.as_deref().unwrap_or_default().iter();
        let mut subjects: Vec<Subject> = slices.map(|slice| Subject::of(&**slice)).collect();
        subjects.push(Subject::of(&*entry.service));
        let others = self.complaints.iter();
        let others = others.filter(move |complaint| subjects.contains(&complaint.subject));
        self.table.complaints_of(entry).into_iter().chain(others)
    }

    /// What is wrong with a Service that is not in the table.
    fn complaints_about(self, name: &NamespacedName) -> impl Iterator<Item = Complaint> {
        let subject = Subject::service(name);
        let complaints = self.complaints.iter();
        complaints.filter(move |complaint| complaint.subject == subject)
    }

    /// Why there is no such Service.
    fn why_unknown(self, name: &NamespacedName) -> &'static str {
        match self.complaints_about(name).next() {
            Some(_) => "its object cannot be used",
            None => "no such Service",
        }
    }
}
