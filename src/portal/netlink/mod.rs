//! A thin typed rtnetlink: requests in batches with an answer for each, dumps, and a socket that listens for changes.
//!
//! A socket belongs to the network namespace of the thread that made it, and works from any thread.

mod message;
mod monitor;
mod read;

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

pub use message::{
    Address, Link, LinkSettings, Mac, PROTOCOL, Request, Route, Rule, TABLE_LOCAL, TABLE_MAIN,
    Veth, Via,
};
pub use monitor::{Change, Monitor};

/// Messages sent at once. Their answers must fit the receive buffer (212 KB by default, under 1 KB an answer).
const CHUNK: usize = 128;
/// More than the kernel ever puts in one answer.
const ANSWER_SIZE: usize = 64 * 1024;
/// A dump that changed under our eyes is asked for again.
const DUMP_TRIES: usize = 4;

/// A rtnetlink socket for requests.
pub struct Netlink {
    socket: Socket,
    port: u32,
    sequence: u32,
    answer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        // Both only save work, and old kernels have neither: short answers; dumps filtered by the kernel.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self {
            socket,
            port,
            sequence: 0,
            answer: Vec::with_capacity(ANSWER_SIZE),
        })
    }

    /// The kernel puts this number on what it announces because of our requests.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Carries out one request.
    pub fn request(&mut self, request: Request) -> io::Result<()> {
        self.batch([request]).pop().unwrap_or(Ok(()))
    }

    /// Carries out requests in their order and returns what became of each, in the same order. A failure stops
    /// nothing.
    pub fn batch(&mut self, requests: impl IntoIterator<Item = Request>) -> Vec<io::Result<()>> {
        let mut results = Vec::new();
        let mut requests = requests.into_iter().peekable();
        let mut buffer = Vec::new();
        while requests.peek().is_some() {
            buffer.clear();
            let first = self.sequence.wrapping_add(1);
            let mut count = 0;
            while let Some(request) = requests.next_if(|_| count < CHUNK) {
                count += 1;
                // The kernel works in order and reports every failure: one acknowledgement, of the last, is enough.
                let last = count == CHUNK || requests.peek().is_none();
                self.append(&mut buffer, request, if last { NLM_F_ACK } else { 0 });
            }
            results.extend(self.exchange(&buffer, first, count));
        }
        results
    }

    fn append(&mut self, buffer: &mut Vec<u8>, request: Request, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST | request.flags | flags;
        let payload = NetlinkPayload::InnerMessage(request.message);
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        // Messages start at multiples of four; ours are that long already but for names.
        let start = buffer.len().next_multiple_of(4);
        buffer.resize(start + message.buffer_len(), 0);
        if let Some(space) = buffer.get_mut(start..) {
            message.serialize(space);
        }
    }

    /// Sends a chunk and reads answers up to the last message's.
    fn exchange(&mut self, buffer: &[u8], first: u32, count: usize) -> Vec<io::Result<()>> {
        let all = |error: &io::Error| (0..count).map(|_| Err(copy(error))).collect();
        if let Err(error) = self.socket.send(buffer, 0) {
            return all(&error);
        }
        let mut results: Vec<_> = (0..count).map(|_| Ok(())).collect();
        let mut done = false;
        while !done {
            let received = self.receive(|header, payload| {
                let index = header.sequence_number.wrapping_sub(first) as usize;
                let (NetlinkPayload::Error(answer), Some(slot)) = (payload, results.get_mut(index))
                else {
                    return;
                };
                if answer.code.is_some() {
                    *slot = Err(answer.to_io());
                }
                done |= index + 1 == count;
            });
            if let Err(error) = received {
                return all(&error);
            }
        }
        results
    }

    /// Asks for everything of a kind; `each` sees every object.
    pub fn dump(
        &mut self,
        query: &RouteNetlinkMessage,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        for _ in 0..DUMP_TRIES {
            let mut buffer = Vec::new();
            let request = Request {
                message: query.clone(),
                flags: NLM_F_DUMP,
            };
            self.append(&mut buffer, request, 0);
            let mut found = Vec::new();
            if self.collect(&buffer, &mut found)? {
                found.into_iter().for_each(&mut each);
                return Ok(());
            }
        }
        Err(io::Error::other(
            "the kernel's tables change faster than they can be read",
        ))
    }

    /// One try of a dump; false if it was interrupted by a change.
    fn collect(&mut self, buffer: &[u8], found: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
        const NLM_F_DUMP_INTR: u16 = netlink_packet_core::NLM_F_DUMP_INTR;
        let sequence = self.sequence;
        self.socket.send(buffer, 0)?;
        let (mut done, mut whole) = (None, true);
        while done.is_none() {
            self.receive(|header, payload| {
                if header.sequence_number != sequence {
                    return;
                }
                whole &= header.flags & NLM_F_DUMP_INTR == 0;
                match payload {
                    NetlinkPayload::InnerMessage(object) => found.push(object),
                    NetlinkPayload::Error(answer) => done = Some(Err(answer.to_io())),
                    NetlinkPayload::Done(_) => done = Some(Ok(())),
                    _ => {}
                }
            })?;
        }
        done.unwrap_or(Ok(()))?;
        Ok(whole)
    }

    /// Asks for one object.
    pub fn get(&mut self, query: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        let mut buffer = Vec::new();
        let request = Request {
            message: query,
            flags: 0,
        };
        self.append(&mut buffer, request, 0);
        let sequence = self.sequence;
        self.socket.send(&buffer, 0)?;
        let mut found = None;
        while found.is_none() {
            self.receive(|header, payload| {
                if header.sequence_number != sequence {
                    return;
                }
                match payload {
                    NetlinkPayload::InnerMessage(object) => found = Some(Ok(object)),
                    NetlinkPayload::Error(answer) => found = Some(Err(answer.to_io())),
                    _ => {}
                }
            })?;
        }
        found.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
    }

    /// Waits for one datagram and hands out the messages in it. What cannot be read is left out: a newer kernel may
    /// say things that this version of the library does not know.
    fn receive(
        &mut self,
        mut each: impl FnMut(NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>),
    ) -> io::Result<()> {
        self.answer.clear();
        loop {
            match self.socket.recv(&mut self.answer, 0) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        for message in messages(&self.answer) {
            if let Ok(message) = NetlinkMessage::deserialize(message) {
                let (header, payload) = message.into_parts();
                each(header, payload);
            }
        }
        Ok(())
    }
}

