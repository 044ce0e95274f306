//! The portal, in network namespaces of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded, unbounded};
use socket2::Socket;

use portico::portal::{BindSpec, Error, Portal, PortalKind};
use portico::types::{BindKey, Capture, Protocol, Scope};

use crate::util::netns::{Namespace, Net};

/// Long enough for any answer, short enough for silence to be told.
const SILENCE: Duration = Duration::from_millis(700);

type Call = Box<dyn FnOnce(&Portal) + Send>;

/// A portal on a thread of its own in the node, which all calls are made on.
struct Node {
    calls: Option<Sender<Call>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn open(node: &Namespace, kind: PortalKind) -> Result<Self, Error> {
        let (calls, received) = unbounded::<Call>();
        let (opened, result) = bounded(1);
        let thread = node.spawn(move || match Portal::open(kind) {
            Ok(portal) => {
                opened.send(Ok(())).unwrap();
                received.iter().for_each(|call| call(&portal));
            }
            Err(error) => opened.send(Err(error)).unwrap(),
        });
        result.recv().unwrap()?;
        Ok(Self {
            calls: Some(calls),
            thread: Some(thread),
        })
    }

    fn call<T: Send + 'static>(&self, work: impl FnOnce(&Portal) -> T + Send + 'static) -> T {
        let (answer, result) = bounded(1);
        let calls = self.calls.as_ref().unwrap();
        let call = Box::new(move |portal: &Portal| answer.send(work(portal)).unwrap());
        calls.send(call).unwrap();
        result.recv().unwrap()
    }

    #[track_caller]
    fn capture(&self, captures: &[Capture]) {
        let captures = captures.to_vec();
        let refused = self.call(move |p| p.apply(&captures, &[], Instant::now()));
        assert!(refused.is_empty(), "{refused:?}");
    }

    fn bind(
        &self,
        scope: Scope,
        addr: &str,
        protocol: Protocol,
        allow: Option<&[&str]>,
    ) -> io::Result<Arc<Socket>> {
        let spec = BindSpec {
            key: BindKey {
                scope,
                addr: addr.parse().unwrap(),
                protocol,
            },
            allow: allow.map(|nets| nets.iter().map(|net| net.parse().unwrap()).collect()),
        };
        self.call(move |p| p.bind(&[spec]).pop().unwrap())
    }

    /// A TCP listener of the portal's that answers each connection with its own address, until the test ends.
    fn serve(&self, addr: &str, allow: Option<&[&str]>) -> Arc<Socket> {
        let socket = self
            .bind(Scope::Portal, addr, Protocol::Tcp, allow)
            .unwrap();
        serve(TcpListener::from(socket.try_clone().unwrap()), addr);
        socket
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.calls = None;
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(listener: TcpListener, text: &str) {
    listener.set_nonblocking(false).unwrap();
    let text = text.to_owned();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(text.as_bytes());
        }
    });
}

/// What a listener says to a client in that namespace.
fn ask(from: &Namespace, addr: &str) -> io::Result<String> {
    let addr: SocketAddr = addr.parse().unwrap();
    from.run(move || {
        let mut stream = TcpStream::connect_timeout(&addr, SILENCE)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

#[track_caller]
fn assert_answers(from: &Namespace, addr: &str) {
    assert_eq!(
        ask(from, addr).map_err(|e| e.to_string()).as_deref(),
        Ok(addr)
    );
}

#[track_caller]
fn assert_fails(from: &Namespace, addr: &str, how: ErrorKind) {
    assert_eq!(ask(from, addr).map_err(|e| e.kind()), Err(how), "{addr}");
}

fn address(ip: &str) -> Capture {
    Capture::Address(ip.parse().unwrap())
}

#[test]
fn virtual_ips_answer_on_their_ports_and_refuse_others() {
    let Some(net) = Net::new() else { return };
    // A host program on the same port, on all addresses of the host.
    let host = net.node.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    serve(host, "host");
    let host = net.node.run(|| TcpListener::bind("[::]:8080").unwrap());
    serve(host, "host6");

    let node = Node::open(&net.node, PortalKind::Netns).unwrap();
    node.capture(&[address("10.96.0.1"), address("fd96::1")]);
    node.serve("10.96.0.1:80", None);
    node.serve("[fd96::1]:80", None);
    for from in [&net.client, &net.node] {
        for ip in ["10.96.0.1", "[fd96::1]"] {
            assert_answers(from, &format!("{ip}:80"));
            for port in [81, 8080] {
                assert_fails(from, &format!("{ip}:{port}"), ErrorKind::ConnectionRefused);
            }
        }
        assert_eq!(ask(from, &format!("{}:80", Net::NODE)).unwrap(), "host");
        assert_eq!(
            ask(from, &format!("[{}]:8080", Net::NODE6)).unwrap(),
            "host6"
        );
    }
}
