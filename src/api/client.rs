//! HTTP to the apiserver. The only user of ureq.

use std::fmt;
use std::io::{BufReader, ErrorKind, Read};
use std::net::ToSocketAddrs;
use std::thread;
use std::time::{Duration, Instant};

use flate2::bufread::MultiGzDecoder;
use ureq::http::{Response, Uri, header};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, BodyReader};

use super::Access;
use super::error::Error;
use super::tls::{TlsFiles, TokenCache};
use crate::types::one_line;
use crate::wire::Status;

/// As kube-proxy's: dialling, and TLS on top of it.
const CONNECT: Duration = Duration::from_secs(30);
/// For the head of a response; a large list takes the server a while before it begins to answer.
const RESPONSE: Duration = Duration::from_secs(90);
/// Without a byte for so long a connection is dead. A watch gets a bookmark about every minute, from old servers too, so that
/// three may go missing; the server's own end of it (`timeoutSeconds`) can be ten minutes away.
const STALL: Duration = Duration::from_secs(180);
/// How often certificate files are looked at again.
const RECHECK: Duration = Duration::from_secs(300);
/// One is in use at a time, and most requests fit one packet. ureq's own default is 128 KiB for each of two buffers.
const INPUT_BUFFER: usize = 8 * 1024;
const OUTPUT_BUFFER: usize = 4 * 1024;
/// Answers that ask for patience (`Retry-After`) are taken for so many rounds, as in client-go.
const RETRIES: u32 = 10;
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// A Status object is small; an error page of some proxy in between may not be.
const MAX_ERROR_BODY: u64 = 64 * 1024;
/// How much of such a page is shown.
const LONGEST_PAGE: usize = 200;

/// Compressed bytes taken at once.
const COMPRESSED: usize = 4 * 1024;

/// The body of a response, read as it arrives.
pub(crate) type Reader = Box<dyn Read + Send>;

/// Whether the body may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Lists: the apiserver compresses large ones.
    Gzip,
    /// Watches: each event must come through at once.
    Identity,
}

/// One connection to the apiserver, for one thread.
pub struct Client {
    access: Access,
    agent: Agent,
    files: TlsFiles,
    checked: Instant,
    token: TokenCache,
}

impl Client {
    /// Prepares a client; connects at the first request.
    pub fn new(access: &Access) -> Result<Self, Error> {
        let files = TlsFiles::read(&access.config)?;
        Ok(Self {
            agent: agent(access, &files)?,
            access: access.clone(),
            files,
            checked: Instant::now(),
            token: TokenCache::default(),
        })
    }

    /// GET of a path with its query. Waits and tries again where the server asks for it.
    pub fn get(&mut self, path: &str, encoding: Encoding) -> Result<Reader, Error> {
        let encoding = match encoding {
            Encoding::Gzip => "gzip",
            Encoding::Identity => "identity",
        };
        let response = self.patiently("GET", |client| {
            let request = client.agent.get(client.url(path));
            let request = client.headers(request);
            request.header(header::ACCEPT_ENCODING, encoding).call()
        })?;
        Ok(reader(response))
    }

    /// POST of a JSON object to a collection.
    pub fn post_json(&mut self, path: &str, body: &str) -> Result<(), Error> {
        self.patiently("POST", |client| {
            let request = client.agent.post(client.url(path));
            let request = client.headers(request);
            request.content_type("application/json").send(body)
        })
        .map(drain)
    }

    /// PATCH of an object by a JSON merge patch.
    pub fn patch(&mut self, path: &str, body: &str) -> Result<(), Error> {
        self.patiently("PATCH", |client| {
            let request = client.agent.patch(client.url(path));
            let request = client.headers(request);
            request
                .content_type("application/merge-patch+json")
                .send(body)
        })
        .map(drain)
    }

    fn patiently(
        &mut self,
        method: &'static str,
        mut call: impl FnMut(&mut Self) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Error> {
        self.recheck();
        let mut retries = 0;
        // A kept connection may have been closed in the very moment that it was used again: that says nothing about the server.
        let mut stale = method == "GET";
        loop {
            let began = Instant::now();
            let result = call(self);
            let code = result
                .as_ref()
                .ok()
                .map(|response| response.status().as_u16());
            self.access.requests.add(code, method, began.elapsed());
            let response = match result {
                Ok(response) => response,
                Err(ureq::Error::Io(io)) if stale && closed(io.kind()) => {
                    stale = false;
                    continue;
                }
                Err(error) => return Err(self.failed(&error)),
            };
            if response.status().is_success() {
                return Ok(response);
            }
            if code == Some(401) {
                self.token.forget();
            }
            let error = refusal(response);
            match retry_after(&error).filter(|_| retries < RETRIES) {
                Some(pause) => thread::sleep(pause),
                None => return Err(error),
            }
            retries += 1;
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.access.base())
    }

    fn headers<B>(&mut self, mut request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        if let Some(host) = &self.access.host_header {
            request = request.header(header::HOST, host);
        }
        match self.token.header(&self.access.config.token, Instant::now()) {
            Some(token) => request.header(header::AUTHORIZATION, token),
            None => request,
        }
    }

    /// Certificates that have been replaced want another agent. Files that cannot be read or used leave things as they are.
    fn recheck(&mut self) {
        if self.checked.elapsed() < RECHECK {
            return;
        }
        self.checked = Instant::now();
        let changed = TlsFiles::read(&self.access.config).and_then(|files| {
            let changed = files != self.files;
            changed
                .then(|| Ok((agent(&self.access, &files)?, files)))
                .transpose()
        });
        match changed {
            Ok(None) => {}
            Ok(Some((agent, files))) => {
                log::info!("the certificates for the apiserver have changed: connecting anew");
                (self.agent, self.files) = (agent, files);
            }
            Err(error) => log::warn!("{error}; going on with the certificates read before"),
        }
    }

    fn failed(&self, error: &ureq::Error) -> Error {
        let server = &self.access.config.server;
        match error {
            ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
                Error::Refused(format!("{server}: connection refused"))
            }
            // A server that stops, starts, or is being replaced.
            ureq::Error::Io(io) if closed(io.kind()) => Error::Refused(format!("{server}: {io}")),
            ureq::Error::Timeout(what) => {
                Error::Unreachable(format!("{server}: no answer in time ({what})"))
            }
            ureq::Error::Io(io) => Error::Unreachable(format!("{server}: {io}{}", Advice(io))),
            other => Error::Unreachable(format!("{server}: {other}{}", Advice(other))),
        }
    }
}