/// Splits a datagram into its messages.
pub(super) fn messages(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let message = rest.get(..length).filter(|_| length >= 16)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_splits_into_its_messages() {
        let message = |length: u32, size: usize| {
            let mut bytes = vec![7; size];
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            bytes
        };
        let lengths = |bytes: &[u8]| messages(bytes).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), Vec::<usize>::new());
        assert_eq!(lengths(&message(16, 16)), [16]);
        assert_eq!(
            lengths(&[message(17, 20), message(24, 24)].concat()),
            [17, 24]
        );
        // Cut off, or a length that would never advance.
        assert_eq!(lengths(&[message(16, 16), message(40, 20)].concat()), [16]);
        assert_eq!(lengths(&message(0, 16)), Vec::<usize>::new());
    }

    #[test]
    fn every_request_gets_its_own_answer() {
        // Link 0x7fff_fff0 exists nowhere, so each of these fails, with privileges or without.
        let mut netlink = Netlink::new().unwrap();
        let requests = (0..300).map(|_| Request::delete_link_index(0x7fff_fff0));
        let results = netlink.batch(requests);
        assert_eq!(results.len(), 300);
        assert!(results.iter().all(Result::is_err));
        assert!(netlink.links().unwrap().iter().any(|l| l.name == "lo"));
        assert!(netlink.link("no-such-link").unwrap().is_none());
    }
}
