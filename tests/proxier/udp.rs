//! UDP.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::Duration;

use portico::proxier::ProxierConfig;
use portico::types::Protocol;

use super::{LONG, Rig, loopback};
use crate::util::backend::{UdpBackend, UdpManner};
use crate::util::eventually;

fn client(to: SocketAddr) -> UdpSocket {
    let any = SocketAddr::new(loopback(1), 0);
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    socket
}

/// Sends until answered: datagrams may get lost, and here some of them shall.
#[track_caller]
fn ask(socket: &UdpSocket, text: &[u8]) -> Vec<u8> {
    eventually(LONG, "an answer", || {
        socket.send(text).ok()?;
        let mut buffer = vec![0; 65536];
        let n = socket.recv(&mut buffer).ok()?;
        buffer.truncate(n);
        Some(buffer)
    })
}

fn ask_port(socket: &UdpSocket) -> u16 {
    let answer = ask(socket, b"who?");
    String::from_utf8(answer).unwrap().parse().unwrap()
}

#[test]
fn echo_and_counters() {
    let backend = UdpBackend::start(UdpManner::Echo);
    let rig = Rig::new();
    let served = rig.udp(&[backend.addr]);
    let socket = client(served.addr);
    assert_eq!(ask(&socket, b"hello"), b"hello");
    assert_eq!(ask(&socket, b"again"), b"again");
    let counters = &served.counters;
    assert_eq!(counters.accepted.get(), 1);
    assert_eq!(counters.active.get(), 1);
    eventually(LONG, "bytes are counted", || {
        (counters.received_bytes.get() >= 10 && counters.sent_bytes.get() >= 10).then_some(())
    });
}

#[test]
fn datagrams_of_every_size_pass_whole() {
    let backend = UdpBackend::start(UdpManner::Echo);
    let rig = Rig::new();
    let served = rig.udp(&[backend.addr]);
    let socket = client(served.addr);
    for len in [0, 1, 1472, 4096, 4097, 65507] {
        let text: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        assert_eq!(ask(&socket, &text), text, "{len} bytes");
    }
}

#[test]
fn a_flow_keeps_its_endpoint_and_flows_go_round() {
    let backends = [(); 2].map(|()| UdpBackend::start(UdpManner::SayPort));
    let rig = Rig::new();
    let served = rig.udp(&backends.each_ref().map(|backend| backend.addr));
    let sockets = [client(served.addr), client(served.addr)];
    let ports = sockets.each_ref().map(ask_port);
    assert_ne!(ports[0], ports[1]);
    for _ in 0..5 {
        assert_eq!(sockets.each_ref().map(ask_port), ports);
    }
}

#[test]
fn many_datagrams_of_many_clients_keep_their_order() {
    let backend = UdpBackend::start(UdpManner::Echo);
    let rig = Rig::new();
    let served = rig.udp(&[backend.addr]);
    let sockets: Vec<_> = (0..20).map(|_| client(served.addr)).collect();
    for round in 0..20u8 {
        for socket in &sockets {
            for part in 0..5u8 {
                socket.send(&[round, part]).unwrap();
            }
        }
        for socket in &sockets {
            for part in 0..5u8 {
                let mut buffer = [0; 16];
                assert_eq!(socket.recv(&mut buffer).unwrap(), 2);
                assert_eq!(buffer[..2], [round, part]);
            }
        }
    }
    assert_eq!(served.counters.accepted.get(), 20);
}

#[test]
fn a_flow_moves_at_once_when_its_endpoint_goes_away() {
    let backends = [(); 2].map(|()| UdpBackend::start(UdpManner::SayPort));
    let rig = Rig::new();
    let served = rig.udp(&[backends[0].addr]);
    let (moving, staying) = (client(served.addr), client(served.addr));
    assert_eq!(ask_port(&moving), backends[0].addr.port());
    rig.replace(&served, &[backends[0].addr, backends[1].addr]);
    eventually(LONG, "a flow to the second", || {
        let other = client(served.addr);
        (ask_port(&other) == backends[1].addr.port()).then_some(())
    });
    assert_eq!(ask_port(&moving), backends[0].addr.port(), "it stays");
    assert_eq!(ask_port(&staying), ask_port(&staying));
    rig.replace(&served, &[backends[1].addr]);
    eventually(LONG, "the flow has moved", || {
        (ask_port(&moving) == backends[1].addr.port()).then_some(())
    });
}

