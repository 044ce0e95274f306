//! HTTP to the apiserver. The only user of ureq.

mod answer;
mod connect;
mod link;
mod socket;

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::{Response, header};
use ureq::{Agent, Body};

use super::Access;
use super::credentials::Presented;
use super::error::Error;
use super::kubeconfig::Config;
use super::tls::{self, Inputs};
use link::{CONNECT, Dialer, NoResolver};
use socket::Patience;

/// For the head of a response; a large list takes the server a while before it begins to answer.
const RESPONSE: Duration = Duration::from_secs(90);
/// Without a byte for so long a connection is dead. A watch gets a bookmark about every minute, from old servers too, so that
/// three may go missing; the server's own end of it (`timeoutSeconds`) can be ten minutes away.
const STALL: Duration = Duration::from_secs(180);
/// How often certificate files are looked at again, and after a failure.
const RECHECK: Duration = Duration::from_secs(60);
const RECHECK_IN_DOUBT: Duration = Duration::from_secs(1);
/// The head of a request has room for this beside the credentials.
const HEAD: usize = 4 * 1024;

/// The body of a response, read as it arrives.
pub type Reader = Box<dyn Read + Send>;

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
    patience: Arc<Patience>,
    bound: Bound,
    /// The last request failed in a way that other credentials or certificates may mend.
    in_doubt: bool,
}

/// An agent, and what it was made from.
struct Bound {
    agent: Agent,
    config: Arc<Config>,
    inputs: Inputs,
    /// How long a request's head can be.
    room: usize,
    checked: Instant,
}

impl Client {
    /// Prepares a client; connects at the first request.
    pub fn new(access: &Access) -> Result<Self, Error> {
        Self::with_notice(access, || ())
    }

    /// The same; `late` is called when an answer that is due has not begun for some seconds.
    pub(super) fn with_notice(
        access: &Access,
        late: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let patience = Arc::new(Patience::new(late));
        let (config, _) = access.current(false);
        let inputs = Inputs::read(&config, None)?;
        Ok(Self {
            bound: Bound::new(access, config, inputs, HEAD, &patience)?,
            access: access.clone(),
            patience,
            in_doubt: false,
        })
    }

    /// GET of a path with its query.
    pub fn get(&mut self, path: &str, encoding: Encoding) -> Result<Reader, Error> {
        let encoding = match encoding {
            Encoding::Gzip => "gzip",
            Encoding::Identity => "identity",
        };
        let response = self.request("GET", path, |agent, url, presented| {
            let request = with_headers(agent.get(url), presented);
            request.header(header::ACCEPT_ENCODING, encoding).call()
        })?;
        match answer::is_page(&response) {
            true => Err(self.refused(response)),
            false => Ok(answer::reader(response)),
        }
    }

    /// POST of a JSON object to a collection.
    pub fn post_json(&mut self, path: &str, body: &str) -> Result<(), Error> {
        let response = self.request("POST", path, |agent, url, presented| {
            let request = with_headers(agent.post(url), presented);
            request.content_type("application/json").send(body)
        });
        response.map(answer::drain)
    }

    /// No wait for the server goes beyond this.
    pub(super) fn set_deadline(&self, deadline: Option<Instant>) {
        self.patience.set_deadline(deadline);
    }

    /// Whether the server owes more; else its silence is what is to be expected.
    pub(super) fn set_answer_due(&self, due: bool) {
        self.patience.set_answer_due(due);
    }

