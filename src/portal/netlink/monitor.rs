//! Listening for what others do to our routes, and to the host's addresses.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkFlags;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use socket2::SockRef;

use super::read::read_address;
use super::{ANSWER_SIZE, messages};
use crate::portal::filter;

/// `RTNLGRP_*`: links; IPv4 addresses, routes, rules; IPv6 addresses, routes, rules.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

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

/// A rtnetlink socket that listens, in the namespace of the thread that opened it. Never blocks.
pub struct Monitor {
    socket: Socket,
    datagram: Vec<u8>,
}

impl Monitor {
    /// Opens it; what the requests of socket `own` change is not reported.
    pub fn new(own: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // Before joining, so that nothing slips through: hosts that speak BGP change thousands of routes.
        let program = filter::announcements(own, super::PROTOCOL);
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
    pub fn drain(&mut self) -> io::Result<Vec<Change>> {
        const ENOBUFS: i32 = 105;
        let mut changes = Vec::new();
        loop {
            self.datagram.clear();
            match self.socket.recv(&mut self.datagram, 0) {
                Ok(_) => changes.extend(messages(&self.datagram).filter_map(read)),
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {
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

fn read(message: &[u8]) -> Option<Change> {
    // Unreadable is not unimportant: better to look once too often.
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) else {
        return Some(Change::Unknown);
    };
    let NetlinkPayload::InnerMessage(message) = message.payload else {
        return None;
    };
    Some(match message {
        RouteNetlinkMessage::NewAddress(a) => Change::AddressAdded(read_address(&a)?.ip),
        RouteNetlinkMessage::DelAddress(a) => Change::AddressRemoved(read_address(&a)?.ip),
        RouteNetlinkMessage::NewLink(link) => Change::LinkChanged {
            index: link.header.index,
            up: link.header.flags.contains(LinkFlags::Up),
        },
        RouteNetlinkMessage::DelLink(link) => Change::LinkRemoved {
            index: link.header.index,
        },
        RouteNetlinkMessage::NewRoute(_)
        | RouteNetlinkMessage::DelRoute(_)
        | RouteNetlinkMessage::DelRule(_) => Change::Routes,
        _ => return None,
    })
}
