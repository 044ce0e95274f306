//! What a portal tells its owner.

/// Something that the portal's owner may want to react to. What had to be repaired has been, and is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortalEvent {
    /// The host's addresses changed. Captures and listeners that failed for an address may work now.
    Addresses,
}
