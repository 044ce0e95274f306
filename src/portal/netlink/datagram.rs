//! Reading what the kernel sends.

use std::io;

use netlink_sys::Socket;
use nix::libc::MSG_TRUNC;

/// More than the kernel ever puts in one answer.
pub(in crate::portal) const ANSWER_SIZE: usize = 64 * 1024;

/// Reads one datagram, which replaces what is in the buffer; never one that the buffer is too short for.
pub(in crate::portal) fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    buffer.reserve(ANSWER_SIZE);
    let length = socket.recv(buffer, MSG_TRUNC)?;
    if length > buffer.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel's answer is longer than it should ever be",
        ));
    }
    Ok(())
}
