//! Answers to "why does this connection go there", from the same values that the data path follows.

mod json;
mod known;
mod request;
mod text;
mod view;

pub use request::{ExplainRequest, Filter, OutputFormat, Query};

use known::Known;

use super::{Kernel, Table};
use crate::types::Complaints;

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

fn answer_text(known: Known<'_>, query: &Query, kernel: &dyn Kernel) -> String {
    match query {
        Query::All(filter) => text::everything(known, filter),
        Query::Service(name) => match known.table.entries.get(name) {
            Some(entry) => text::service(known, entry),
            None => text::unknown_service(known, name),
        },
        Query::Flow(flow) => text::decision(&known.table.decide_in(flow, kernel)),
    }
}

fn answer_json(known: Known<'_>, query: &Query, kernel: &dyn Kernel) -> serde_json::Value {
    match query {
        Query::All(filter) => json::everything(known, filter),
        Query::Service(name) => match known.table.entries.get(name) {
            Some(entry) => json::service(known, entry),
            None => json::unknown_service(known, name),
        },
        Query::Flow(flow) => json::decision(&known.table.decide_in(flow, kernel)),
    }
}