    fn request(
        &mut self,
        method: &'static str,
        path: &str,
        send: impl Fn(&Agent, &str, &Presented) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Error> {
        let presented = self.prepare().inspect_err(|_| self.in_doubt = true)?;
        let url = format!("{}{path}", self.bound.config.server.base());
        // A kept connection may have been closed in the very moment that it was used again: that says nothing about the server.
        let mut stale = method == "GET";
        self.patience.set_answer_due(true);
        let response = loop {
            let began = Instant::now();
            let result = send(&self.bound.agent, &url, &presented);
            let code = result.as_ref().ok().map(|it| it.status().as_u16());
            self.access.requests().add(code, method, began.elapsed());
            match result {
                Err(ureq::Error::Io(io)) if stale && closed(io.kind()) => stale = false,
                result => break result,
            }
        };
        self.patience.set_answer_due(false);
        let response = response.map_err(|error| self.failed(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        if response.status().as_u16() == 401 {
            self.access.forget(&presented);
        }
        Err(self.refused(response))
    }

    /// Takes over what has changed since the last request.
    fn prepare(&mut self) -> Result<Presented, Error> {
        let in_doubt = std::mem::take(&mut self.in_doubt);
        let (config, credentials) = self.access.current(in_doubt);
        let presented = credentials.present(&config)?;
        let room = HEAD + presented.length();
        let is_other = !Arc::ptr_eq(&config, &self.bound.config)
            || presented.identity.as_ref() != self.bound.inputs.given()
            || room > self.bound.room;
        let age = match in_doubt {
            true => RECHECK_IN_DOUBT,
            false => RECHECK,
        };
        if !is_other && self.bound.checked.elapsed() < age {
            return Ok(presented);
        }
        self.bound.checked = Instant::now();
        let inputs = Inputs::read(&config, presented.identity.as_ref());
        let rebound = inputs.and_then(|inputs| {
            let is_needed = is_other || inputs != self.bound.inputs;
            let bind = || Bound::new(&self.access, config, inputs, room, &self.patience);
            is_needed.then(bind).transpose()
        });
        match rebound {
            Ok(None) => {}
            Ok(Some(bound)) => {
                if bound.inputs != self.bound.inputs {
                    log::debug!("the certificates for the apiserver have changed: connecting anew");
                }
                self.bound = bound;
            }
            // Files that cannot be read or used leave things as they are.
            Err(error) => self.access.warn(format!(
                "{error}; going on with the certificates read before"
            )),
        }
        Ok(presented)
    }

    fn refused(&mut self, response: Response<Body>) -> Error {
        let mut refusal = answer::refusal(&self.bound.config, response);
        // Another request may meet another server, or find other credentials.
        self.in_doubt |= matches!(refusal.code, 200..=399 | 401 | 403) || refusal.is_page();
        if refusal.code == 401 {
            refusal.hint = self.bound.inputs.identity_problem();
        }
        Error::Status(Box::new(refusal))
    }

    fn failed(&mut self, error: &ureq::Error) -> Error {
        self.in_doubt = true;
        let config = &self.bound.config;
        let way = match &config.proxy {
            Some(proxy) => format!("{} by way of {}", config.server, proxy.server),
            None => config.server.to_string(),
        };
        match error {
            // A server that stops, starts, or is being replaced.
            ureq::Error::Io(io)
                if closed(io.kind()) || io.kind() == ErrorKind::ConnectionRefused =>
            {
                Error::Refused(format!("{way}: {}", in_short(io)))
            }
            ureq::Error::Timeout(_) => Error::Unreachable(format!("{way}: no answer in time")),
            error => {
                let text = error.to_string();
                let text = text.strip_prefix("io: ").unwrap_or(&text);
                let about_us = text.contains(tls::CLIENT_CERTIFICATE);
                let why = about_us
                    .then(|| self.bound.inputs.identity_problem())
                    .flatten();
                let why = why.map(|why| format!("; {why}")).unwrap_or_default();
                Error::Unreachable(format!("{way}: {text}{why}"))
            }
        }
    }
}

fn in_short(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(_) if error.kind() == ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
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

fn with_headers<B>(
    request: ureq::RequestBuilder<B>,
    presented: &Presented,
) -> ureq::RequestBuilder<B> {
    let headers = presented.headers.iter();
    headers.fold(request, |request, (name, value)| {
        request.header(name, value)
    })
}

impl Bound {
    fn new(
        access: &Access,
        config: Arc<Config>,
        inputs: Inputs,
        room: usize,
        patience: &Arc<Patience>,
    ) -> Result<Self, Error> {
        let proxy = config.proxy.as_ref();
        let needs_tls = config.server.tls || proxy.is_some_and(|proxy| proxy.server.tls);
        let name = config.tls_server_name.as_deref();
        let dialer = Dialer {
            server: config.server.clone(),
            proxy: config.proxy.clone(),
            tls: match needs_tls {
                true => Some(inputs.configure()?),
                false => None,
            },
            name: tls::server_name(name.unwrap_or(&config.server.host))?,
            proxy_name: match proxy {
                Some(proxy) => Some(tls::server_name(&proxy.server.host)?),
                None => None,
            },
            room,
            patience: Arc::clone(patience),
        };
        Ok(Self {
            agent: agent(access, dialer),
            config,
            inputs,
            room,
            checked: Instant::now(),
        })
    }
}

fn agent(access: &Access, dialer: Dialer) -> Agent {
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
        // The dialer knows the kubeconfig's. A node's proxy variables are for the world outside.
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(user_agent)
        .accept("application/json")
        .timeout_send_request(Some(CONNECT))
        .timeout_recv_response(Some(RESPONSE))
        .timeout_per_read(Some(access.stall().unwrap_or(STALL)))
        .max_idle_connections(1)
        .max_idle_connections_per_host(1)
        .build();
    Agent::with_parts(config, dialer, NoResolver)
}