#[test]
fn a_refusing_endpoint_loses_its_flows() {
    let refusing = {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let backend = UdpBackend::start(UdpManner::SayPort);
    let rig = Rig::new();
    let served = rig.udp(&[refusing, backend.addr]);
    for _ in 0..4 {
        assert_eq!(ask_port(&client(served.addr)), backend.addr.port());
    }
    assert!(served.counters.connect_refused.get() >= 1);
}

#[test]
fn silent_flows_end() {
    let backend = UdpBackend::start(UdpManner::Silent);
    let rig = Rig::with(ProxierConfig {
        udp_timeout: Duration::from_millis(100),
        ..ProxierConfig::default()
    });
    let served = rig.udp(&[backend.addr]);
    let socket = client(served.addr);
    socket.send(b"hello?").unwrap();
    eventually(LONG, "the flow has begun", || {
        (served.counters.accepted.get() == 1).then_some(())
    });
    eventually(LONG, "the flow has ended", || {
        (served.counters.active.get() == 0).then_some(())
    });
    socket.send(b"hello?").unwrap();
    eventually(LONG, "another has begun", || {
        (served.counters.accepted.get() == 2).then_some(())
    });
}

#[test]
fn the_oldest_flow_makes_room() {
    let backend = UdpBackend::start(UdpManner::SayPort);
    let rig = Rig::with(ProxierConfig {
        // For two workers.
        max_udp_flows: Some(20),
        ..ProxierConfig::default()
    });
    let served = rig.udp(&[backend.addr]);
    let sockets: Vec<_> = (0..30).map(|_| client(served.addr)).collect();
    for socket in &sockets {
        ask_port(socket);
    }
    assert_eq!(served.counters.accepted.get(), 30);
    assert_eq!(served.counters.active.get(), 10);
    // The last ones are still there, the first ones begin anew.
    for socket in &sockets[20..] {
        ask_port(socket);
    }
    assert_eq!(served.counters.accepted.get(), 30);
    ask_port(&sockets[0]);
    assert_eq!(served.counters.accepted.get(), 31);
    assert_eq!(served.counters.active.get(), 10);
}

#[test]
fn replies_leave_from_the_address_that_was_asked() {
    let backend = UdpBackend::start(UdpManner::SayPort);
    let rig = Rig::new();
    let any = "0.0.0.0:0".parse().unwrap();
    let served = rig.serve(Protocol::Udp, any, &[backend.addr], None);
    // One client socket that asks three addresses: three flows, and each answer from the address that was asked.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    for last in [1, 5, 9] {
        let asked = SocketAddr::new(loopback(last), served.addr.port());
        socket.send_to(b"who?", asked).unwrap();
        let (_, from) = socket.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(from, asked);
    }
    assert_eq!(served.counters.accepted.get(), 3);
}

#[test]
fn ipv6_replies_leave_from_the_address_that_was_asked() {
    let backend = UdpBackend::start_on(std::net::Ipv6Addr::LOCALHOST, UdpManner::SayPort);
    let rig = Rig::new();
    let any = "[::]:0".parse().unwrap();
    let served = rig.serve(Protocol::Udp, any, &[backend.addr], None);
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let asked = SocketAddr::new("::1".parse().unwrap(), served.addr.port());
    for _ in 0..3 {
        socket.send_to(b"who?", asked).unwrap();
        let (_, from) = socket.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(from, asked);
    }
    assert_eq!(served.counters.accepted.get(), 1);
}

#[test]
fn close_ends_flows() {
    let backend = UdpBackend::start(UdpManner::SayPort);
    let rig = Rig::new();
    let served = rig.udp(&[backend.addr]);
    let socket = client(served.addr);
    ask_port(&socket);
    rig.close(&served);
    eventually(LONG, "the flow has ended", || {
        (served.counters.active.get() == 0).then_some(())
    });
    let before = backend.state.received.load(Ordering::SeqCst);
    eventually(LONG, "the port is closed", || socket.send(b"who?").err());
    assert_eq!(backend.state.received.load(Ordering::SeqCst), before);
}

#[test]
fn an_endpoint_that_is_a_listener_of_ours_gets_nothing() {
    let rig = Rig::new();
    let first = rig.udp(&[]);
    let second = rig.udp(&[first.addr]);
    rig.replace(&first, &[second.addr]);
    let socket = client(first.addr);
    eventually(LONG, "the loop is noticed", || {
        socket.send(b"round and round").ok()?;
        (first.counters.connect_loop.get() >= 1).then_some(())
    });
    assert_eq!(second.counters.accepted.get(), 0);
    assert_eq!(first.counters.active.get(), 0);
}
