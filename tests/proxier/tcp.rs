//! TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::{getsockopt_impl, libc, sockopt_impl};
use portico::proxier::ProxierConfig;
use portico::types::Protocol;

use super::{LONG, Rig, loopback};
use crate::util::backend::{Backend, Blackhole, Manner, Refusing, reset};
use crate::util::eventually;
use crate::util::rng::Rng;

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, LONG).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What a new client is told before the end.
fn read_once(addr: SocketAddr) -> std::io::Result<String> {
    let mut text = String::new();
    connect(addr).read_to_string(&mut text)?;
    Ok(text)
}

fn round_trip(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut reply = vec![0; text.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply, text);
}

#[track_caller]
fn assert_reset(mut stream: &TcpStream) {
    let outcome = stream.read(&mut [0; 16]);
    let kind = outcome.as_ref().map_err(|error| error.kind());
    assert_eq!(kind.err(), Some(ErrorKind::ConnectionReset), "{outcome:?}");
}

/// The reset may come before connect returns.
#[track_caller]
fn assert_is_reset(addr: SocketAddr) {
    match TcpStream::connect(addr) {
        Ok(stream) => {
            stream.set_read_timeout(Some(LONG)).unwrap_or_default();
            assert_reset(&stream);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn echo_and_counters() {
    let backend = Backend::start(Manner::Echo);
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let mut stream = connect(served.addr);
    for _ in 0..10 {
        round_trip(&mut stream, b"hello");
    }
    assert_eq!(served.counters.active.get(), 1);
    assert_eq!(rig.proxier.active_connections(), 1);
    drop(stream);
    eventually(LONG, "the session has ended", || {
        (served.counters.active.get() == 0).then_some(())
    });
    let counters = &served.counters;
    assert_eq!(counters.received_bytes.get(), 50);
    assert_eq!(counters.sent_bytes.get(), 50);
    assert_eq!(counters.accepted.get(), 1);
    assert_eq!(counters.connected.get(), 1);
    assert_eq!(counters.failed.get(), 0);
    assert_eq!(rig.proxier.active_connections(), 0);
}

#[test]
fn connections_go_round_all_endpoints() {
    let backends = [(); 3].map(|()| Backend::start(Manner::SayPort));
    let rig = Rig::new();
    let served = rig.tcp(&backends.each_ref().map(|backend| backend.addr));
    for _ in 0..9 {
        read_once(served.addr).unwrap();
    }
    assert_eq!(backends.map(|backend| backend.connections()), [3, 3, 3]);
}

#[test]
fn a_client_may_close_its_half_and_still_be_answered() {
    let backend = Backend::start(Manner::Count);
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let mut stream = connect(served.addr);
    stream.write_all(&[7; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "100000");
}

#[test]
fn an_endpoint_may_close_its_half_and_still_listen() {
    let backend = Backend::start(Manner::HalfClose(b"welcome"));
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let mut stream = connect(served.addr);
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "welcome");
    stream.write_all(&[7; 100_000]).unwrap();
    drop(stream);
    eventually(LONG, "the endpoint has got all", || {
        (backend.state.received.load(Ordering::SeqCst) == 100_000).then_some(())
    });
    eventually(LONG, "the endpoint has got the end", || {
        (backend.state.ended.load(Ordering::SeqCst) == 1).then_some(())
    });
}

#[test]
fn an_endpoint_that_closes_at_once_closes_its_half() {
    let backend = Backend::start(Manner::HalfClose(b""));
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    assert_eq!(read_once(served.addr).unwrap(), "");
}

/// The handshake's last ACK waits for the client's first bytes only while there may be some: it would otherwise come by the
/// kernel's timer, a fifth of a second later, and each of these connections with it.
#[test]
fn an_endpoint_that_speaks_first_is_heard_at_once() {
    let backend = Backend::start(Manner::HalfClose(b"220 ready"));
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(read_once(served.addr).unwrap(), "220 ready");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_half_closed_connection_ends_when_silent_for_too_long() {
    let backend = Backend::start(Manner::HalfClose(b""));
    let rig = Rig::with(ProxierConfig {
        half_close_timeout: Duration::from_millis(300),
        ..ProxierConfig::default()
    });
    let served = rig.tcp(&[backend.addr]);
    let mut stream = connect(served.addr);
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
    let start = Instant::now();
    // Not silent: every write puts the end off.
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(b"still here").unwrap();
    }
    assert_eq!(served.counters.active.get(), 1);
    eventually(LONG, "the silent connection has ended", || {
        (served.counters.active.get() == 0).then_some(())
    });
    assert!(start.elapsed() >= Duration::from_millis(850));
    eventually(LONG, "the endpoint was reset", || {
        (backend.state.resets.load(Ordering::SeqCst) == 1).then_some(())
    });
}

#[test]
fn a_clients_reset_reaches_the_endpoint() {
    let backend = Backend::start(Manner::Listen);
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let mut stream = connect(served.addr);
    stream.write_all(b"some").unwrap();
    eventually(LONG, "the endpoint has got it", || {
        (backend.state.received.load(Ordering::SeqCst) == 4).then_some(())
    });
    reset(stream);
    eventually(LONG, "the endpoint was reset", || {
        (backend.state.resets.load(Ordering::SeqCst) == 1).then_some(())
    });
    assert_eq!(backend.state.ended.load(Ordering::SeqCst), 0);
}

#[test]
fn an_endpoints_reset_reaches_the_client() {
    let backend = Backend::start(Manner::ResetAfterRead);
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let mut stream = connect(served.addr);
    stream.write_all(b"some").unwrap();
    assert_reset(&stream);
}

#[test]
fn a_client_without_endpoints_is_reset() {
    let rig = Rig::new();
    let served = rig.tcp(&[]);
    assert_is_reset(served.addr);
    eventually(LONG, "the session has ended", || {
        (served.counters.failed.get() == 1).then_some(())
    });
}

#[test]
fn a_refusing_endpoint_is_passed_over_within_the_connection() {
    let (backend, refusing) = (Backend::start(Manner::SayPort), Refusing::new());
    let rig = Rig::new();
    let served = rig.tcp(&[refusing.addr, backend.addr]);
    let port = backend.addr.port().to_string();
    for _ in 0..6 {
        assert_eq!(read_once(served.addr).unwrap(), port);
    }
    let counters = &served.counters;
    assert!(counters.connect_refused.get() >= 1);
    assert_eq!(counters.retries.get(), counters.connect_refused.get());
    assert_eq!(counters.failed.get(), 0);
}

#[test]
fn a_client_is_reset_when_every_endpoint_refuses() {
    let refusing = [Refusing::new(), Refusing::new()];
    let rig = Rig::new();
    let served = rig.tcp(&refusing.each_ref().map(|refusing| refusing.addr));
    assert_is_reset(served.addr);
    eventually(LONG, "the failure is counted", || {
        (served.counters.failed.get() == 1).then_some(())
    });
    assert_eq!(served.counters.connect_refused.get(), 2, "once each");
}

#[test]
fn a_silent_endpoint_is_passed_over_after_its_step_of_the_ladder() {
    let (backend, blackhole) = (Backend::start(Manner::SayPort), Blackhole::new());
    let rig = Rig::new();
    let served = rig.tcp(&[blackhole.addr, backend.addr]);
    let port = backend.addr.port().to_string();
    let start = Instant::now();
    for _ in 0..2 {
        assert_eq!(read_once(served.addr).unwrap(), port);
    }
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(250), "{elapsed:?}");
    assert_eq!(served.counters.connect_timeout.get(), 1);
    assert_eq!(served.counters.retries.get(), 1);
}

#[test]
fn a_client_is_reset_when_the_ladder_ends() {
    let blackhole = Blackhole::new();
    let rig = Rig::with(ProxierConfig {
        connect_ladder: [50, 100, 150].map(Duration::from_millis).into(),
        ..ProxierConfig::default()
    });
    let served = rig.tcp(&[blackhole.addr]);
    let start = Instant::now();
    assert_is_reset(served.addr);
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(300), "{elapsed:?}");
    assert_eq!(served.counters.connect_timeout.get(), 3);
}

#[test]
fn what_a_client_sends_early_waits_for_the_endpoint_that_answers() {
    let (backend, blackhole) = (Backend::start(Manner::Echo), Blackhole::new());
    let rig = Rig::new();
    let served = rig.tcp(&[blackhole.addr, backend.addr]);
    for _ in 0..2 {
        round_trip(&mut connect(served.addr), b"early");
    }
    assert_eq!(served.counters.connect_timeout.get(), 1);
}

#[test]
fn a_client_that_leaves_while_an_endpoint_is_looked_for_ends_the_search() {
    let blackhole = Blackhole::new();
    let rig = Rig::with(ProxierConfig {
        connect_ladder: [LONG; 4].into(),
        ..ProxierConfig::default()
    });
    let served = rig.tcp(&[blackhole.addr]);
    let stream = connect(served.addr);
    eventually(LONG, "the session has begun", || {
        (served.counters.active.get() == 1).then_some(())
    });
    reset(stream);
    eventually(LONG, "the session has ended", || {
        (served.counters.active.get() == 0).then_some(())
    });
}

#[test]
fn an_endpoint_that_is_a_listener_of_ours_is_refused() {
    let rig = Rig::new();
    let first = rig.tcp(&[]);
    let second = rig.tcp(&[first.addr]);
    rig.replace(&first, &[second.addr]);
    assert_is_reset(first.addr);
    assert_eq!(first.counters.connect_loop.get(), 1);
    assert_eq!(second.counters.accepted.get(), 0);
}

#[test]
fn an_endpoint_at_a_node_port_of_ours_is_refused() {
    let backend = Backend::start(Manner::SayPort);
    let rig = Rig::new();
    let node_port = rig.serve(
        Protocol::Tcp,
        "0.0.0.0:0".parse().unwrap(),
        &[backend.addr],
        None,
    );
    let addresses = [loopback(77)];
    rig.proxier.set_host_addresses(addresses.into());
    let host = SocketAddr::new(loopback(77), node_port.addr.port());
    let virtual_ip = rig.tcp(&[host]);
    assert_is_reset(virtual_ip.addr);
    assert_eq!(virtual_ip.counters.connect_loop.get(), 1);
    assert_eq!(
        read_once(host).unwrap(),
        backend.addr.port().to_string(),
        "from elsewhere it is served"
    );
}

#[test]
fn affinity_keeps_a_client_at_its_endpoint() {
    let backends = [(); 3].map(|()| Backend::start(Manner::SayPort));
    let rig = Rig::new();
    let endpoints = backends.each_ref().map(|backend| backend.addr);
    let any = "127.0.0.1:0".parse().unwrap();
    let served = rig.serve(Protocol::Tcp, any, &endpoints, Some(LONG));
    let first = read_once(served.addr).unwrap();
    for _ in 0..5 {
        assert_eq!(read_once(served.addr).unwrap(), first);
    }
}

#[test]
fn new_connections_follow_the_endpoints_and_old_ones_stay() {
    let (old, new) = (
        Backend::start(Manner::Echo),
        Backend::start(Manner::SayPort),
    );
    let rig = Rig::new();
    let served = rig.tcp(&[old.addr]);
    let mut stream = connect(served.addr);
    round_trip(&mut stream, b"before");
    rig.replace(&served, &[new.addr]);
    let port = new.addr.port().to_string();
    eventually(LONG, "the new endpoint is in use", || {
        connect(served.addr).set_read_timeout(None).unwrap();
        (new.connections() > 0).then_some(())
    });
    assert_eq!(read_once(served.addr).unwrap(), port);
    round_trip(&mut stream, b"after");
}

#[test]
fn after_close_connections_are_refused_and_old_ones_stay() {
    let backend = Backend::start(Manner::Echo);
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let mut stream = connect(served.addr);
    round_trip(&mut stream, b"before");
    rig.close(&served);
    eventually(LONG, "connections are refused", || {
        let error = TcpStream::connect(served.addr).err()?;
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
    round_trip(&mut stream, b"after");
}

#[test]
fn drain_ends_with_the_last_connection() {
    let backend = Backend::start(Manner::Echo);
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let mut stream = connect(served.addr);
    round_trip(&mut stream, b"before");
    rig.proxier.stop_accepting();
    eventually(LONG, "connections are refused", || {
        TcpStream::connect(served.addr).err()
    });
    let soon = Instant::now() + Duration::from_millis(100);
    assert!(!rig.proxier.drain(soon), "a connection is left");
    round_trip(&mut stream, b"after");
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(stream);
    });
    let start = Instant::now();
    assert!(rig.proxier.drain(start + LONG));
    assert!(start.elapsed() < LONG / 2);
    ending.join().unwrap();
}

#[test]
fn dropping_it_ends_connections() {
    let backend = Backend::start(Manner::Echo);
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let mut stream = connect(served.addr);
    round_trip(&mut stream, b"before");
    drop(rig);
    assert!(matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_)));
}

