//! A small Kubernetes apiserver: a real HTTP/1.1 program over real sockets that speaks as those in tests/recordings do.
//!
//! Objects live in a [`store`] with resourceVersions, a log of changes for watches and a compaction mark; [`http`] reads
//! requests and writes responses; [`serve`] answers them. Tests script its faults and read its request log; the example
//! program `apiserver` runs it by itself for scripts/demo.

#![allow(dead_code)]

mod http;
mod selector;
mod serve;
mod store;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::Value;

pub use http::Request;
pub use store::Resource;
use store::Store;

/// Which release's habits it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Field selectors on Services, watch-list, ServiceCIDRs, EndpointSlice v1 and v1beta1.
    V1_36,
    /// None of these; EndpointSlice v1beta1 only.
    V1_20,
    /// Older still: no EndpointSlices at all, only Endpoints.
    EndpointsOnly,
}

/// What happens to a request instead of its answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status with a Status object; with a Retry-After header in seconds if given.
    Status {
        code: u16,
        reason: &'static str,
        retry_after: Option<u64>,
    },
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// The watch is opened, these lines are sent, and the stream ends.
    WatchLines(Vec<String>),
    /// The watch is opened, these bytes are sent without an end of chunk, and the connection is cut.
    WatchCut(String),
    /// The watch is opened and nothing is ever sent.
    WatchSilent,
    /// The connection is closed without a word.
    Hangup,
}

struct Script {
    when: Box<dyn Fn(&Request) -> bool + Send>,
    fault: Fault,
}

/// The state behind every connection.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Something changed: watches look again.
    changed: Condvar,
    stopped: AtomicBool,
}

pub(crate) struct State {
    store: Store,
    release: Release,
    bookmark_interval: Duration,
    requests: Vec<Request>,
    faults: VecDeque<Script>,
    /// Raised to end all watches that are open.
    watch_generation: u64,
    /// Lines that watches of a resource send as they are: (sequence, resource path, line).
    injected: Vec<(String, String)>,
    /// The plural of each watch that is open.
    watching: Vec<&'static str>,
    connections: Vec<TcpStream>,
    cached: bool,
    token: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A running server. Dropping it closes every connection.
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl ApiServer {
    /// On a free port of loopback, as a 1.36 server.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0", Release::V1_36).expect("loopback has a free port")
    }

    /// As a server of this release.
    pub fn start_as(release: Release) -> Self {
        Self::start_at("127.0.0.1:0", release).expect("loopback has a free port")
    }

    /// On this address.
    pub fn start_at(address: impl ToSocketAddrs, release: Release) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let state = State {
            store: Store::default(),
            release,
            bookmark_interval: Duration::from_secs(60),
            requests: Vec::new(),
            faults: VecDeque::new(),
            watch_generation: 0,
            injected: Vec::new(),
            watching: Vec::new(),
            connections: Vec::new(),
            cached: true,
            token: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new()
            .name("apiserver".into())
            .spawn(move || accept(&listener, &accepting))?;
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `--master`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates or replaces an object, as `kubectl apply` would.
    pub fn put(&self, object: Value) {
        self.shared
            .lock()
            .store
            .put(object)
            .expect("an object of a known kind");
        self.shared.changed.notify_all();
    }

    /// Deletes an object: `delete("services", "ns", "name")`.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let resource = Resource::by_plural(plural).expect("a known resource");
        let found = self.shared.lock().store.delete(resource, namespace, name);
        assert!(found.is_some(), "no {plural} {namespace}/{name}");
        self.shared.changed.notify_all();
    }

    /// Forgets the history, as etcd's compaction does: older watches and continue tokens expire.
    pub fn compact(&self) {
        self.shared.lock().store.compact();
    }

    /// How often watches send a bookmark.
    pub fn set_bookmark_interval(&self, interval: Duration) {
        self.shared.lock().bookmark_interval = interval;
        self.shared.changed.notify_all();
    }

    /// The next request whose path contains `path`, and that is (not) a watch, meets this instead.
    pub fn fault(&self, path: &str, watch: bool, fault: Fault) {
        let path = path.to_owned();
        self.fault_when(
            move |request| request.path.contains(&path) && request.is_watch() == watch,
            fault,
        );
    }

    /// The next request like this meets this instead of its answer.
    pub fn fault_when(&self, when: impl Fn(&Request) -> bool + Send + 'static, fault: Fault) {
        let when = Box::new(when);
        self.shared.lock().faults.push_back(Script { when, fault });
    }

    /// Without a watch cache lists of version 0 come in pages, too.
    pub fn set_cached(&self, cached: bool) {
        self.shared.lock().cached = cached;
    }

    /// Only requests with this bearer token are answered.
    pub fn set_token(&self, token: &str) {
        self.shared.lock().token = Some(token.to_owned());
    }

    /// Counts versions from here on, as after changes to other resources, or as a server restored from a backup.
    pub fn set_version(&self, version: u64) {
        self.shared.lock().store.set_version(version);
    }

    /// Every watch of this resource that is open sends this line as it is.
    pub fn inject(&self, plural: &str, line: &str) {
        self.shared
            .lock()
            .injected
            .push((plural.to_owned(), line.to_owned()));
        self.shared.changed.notify_all();
    }

    /// Ends every open watch cleanly.
    pub fn end_watches(&self) {
        self.shared.lock().watch_generation += 1;
        self.shared.changed.notify_all();
    }

    /// How many watches of a resource are open: what happens now reaches them.
    pub fn watches(&self, plural: &str) -> usize {
        let open = &self.shared.lock().watching;
        open.iter().filter(|open| **open == plural).count()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Requests so far whose path contains this.
    pub fn requests_of(&self, path: &str) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(|request| request.path.contains(path))
            .collect()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        for connection in self.shared.lock().connections.drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        // Wakes the accepting thread, which then sees that it is over and closes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Ok(connection) = connection else { continue };
        if let Ok(clone) = connection.try_clone() {
            let mut state = shared.lock();
            state.connections.retain(|known| known.peer_addr().is_ok());
            state.connections.push(clone);
        }
        let shared = Arc::clone(shared);
        // A client that goes away in the middle is no failure of the server.
        thread::spawn(move || drop(serve::connection(connection, &shared)));
    }
}
