//! The socket for requests and dumps.

use std::io;
use std::ops::ControlFlow;

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::codec::{Message, Writer, messages, outcome};
use super::datagram::{ANSWER_SIZE, receive};
use super::message::{Link, Request};
use super::uapi::{NLM_F_ACK, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};
use super::{read, write};

/// Messages sent at once. Their answers must fit the receive buffer (212 KB by default) even if all of them fail; the
/// kernel counts under 1.5 KB for one.
const CHUNK: usize = 128;
/// A dump that changed under our eyes is asked for again.
const DUMP_TRIES: usize = 4;

/// A rtnetlink socket for requests.
pub struct Netlink {
    socket: Socket,
    port: u32,
    sequence: u32,
    requests: Writer,
    answer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        // Old kernels lack some, and all can be done without: short answers; the reason of a failure in words; dumps
        // filtered by the kernel.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self {
            socket,
            port,
            sequence: 0,
            requests: Writer::default(),
            answer: Vec::with_capacity(ANSWER_SIZE),
        })
    }

    /// The kernel puts this number on what it announces because of our requests.
    pub(crate) fn port(&self) -> u32 {
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
        while requests.peek().is_some() {
            self.requests.clear();
            let first = self.sequence.wrapping_add(1);
            let mut count = 0;
            while let Some(request) = requests.next_if(|_| count < CHUNK) {
                count += 1;
                // The kernel works in order and reports every failure: one acknowledgement, of the last, is enough.
                let last = count == CHUNK || requests.peek().is_none();
                let sequence = self.next();
                request.write(
                    &mut self.requests,
                    sequence,
                    if last { NLM_F_ACK } else { 0 },
                );
            }
            results.extend(self.exchange(first, count));
        }
        results
    }

    /// Sends a chunk and reads answers up to the last message's.
    fn exchange(&mut self, first: u32, count: usize) -> Vec<io::Result<()>> {
        let mut results: Vec<_> = (0..count).map(|_| Ok(())).collect();
        let exchanged = self.send().and_then(|()| {
            self.receive_until(|message| {
                let index = message.sequence.wrapping_sub(first) as usize;
                let (NLMSG_ERROR, Some(slot)) = (message.kind, results.get_mut(index)) else {
                    return ControlFlow::Continue(());
                };
                *slot = outcome(message);
                if index + 1 == count {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })
        });
        match exchanged {
            Ok(()) => results,
            Err(error) => (0..count).map(|_| Err(copy(&error))).collect(),
        }
    }

    /// Asks for everything of a kind, and keeps what `read` makes of it. `header` is the kind's fixed header.
    pub(super) fn dump<T>(
        &mut self,
        kind: u16,
        header: &[u8],
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..DUMP_TRIES {
            found.clear();
            let sequence = self.next();
            self.requests.clear();
            write::query(&mut self.requests, kind, sequence, header);
            self.send()?;
            let mut whole = true;
            let dumped = self.receive_until(|message| {
                if message.sequence != sequence {
                    return ControlFlow::Continue(());
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                if let NLMSG_DONE | NLMSG_ERROR = message.kind {
                    return ControlFlow::Break(outcome(message));
                }
                found.extend(read(message));
                ControlFlow::Continue(())
            })?;
            dumped?;
            if whole {
                return Ok(found);
            }
        }
        Err(io::Error::other(
            "the kernel's tables change faster than they can be read",
        ))
    }

    /// Asks for one link. A name that no link has is an error.
    pub(super) fn get_link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let sequence = self.next();
        self.requests.clear();
        write::query_link(&mut self.requests, sequence, name);
        self.send()?;
        self.receive_until(|message| {
            if message.sequence != sequence {
                return ControlFlow::Continue(());
            }
            ControlFlow::Break(match message.kind {
                NLMSG_ERROR => outcome(message).map(|()| None),
                _ => Ok(read::link(message)),
            })
        })?
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self) -> io::Result<()> {
        self.socket.send(self.requests.bytes(), 0).map(drop)
    }

    /// Waits for datagrams and hands out the messages in them until one of them is the last.
    fn receive_until<T>(
        &mut self,
        mut each: impl FnMut(&Message<'_>) -> ControlFlow<T>,
    ) -> io::Result<T> {
        loop {
            match receive(&self.socket, &mut self.answer) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            for message in messages(&self.answer) {
                if let ControlFlow::Break(last) = each(&message) {
                    return Ok(last);
                }
            }
        }
    }
}

fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::uapi;
    use super::*;

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

    #[test]
    fn the_kernel_says_why() {
        let mut netlink = Netlink::new().unwrap();
        // A query for routes may not name a source prefix; nobody needs privileges to be told so.
        let mut query = uapi::Rt::default().to_bytes();
        query[0] = uapi::AF_INET;
        query[2] = 24;
        let found = netlink.dump(uapi::RTM_GETROUTE, &query, read::route);
        let error = found.unwrap_err().to_string();
        let (code, reason) = error.split_once(": ").expect("a reason");
        assert_eq!(code, "Invalid argument (os error 22)");
        assert!(reason.contains("nvalid values in header"), "{reason}");
        // The socket is as good as before.
        assert!(netlink.links().unwrap().iter().any(|l| l.name == "lo"));
    }
}
