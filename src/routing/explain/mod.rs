//! Answers to "why does this connection go there", from the same values that the data path follows.

mod request;

pub use request::{ExplainRequest, Flow, InvalidRequest, OutputFormat, Query};

use super::Table;

/// The answer to a request, as printed on stdout: one JSON document, or lines of text. Ends with a newline.
pub fn answer(table: &Table, request: &ExplainRequest) -> String {
    let _ = (table, request);
    String::new()
}
