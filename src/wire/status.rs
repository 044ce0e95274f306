//! meta/v1 Status: what the apiserver says when it says no.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::lenient::{Field, List, Nested, Struct, Text};
use super::meta::parse;
use crate::types::one_line;

/// How much of a message is shown; the longest that apiservers are known for has 400 bytes.
const LONGEST: usize = 600;

/// A refusal, as the body of a response or as an ERROR event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// HTTP's code, repeated in the body; 0 if it is not there.
    pub code: u16,
    /// For programs: `Expired`, `Forbidden`...
    pub reason: String,
    /// For people.
    pub(crate) message: String,
    /// `details.causes[].reason`.
    pub(crate) causes: Vec<String>,
    /// `details.retryAfterSeconds`.
    pub(crate) retry_after: Option<Duration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawStatus<'a> {
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    reason: Text<'a>,
    #[serde(borrow)]
    message: Text<'a>,
    code: Field<i64>,
    #[serde(borrow)]
    details: Nested<Details<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Details<'a> {
    #[serde(borrow)]
    causes: List<Struct<Cause<'a>>>,
    retry_after_seconds: Field<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause<'a> {
    #[serde(borrow)]
    reason: Text<'a>,
}

impl Status {
    /// Decodes a Status; None if the text is something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let raw: RawStatus = parse(text).ok()?;
        if raw.kind.ok()? != "Status" {
            return None;
        }
        let Struct(details) = raw.details.ok().unwrap_or_default();
        let causes = details.causes.ok().unwrap_or_default();
        let seconds = details.retry_after_seconds.ok().unwrap_or(0);
        Some(Self {
            code: raw
                .code
                .ok()
                .and_then(|code| u16::try_from(code).ok())
                .unwrap_or(0),
            reason: raw.reason.ok().map(Cow::into_owned).unwrap_or_default(),
            message: raw.message.ok().map(Cow::into_owned).unwrap_or_default(),
            causes: causes
                .into_iter()
                .filter_map(|cause| cause.ok()?.0.reason.ok())
                .map(Cow::into_owned)
                .collect(),
            retry_after: u64::try_from(seconds)
                .ok()
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        })
    }

    /// The resourceVersion or continue token asked for is too old.
    pub(crate) fn is_expired(&self) -> bool {
        self.code == 410 || self.reason == "Expired" || self.reason == "Gone"
    }

    /// The resourceVersion asked for is one that this server has not seen yet.
    pub(crate) fn is_too_large(&self) -> bool {
        self.causes
            .iter()
            .any(|cause| cause == "ResourceVersionTooLarge")
            || self.message.contains("Too large resource version")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.message.as_str(), self.reason.as_str()) {
            ("", "") => write!(f, "code {}", self.code),
            ("", text) | (text, _) => f.write_str(&one_line(text, LONGEST)),
        }
    }
}