/// Writes `len` seeded bytes; the sum is the same for the same bytes in the same order.
fn write_pattern(mut stream: &TcpStream, seed: u64, len: usize) -> u64 {
    let (mut rng, mut sum, mut left) = (Rng::new(seed), 0u64, len);
    while left > 0 {
        let block: Vec<u8> = (0..8192).flat_map(|_| rng.next().to_le_bytes()).collect();
        let n = left.min(block.len()).min(1 + rng.below(block.len()));
        sum = digest(sum, &block[..n]);
        stream.write_all(&block[..n]).unwrap();
        left -= n;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    sum
}

fn digest(sum: u64, bytes: &[u8]) -> u64 {
    let add = |sum: u64, byte: &u8| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte);
    bytes.iter().fold(sum, add)
}

/// Reads to the end: how much, and its sum.
fn read_pattern(mut stream: &TcpStream, pause: Duration) -> (usize, u64) {
    let (mut buffer, mut len, mut sum) = (vec![0; 50_000], 0, 0);
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return (len, sum),
            n => {
                len += n;
                sum = digest(sum, &buffer[..n]);
                std::thread::sleep(pause);
            }
        }
    }
}

#[test]
fn a_large_transfer_arrives_whole_in_both_directions() {
    let backend = Backend::start(Manner::Echo);
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let len = 64 << 20;
    let clients: Vec<_> = (0..2)
        .map(|seed| {
            let addr = served.addr;
            std::thread::spawn(move || {
                let stream = connect(addr);
                let reader = stream.try_clone().unwrap();
                let read = std::thread::spawn(move || read_pattern(&reader, Duration::ZERO));
                let sum = write_pattern(&stream, seed, len);
                assert_eq!(read.join().unwrap(), (len, sum));
            })
        })
        .collect();
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    eventually(LONG, "the sessions have ended", || {
        (served.counters.active.get() == 0).then_some(())
    });
    assert_eq!(served.counters.received_bytes.get(), 2 * len as u64);
    assert_eq!(served.counters.sent_bytes.get(), 2 * len as u64);
}