/// The connection ended before an answer.
fn closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
    )
}

/// What to do about certificates that do not match.
struct Advice<E>(E);

impl<E: fmt::Display> fmt::Display for Advice<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.0.to_string();
        if what.contains("UnknownIssuer") {
            f.write_str(" (check the kubeconfig's certificate-authority)")
        } else if what.contains("not valid for name") {
            f.write_str(
                " (set tls-server-name in the kubeconfig to a name that the certificate has)",
            )
        } else {
            Ok(())
        }
    }
}

/// A body as the server meant it. ureq would do the same, but with room for a decoder, more than anything else takes, on the
/// stack of every thread that ever reads a body, compressed or not; and there it stays.
fn reader(response: Response<Body>) -> Reader {
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    let is_compressed = encoding.is_some_and(|encoding| encoding.as_bytes() == b"gzip");
    let body = response.into_body().into_reader();
    match is_compressed {
        true => decompressed(body),
        false => Box::new(body),
    }
}

/// To the body's very end, so that the connection can be used again. Apart from [`reader`], whose stack would have the room else.
#[inline(never)]
fn decompressed(body: BodyReader<'static>) -> Reader {
    let body = BufReader::with_capacity(COMPRESSED, body);
    Box::new(MultiGzDecoder::new(body))
}

/// What must be read so that the connection can be used again.
fn drain(mut response: Response<Body>) {
    let mut body = response.body_mut().as_reader().take(MAX_ERROR_BODY);
    // If it breaks here, the next request will tell.
    let _ = std::io::copy(&mut body, &mut std::io::sink());
}

/// An answer that is no success.
fn refusal(response: Response<Body>) -> Error {
    let code = response.status().as_u16();
    let seconds = response.headers().get(header::RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let mut body = Vec::new();
    let mut reader = reader(response).take(MAX_ERROR_BODY);
    // Whatever came of it is better than nothing.
    let _ = reader.read_to_end(&mut body);
    let body = String::from_utf8_lossy(&body);
    let status = Status::parse(&body).unwrap_or_else(|| Status {
        code,
        message: beginning(&body),
        ..Status::default()
    });
    Error::Status {
        code,
        status: Box::new(status),
        retry_after: seconds.map(Duration::from_secs),
    }
}

/// What some proxy in between says is a page of many lines, mostly: its beginning, on one line.
fn beginning(page: &str) -> String {
    let words = page.split_whitespace().take(LONGEST_PAGE);
    one_line(&words.collect::<Vec<_>>().join(" "), LONGEST_PAGE).into_owned()
}

/// How long to wait before asking the very same again. A version from the future is left to the reflector: a server that
/// lags behind would let us wait for nothing, where any version would do.
fn retry_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Status {
            code: 429 | 500..=599,
            status,
            retry_after: Some(pause),
        } if !status.is_too_large() => Some((*pause).min(LONGEST_RETRY_AFTER)),
        Error::Status { .. }
        | Error::Config(_)
        | Error::Refused(_)
        | Error::Unreachable(_)
        | Error::Malformed(_) => None,
    }
}

fn agent(access: &Access, files: &TlsFiles) -> Result<Agent, Error> {
    let user_agent = format!(
        "portico/{} ({}/{}) kubernetes/list-watch",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
    );
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(files.configure(access.config.insecure)?)
        // A node's proxy variables are for the world outside, and ureq does not know ranges in NO_PROXY.
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(user_agent)
        .accept("application/json")
        .timeout_connect(Some(CONNECT))
        .timeout_send_request(Some(CONNECT))
        .timeout_recv_response(Some(RESPONSE))
        .timeout_per_read(Some(access.stall.unwrap_or(STALL)))
        .input_buffer_size(INPUT_BUFFER)
        .output_buffer_size(OUTPUT_BUFFER)
        .max_idle_connections(1)
        .max_idle_connections_per_host(1)
        .build();
    Ok(match &access.resolve_as {
        None => Agent::new_with_config(config),
        Some(authority) => {
            let resolver = FixedResolver(authority.clone());
            Agent::with_parts(config, DefaultConnector::default(), resolver)
        }
    })
}

/// Finds the server's address whatever name TLS is to see in the URL (`tls-server-name`).
#[derive(Debug)]
struct FixedResolver(String);

impl Resolver for FixedResolver {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut resolved = DefaultResolver::default().empty();
        for address in self.0.to_socket_addrs()?.take(16) {
            resolved.push(address);
        }
        match resolved.is_empty() {
            true => Err(ureq::Error::HostNotFound),
            false => Ok(resolved),
        }
    }
}
