//! The only place where API objects have serde derives: JSON becomes [`crate::types`] here and nowhere else.
//!
//! Lenient by field and by item: what a proxy does not read is skipped without being kept; a field of the wrong type or out
//! of range costs that field and is named in the object's `problems`; an object without an identity, or without what gives
//! it a meaning, costs that object. Neither ends a list or a watch.
//!
//! - [`list`] decodes a LIST response from a reader, item by item: memory grows with what is kept.
//! - [`Events`] decodes a WATCH stream, event by event.
//! - [`manifests`] decodes a file of manifests, JSON or YAML, object by object; [`yaml::documents`] parses a whole text.

mod decode;
mod endpoints;
mod error;
mod frame;
mod intern;
mod ip;
mod kind;
mod lenient;
mod manifest;
mod meta;
mod node;
mod outline;
mod service;
mod slice;
mod status;
mod stream;
pub mod yaml;

pub use decode::Decode;
pub(crate) use error::StreamError;
pub use intern::Interner;
pub(crate) use ip::{parse_cidr, parse_ip};
pub use kind::Kind;
pub use manifest::{Manifests, Object, manifests};
pub use meta::{Item, ItemError};
pub(crate) use status::Status;
pub use stream::{Event, Events, ListMeta, list};

#[cfg(test)]
mod tests;
