//! What has to be done so that the kernel and the proxier agree with the routing table.
//!
//! [`Plan`] is pure: a change of the table, an outcome or the time goes in, actions come out. Whoever carries an action out
//! tells the plan what came of it, and does what that brings before anything that was planned later.
//!
//! ```text
//! routing::Delta ─▶ ┌──────┐ Tell ───────────▶ proxier
//! outcomes ───────▶ │ Plan │ Open, Filter ───▶ portal (sockets) ──┐
//! the time ───────▶ └──────┘ Capture ────────▶ portal (routes) ───┤
//!    ▲                                                            │
//!    └──────────────────────── outcomes ◀─────────────────────────┘
//! ```
//!
//! - A listener is there before the address that leads to it is captured: no client meets an address without its listener.
//! - What is to be closed is closed first: a listener may move to an address that another one leaves.
//! - What failed is tried again, after waits that double up to the sync period, and at once when there is hope.

mod notice;
mod plan;
mod retry;
#[cfg(test)]
mod simulation;

pub(crate) use plan::{Plan, PlanAction, PlanInput, WantedListener};
