//! What our own things are told by, on this host and in the kernel.

/// The name of our link, on both ends.
pub(super) const LINK: &str = "vethportico";

/// On routes and rules (`proto 112`).
pub(super) const PROTOCOL: u8 = 112;

/// Our routing table, which rules lead to. Above 255, where hand-made tables seldom are.
pub(super) const TABLE: u32 = 7112;

/// The abstract socket that whoever has a portal holds.
pub(super) const LOCK: &str = "portico/portal";
