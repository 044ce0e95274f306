//! Datagrams by the dozen: one system call receives or sends what would be one call each.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use memmap2::MmapMut;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{c_int, in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
    recvmmsg, sendmmsg, setsockopt, sockopt,
};

use crate::types::IpFamily;

/// Datagrams in one system call.
pub(crate) const BATCH: usize = 32;
/// Room for each: the largest that UDP has.
const SLOT: usize = 64 * 1024;

/// Room for a batch. Mapped, not allocated, since an allocator may have to zero it: pages that no datagram reached cost
/// nothing.
struct Slots(MmapMut);

impl Slots {
    fn new() -> io::Result<Self> {
        MmapMut::map_anon(BATCH * SLOT).map(Self)
    }

    fn datagram(&self, slot: usize, len: usize) -> &[u8] {
        let start = slot * SLOT;
        let len = len.min(SLOT);
        self.0.get(start..start + len).unwrap_or_default()
    }

    fn all(&mut self) -> [[IoSliceMut<'_>; 1]; BATCH] {
        let mut slots = self.0.chunks_exact_mut(SLOT);
        std::array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())])
    }
}

/// What the headers of a system call have room for. Headers are kept apart by that, since the kernel notes in them how much it
/// used, and that is all it may use the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderShape {
    family: IpFamily,
    /// Each datagram says which of our addresses it was sent to.
    local: bool,
    /// Each datagram says what was left of its TTL.
    ttl: bool,
}

/// Families times with or without either.
const SHAPES: usize = 8;

impl HeaderShape {
    /// What a listener on this address needs: on the wildcard address, each datagram says which address it was sent to.
    pub(crate) fn of(listener: SocketAddr) -> Self {
        Self {
            family: IpFamily::of(listener.ip()),
            local: listener.ip().is_unspecified(),
            ttl: false,
        }
    }

    /// The TTL of each datagram is said.
    pub(crate) fn has_ttl(self) -> bool {
        self.ttl
    }

    /// Has a listener of this shape say the TTL, too. The rest was asked for where it was made.
    pub(crate) fn ask_for_ttl(self, listener: &impl AsFd) -> Result<Self, Errno> {
        match self.family {
            IpFamily::V4 => setsockopt(listener, sockopt::Ipv4RecvTtl, &true)?,
            IpFamily::V6 => setsockopt(listener, sockopt::Ipv6RecvHopLimit, &true)?,
        }
        Ok(Self { ttl: true, ..self })
    }

    /// For datagrams to clients, from a certain one of our addresses or from the only one.
    fn to_client(self, local: Option<IpAddr>) -> Self {
        Self {
            local: self.local && local.is_some(),
            ttl: false,
            ..self
        }
    }

    fn index(self) -> usize {
        4 * self.family as usize + 2 * usize::from(self.local) + usize::from(self.ttl)
    }

    fn headers(self) -> MultiHeaders<SockaddrStorage> {
        let control = match (self.family, self.local, self.ttl) {
            (_, false, false) => None,
            (_, false, true) => Some(cmsg_space!(c_int)),
            (IpFamily::V4, true, false) => Some(cmsg_space!(in_pktinfo)),
            (IpFamily::V4, true, true) => Some(cmsg_space!(in_pktinfo, c_int)),
            (IpFamily::V6, true, false) => Some(cmsg_space!(in6_pktinfo)),
            (IpFamily::V6, true, true) => Some(cmsg_space!(in6_pktinfo, c_int)),
        };
        MultiHeaders::preallocate(BATCH, control)
    }
}

/// Headers of each shape, made when first needed.
#[derive(Default)]
struct Headers([Option<MultiHeaders<SockaddrStorage>>; SHAPES]);

impl Headers {
    fn of(&mut self, shape: HeaderShape) -> &mut MultiHeaders<SockaddrStorage> {
        self.0[shape.index()].get_or_insert_with(|| shape.headers())
    }

    fn forget(&mut self, shape: HeaderShape) {
        self.0[shape.index()] = None;
    }
}

/// One datagram from a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// Its length.
    pub(crate) len: usize,
    /// Who sent it.
    pub(crate) client: SocketAddr,
    /// To which of our addresses, where there are several.
    pub(crate) local: Option<IpAddr>,
    /// What is left of its TTL, where that is said.
    pub(crate) ttl: Option<u8>,
}

/// Datagrams from clients, on their way to endpoints.
pub(crate) struct Inbox {
    slots: Slots,
    headers: Headers,
    to_flow: MultiHeaders<()>,
    /// None: not from an address that can be answered.
    received: Vec<Option<Received>>,
}

