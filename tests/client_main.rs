//! A client for scripts/demo: asks a backend by HTTP or DNS, a connection each time, and says who answered.
//!
//! ```text
//! client get ADDR:PORT [COUNT]           "blue x50, green x50"
//! client dns ADDR:PORT                   "teal"
//! client put|delete ADDR:PORT PATH       a change, the object on standard input
//! ```
//!
//! Exit status: 0 when every request was answered, 7 (as curl has it) when a connection was refused, else 1.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

/// For a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(said) => {
            if !said.is_empty() {
                println!("{said}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("client: {error}");
            ExitCode::from(if error.kind() == ErrorKind::ConnectionRefused {
                7
            } else {
                1
            })
        }
    }
}

fn run(args: &[&str]) -> io::Result<String> {
    let usage = "usage: client get ADDR:PORT [COUNT] | dns ADDR:PORT | put ADDR:PORT PATH | delete ADDR:PORT PATH";
    match *args {
        ["get", server] => who_answers(address(server)?, 1),
        ["get", server, count] => {
            who_answers(address(server)?, count.parse().map_err(io::Error::other)?)
        }
        ["dns", server] => txt(address(server)?),
        ["put", server, path] => {
            let object = io::read_to_string(io::stdin())?;
            http(address(server)?, "PUT", path, &object).map(drop)?;
            Ok(String::new())
        }
        ["delete", server, path] => {
            http(address(server)?, "DELETE", path, "").map(drop)?;
            Ok(String::new())
        }
        _ => Err(io::Error::other(usage)),
    }
}

fn address(text: &str) -> io::Result<SocketAddr> {
    text.parse()
        .map_err(|error| io::Error::other(format!("{text}: {error}")))
}

/// So many requests: who answered, and how often when there was more than one.
fn who_answers(server: SocketAddr, count: usize) -> io::Result<String> {
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..count {
        let name = http(server, "GET", "/", "")?;
        *answers.entry(name.trim().to_owned()).or_default() += 1;
    }
    let each = answers.into_iter().map(|(name, times)| match count {
        1 => name,
        _ => format!("{name} x{times}"),
    });
    Ok(each.collect::<Vec<_>>().join(", "))
}

/// The body of the answer, if that is a success.
fn http(server: SocketAddr, method: &str, path: &str, object: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = object.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{object}"
    )?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    match head.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(body),
        _ => Err(io::Error::other(format!("{method} {path}: {head}{body}"))),
    }
}

/// The TXT record of `whoami`, which backend.rs puts last into its answer.
fn txt(server: SocketAddr) -> io::Result<String> {
    let any: SocketAddr = if server.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0; 16], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    // An identity, recursion desired, one question: the name, TXT, IN.
    let mut query = vec![0x70, 0x6f, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x06whoami\x00\x00\x10\x00\x01");
    socket.send(&query)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    // Behind the question: a name, a type, a class, a time to live, two lengths, the text.
    let text = answer
        .get(query.len() + 13..length)
        .ok_or(ErrorKind::InvalidData)?;
    Ok(String::from_utf8_lossy(text).into_owned())
}
