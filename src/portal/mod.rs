//! portal

pub mod filter;
pub mod ledger;
pub mod netlink;
