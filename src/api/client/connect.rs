//! From a name to a TCP connection: all of its addresses are tried, each a moment after the one before it, and the first that
//! answers is taken (happy eyeballs, RFC 8305).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use rustix::event::{PollFd, PollFlags};
use socket2::{Domain, Protocol, Socket, Type};

use super::socket::{Patience, wait_for};

/// The last address is begun with after this: addresses that swallow packets cost no more.
const ALL_BEGUN: Duration = Duration::from_millis(750);
/// The next one is not tried sooner after the one before (RFC 8305's recommendation).
const STEP: Duration = Duration::from_millis(250);
/// A name has a few addresses.
const MOST: usize = 16;

/// Connects to one of the host's addresses.
pub(super) fn connect(
    host: &str,
    port: u16,
    until: Instant,
    patience: &Patience,
) -> io::Result<TcpStream> {
    let addresses = resolve(host, port, until)?;
    let mut race = Race::new(addresses);
    let mut wait = patience.begin(Some(until));
    loop {
        if let Some(stream) = race.advance(Instant::now())? {
            return Ok(stream);
        }
        match wait.left() {
            Ok(left) => race.wait(left)?,
            Err(_) => return Err(race.lost(ErrorKind::TimedOut)),
        }
    }
}

/// Attempts to connect, under way at the same time.
struct Race {
    /// Not begun with yet; the next is the last.
    waiting: Vec<SocketAddr>,
    running: Vec<(SocketAddr, Socket)>,
    failed: Vec<(SocketAddr, io::Error)>,
    /// When the next is begun with if none of the others has failed before.
    next: Instant,
    step: Duration,
}

impl Race {
    fn new(mut addresses: Vec<SocketAddr>) -> Self {
        let more = u32::try_from(addresses.len().saturating_sub(1)).unwrap_or(u32::MAX);
        addresses.reverse();
        Self {
            waiting: addresses,
            running: Vec::new(),
            failed: Vec::new(),
            next: Instant::now(),
            step: ALL_BEGUN
                .checked_div(more)
                .map_or(STEP, |step| step.min(STEP)),
        }
    }

    /// Takes note of what has come of the attempts, and begins with the next when its time has come. An error when none is
    /// left.
    fn advance(&mut self, now: Instant) -> io::Result<Option<TcpStream>> {
        if let Some(stream) = self.winner(now)? {
            return Ok(Some(stream));
        }
        while now >= self.next || self.running.is_empty() {
            let Some(address) = self.waiting.pop() else {
                break;
            };
            match begin(address) {
                Ok(socket) => {
                    self.running.push((address, socket));
                    self.next = now + self.step;
                }
                Err(error) => self.failed.push((address, error)),
            }
        }
        match self.running.is_empty() {
            true => Err(self.lost(ErrorKind::NotConnected)),
            false => Ok(None),
        }
    }

    fn winner(&mut self, now: Instant) -> io::Result<Option<TcpStream>> {
        let ready = self.poll(Some(Duration::ZERO))?;
        let ready = ready.into_iter().zip(std::mem::take(&mut self.running));
        let mut winner = None;
        for (is_ready, (address, socket)) in ready {
            if !is_ready || winner.is_some() {
                self.running.push((address, socket));
                continue;
            }
            match socket.take_error() {
                Ok(None) => winner = Some(TcpStream::from(socket)),
                Ok(Some(error)) | Err(error) => {
                    self.failed.push((address, error));
                    self.next = now;
                }
            }
        }
        Ok(winner)
    }

    /// Which of those that are running have an outcome, after waiting for one.
    fn poll(&self, most: Option<Duration>) -> io::Result<Vec<bool>> {
        let sockets = self.running.iter();
        let mut files: Vec<_> = sockets
            .map(|(_, it)| PollFd::new(it, PollFlags::OUT))
            .collect();
        wait_for(&mut files, most)?;
        Ok(files
            .iter()
            .map(|file| !file.revents().is_empty())
            .collect())
    }

    fn wait(&self, left: Option<Duration>) -> io::Result<()> {
        let next = self.next.saturating_duration_since(Instant::now());
        let next = (!self.waiting.is_empty()).then_some(next);
        self.poll(left.into_iter().chain(next).min()).map(drop)
    }

