//! `portico check`: what this kernel and these privileges allow, and what to do about the rest.
//!
//! [`check`] looks, and tries a throw-away portal; what it found is turned into lines by `report`, which is pure.

mod findings;
mod foreign;
mod line;
mod probe;
mod report;

use crate::types::PortalKind;
pub use report::Check;

/// Looks around, and says what it means for a portal of that kind. The host is left as it was.
pub fn check(wanted: PortalKind) -> Check {
    report::report(wanted, &probe::findings(wanted))
}
