//! The least that a forwarding proxy can do, as a yardstick for `scripts/bench`: a small request costs one read and one
//! write each way, and one `epoll_wait` for all sockets that are ready at once. No choice of endpoint beyond taking turns,
//! no timeouts, no counters, no second attempt. What portico costs beyond this is portico's own; what this costs is the
//! kernel's.
//!
//! ```text
//! bare-loop [--netns NAME] [--threads N] LISTEN=ENDPOINT[,ENDPOINT]...
//! ```
//!
//! With `--netns` the listeners are made in that network namespace (as `ip netns add` names it) and the endpoints are
//! reached from the one that the program was started in, as in portico's netns portal.

use std::error::Error;
use std::fs::File;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, accept_with, connect,
    recv, send, shutdown, socket_with, sockopt,
};
use socket2::{Domain, Socket, Type};

type Failure = Box<dyn Error + Send + Sync>;

/// As large as one read from a busy socket usually gets.
const BUFFER: usize = 64 * 1024;
/// Sockets that one `epoll_wait` reports at most.
const BATCH: usize = 256;
/// Set in the token of a listener; a leg's token is its pair's slot times two, plus the side.
const LISTENER: u64 = 1 << 63;
/// What every leg is watched for. Edges: nothing has to be said to the kernel again when a direction ends or stalls.
const READ: EventFlags = EventFlags::IN
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

fn main() -> Result<(), Failure> {
    let options = Options::parse(std::env::args().skip(1))?;
    let workers: Vec<Worker> = (0..options.threads)
        .map(|_| Worker::new(&options))
        .collect::<Result<_, _>>()?;
    let threads: Vec<_> = workers
        .into_iter()
        .map(|mut worker| thread::spawn(move || worker.run()))
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}

struct Options {
    netns: Option<String>,
    threads: usize,
    forwards: Vec<(SocketAddr, Vec<SocketAddr>)>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self {
            netns: None,
            threads: 2,
            forwards: Vec::new(),
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--netns" => options.netns = Some(args.next().ok_or("--netns wants a name")?),
                "--threads" => {
                    options.threads = args.next().ok_or("--threads wants a number")?.parse()?;
                }
                forward => {
                    let (listen, endpoints) = forward
                        .split_once('=')
                        .ok_or_else(|| format!("{forward}: expected LISTEN=ENDPOINT"))?;
                    let endpoints: Result<_, _> = endpoints.split(',').map(str::parse).collect();
                    options.forwards.push((listen.parse()?, endpoints?));
                }
            }
        }
        Ok(options)
    }
}

/// One listener per worker: with SO_REUSEPORT the kernel spreads connections and no two workers wake for one of them.
fn listen(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(65535)?;
    Ok(socket)
}

/// Makes the listeners on a thread of its own, since it is a thread that enters a namespace.
fn listeners(options: &Options) -> Result<Vec<Socket>, Failure> {
    let addrs: Vec<SocketAddr> = options.forwards.iter().map(|(addr, _)| *addr).collect();
    let netns = options.netns.clone();
    let maker = thread::spawn(move || -> Result<Vec<Socket>, Failure> {
        if let Some(name) = netns {
            let namespace = File::open(format!("/run/netns/{name}"))?;
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
        }
        Ok(addrs.into_iter().map(listen).collect::<Result<_, _>>()?)
    });
    maker.join().map_err(|_| "making the listeners panicked")?
}

/// One end of a connection, and what the other end sent that it has not taken yet.
struct Leg {
    socket: OwnedFd,
    unsent: Vec<u8>,
    /// Asks for writability: from the first time on that the kernel would not take everything.
    watches_room: bool,
    /// The kernel holds the last byte that its peer sends.
    hung_up: bool,
    /// That byte is read.
    ended: bool,
}

struct Pair {
    legs: [Leg; 2],
}

struct Listener {
    socket: Socket,
    endpoints: Vec<SocketAddr>,
    next: usize,
}

struct Worker {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    /// Slots that this batch emptied: a later event of the same batch may still name them.
    emptied: Vec<usize>,
    buffer: Vec<u8>,
}

