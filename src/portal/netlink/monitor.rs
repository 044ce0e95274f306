//! Listening for what others do to our routes, and to the host's addresses.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::libc::ENOBUFS;
use socket2::SockRef;

use super::codec::{Message, messages};
use super::datagram::{ANSWER_SIZE, receive};
use super::read;
use super::uapi::*;
use crate::portal::filter;
use crate::portal::marks::PROTOCOL;

/// Links; IPv4 addresses, routes, rules; IPv6 addresses, routes, rules.
const GROUPS: [u32; 7] = [
    RTNLGRP_LINK,
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV4_RULE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_IPV6_RULE,
];

/// Something that concerns us happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An address came.
    AddressAdded(IpAddr),
    /// An address went.
    AddressRemoved(IpAddr),
    /// A link came, or changed in some way.
    LinkChanged {
        /// The link.
        index: u32,
        /// Whether it is up.
        up: bool,
    },
    /// A link went.
    LinkRemoved {
        /// The link.
        index: u32,
    },
    /// A default route came or went, or a route or rule of ours was removed by someone else.
    Routes,
    /// There was more than the kernel would keep for us: anything may have happened.
    Unknown,
}

impl Change {
    /// What an announcement says; None if it is none that concerns us.
    pub fn of(message: &Message<'_>) -> Option<Self> {
        let address = || read::address_payload(message.payload).map(|address| address.ip);
        let link = || IfInfo::split(message.payload).map(|(link, _)| link);
        let change = match message.kind {
            RTM_NEWADDR => address().map(Self::AddressAdded),
            RTM_DELADDR => address().map(Self::AddressRemoved),
            RTM_NEWLINK => link().map(|link| Self::LinkChanged {
                index: link.index,
                up: link.flags & IFF_UP != 0,
            }),
            RTM_DELLINK => link().map(|link| Self::LinkRemoved { index: link.index }),
            RTM_NEWROUTE | RTM_DELROUTE | RTM_DELRULE => Some(Self::Routes),
            _ => return None,
        };
        // Unreadable is not unimportant: better to look once too often.
        Some(change.unwrap_or(Self::Unknown))
    }
}

/// A rtnetlink socket that listens, in the namespace of the thread that opened it. Never blocks.
pub struct Monitor {
    socket: Socket,
    datagram: Vec<u8>,
}

impl Monitor {
    /// Opens it; what the requests of socket `own` change is not reported.
    pub(crate) fn new(own: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // Before joining, so that nothing slips through: hosts that speak BGP change thousands of routes.
        let program = filter::announcements(own, PROTOCOL);
        SockRef::from(&socket).attach_filter(&filter::instructions(&program))?;
        socket.bind_auto()?;
        for group in GROUPS {
            // A kernel without IPv6 or without rules lacks a group; the others still tell what there is to tell.
            let _ = socket.add_membership(group);
        }
        socket.set_non_blocking(true)?;
        Ok(Self {
            socket,
            datagram: Vec::with_capacity(ANSWER_SIZE),
        })
    }

    /// Reads all there is.
    pub(crate) fn drain(&mut self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        loop {
            match receive(&self.socket, &mut self.datagram) {
                Ok(()) => changes.extend(messages(&self.datagram).filter_map(|m| Change::of(&m))),
                Err(error)
                    if error.raw_os_error() == Some(ENOBUFS)
                        || error.kind() == io::ErrorKind::InvalidData =>
                {
                    changes.push(Change::Unknown);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changes),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