impl Inbox {
    /// An empty one.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            slots: Slots::new()?,
            headers: Headers::default(),
            to_flow: MultiHeaders::preallocate(BATCH, None),
            received: Vec::with_capacity(BATCH),
        })
    }

    /// Receives what a listener has, a batch at most; less than [`BATCH`] means that there is no more.
    pub(crate) fn receive(&mut self, listener: RawFd, shape: HeaderShape) -> Result<usize, Errno> {
        self.received.clear();
        let headers = self.headers.of(shape);
        let mut slots = self.slots.all();
        let flags = MsgFlags::MSG_DONTWAIT;
        let results = recvmmsg(listener, headers, slots.iter_mut(), flags, None)?;
        let mut short = false;
        for message in results {
            let said = Said::by(&message);
            short |= (shape.local && said.local.is_none()) || (shape.ttl && said.ttl.is_none());
            let client = message.address.as_ref().and_then(socket_address);
            let received = client.map(|client| Received {
                len: message.bytes,
                client,
                local: said.local,
                ttl: said.ttl,
            });
            self.received.push(received);
        }
        if short {
            self.headers.forget(shape);
        }
        Ok(self.received.len())
    }

    /// The datagram at this position.
    pub(crate) fn get(&self, position: usize) -> Option<Received> {
        self.received.get(position).copied().flatten()
    }

    /// Sends the datagrams at these positions, in order, to the socket of a flow. Says how many were taken.
    pub(crate) fn send(&mut self, flow: RawFd, positions: &[usize]) -> Result<usize, Errno> {
        let datagram = |position: usize| {
            let received = self.received.get(position).copied().flatten();
            self.slots.datagram(position, received.map_or(0, |r| r.len))
        };
        if let [position] = positions {
            let flags = MsgFlags::MSG_DONTWAIT;
            return nix::sys::socket::send(flow, datagram(*position), flags).map(|_| 1);
        }
        let slices: [[IoSlice<'_>; 1]; BATCH] =
            std::array::from_fn(|i| [IoSlice::new(positions.get(i).map_or(&[], |p| datagram(*p)))]);
        let count = positions.len().min(BATCH);
        let to = [const { None::<()> }; BATCH];
        let headers = &mut self.to_flow;
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = sendmmsg(flow, headers, slices.iter().take(count), to, [], flags)?;
        Ok(sent.count())
    }
}

/// Datagrams from endpoints, on their way to clients of one listener.
pub(crate) struct Outbox {
    slots: Slots,
    from_flow: MultiHeaders<()>,
    headers: Headers,
    lens: [usize; BATCH],
    to: [Option<SockaddrStorage>; BATCH],
    count: usize,
}

impl Outbox {
    /// An empty one.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            slots: Slots::new()?,
            from_flow: MultiHeaders::preallocate(BATCH, None),
            headers: Headers::default(),
            lens: [0; BATCH],
            to: [None; BATCH],
            count: 0,
        })
    }

    /// How many datagrams it has room for.
    pub(crate) fn room(&self) -> usize {
        BATCH - self.count
    }

    /// Receives what a flow's endpoint has sent for this client, as much as there is room for. Says how many
    /// datagrams and bytes that were; fewer datagrams than there was room for means that there are no more.
    pub(crate) fn receive(
        &mut self,
        flow: &impl AsRawFd,
        client: SocketAddr,
    ) -> Result<(usize, usize), Errno> {
        let mut slots = self.slots.all();
        let free = slots.iter_mut().skip(self.count);
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = flow.as_raw_fd();
        let results = recvmmsg(fd, &mut self.from_flow, free, flags, None)?;
        let (mut datagrams, mut bytes) = (0, 0);
        let places = self.lens.iter_mut().zip(&mut self.to).skip(self.count);
        for (message, (len, to)) in results.zip(places) {
            *len = message.bytes;
            *to = Some(client.into());
            datagrams += 1;
            bytes += message.bytes;
        }
        self.count += datagrams;
        Ok((datagrams, bytes))
    }

    /// Sends all to their clients, from this local address if one is given, and is empty again. What the kernel has no room
    /// for is lost, as datagrams may be.
    pub(crate) fn send(&mut self, listener: RawFd, shape: HeaderShape, local: Option<IpAddr>) {
        let count = std::mem::take(&mut self.count);
        let mut done = 0;
        while done < count {
            match self.send_some(listener, shape, local, done, count) {
                Ok(sent) => done += sent.max(1),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return,
                // This one cannot be sent: its client's address, say, has no route. Others may.
                Err(_) => done += 1,
            }
        }
    }

    fn send_some(
        &mut self,
        listener: RawFd,
        shape: HeaderShape,
        local: Option<IpAddr>,
        from: usize,
        to: usize,
    ) -> Result<usize, Errno> {
        let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|i| {
            let len = self.lens.get(i).copied().unwrap_or(0);
            [IoSlice::new(self.slots.datagram(i, len))]
        });
        let slices = slices.iter().take(to).skip(from);
        let clients = self.to.get(from..to).unwrap_or_default();
        let flags = MsgFlags::MSG_DONTWAIT;
        let shape = shape.to_client(local);
        let headers = self.headers.of(shape);
        let sent = match local.filter(|_| shape.local) {
            Some(IpAddr::V4(ip)) => {
                let info = in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr {
                        s_addr: u32::from_ne_bytes(ip.octets()),
                    },
                    ipi_addr: in_addr { s_addr: 0 },
                };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmmsg(listener, headers, slices, clients, control, flags)?.count()
            }
            Some(IpAddr::V6(ip)) => {
                let info = in6_pktinfo {
                    ipi6_addr: in6_addr {
                        s6_addr: ip.octets(),
                    },
                    ipi6_ifindex: 0,
                };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmmsg(listener, headers, slices, clients, control, flags)?.count()
            }
            None => sendmmsg(listener, headers, slices, clients, [], flags)?.count(),
        };
        Ok(sent)
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddrV6::from(*v6).into())
}

/// What the socket reports of a datagram.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    local: Option<IpAddr>,
    ttl: Option<u8>,
}

impl Said {
    fn by(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Self {
        let mut said = Self::default();
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    let octets = info.ipi_spec_dst.s_addr.to_ne_bytes();
                    said.local = Some(Ipv4Addr::from(octets).into());
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    said.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                    said.ttl = u8::try_from(ttl).ok();
                }
                _ => {}
            }
        }
        said
    }
}
