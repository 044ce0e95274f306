//! How traffic to virtual IPs reaches sockets of ours.
//!
//! A [`Portal`] does three things: it captures addresses ([`Portal::apply`]), it makes the listeners behind them
//! ([`Portal::bind`]), and it keeps both working while the host's network changes under it.
//!
//! - **netns**: captured addresses are routed over a veth pair (`vethportico`) into a network namespace of our own, where
//!   the listeners are. Host programs on the same ports are neither in the way nor reachable by virtual IPs.
//! - **host**: captured addresses are delivered in the host's own namespace.
//! - **none**: nothing is captured; virtual IPs work only if the host has them as addresses.
//!
//! Everything that we add to the host carries a mark: the link's name, and protocol 112 on routes and rules. The
//! start removes what an earlier run left, and so does [`cleanup`].
//!
//! ```text
//! handle   what the owner has: the kinds in their order, captures, sockets, the end
//! holdings what all of it comes down to, for a successor
//! ledger   pure: captures -> kernel objects, counted, with a minute of lingering      filter   pure: source ranges -> BPF
//! state    what may be captured, by what else it is (surroundings)                    socket   listeners and their options
//! fabric   the ledger's objects as routes and rules; restoring them                   netns    the namespace, its thread
//! forward  whether the firewall lets packets pass to the portal (nft)
//! order    which tables are asked first, once ports are captured
//! strays   connections that an earlier host portal left in the way
//! watch    thread: rtnetlink announcements -> restoring, events                       netlink  requests, dumps, monitor
//! unsent   ended connections whose last bytes are still on their way                  marks    what ours is told by
//! ```

pub mod check;
mod clean;
mod error;
mod event;
mod fabric;
mod filter;
mod forward;
mod handle;
mod holdings;
pub mod ledger;
mod lock;
mod marks;
pub mod netlink;
mod netns;
mod nft;
mod order;
mod socket;
mod source;
mod state;
mod strays;
mod surroundings;
mod unsent;
mod watch;

pub use error::{BindError, Error};
pub use event::PortalEvent;
pub use handle::{Portal, cleanup};
pub use holdings::Holdings;
pub use socket::BindSpec;
pub(crate) use surroundings::Protected;