    /// What all attempts have come to.
    fn lost(&mut self, otherwise: ErrorKind) -> io::Error {
        let unanswered = self
            .running
            .drain(..)
            .map(|(address, _)| (address, ErrorKind::TimedOut.into()));
        self.failed.extend(unanswered);
        if let [(_, _)] = self.failed.as_slice() {
            return self.failed.remove(0).1;
        }
        // A refusal is an answer: whoever gave it may listen soon.
        let refused = |(_, error): &(_, io::Error)| error.kind() == ErrorKind::ConnectionRefused;
        let kind = match self.failed.iter().any(refused) {
            true => ErrorKind::ConnectionRefused,
            false => otherwise,
        };
        let each = self
            .failed
            .iter()
            .map(|(address, error)| format!("{}: {error}", address.ip()));
        io::Error::new(kind, each.collect::<Vec<_>>().join("; "))
    }
}

/// Sends the SYN; what comes of it shows later.
fn begin(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    match socket.connect(&address.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(socket),
    }
}

/// The host's addresses, families taking turns, in the order that the resolver prefers.
fn resolve(host: &str, port: u16, until: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let cannot = |error: &dyn std::fmt::Display| {
        io::Error::new(
            ErrorKind::NotFound,
            format!("cannot resolve {host}: {error}"),
        )
    };
    // The C library's resolver takes its own time, and nothing ends it.
    let (sender, found) = bounded(1);
    let name = host.to_owned();
    thread::Builder::new()
        .name("resolver".into())
        .spawn(move || {
            // Nobody may be waiting any more.
            let _ = sender.send((name.as_str(), port).to_socket_addrs());
        })?;
    let addresses = match found.recv_deadline(until) {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(cannot(&error)),
        Err(RecvTimeoutError::Timeout) => return Err(cannot(&"no answer in time")),
        Err(RecvTimeoutError::Disconnected) => return Err(cannot(&"no answer")),
    };
    let mut addresses: Vec<SocketAddr> = addresses.take(MOST).collect();
    addresses.dedup();
    match addresses.is_empty() {
        true => Err(cannot(&"it has no address")),
        false => Ok(taking_turns(addresses)),
    }
}

/// One family after the other, so that one that leads nowhere does not come first as a whole.
fn taking_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|it| it.is_ipv6() == first_is_v6);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut all = Vec::new();
    loop {
        let (one, other) = (preferred.next(), others.next());
        if one.is_none() && other.is_none() {
            return all;
        }
        all.extend(one.into_iter().chain(other));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    use super::*;

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::new(192, 0, 2, last).into(), 443)
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::new(
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into(),
            443,
        )
    }

    #[test]
    fn families_take_turns() {
        let rows = [
            (vec![], vec![]),
            (vec![v4(1), v4(2)], vec![v4(1), v4(2)]),
            (
                vec![v6(1), v6(2), v6(3), v4(1), v4(2)],
                vec![v6(1), v4(1), v6(2), v4(2), v6(3)],
            ),
            (vec![v4(1), v6(1), v6(2)], vec![v4(1), v6(1), v6(2)]),
        ];
        for (addresses, expect) in rows {
            assert_eq!(taking_turns(addresses), expect);
        }
    }

    #[test]
    fn all_addresses_are_begun_with_in_a_moment() {
        for (count, step) in [(1, 250), (2, 250), (4, 250), (6, 150), (16, 50)] {
            let race = Race::new(vec![v4(1); count]);
            assert_eq!(race.step, Duration::from_millis(step), "{count}");
        }
    }

    #[test]
    fn the_first_that_answers_is_taken_and_refusals_cost_no_time() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let good = listener.local_addr().expect("its address");
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
        let refusing = closed.local_addr().expect("its address");
        drop(closed);
        let run = |addresses: Vec<SocketAddr>| {
            let mut race = Race::new(addresses);
            loop {
                match race.advance(Instant::now()) {
                    Ok(Some(stream)) => return Ok(stream.peer_addr().expect("connected")),
                    Ok(None) => race.wait(Some(Duration::from_secs(10))).expect("a poll"),
                    Err(error) => return Err(error.kind()),
                }
            }
        };
        let began = Instant::now();
        assert_eq!(run(vec![refusing, refusing, refusing, good]), Ok(good));
        assert!(began.elapsed() < STEP, "{:?}", began.elapsed());
        assert_eq!(run(vec![refusing]), Err(ErrorKind::ConnectionRefused));
        assert_eq!(
            run(vec![refusing, refusing]),
            Err(ErrorKind::ConnectionRefused)
        );
    }
}
