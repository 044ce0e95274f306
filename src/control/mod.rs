//! The local socket behind `portico explain`: one JSON line asks, one JSON line answers.
//!
//! Whoever may open the socket file (mode 0600) may ask; questions only read. What they mean is the business of the closure
//! that answers them.

mod client;
mod error;
pub mod line;
mod place;
mod server;

pub use client::ask;
pub use error::Error;
pub use server::ControlServer;
