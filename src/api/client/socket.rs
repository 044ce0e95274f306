//! A TCP connection whose reads and writes end in time, and plain or TLS on top of it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Silence that is worth a word where an answer is due.
const LATE: Duration = Duration::from_secs(10);

/// How a client waits, beyond what holds for each of its requests.
pub(super) struct Patience {
    limits: Mutex<Limits>,
    /// Called when an answer that is due has been late for some seconds.
    late: Box<dyn Fn() + Send + Sync>,
}

#[derive(Clone, Copy, Default)]
struct Limits {
    deadline: Option<Instant>,
    answer_due: bool,
}

impl Patience {
    pub(super) fn new(late: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            limits: Mutex::default(),
            late: Box::new(late),
        }
    }

    /// No wait goes beyond this.
    pub(super) fn set_deadline(&self, deadline: Option<Instant>) {
        self.change(|limits| limits.deadline = deadline);
    }

    /// The server owes an answer; else its silence may be what is to be expected.
    pub(super) fn set_answer_due(&self, due: bool) {
        self.change(|limits| limits.answer_due = due);
    }

    fn change(&self, change: impl FnOnce(&mut Limits)) {
        change(&mut self.limits.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn get(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The beginning of a wait that ends by then.
    pub(super) fn begin(&self, until: Option<Instant>) -> Wait<'_> {
        Wait {
            patience: self,
            until,
            late: Instant::now() + LATE,
            told: false,
        }
    }
}

/// One wait for something.
pub(super) struct Wait<'p> {
    patience: &'p Patience,
    until: Option<Instant>,
    late: Instant,
    told: bool,
}

impl Wait<'_> {
    /// How long it may go on before this is asked again; None for as long as it takes. An error when it is over.
    pub(super) fn left(&mut self) -> io::Result<Option<Duration>> {
        let now = Instant::now();
        let limits = self.patience.get();
        if limits.answer_due && now >= self.late && !std::mem::replace(&mut self.told, true) {
            (self.patience.late)();
        }
        let end = self.until.into_iter().chain(limits.deadline).min();
        if end.is_some_and(|end| now >= end) {
            return Err(ErrorKind::TimedOut.into());
        }
        let late = (limits.answer_due && !self.told).then_some(self.late);
        let next = end.into_iter().chain(late).min();
        Ok(next.map(|next| next.saturating_duration_since(now)))
    }
}

/// Waits for one of these files; no longer than this.
pub(super) fn wait_for(files: &mut [PollFd<'_>], most: Option<Duration>) -> io::Result<()> {
    // What is longer than poll can count is as good as for ever.
    let most = most.and_then(|most| Timespec::try_from(most).ok());
    match poll(files, most.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A TCP connection without blocking calls: each ends by its deadline.
pub(super) struct Socket {
    stream: TcpStream,
    patience: Arc<Patience>,
    until: Option<Instant>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, patience: Arc<Patience>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            patience,
            until: None,
        })
    }

    fn wait<T>(
        &self,
        flags: PollFlags,
        mut call: impl FnMut(&TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut wait = None;
        loop {
            match call(&self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => return outcome,
            }
            // Not needed where bytes are there already.
            let wait = wait.get_or_insert_with(|| self.patience.begin(self.until));
            wait_for(&mut [PollFd::new(&self.stream, flags)], wait.left()?)?;
        }
    }

    /// Nothing has arrived, not even the end: it can be used for another request.
    fn is_open(&self) -> bool {
        let peeked = self.stream.peek(&mut [0]);
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN, |mut stream| stream.read(room))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::OUT, |mut stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What bytes go through: the connection itself, or TLS in it, which to and through an https proxy is twice.
pub(super) enum Channel {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Channel>>),
}

impl Channel {
    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.sock.socket(),
        }
    }

    /// When what is done next must be over.
    pub(super) fn set_until(&mut self, until: Option<Instant>) {
        self.socket().until = until;
    }

    pub(super) fn is_open(&mut self) -> bool {
        self.socket().is_open()
    }

    /// TLS in it, after the handshake.
    pub(super) fn secured(
        mut self,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> io::Result<Self> {
        let connection = ClientConnection::new(Arc::clone(config), name.clone());
        let mut connection = connection.map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut self)?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, self))))
    }
}

impl Read for Channel {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(room),
            Self::Tls(stream) => stream.read(room),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_wait_ends_by_the_first_of_its_deadlines() {
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        let patience = Patience::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let now = Instant::now();
        let left = |until| patience.begin(until).left();
        let ended = |until| left(until).expect_err("over").kind();
        assert_eq!(left(None).expect("for ever"), None);
        assert_eq!(ended(Some(now)), ErrorKind::TimedOut);
        patience.set_deadline(Some(now));
        assert_eq!(ended(None), ErrorKind::TimedOut);
        patience.set_deadline(None);
        patience.set_answer_due(true);
        assert!(left(None).expect("until it is late") <= Some(LATE));
        // As if it had begun long ago.
        let mut wait = patience.begin(None);
        wait.late = now;
        for _ in 0..2 {
            assert_eq!(wait.left().expect("for ever"), None);
            assert_eq!(told.load(Ordering::Relaxed), 1);
        }
    }
}
