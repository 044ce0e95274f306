//! Making listeners and UDP sockets, with everything the data path expects of them set.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use nix::libc::{EACCES, EMFILE, ENOENT};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::error::BindError;
use super::filter;
use crate::types::{BindKey, IpFamily, Protocol};

/// The kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 65535;
/// A burst of a few thousand small datagrams; the memory is used only while they wait.
const UDP_BUFFER: usize = 1 << 20;
/// Accepted connections inherit these: a dead client is noticed after two and a half minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(6);

/// And this: how long a client may leave bytes unacknowledged, or have no room for any.
const USER_TIMEOUT: Duration = Duration::from_secs(600);

/// A socket to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindSpec {
    /// Where it listens.
    pub key: BindKey,
    /// Sources that are heard; to others the port is silent. None: everyone is heard.
    pub allow: Option<Arc<[IpNet]>>,
}

/// To which addresses a socket may be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freedom {
    /// Those that are there.
    Strict,
    /// Any: it may come later.
    Free,
    /// Any, and packets with it as source leave although no table calls it local.
    Transparent,
}

/// Makes the socket in the namespace of the calling thread: nonblocking, close-on-exec; a TCP socket listens and what it
/// accepts has TCP_NODELAY and keepalive; a UDP socket on the wildcard address reports each datagram's destination.
pub(super) fn open(spec: &BindSpec, freedom: Freedom) -> Result<Socket, BindError> {
    make(spec, freedom).map_err(|error| {
        let advice = advice(&error, &spec.key, freedom);
        BindError::new(error, advice)
    })
}

fn make(spec: &BindSpec, freedom: Freedom) -> io::Result<Socket> {
    let BindKey { addr, protocol, .. } = spec.key;
    let family = IpFamily::of(addr.ip());
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
        Protocol::Sctp => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = Socket::new(Domain::for_address(addr), kind.nonblocking(), None)?;
    if family == IpFamily::V6 {
        socket.set_only_v6(true)?;
    }
    match (freedom, family) {
        (Freedom::Strict, _) => {}
        (Freedom::Free, IpFamily::V4) => socket.set_freebind_v4(true)?,
        (Freedom::Free, IpFamily::V6) => socket.set_freebind_v6(true)?,
        (Freedom::Transparent, IpFamily::V4) => socket.set_ip_transparent_v4(true)?,
        (Freedom::Transparent, IpFamily::V6) => socket.set_ip_transparent_v6(true)?,
    }
    // Before the socket can receive: a source that is left out must never be answered, not even once.
    if let Some(allow) = spec.allow.as_deref() {
        attach(&socket, family, allow)?;
    }
    match protocol {
        Protocol::Udp => {
            datagram_options(&socket, addr.ip())?;
            socket.bind(&SockAddr::from(addr))?;
        }
        Protocol::Tcp | Protocol::Sctp => {
            // Connections of an earlier run may still be in TIME_WAIT. Two listeners exclude each other all the same.
            socket.set_reuse_address(true)?;
            socket.set_tcp_nodelay(true)?;
            socket.set_tcp_keepalive(&KEEPALIVE)?;
            socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
            socket.bind(&SockAddr::from(addr))?;
            socket.listen(BACKLOG)?;
        }
    }
    Ok(socket)
}

fn datagram_options(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    // Beyond net.core.rmem_max if we may, up to it otherwise.
    if setsockopt(socket, sockopt::RcvBufForce, &UDP_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    }
    if setsockopt(socket, sockopt::SndBufForce, &UDP_BUFFER).is_err() {
        let _ = socket.set_send_buffer_size(UDP_BUFFER);
    }
    match ip {
        _ if !ip.is_unspecified() => {}
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// Changes who a socket hears from now on. Connections already made are not affected.
pub(super) fn refilter(socket: &Socket, allow: Option<&[IpNet]>) -> io::Result<()> {
    let family = match socket.domain()? {
        Domain::IPV4 => IpFamily::V4,
        _ => IpFamily::V6,
    };
    match allow {
        Some(allow) => attach(socket, family, allow),
        None => match socket.detach_filter() {
            Err(error) if error.raw_os_error() != Some(ENOENT) => Err(error),
            _ => Ok(()),
        },
    }
}

fn attach(socket: &Socket, family: IpFamily, allow: &[IpNet]) -> io::Result<()> {
    let program = filter::sources(family, allow).ok_or_else(|| {
        let what = format!(
            "{} source ranges need more than the {} instructions that a socket filter may have: join some",
            allow.len(),
            filter::MAX_INSTRUCTIONS
        );
        io::Error::new(io::ErrorKind::InvalidInput, what)
    })?;
    socket.attach_filter(&filter::instructions(&program))
}

/// What to do about it, as far as that can be told.
fn advice(error: &io::Error, key: &BindKey, freedom: Freedom) -> &'static str {
    let low = key.addr.port() < 1024;
    match (error.raw_os_error(), error.kind(), freedom) {
        (Some(EMFILE), _, _) => "; raise the limit of open files (LimitNOFILE, ulimit -n)",
        (Some(EACCES), _, _) if low => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        (_, io::ErrorKind::AddrInUse, Freedom::Strict) => ": another program listens there",
        (_, io::ErrorKind::AddrInUse, Freedom::Transparent) => {
            ": another program listens there (it would not be in the way of the netns portal)"
        }
        _ => "",
    }
}
