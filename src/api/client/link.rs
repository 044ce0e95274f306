//! The connection that ureq speaks HTTP on: made by us, so that certificates are judged as Go does, a name's addresses are
//! tried at once, and silence is noticed.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::connect::connect;
use super::socket::{Channel, Patience, Socket};
use crate::api::kubeconfig::{Proxy, Server};
use crate::api::tls;
use crate::types::one_line;

/// For looking up the name, the connection, a proxy's consent, and TLS.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// One connection is in use at a time. ureq's own default is 128 KiB.
const INPUT_BUFFER: usize = 8 * 1024;
/// A proxy that consents says so in a few lines.
const LONGEST_CONSENT: usize = 16 * 1024;

/// Makes connections to one apiserver.
pub(super) struct Dialer {
    pub(super) server: Server,
    pub(super) proxy: Option<Proxy>,
    /// For an https server or proxy.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// The name that the server's certificate must have.
    pub(super) name: ServerName<'static>,
    pub(super) proxy_name: Option<ServerName<'static>>,
    /// How long a request's head can be.
    pub(super) room: usize,
    pub(super) patience: Arc<Patience>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialer({})", self.server)
    }
}

impl Dialer {
    fn dial(&self) -> io::Result<Link> {
        let until = Instant::now() + CONNECT;
        let next = self
            .proxy
            .as_ref()
            .map_or(&self.server, |proxy| &proxy.server);
        let stream = connect(&next.lookup(), next.port, until, &self.patience);
        let stream = stream.map_err(|error| match error.kind() {
            ErrorKind::TimedOut => late("no connection"),
            _ => error,
        })?;
        let socket = Socket::new(stream, Arc::clone(&self.patience))?;
        let mut channel = Channel::Plain(socket);
        channel.set_until(Some(until));
        let mut rewriting = None;
        if let Some(proxy) = &self.proxy {
            if let Some(name) = self.proxy_name.as_ref().filter(|_| proxy.server.tls) {
                channel = self.secured(channel, name)?;
            }
            match self.server.tls {
                true => ask_for_tunnel(&mut channel, &self.server, proxy).map_err(in_words)?,
                // What is not secret is asked of the proxy itself, as Go does.
                false => rewriting = Some(Rewriting::new(&self.server, proxy)),
            }
        }
        if self.server.tls {
            channel = self.secured(channel, &self.name)?;
        }
        Ok(Link {
            buffers: LazyBuffers::new(INPUT_BUFFER, self.room),
            channel,
            is_tls: self.server.tls,
            rewriting,
        })
    }

    fn secured(&self, channel: Channel, name: &ServerName<'static>) -> io::Result<Channel> {
        match &self.tls {
            Some(config) => channel
                .secured(config, name)
                .map_err(|error| match error.kind() {
                    ErrorKind::TimedOut => late("no TLS handshake"),
                    _ => in_words(error),
                }),
            None => Err(ErrorKind::Unsupported.into()),
        }
    }
}

impl Connector for Dialer {
    type Out = Link;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Link>, ureq::Error> {
        Ok(Some(self.dial()?))
    }
}

