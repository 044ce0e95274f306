//! Sources that live in this process. (The apiserver's is `api`.)

mod file;
mod ledger;
mod reader;
mod watcher;

pub use file::{FileSource, Sinks};
