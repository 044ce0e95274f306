//! Answers to "why does this connection go there", from the same values that the data path follows.

mod json;
mod request;
mod text;
mod view;

pub use request::{ExplainRequest, Flow, OutputFormat, Query};

use super::entry::Entry;
use super::{Kernel, Table};
use crate::types::{EndpointSlice, NamespacedName, Object, Service};

/// The answer to a request, as printed on stdout: one JSON document, or lines of text. Ends with a newline.
pub fn answer(table: &Table, request: &ExplainRequest, kernel: &dyn Kernel) -> String {
    match request.output {
        OutputFormat::Text => answer_text(table, &request.query, kernel),
        OutputFormat::Json => format!("{}\n", answer_json(table, &request.query, kernel)),
    }
}

fn answer_text(table: &Table, query: &Query, kernel: &dyn Kernel) -> String {
    match query {
        Query::All => text::everything(table, &entries(table)),
        Query::Service(name) => match table.entries.get(name) {
            Some(entry) => text::service(table, entry),
            None => text::unknown_service(table, name),
        },
        Query::Flow(flow) => text::decision(&table.decide_in(flow, kernel)),
    }
}

fn answer_json(table: &Table, query: &Query, kernel: &dyn Kernel) -> serde_json::Value {
    match query {
        Query::All => json::everything(table, &entries(table)),
        Query::Service(name) => match table.entries.get(name) {
            Some(entry) => json::service(table, entry),
            None => json::unknown_service(table, name),
        },
        Query::Flow(flow) => json::decision(&table.decide_in(flow, kernel)),
    }
}

/// Every Service, by name.
fn entries(table: &Table) -> Vec<&Entry> {
    let mut entries: Vec<_> = table.entries.values().collect();
    entries.sort_unstable_by_key(|entry| &entry.service.name);
    entries
}

/// Why there is no such Service.
fn why_unknown(table: &Table, name: &NamespacedName) -> &'static str {
    match complaints_about(table, name, None).next() {
        Some(_) => "its object cannot be used",
        None => "no such Service",
    }
}

/// What is said about a Service and its slices beyond the table's own problems.
fn complaints_about<'a>(
    table: &'a Table,
    name: &NamespacedName,
    entry: Option<&Entry>,
) -> impl Iterator<Item = &'a str> {
    let slices = entry.and_then(|entry| entry.slices.as_deref());
    let slices = slices.unwrap_or_default().iter();
    let mut subjects: Vec<String> = slices
        .map(|slice| format!("{} {}: ", EndpointSlice::KIND, slice.name))
        .collect();
    subjects.push(format!("{} {name}: ", Service::KIND));
    let complaints = table.complaints.iter().map(|complaint| &**complaint);
    complaints.filter(move |complaint| {
        let is_subject = |subject: &String| complaint.starts_with(subject);
        subjects.iter().any(is_subject)
    })
}
