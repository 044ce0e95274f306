//! Sockets to endpoints, TCP and UDP: how each is made, and whether it may be made at all.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};

use super::hops;
use super::own::LoopRisk;
use crate::routing::Cause;
use crate::types::Protocol;

/// How an endpoint's socket presents itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutboundPolicy {
    /// What the TTL (IPv6: hop limit) of its packets begins with. None: as the kernel has it.
    ttl: Option<u8>,
}

impl OutboundPolicy {
    /// How a client may be sent on, or why it must not be. `arrived` says with which TTL its packets come; it is asked only
    /// where it matters, so that ordinary traffic does not pay for it.
    pub(crate) fn new(risk: LoopRisk, arrived: impl FnOnce() -> Option<u8>) -> Result<Self, Cause> {
        match risk {
            LoopRisk::None => Ok(Self::default()),
            LoopRisk::Certain => Err(Cause::Loop),
            LoopRisk::Possible => match hops::ttl_onward(arrived().unwrap_or(hops::MOST)) {
                Some(ttl) => Ok(Self { ttl: Some(ttl) }),
                None => Err(Cause::Circle),
            },
        }
    }
}

/// Makes the socket by which a client reaches an endpoint, in the network namespace of the calling thread: nonblocking;
/// TCP may still be connecting.
pub(crate) fn connect(
    client: SocketAddr,
    endpoint: SocketAddr,
    protocol: Protocol,
    policy: OutboundPolicy,
) -> io::Result<Socket> {
    let connected = make(endpoint, protocol, policy);
    connected.inspect_err(|error| {
        log::trace!("{client}: no socket to {endpoint}/{protocol}: {error}");
    })
}

fn make(endpoint: SocketAddr, protocol: Protocol, policy: OutboundPolicy) -> io::Result<Socket> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
        Protocol::Sctp => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = Socket::new(
        Domain::for_address(endpoint),
        kind.nonblocking().cloexec(),
        None,
    )?;
    if protocol == Protocol::Tcp {
        socket.set_tcp_nodelay(true)?;
        // The handshake's last ACK waits for the client's first bytes, which are mostly here already: a packet saved.
        socket.set_tcp_quickack(false)?;
    }
    match (policy.ttl, endpoint) {
        (None, _) => {}
        (Some(ttl), SocketAddr::V4(_)) => socket.set_ttl_v4(ttl.into())?,
        (Some(ttl), SocketAddr::V6(_)) => socket.set_unicast_hops_v6(ttl.into())?,
    }
    match socket.connect(&endpoint.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        Ok(()) | Err(_) => Ok(socket),
    }
}

/// The TTL with which a client's handshake came to an end. The kernel keeps it where an accepted socket's TTL for multicast
/// would stand.
pub(crate) fn arrived_ttl(socket: SockRef<'_>, client: SocketAddr) -> Option<u8> {
    let ttl = match client {
        SocketAddr::V4(_) => socket.multicast_ttl_v4(),
        SocketAddr::V6(_) => socket.multicast_hops_v6(),
    };
    u8::try_from(ttl.ok()?).ok()
}

/// Why an endpoint was of no use, by the kernel's word.
pub(crate) fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::Refused,
        io::ErrorKind::TimedOut => Cause::TimedOut,
        io::ErrorKind::AddrNotAvailable => Cause::NoPort,
        _ => Cause::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

    use super::*;

    #[test]
    fn only_where_a_proxy_may_listen_is_the_ttl_looked_at() {
        let unasked = || -> Option<u8> { unreachable!("nobody asks") };
        let plain = OutboundPolicy::new(LoopRisk::None, unasked);
        assert_eq!(plain, Ok(OutboundPolicy::default()));
        let own = OutboundPolicy::new(LoopRisk::Certain, unasked);
        assert_eq!(own, Err(Cause::Loop));
        for (arrived, expect) in [
            (None, Ok(58)),
            (Some(40), Ok(34)),
            (Some(9), Err(Cause::Circle)),
        ] {
            let policy = OutboundPolicy::new(LoopRisk::Possible, || arrived);
            assert_eq!(policy.map(|policy| policy.ttl), expect.map(Some));
        }
    }

    #[test]
    fn what_one_side_sends_is_what_the_other_side_sees() {
        for ip in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            let listener = TcpListener::bind((ip, 0)).unwrap();
            let endpoint = listener.local_addr().unwrap();
            for ttl in [Some(8), Some(58), None] {
                let policy = OutboundPolicy { ttl };
                let socket = connect(endpoint, endpoint, Protocol::Tcp, policy).unwrap();
                let (accepted, client) = listener.accept().unwrap();
                let seen = arrived_ttl(SockRef::from(&accepted), client);
                assert_eq!(seen, ttl.or(Some(64)), "{ip}");
                drop(socket);
            }
        }
    }
}
