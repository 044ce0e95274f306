//! Endpoints to proxy to: each a thread on a port of its own that behaves in one way, and counts.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a TCP backend does with each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Sends back what it gets; closes when the client has.
    Echo,
    /// Sends its own port in decimal, then closes.
    SayPort,
    /// Sends this, closes its sending half at once, and counts what still comes.
    HalfClose(&'static [u8]),
    /// Reads to the end, then sends how many bytes there were, in decimal.
    Count,
    /// Reads something, then resets.
    ResetAfterRead,
    /// Reads nothing and says nothing until the backend is dropped.
    Stall,
    /// Reads until an error or the end, without answering; `ended` and `resets` tell which.
    Listen,
}

/// A TCP backend. Dropping it stops it.
#[derive(Debug)]
pub struct Backend {
    pub addr: SocketAddr,
    pub state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// What a backend has seen.
#[derive(Debug, Default)]
pub struct State {
    /// Connections accepted.
    pub connections: AtomicUsize,
    /// Bytes (TCP) or datagrams (UDP) received.
    pub received: AtomicUsize,
    /// Connections whose client closed its sending half.
    pub ended: AtomicUsize,
    /// Connections that were reset.
    pub resets: AtomicUsize,
    stop: AtomicBool,
}

impl Backend {
    /// On 127.0.0.1, any port.
    pub fn start(manner: Manner) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST, manner)
    }

    /// On this address, any port.
    pub fn start_on(ip: impl Into<std::net::IpAddr>, manner: Manner) -> Self {
        let listener = TcpListener::bind((ip.into(), 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .stack_size(64 * 1024)
                    .spawn(move || behave(stream, manner, addr, &shared))
                    .unwrap();
            }
        });
        Self {
            addr,
            state,
            thread: Some(thread),
        }
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn behave(mut stream: TcpStream, manner: Manner, addr: SocketAddr, state: &State) {
    stream.set_nodelay(true).unwrap();
    match manner {
        Manner::Echo => {
            let _ = read_all(&stream, state, |bytes| (&stream).write_all(bytes).is_ok());
        }
        Manner::SayPort => {
            let _ = write!(stream, "{}", addr.port());
            let _ = stream.shutdown(Shutdown::Write);
            read_all(&stream, state, |_| true);
        }
        Manner::HalfClose(first) => {
            let _ = stream.write_all(first);
            let _ = stream.shutdown(Shutdown::Write);
            read_all(&stream, state, |_| true);
        }
        Manner::Count => {
            let count = read_all(&stream, state, |_| true);
            let _ = write!(stream, "{count}");
        }
        Manner::ResetAfterRead => {
            let _ = stream.read(&mut [0; 1024]);
            reset(stream);
        }
        Manner::Stall => {
            while !state.stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Manner::Listen => {
            read_all(&stream, state, |_| true);
        }
    }
}

/// Reads until the end, an error, or `each` says stop. Says how much there was.
fn read_all(mut stream: &TcpStream, state: &State, mut each: impl FnMut(&[u8]) -> bool) -> usize {
    let (mut buffer, mut total) = (vec![0; 32 * 1024], 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => {
                state.ended.fetch_add(1, Ordering::SeqCst);
                return total;
            }
            Ok(n) => {
                total += n;
                state.received.fetch_add(n, Ordering::SeqCst);
                if !each(&buffer[..n]) {
                    return total;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                if error.kind() == ErrorKind::ConnectionReset {
                    state.resets.fetch_add(1, Ordering::SeqCst);
                }
                return total;
            }
        }
    }
}

/// Closes a connection so that its peer gets a reset.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// An address where a connection is refused: it was bound a moment ago, and is held so that nobody else gets it.
#[derive(Debug)]
pub struct Refusing {
    pub addr: SocketAddr,
    _bound: socket2::Socket,
}

impl Refusing {
    pub fn new() -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).unwrap();
        let addr = socket.local_addr().unwrap().as_socket().unwrap();
        Self {
            addr,
            _bound: socket,
        }
    }
}

/// An address where connection attempts meet silence: a listener whose backlog is full.
#[derive(Debug)]
pub struct Blackhole {
    pub addr: SocketAddr,
    _listener: socket2::Socket,
    _fill: Vec<TcpStream>,
}

impl Blackhole {
    pub fn new() -> Self {
        let listener =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let mut fill = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
            fill.push(stream);
            assert!(fill.len() < 100, "the backlog does not fill");
        }
        Self {
            addr,
            _listener: listener,
            _fill: fill,
        }
    }
}

/// A UDP backend that sends back what it gets, with its own port in front if asked to.
#[derive(Debug)]
pub struct UdpBackend {
    pub addr: SocketAddr,
    pub state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// What a UDP backend answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpManner {
    Echo,
    SayPort,
    Silent,
}

impl UdpBackend {
    pub fn start(manner: UdpManner) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST, manner)
    }

    pub fn start_on(ip: impl Into<std::net::IpAddr>, manner: UdpManner) -> Self {
        let socket = UdpSocket::bind((ip.into(), 0)).unwrap();
        let addr = socket.local_addr().unwrap();
        let timeout = Some(Duration::from_millis(20));
        socket.set_read_timeout(timeout).unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while !shared.stop.load(Ordering::SeqCst) {
                let Ok((n, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                shared.received.fetch_add(1, Ordering::SeqCst);
                let port = addr.port().to_string();
                let reply = match manner {
                    UdpManner::Echo => &buffer[..n],
                    UdpManner::SayPort => port.as_bytes(),
                    UdpManner::Silent => continue,
                };
                let _ = socket.send_to(reply, from);
            }
        });
        Self {
            addr,
            state,
            thread: Some(thread),
        }
    }
}

impl Drop for UdpBackend {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
