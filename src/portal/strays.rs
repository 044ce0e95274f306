//! What an earlier host portal left in the host's namespace: connections that have ended, but for their last minute.
//!
//! The kernel looks for a packet's socket before it looks for its route (early demultiplexing), and drops what it then should
//! forward but has found a socket for. So while a connection of a client's port is in TIME_WAIT in the host's namespace, a
//! new one from that port to the same virtual IP never arrives in a namespace of the portal's own. They are ended.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::netlink::codec::{Writer, messages, outcome};
use super::netlink::datagram::receive;
use super::netlink::uapi::{
    AF_INET, AF_INET6, IPPROTO_TCP, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};

/// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// Those of include/net/tcp_states.h that a connection has when its program is done with it: FIN_WAIT1, FIN_WAIT2,
/// TIME_WAIT, LAST_ACK, CLOSING.
const ENDED: u32 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 11;
/// `struct inet_diag_sockid`: `{be16 source port, be16 destination port, source[16], destination[16], link, cookie[2]}`.
const ID_LEN: usize = 48;
type Id = [u8; ID_LEN];

/// Ends those whose own address is one of these; says how many could not be.
pub(super) fn end(addresses: &HashSet<IpAddr>) -> io::Result<usize> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    let mut refused = 0;
    for family in [AF_INET, AF_INET6] {
        for id in ended(&socket, family)? {
            let is_ours = source(family, &id).is_some_and(|ip| addresses.contains(&ip));
            refused += usize::from(is_ours && destroy(&socket, family, &id).is_err());
        }
    }
    Ok(refused)
}

/// All of one family.
fn ended(socket: &Socket, family: u8) -> io::Result<Vec<Id>> {
    let mut writer = Writer::default();
    let header = request(family, &[0; ID_LEN]);
    let kind = (SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1);
    writer.message(kind, &header, |_| {});
    socket.send(writer.bytes(), 0)?;
    let (mut found, mut datagram) = (Vec::new(), Vec::new());
    loop {
        receive(socket, &mut datagram)?;
        for message in messages(&datagram) {
            match message.kind {
                // `struct inet_diag_msg`: {family, state, timer, retransmissions, id, ..}
                SOCK_DIAG_BY_FAMILY => {
                    let id = message.payload.get(4..4 + ID_LEN);
                    found.extend(id.and_then(|id| Id::try_from(id).ok()));
                }
                NLMSG_ERROR | NLMSG_DONE => return outcome(&message).map(|()| found),
                _ => {}
            }
        }
    }
}

fn destroy(socket: &Socket, family: u8, id: &Id) -> io::Result<()> {
    let mut writer = Writer::default();
    let kind = (SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, 2);
    writer.message(kind, &request(family, id), |_| {});
    socket.send(writer.bytes(), 0)?;
    let mut datagram = Vec::new();
    loop {
        receive(socket, &mut datagram)?;
        if let Some(message) = messages(&datagram).find(|m| m.kind == NLMSG_ERROR) {
            return match outcome(&message) {
                // It has ended by itself meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
        }
    }
}

/// `struct inet_diag_req_v2`: {family, protocol, extensions, padding, u32 states, id}
fn request(family: u8, id: &Id) -> Vec<u8> {
    let mut request = vec![family, IPPROTO_TCP, 0, 0];
    request.extend(ENDED.to_ne_bytes());
    request.extend(id);
    request
}

/// The connection's own address.
fn source(family: u8, id: &Id) -> Option<IpAddr> {
    let octets: [u8; 16] = id.get(4..20)?.try_into().ok()?;
    let [a, b, c, d, ..] = octets;
    Some(match family {
        AF_INET => IpAddr::from([a, b, c, d]),
        // An IPv4 client of an IPv6 socket is of that family, too.
        _ => IpAddr::from(octets).to_canonical(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_ids() {
        let mut id = [0; ID_LEN];
        id[4..8].copy_from_slice(&[10, 96, 0, 1]);
        assert_eq!(source(AF_INET, &id), Some(IpAddr::from([10, 96, 0, 1])));
        let mapped: std::net::Ipv6Addr = "::ffff:10.96.0.1".parse().unwrap();
        id[4..20].copy_from_slice(&mapped.octets());
        assert_eq!(source(AF_INET6, &id), Some(IpAddr::from([10, 96, 0, 1])));
        let request = request(AF_INET6, &id);
        assert_eq!(request.len(), 56);
        assert_eq!(request[..4], [10, 6, 0, 0]);
        assert_eq!(request[4..8], 0xa70u32.to_ne_bytes());
        assert_eq!(request[8..], id);
    }

    #[test]
    fn the_kernel_understands() {
        // Nobody has this address; everybody may look.
        assert_eq!(end(&[IpAddr::from([192, 0, 2, 254])].into()).unwrap(), 0);
    }
}
