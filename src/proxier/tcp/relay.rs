//! Moving bytes from one socket to another: at once where the kernel has room, else what is left over is held.

use std::io;

use mio::net::TcpStream;
use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, libc, sockopt_impl};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{SpliceFlags, splice};

use super::contract::Got;
use crate::proxier::buffers::{Buffers, PIPE_SIZE, Pipe};

/// Bytes of one direction that were read and could not be written yet.
#[derive(Debug, Default)]
pub(crate) enum Held {
    /// None; takes no memory.
    #[default]
    Nothing,
    /// The rest of a buffer, from `at` on.
    Bytes {
        /// All that was held.
        buffer: Vec<u8>,
        /// How much of it was written meanwhile.
        at: usize,
    },
    /// In a pipe.
    Piped {
        /// Which holds nothing else.
        pipe: Pipe,
        /// How many bytes are in it.
        len: usize,
    },
}

/// What a relay did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    /// What the source had.
    pub(crate) got: Got,
    /// Bytes read.
    pub(crate) read: usize,
    /// Some of it is held.
    pub(crate) held: bool,
}

/// Which socket failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokenEnd {
    /// The one to read from.
    Source,
    /// The one to write to.
    Sink,
}

/// Reads once and writes what was read. Nothing may be held when this is called. `last`: the source's end is known to
/// follow, and bytes that are all there is left wait for the FIN, to travel in one packet with it.
pub(crate) fn copy(
    source: &TcpStream,
    sink: &TcpStream,
    last: bool,
    buffers: &mut Buffers,
    held: &mut Held,
) -> Result<Moved, BrokenEnd> {
    let room = buffers.scratch.capacity();
    let received = retry(|| {
        buffers.scratch.clear();
        recv(
            source,
            spare_capacity(&mut buffers.scratch),
            RecvFlags::empty(),
        )
    });
    let read = match received {
        Ok((0, _)) => return Ok(Moved::none(Got::End)),
        Ok((read, _)) => read,
        Err(Errno::WOULDBLOCK) => return Ok(Moved::none(Got::Nothing)),
        Err(_) => return Err(BrokenEnd::Source),
    };
    let flags = if last && read < room {
        SendFlags::MORE
    } else {
        SendFlags::empty()
    };
    let bytes = buffers.scratch.get(..read).unwrap_or_default();
    let written = write(sink, bytes, flags)?;
    if written < read {
        let mut buffer = buffers.take();
        let rest = buffers.scratch.get(written..read);
        buffer.extend_from_slice(rest.unwrap_or_default());
        *held = Held::Bytes { buffer, at: 0 };
    }
    Ok(Moved {
        got: if read < room { Got::Part } else { Got::Full },
        read,
        held: written < read,
    })
}

/// Moves bytes through a pipe. Nothing may be held when this is called. None: it cannot be done, copy instead.
pub(crate) fn pipe(
    source: &TcpStream,
    sink: &TcpStream,
    buffers: &mut Buffers,
    held: &mut Held,
) -> Option<Result<Moved, BrokenEnd>> {
    let pipe = buffers.take_pipe().ok()?;
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    // The pipe is empty, so "would block" can only mean the source.
    let got = retry(|| splice(source, None, &pipe.writer, None, PIPE_SIZE, flags));
    let read = match got {
        Ok(read) if read > 0 => read,
        other => {
            buffers.give_pipe(pipe);
            return match other {
                Ok(_) => Some(Ok(Moved::none(Got::End))),
                Err(Errno::WOULDBLOCK) => Some(Ok(Moved::none(Got::Nothing))),
                // No such call for this kind of socket, or no memory.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOMEM) => None,
                Err(_) => Some(Err(BrokenEnd::Source)),
            };
        }
    };
    *held = Held::Piped { pipe, len: read };
    Some(flush(sink, buffers, held).map(|held| Moved {
        got: Got::Full,
        read,
        held,
    }))
}

/// Writes what is held; true if some of it still is.
pub(crate) fn flush(
    sink: &TcpStream,
    buffers: &mut Buffers,
    held: &mut Held,
) -> Result<bool, BrokenEnd> {
    match std::mem::take(held) {
        Held::Nothing => Ok(false),
        Held::Bytes { buffer, at } => {
            let rest = buffer.get(at..).unwrap_or_default();
            let written = write(sink, rest, SendFlags::empty())?;
            if written < rest.len() {
                let at = at + written;
                *held = Held::Bytes { buffer, at };
                return Ok(true);
            }
            buffers.give(buffer);
            Ok(false)
        }
        Held::Piped { pipe, mut len } => {
            while len > 0 {
                let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
                match retry(|| splice(&pipe.reader, None, sink, None, len, flags)) {
                    Ok(0) => return Err(BrokenEnd::Sink),
                    Ok(written) => len = len.saturating_sub(written),
                    Err(Errno::WOULDBLOCK) => {
                        *held = Held::Piped { pipe, len };
                        return Ok(true);
                    }
                    Err(_) => return Err(BrokenEnd::Sink),
                }
            }
            buffers.give_pipe(pipe);
            Ok(false)
        }
    }
}

/// Writes as much as there is room for.
fn write(sink: &TcpStream, bytes: &[u8], flags: SendFlags) -> Result<usize, BrokenEnd> {
    match retry(|| send(sink, bytes, flags | SendFlags::NOSIGNAL)) {
        Ok(written) => Ok(written),
        Err(Errno::WOULDBLOCK) => Ok(0),
        Err(_) => Err(BrokenEnd::Sink),
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => continue,
            other => return other,
        }
    }
}

impl Moved {
    fn none(got: Got) -> Self {
        Self {
            got,
            read: 0,
            held: false,
        }
    }
}

/// What the kernel's `SK_MEMINFO_VARS` are, in their order; of these what its send queue holds, sent or not, until it is
/// acknowledged.
const WMEM_QUEUED: usize = 5;
sockopt_impl!(
    /// What memory a socket has in use.
    MemoryInfo,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_MEMINFO,
    [u32; 9]
);

/// The peer has yet to acknowledge some of what was written. A kernel that does not say is not asked again.
pub(crate) fn is_unsent(socket: &TcpStream) -> bool {
    let memory = getsockopt(socket, MemoryInfo);
    memory.is_ok_and(|memory| memory.get(WMEM_QUEUED).is_some_and(|queued| *queued > 0))
}

/// Makes closing this socket tell its peer by a reset that something is missing.
pub(crate) fn reset_on_close(socket: &TcpStream) {
    let socket = socket2::SockRef::from(socket);
    // On a connection that is gone already there is nobody to tell.
    let _: io::Result<()> = socket.set_linger(Some(std::time::Duration::ZERO));
}