impl Worker {
    fn new(options: &Options) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let listeners: Vec<Listener> = listeners(options)?
            .into_iter()
            .zip(&options.forwards)
            .map(|(socket, (_, endpoints))| Listener {
                socket,
                endpoints: endpoints.clone(),
                next: 0,
            })
            .collect();
        for (index, listener) in listeners.iter().enumerate() {
            let token = EventData::new_u64(LISTENER | index as u64);
            epoll::add(&epoll, &listener.socket, token, EventFlags::IN)?;
        }
        Ok(Self {
            epoll,
            listeners,
            pairs: Vec::new(),
            free: Vec::new(),
            emptied: Vec::new(),
            buffer: vec![0; BUFFER],
        })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let mut events = Vec::with_capacity(BATCH);
        loop {
            epoll::wait(&self.epoll, spare_capacity(&mut events), None)?;
            for event in events.drain(..) {
                let token = event.data.u64();
                if token & LISTENER != 0 {
                    self.accept((token & !LISTENER) as usize)?;
                } else {
                    self.ready((token / 2) as usize, (token % 2) as usize, event.flags);
                }
            }
            self.free.append(&mut self.emptied);
        }
    }

    /// One connection an event: under load the next `epoll_wait` reports the listener again along with everything else,
    /// and no accept is made only to learn that there is nobody left.
    fn accept(&mut self, index: usize) -> Result<(), Failure> {
        let listener = &mut self.listeners[index];
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let client = match accept_with(&listener.socket, flags) {
            Ok(client) => client,
            Err(Errno::AGAIN | Errno::CONNABORTED) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let endpoint = listener.endpoints[listener.next];
        listener.next = (listener.next + 1) % listener.endpoints.len();
        // Dropping the client is all that there is to do about an endpoint that cannot be reached.
        if let Ok(endpoint) = dial(endpoint) {
            self.adopt(client, endpoint)?;
        }
        Ok(())
    }

    fn adopt(&mut self, client: OwnedFd, endpoint: OwnedFd) -> Result<(), Failure> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        let legs = [client, endpoint].map(|socket| Leg {
            socket,
            unsent: Vec::new(),
            watches_room: false,
            hung_up: false,
            ended: false,
        });
        for (side, leg) in legs.iter().enumerate() {
            epoll::add(&self.epoll, &leg.socket, token(slot, side), READ)?;
        }
        self.pairs[slot] = Some(Pair { legs });
        Ok(())
    }

    fn ready(&mut self, slot: usize, side: usize, flags: EventFlags) {
        let Some(pair) = &mut self.pairs[slot] else {
            return;
        };
        let result = if flags.contains(EventFlags::ERR) {
            Err(Errno::CONNRESET)
        } else {
            pair.step(&self.epoll, slot, side, flags, &mut self.buffer)
        };
        if result.is_err() || pair.legs.iter().all(|leg| leg.ended) {
            self.pairs[slot] = None;
            self.emptied.push(slot);
        }
    }
}

impl Pair {
    fn step(
        &mut self,
        epoll: &OwnedFd,
        slot: usize,
        side: usize,
        flags: EventFlags,
        buffer: &mut [u8],
    ) -> Result<(), Errno> {
        if !self.legs[side].unsent.is_empty() && self.flush(side)? {
            // Reading was stopped for want of room here, and the edge that told of more to read may have passed.
            self.relay(epoll, slot, 1 - side, buffer)?;
        }
        self.legs[side].hung_up |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP);
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP) {
            self.relay(epoll, slot, side, buffer)?;
        }
        Ok(())
    }

    /// Reads from one side and writes to the other until a short read says that there is no more for now; what the other
    /// does not take stops the reading. A short read after the peer's end was reported is the end itself.
    fn relay(
        &mut self,
        epoll: &OwnedFd,
        slot: usize,
        side: usize,
        buffer: &mut [u8],
    ) -> Result<(), Errno> {
        let [from, to] = self.sides(side);
        while to.unsent.is_empty() && !from.ended {
            let (count, _) = match recv(&from.socket, &mut *buffer, RecvFlags::empty()) {
                Err(Errno::AGAIN) => return Ok(()),
                read => read?,
            };
            let sent = match send(&to.socket, &buffer[..count], SendFlags::NOSIGNAL) {
                _ if count == 0 => 0,
                Err(Errno::AGAIN) => 0,
                sent => sent?,
            };
            if sent < count {
                to.unsent.extend_from_slice(&buffer[sent..count]);
                if !mem::replace(&mut to.watches_room, true) {
                    let token = token(slot, 1 - side);
                    epoll::modify(epoll, &to.socket, token, READ | EventFlags::OUT)?;
                }
                return Ok(());
            }
            from.ended = count == 0 || (from.hung_up && count < buffer.len());
            if count < buffer.len() {
                break;
            }
        }
        // Once both have ended the pair is closed, which says the same with one call less.
        if from.ended && !to.ended && to.unsent.is_empty() {
            shutdown(&to.socket, Shutdown::Write)?;
        }
        Ok(())
    }

    /// Sends what this side would not take earlier; true when nothing is left.
    fn flush(&mut self, side: usize) -> Result<bool, Errno> {
        let [to, _] = self.sides(side);
        let sent = match send(&to.socket, &to.unsent, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN) => 0,
            sent => sent?,
        };
        to.unsent.drain(..sent);
        if to.unsent.is_empty() {
            mem::take(&mut to.unsent);
        }
        Ok(to.unsent.is_empty())
    }

    /// This side's leg, then the other's.
    fn sides(&mut self, side: usize) -> [&mut Leg; 2] {
        let [client, endpoint] = &mut self.legs;
        if side == 0 {
            [client, endpoint]
        } else {
            [endpoint, client]
        }
    }
}

fn token(slot: usize, side: usize) -> EventData {
    EventData::new_u64((slot * 2 + side) as u64)
}

fn dial(endpoint: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match endpoint {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &endpoint) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}
