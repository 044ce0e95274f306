//! UDP: a flow for each client, with a socket of its own to one endpoint.
//!
//! [`flows`] is the table and touches no socket; [`batch`] moves datagrams many at a time; [`shell`] joins the two.

mod batch;
mod flows;
mod shell;

pub(crate) use flows::FlowLimits;
pub(crate) use shell::Udp;
