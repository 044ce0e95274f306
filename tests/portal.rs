//! The portal, in network namespaces of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::util::netns::Net;

#[test]
fn the_three_namespaces_reach_each_other() {
    let Some(net) = Net::new() else { return };
    for (listen, connect) in [
        ("0.0.0.0:0", Net::BACKEND.to_owned()),
        ("[::]:0", format!("[{}]", Net::BACKEND6)),
    ] {
        let listener = net.backend.run(|| TcpListener::bind(listen).unwrap());
        let port = listener.local_addr().unwrap().port();
        let mut stream = net
            .client
            .run(|| TcpStream::connect(format!("{connect}:{port}")).unwrap());
        let (mut served, _) = listener.accept().unwrap();
        served.write_all(b"hello").unwrap();
        drop(served);
        let mut got = String::new();
        stream.read_to_string(&mut got).unwrap();
        assert_eq!(got, "hello");
    }
}
