//! Which endpoint is next.
//!
//! [`choice`] asks those who have a say, each in a file of its own: [`rotation`], [`affinity`] and [`penalties`]. Whoever is
//! sent to an endpoint holds a [`Pick`], by which the balancer hears what became of it.

mod affinity;
mod choice;
mod outcome;
mod penalties;
mod pick;
mod rotation;

pub use choice::Balancer;
pub(crate) use outcome::Cause;
pub(crate) use pick::Pick;
