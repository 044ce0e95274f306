//! Manifests: a file or a directory of YAML and JSON in place of an apiserver, or beside one.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{SendError, Sender};

use super::ledger::Key;
use super::reader::{Changes, Reader};
use super::watcher::{Watcher, Woke};
use crate::types::{
    Complaint, Complaints, EndpointSlice, Node, Service, ServiceCidr, Subject, Update,
};
use crate::wire::Object;

/// A change is believed once nothing has moved for this long: editors and `cp` take several steps.
const SETTLE: Duration = Duration::from_millis(50);
/// But no longer than this after the first step.
const SETTLE_AT_MOST: Duration = Duration::from_millis(500);
/// Rounds of reading before events are waited for, should the way to the path never hold still.
const MOST_ROUNDS: usize = 10;

/// Why there is nothing to read, where the files themselves say more.
const NOTHING_USABLE: &str = "no file in it can be used";

/// Where the objects go: this source's channel of each kind.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Sinks {
    pub services: Sender<Update<Service>>,
    pub endpoints: Sender<Update<EndpointSlice>>,
    pub nodes: Sender<Update<Node>>,
    pub service_cidrs: Sender<Update<ServiceCidr>>,
}

/// Reads a file or a directory of manifests, and again when it changes. Dropping it stops the thread and waits for it.
///
/// In a directory the files `*.yaml`, `*.yml` and `*.json` count, but not hidden ones or those of subdirectories. Where two
/// files define the same object, the first by name does. An object that can mean nothing keeps in force what it said before,
/// as does a file that cannot be read or decoded, or with something in it that cannot be named; a file that is deleted takes
/// its objects with it; when the whole path goes away, all stays until it comes back.
#[derive(Debug)]
pub struct FileSource {
    /// Closed to stop the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl FileSource {
    /// The name of the source in a [`Mux`](crate::config::Mux).
    pub fn name(path: &Path) -> String {
        format!("file:{}", path.display())
    }