#[test]
fn a_slow_reader_does_not_hold_up_a_fast_one() {
    let backend = Backend::start(Manner::Echo);
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let slow = connect(served.addr);
    let len = 8 << 20;
    let writer = slow.try_clone().unwrap();
    // More than fits into every buffer on the way: this blocks until the slow reader reads.
    let writing = std::thread::spawn(move || write_pattern(&writer, 1, len));
    let stalled = || {
        let before = served.counters.sent_bytes.get();
        std::thread::sleep(Duration::from_millis(50));
        (before > 0 && served.counters.sent_bytes.get() == before).then_some(())
    };
    eventually(LONG, "the slow transfer has stalled", stalled);
    let mut fast = connect(served.addr);
    for _ in 0..200 {
        round_trip(&mut fast, b"quick");
    }
    assert!(!writing.is_finished(), "the slow reader has not read yet");
    let read = read_pattern(&slow, Duration::from_millis(1));
    assert_eq!(read, (len, writing.join().unwrap()));
}

#[test]
fn urgent_data_does_not_stop_the_stream() {
    let backend = Backend::start(Manner::Count);
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let mut stream = connect(served.addr);
    let socket = stream.try_clone().unwrap();
    for _ in 0..50 {
        stream.write_all(b"12345").unwrap();
        socket2::SockRef::from(&socket)
            .send_out_of_band(b"!")
            .unwrap();
        stream.write_all(b"67890").unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut count = String::new();
    stream.read_to_string(&mut count).unwrap();
    let count: usize = count.parse().unwrap();
    // Urgent bytes have no place in the stream; those overtaken by the next urgent one count as plain data.
    assert!((500..550).contains(&count), "{count}");
}

#[test]
fn many_connections_at_once_are_all_served_and_spread_over_workers() {
    let backend = Backend::start(Manner::Echo);
    let rig = Rig::new();
    let served = rig.tcp(&[backend.addr]);
    let mut streams: Vec<_> = (0..300).map(|_| connect(served.addr)).collect();
    for round in 0..3u8 {
        for stream in &mut streams {
            round_trip(stream, &[round; 10]);
        }
    }
    assert_eq!(rig.proxier.active_connections(), 300);
    drop(streams);
    eventually(LONG, "all sessions have ended", || {
        (rig.proxier.active_connections() == 0).then_some(())
    });
}

sockopt_impl!(
    /// What memory a socket has in use.
    MemoryInfo,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_MEMINFO,
    [u32; 9]
);

/// A reset takes away what the kernel has yet to send, and what this side's kernel has acknowledged must arrive all the same.
#[test]
fn what_was_acknowledged_before_a_reset_is_delivered() {
    const SIZE: usize = 300_000;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let rig = Rig::new();
    let served = rig.tcp(&[listener.local_addr().unwrap()]);
    let mut client = connect(served.addr);
    let (mut endpoint, _) = listener.accept().unwrap();
    endpoint.write_all(&[7; SIZE]).unwrap();
    eventually(LONG, "all is acknowledged", || {
        let memory = nix::sys::socket::getsockopt(&endpoint, MemoryInfo).unwrap();
        (memory[5] == 0).then_some(())
    });
    reset(endpoint);
    eventually(LONG, "it is on its way", || {
        (served.counters.sent_bytes.get() > 0).then_some(())
    });
    let mut got = 0;
    let mut buffer = vec![0; 4096];
    let end = loop {
        match client.read(&mut buffer) {
            Ok(0) => break None,
            Ok(n) => got += n,
            Err(error) => break Some(error.kind()),
        }
    };
    assert_eq!((got, end), (SIZE, Some(ErrorKind::ConnectionReset)));
    eventually(LONG, "the session has ended", || {
        (served.counters.active.get() == 0).then_some(())
    });
}
