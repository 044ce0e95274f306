//! A backend for scripts/demo and scripts/test-real-apiserver: says its name over HTTP, and over UDP as a DNS server.
//!
//! `backend NAME [--http ADDR:PORT]... [--dns ADDR:PORT]...`
//!
//! HTTP: every path answers with the name; `/bytes/N` with N bytes. DNS: every question is answered by a TXT record that
//! holds the name, so that `dig +short TXT whoami` shows who answered.

#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread::{self, JoinHandle};

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backend: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> io::Result<()> {
    let usage =
        || io::Error::other("usage: backend NAME [--http ADDR:PORT]... [--dns ADDR:PORT]...");
    let name = args.next().ok_or_else(usage)?;
    let mut servers: Vec<JoinHandle<()>> = Vec::new();
    while let (Some(flag), Some(address)) = (args.next(), args.next()) {
        let name = name.clone();
        servers.push(match flag.as_str() {
            "--http" => {
                let listener = TcpListener::bind(&address)?;
                thread::spawn(move || serve_http(&name, &listener))
            }
            "--dns" => {
                let socket = UdpSocket::bind(&address)?;
                thread::spawn(move || serve_dns(&name, &socket))
            }
            _ => return Err(usage()),
        });
    }
    for server in servers {
        let _ = server.join();
    }
    Ok(())
}

fn serve_http(name: &str, listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        let name = name.to_owned();
        // A client that goes away in the middle is its own business.
        thread::spawn(move || drop(answer_http(&name, stream)));
    }
}

/// One connection, request after request.
fn answer_http(name: &str, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut close = false;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 {
                return Ok(());
            }
            close |= header.trim().eq_ignore_ascii_case("connection: close");
            if header.trim().is_empty() {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or("/");
        let bulk = path.strip_prefix("/bytes/").and_then(|n| n.parse().ok());
        let body = format!("{name}\n");
        let length = bulk.unwrap_or(body.len());
        let connection = if close { "close" } else { "keep-alive" };
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n"
        )?;
        match bulk {
            None => writer.write_all(body.as_bytes())?,
            Some(mut left) => {
                let block = [b'.'; 64 * 1024];
                while left > 0 {
                    let part = block.get(..left.min(block.len())).unwrap_or(&block);
                    writer.write_all(part)?;
                    left -= part.len();
                }
            }
        }
        if close {
            return Ok(());
        }
    }
}

fn serve_dns(name: &str, socket: &UdpSocket) {
    let mut buffer = [0; 1500];
    loop {
        // An ICMP error of an earlier answer comes back here, and concerns no one else.
        let Ok((length, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        if let Some(answer) = buffer
            .get(..length)
            .and_then(|query| dns_answer(name, query))
        {
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// The question again, with one TXT record: RFC 1035, section 4.
fn dns_answer(name: &str, query: &[u8]) -> Option<Vec<u8>> {
    let mut end = 12; // the header
    loop {
        let label = usize::from(*query.get(end)?);
        end += 1 + label;
        if label == 0 {
            break;
        }
    }
    let question = query.get(12..end + 4)?; // the name, its type, its class
    let mut answer = query.get(..2)?.to_vec();
    // A response, recursion asked for and available; one question, one answer.
    answer.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend(question);
    let length = u8::try_from(name.len()).ok()?;
    // The name at offset 12, TXT, IN, no caching.
    answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0]);
    answer.extend([0, length.checked_add(1)?, length]);
    answer.extend(name.as_bytes());
    Some(answer)
}