    /// Starts the thread `manifests`. The path need not exist yet.
    ///
    /// # Errors
    /// When the kernel gives no thread, or no inotify instance (see the sysctl `fs.inotify.max_user_instances`).
    pub fn start(path: &Path, sinks: Sinks) -> io::Result<Self> {
        let reader = Reader::new(std::path::absolute(path)?);
        let (stop, stopped) = UnixStream::pair()?;
        let watching = Watching {
            reader,
            watcher: Watcher::new(stopped)?,
            unwatched: BTreeSet::new(),
            sinks,
            delivered: false,
            trouble: None,
            lack: None,
            complaints: Complaints::default(),
        };
        let thread = thread::Builder::new()
            .name("manifests".into())
            .spawn(|| watching.run())?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Says what is there now, once, for those who do not wait for what may come. The source ends with that.
    ///
    /// # Errors
    /// When nothing there can be used, the reason. What is wrong is said as complaints in any case.
    pub(crate) fn read_once(path: &Path, sinks: &Sinks) -> Result<(), String> {
        let read = || {
            let mut reader = Reader::new(std::path::absolute(path)?);
            Ok((reader.read()?, reader.complaints()))
        };
        let (changes, complaints) = read().unwrap_or_else(|error: io::Error| {
            let mut complaints = Complaints::default();
            let source = Subject::Other(path.display().to_string().into());
            complaints.add(Complaint::new(source, error));
            (Changes::default(), complaints)
        });
        let trouble = (!changes.usable).then(|| {
            let mut all = complaints.iter();
            match (all.next(), all.count()) {
                (None, _) => format!("{}: {NOTHING_USABLE}", path.display()),
                (Some(complaint), 0) => complaint.to_string(),
                (Some(first), more) => format!("{first} (and {more} more)"),
            }
        });
        let said = sinks.services.send(Update::Complaints(complaints));
        match trouble {
            Some(trouble) => Err(trouble),
            None => said
                .map_err(Closed::from)
                .and_then(|()| sinks.send_all(changes))
                .map_err(|Closed| "nobody wants it any more".to_owned()),
        }
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // Only a panic can make this fail, and it has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// The receivers are gone: shutdown.
struct Closed;

impl<T> From<SendError<T>> for Closed {
    fn from(_: SendError<T>) -> Self {
        Self
    }
}

struct Watching {
    reader: Reader,
    watcher: Watcher,
    /// Directories that cannot be watched, as logged.
    unwatched: BTreeSet<PathBuf>,
    sinks: Sinks,
    /// The first Set is out.
    delivered: bool,
    /// Why there is nothing to read, as logged.
    trouble: Option<String>,
    /// What is missing from what was read, as logged.
    lack: Option<&'static str>,
    /// What was last said to be wrong with the files.
    complaints: Complaints,
}

impl Watching {
    fn run(mut self) {
        loop {
            let Ok(again) = self.look() else { return };
            // From now on a fresh file may be one that is being written.
            self.reader.still = SETTLE;
            let woke = match self.watcher.wait(again) {
                Ok(Woke::Changed) => self.settle(),
                other => other,
            };
            match woke {
                Ok(Woke::Changed | Woke::TimedOut) => {}
                Ok(Woke::Stopped) => return,
                Err(error) => {
                    let root = self.reader.root().display();
                    log::error!("manifests: {root}: changes are not seen any more: {error}");
                    return;
                }
            }
        }
    }

    /// Sets the watches, then reads, until the watches are those of what was read: no change falls in between. Returns when to
    /// look again in any case.
    fn look(&mut self) -> Result<Option<Duration>, Closed> {
        let mut points = self.reader.points();
        for _ in 0..MOST_ROUNDS {
            for (path, error) in self.watcher.watch(&points) {
                if self.unwatched.insert(path.clone()) {
                    let path = path.display();
                    log::warn!("manifests: changes in {path} are not seen: {error}");
                }
            }
            let again = self.read()?;
            let now = self.reader.points();
            if now == points {
                return Ok(again);
            }
            points = now;
        }
        Ok(Some(SETTLE_AT_MOST))
    }

    /// Waits for the end of a row of changes.
    fn settle(&self) -> io::Result<Woke> {
        let deadline = Instant::now() + SETTLE_AT_MOST;
        while Instant::now() < deadline {
            match self.watcher.wait(Some(SETTLE))? {
                Woke::Changed => {}
                woke => return Ok(woke),
            }
        }
        Ok(Woke::Changed)
    }

    fn read(&mut self) -> Result<Option<Duration>, Closed> {
        let changes = match self.reader.read() {
            Ok(changes) => changes,
            Err(error) => {
                self.trouble(error.to_string())?;
                return Ok(None);
            }
        };
        let unfinished = changes.unfinished;
        let again = unfinished.then_some(SETTLE);
        self.complain()?;
        if self.delivered {
            self.sinks.send_changes(changes)?;
        } else if changes.usable && !changes.unfinished {
            self.sinks.send_all(changes)?;
            self.delivered = true;
        } else if !changes.unfinished {
            self.trouble(NOTHING_USABLE.into())?;
            return Ok(None);
        }
        if self.trouble.take().is_some() {
            log::info!("manifests: {}: can be read", self.reader.root().display());
        }
        if !unfinished {
            self.tell_lack();
        }
        Ok(again)
    }

    /// Says once what is missing from files that can be read.
    fn tell_lack(&mut self) {
        let lack = self.reader.lack();
        if let Some(lack) = lack.filter(|_| lack != self.lack) {
            log::warn!("manifests: {}: {lack}", self.reader.root().display());
        }
        self.lack = lack;
    }

    /// Whatever kind it is about goes to one of the four channels: of what is wrong with a file the kind may be unknown.
    fn complain(&mut self) -> Result<(), Closed> {
        let complaints = self.reader.complaints();
        if complaints != self.complaints {
            self.complaints.clone_from(&complaints);
            self.sinks.services.send(Update::Complaints(complaints))?;
        }
        Ok(())
    }

    /// Says once that there is nothing to read.
    fn trouble(&mut self, trouble: String) -> Result<(), Closed> {
        if self.trouble.as_ref() == Some(&trouble) {
            return Ok(());
        }
        let outcome = match self.delivered {
            true => "what it said before stays in force",
            false => "waiting for it",
        };
        log::warn!(
            "manifests: {}: {trouble}; {outcome}",
            self.reader.root().display()
        );
        self.trouble = Some(trouble);
        self.sinks.services.send(Update::Unavailable)?;
        self.sinks.endpoints.send(Update::Unavailable)?;
        self.sinks.nodes.send(Update::Unavailable)?;
        self.sinks.service_cidrs.send(Update::Unavailable)?;
        Ok(())
    }
}

impl Sinks {
    fn send_all(&self, changes: Changes) -> Result<(), Closed> {
        let (mut services, mut endpoints) = (Vec::new(), Vec::new());
        let (mut nodes, mut service_cidrs) = (Vec::new(), Vec::new());
        for object in changes.objects {
            match object {
                Object::Service(service) => services.push(service),
                Object::EndpointSlice(slice) => endpoints.push(slice),
                Object::Node(node) => nodes.push(node),
                Object::ServiceCidr(cidr) => service_cidrs.push(cidr),
            }
        }
        self.services.send(Update::Set(services))?;
        self.endpoints.send(Update::Set(endpoints))?;
        self.nodes.send(Update::Set(nodes))?;
        self.service_cidrs.send(Update::Set(service_cidrs))?;
        Ok(())
    }

    fn send_changes(&self, changes: Changes) -> Result<(), Closed> {
        for object in changes.objects {
            match object {
                Object::Service(service) => self.services.send(Update::Add(service))?,
                Object::EndpointSlice(slice) => self.endpoints.send(Update::Add(slice))?,
                Object::Node(node) => self.nodes.send(Update::Add(node))?,
                Object::ServiceCidr(cidr) => self.service_cidrs.send(Update::Add(cidr))?,
            }
        }
        for key in changes.removed {
            match key {
                Key::Service(name) => self.services.send(Update::Remove(name))?,
                Key::EndpointSlice(name) => self.endpoints.send(Update::Remove(name))?,
                Key::Node(name) => self.nodes.send(Update::Remove(name))?,
                Key::ServiceCidr(name) => self.service_cidrs.send(Update::Remove(name))?,
            }
        }
        Ok(())
    }
}
