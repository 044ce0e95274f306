//! Classic socket filters. The kernel runs them on each packet before the socket sees it, so a source that is left out meets
//! silence, as with a firewall's DROP.
//!
//! Pure: what is to pass goes in, instructions come out. The tests run the instructions.

mod announcements;
mod instruction;
mod sources;

pub(super) use announcements::announcements;
pub(super) use instruction::{MAX_INSTRUCTIONS, instructions};
pub(super) use sources::sources;
