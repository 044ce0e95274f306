//! TCP: a client's connection joined to an endpoint's.
//!
//! [`session`] decides and touches no socket; [`contract`] is what it hears and says; [`shell`] does what it says; [`dial`]
//! finds it an endpoint; [`relay`] moves its bytes. What is urgent in a stream (out of band) is not passed on as such.

mod contract;
mod dial;
mod listeners;
mod relay;
mod session;
mod shell;
#[cfg(test)]
mod simulation;

pub(crate) use contract::{Patience, Side};
pub(crate) use listeners::{Next, TcpListeners};
pub(crate) use shell::Tcp;