/// CONNECT (RFC 9110, 9.3.6).
fn ask_for_tunnel(channel: &mut Channel, server: &Server, proxy: &Proxy) -> io::Result<()> {
    let target = server.authority();
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    request.push_str("\r\n");
    channel.write_all(request.as_bytes())?;
    channel.flush()?;
    // Byte by byte: what follows is the server's.
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while answer.len() < LONGEST_CONSENT && channel.read(&mut byte)? == 1 {
        answer.extend(byte);
        if answer.ends_with(b"\r\n\r\n") || answer.ends_with(b"\n\n") {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or_default();
    match status.split_whitespace().nth(1) {
        Some(code) if code.len() == 3 && code.starts_with('2') => Ok(()),
        _ => {
            let status = one_line(status, 200).into_owned();
            let proxy = &proxy.server;
            let said = format!("the proxy {proxy} refuses the way to {target}: {status}");
            Err(io::Error::other(said))
        }
    }
}

/// Requests as a proxy wants them, with the whole URL in the first line.
struct Rewriting {
    /// `http://host:port`
    origin: String,
    /// A header's whole line.
    authorization: String,
    /// What is sent next begins a request.
    begins: bool,
}

impl Rewriting {
    fn new(server: &Server, proxy: &Proxy) -> Self {
        let authorization = proxy.authorization.as_ref();
        let line = authorization.map(|it| format!("Proxy-Authorization: {it}\r\n"));
        Self {
            origin: format!("http://{}", server.authority()),
            authorization: line.unwrap_or_default(),
            begins: true,
        }
    }

    /// The beginning of a request in its other form; None for what is none.
    fn rewrite(&mut self, output: &[u8]) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.begins) {
            return None;
        }
        let path = output.iter().position(|byte| *byte == b' ')? + 1;
        let line = output.windows(2).position(|end| end == b"\r\n")? + 2;
        let (method, rest) = output.split_at_checked(path)?;
        let (target, headers) = rest.split_at_checked(line.checked_sub(path)?)?;
        Some(
            [
                method,
                self.origin.as_bytes(),
                target,
                self.authorization.as_bytes(),
                headers,
            ]
            .concat(),
        )
    }
}

/// One connection to the apiserver, as ureq wants it.
pub(super) struct Link {
    buffers: LazyBuffers,
    channel: Channel,
    is_tls: bool,
    rewriting: Option<Rewriting>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// When a wait that ureq limits so is over.
fn until(timeout: NextTimeout) -> Option<Instant> {
    match timeout.after.is_not_happening() {
        true => None,
        false => Instant::now().checked_add(*timeout.after),
    }
}

fn timed_out(error: io::Error, timeout: NextTimeout) -> ureq::Error {
    match error.kind() {
        ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => in_words(error).into(),
    }
}

fn late(what: &str) -> io::Error {
    io::Error::new(
        ErrorKind::TimedOut,
        format!("{what} within {} s", CONNECT.as_secs()),
    )
}

/// With what TLS says in words that say what to do.
fn in_words(error: io::Error) -> io::Error {
    match tls::explain(&error) {
        Some(words) => io::Error::new(error.kind(), words),
        None => error,
    }
}

impl Transport for Link {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let timeout = timeout.for_write();
        self.channel.set_until(until(timeout));
        let output = self.buffers.output();
        let output = output.get(..amount).unwrap_or_default();
        let rewritten = self.rewriting.as_mut().and_then(|it| it.rewrite(output));
        let sent = self
            .channel
            .write_all(rewritten.as_deref().unwrap_or(output));
        let sent = sent.and_then(|()| self.channel.flush());
        sent.map_err(|error| timed_out(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = timeout.for_read();
        self.channel.set_until(until(timeout));
        if let Some(rewriting) = &mut self.rewriting {
            rewriting.begins = true;
        }
        let read = self.channel.read(self.buffers.input_append_buf());
        let amount = read.map_err(|error| timed_out(error, timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.channel.is_open()
    }

    fn is_tls(&self) -> bool {
        self.is_tls
    }
}

/// Addresses are looked up by the [`Dialer`].
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kubeconfig::Config;

    #[test]
    fn a_proxy_is_sent_the_whole_url() {
        let text = "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\n\
                    clusters: [{name: c, cluster: {server: 'http://h:1/a', proxy-url: 'http://u:p@proxy'}}]";
        let config = Config::parse(text, std::path::Path::new("/"), None).expect("valid");
        let proxy = config.proxy.as_ref().expect("a proxy");
        let mut rewriting = Rewriting::new(&config.server, proxy);
        let request = b"GET /a/api HTTP/1.1\r\nhost: h:1\r\n\r\n";
        let expect =
            "GET http://h:1/a/api HTTP/1.1\r\nProxy-Authorization: Basic dTpw\r\nhost: h:1\r\n\r\n";
        assert_eq!(rewriting.rewrite(request), Some(expect.as_bytes().to_vec()));
        // A body is left alone.
        assert_eq!(rewriting.rewrite(request), None);
    }
}
