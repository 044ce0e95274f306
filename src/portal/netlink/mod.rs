//! A thin typed rtnetlink: requests in batches with an answer for each, dumps, and a socket that listens for changes.
//!
//! A socket belongs to the network namespace of the thread that made it, and works from any thread.
//!
//! `socket`, `monitor` and `datagram` have sockets; all else is pure:
//!
//! ```text
//! message  requests and objects as values      uapi   the kernel's numbers and fixed headers
//! write    requests -> bytes                   codec  framing: messages, attributes, errors
//! read     bytes -> objects                    query  which objects are asked for, and which are kept
//! ```

pub mod codec;
pub(super) mod datagram;
mod message;
mod monitor;
mod query;
pub mod read;
#[cfg(test)]
#[path = "../../../tests/util/rng.rs"]
#[allow(dead_code, clippy::duplicate_mod)]
mod rng;
mod socket;
pub(super) mod uapi;
mod write;

pub(super) use message::{
    Link, LinkSettings, Mac, Rule, RuleVerdict, StandingRule, TABLE_LOCAL, TABLE_MAIN, Veth,
};
pub use message::{Request, Route, Via};
pub use monitor::{Change, Monitor};
pub use socket::Netlink;
