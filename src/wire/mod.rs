//! The only place where API objects have serde derives: JSON becomes [`crate::types`] here and nowhere else.
pub mod yaml;
