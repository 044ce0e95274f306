//! TCP: a client's connection joined to an endpoint's.
//!
//! [`session`] decides and touches no socket; [`shell`] does what it says; [`relay`] moves the bytes.

mod dial;
mod relay;
mod session;
mod shell;
#[cfg(test)]
mod simulation;

pub use session::{Limits, Side};
pub use shell::Tcp;
