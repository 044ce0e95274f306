//! Memory and pipes for bytes on their way. A worker has one buffer to read into; only what could not be written at once gets
//! a buffer of its own, for as long as it waits.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::files::{FileLease, Files};

/// What one read takes at most: the size from which larger reads did not move bytes faster.
pub(crate) const READ_SIZE: usize = 64 * 1024;
/// Spare buffers kept; more than this many sessions seldom stall at once.
const SPARE_BUFFERS: usize = 8;
/// Spare pipes kept: a bulk transfer needs one only while its bytes are in it.
const SPARE_PIPES: usize = 4;
/// What a pipe for bulk transfers is asked to hold.
pub(crate) const PIPE_SIZE: usize = 256 * 1024;

/// A pipe: how bytes move between sockets without passing through our memory.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Where bytes come out.
    pub(crate) reader: OwnedFd,
    /// Where they go in.
    pub(crate) writer: OwnedFd,
    _files: FileLease,
}

/// One worker's buffers.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// What everything is read into. Never zeroed, so pages that no read reached cost nothing.
    pub(crate) scratch: Vec<u8>,
    spare: Vec<Vec<u8>>,
    pipes: Vec<Pipe>,
    files: Arc<Files>,
}

impl Buffers {
    /// None yet; pipes are taken from these files.
    pub(crate) fn new(files: &Arc<Files>) -> Self {
        Self {
            scratch: Vec::with_capacity(READ_SIZE),
            spare: Vec::new(),
            pipes: Vec::new(),
            files: Arc::clone(files),
        }
    }

    /// An empty buffer that holds as much as one read takes.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(READ_SIZE))
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// An empty pipe.
    pub(crate) fn take_pipe(&mut self) -> io::Result<Pipe> {
        if let Some(pipe) = self.pipes.pop() {
            return Ok(pipe);
        }
        if self.files.are_scarce() {
            return Err(Errno::MFILE.into());
        }
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Beyond a user's share of pipe memory the kernel refuses; the pipe is good all the same.
        let _ = fcntl_setpipe_size(&writer, PIPE_SIZE);
        Ok(Pipe {
            reader,
            writer,
            _files: self.files.lease(2),
        })
    }

    /// Takes an empty pipe back.
    pub(crate) fn give_pipe(&mut self, pipe: Pipe) {
        if self.pipes.len() < SPARE_PIPES {
            self.pipes.push(pipe);
        }
    }
}
