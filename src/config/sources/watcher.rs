//! Sleeps until something on the way to a path changes: a rename, a swapped symbolic link, a directory that appears.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// The kernel's own limit for one path.
const MOST_LINKS: usize = 40;

/// Names come and go in this directory.
const NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE);
/// Besides, its files' content and permissions matter. Not MODIFY: a file is read once its writer has closed it.
const FILES: WatchFlags = NAMES
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB);
/// The directory itself may go away.
const ITSELF: WatchFlags = WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF);

/// Directories to watch, each with what matters there.
pub(super) type Points = BTreeMap<PathBuf, WatchFlags>;

/// Why [`Watcher::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woke {
    Changed,
    TimedOut,
    Stopped,
}

pub(super) struct Watcher {
    inotify: OwnedFd,
    /// Readable or hung up: stop.
    stop: UnixStream,
    watched: HashSet<i32>,
}

impl Watcher {
    pub(super) fn new(stop: UnixStream) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            inotify,
            stop,
            watched: HashSet::new(),
        })
    }

    /// Watches these and nothing else. Set anew each time: a directory of the same name may be another one by now.
    /// Returns what cannot be watched.
    pub(super) fn watch(&mut self, points: &Points) -> Vec<(PathBuf, io::Error)> {
        let mut watched = HashSet::with_capacity(points.len());
        let mut failed = Vec::new();
        for (path, flags) in points {
            match inotify::add_watch(&self.inotify, path, *flags | WatchFlags::ONLYDIR) {
                Ok(watch) => {
                    watched.insert(watch);
                }
                // It went away just now; the points will say so.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => failed.push((path.clone(), error.into())),
            }
        }
        for gone in self.watched.difference(&watched) {
            // The kernel has removed it already if the directory is gone.
            let _ = inotify::remove_watch(&self.inotify, *gone);
        }
        self.watched = watched;
        failed
    }

    /// Sleeps until something changes, the time is over or it is told to stop.
    pub(super) fn wait(&self, limit: Option<Duration>) -> io::Result<Woke> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        });
        loop {
            let mut fds = [
                PollFd::new(&self.inotify, PollFlags::IN),
                PollFd::new(&self.stop, PollFlags::IN),
            ];
            match poll(&mut fds, limit.as_ref()) {
                Ok(0) => return Ok(Woke::TimedOut),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [changed, stop] = fds.map(|fd| !fd.revents().is_empty());
            if stop {
                return Ok(Woke::Stopped);
            }
            if changed && self.drain()? {
                return Ok(Woke::Changed);
            }
        }
    }

    /// Reads all events; true if one of them is more than the echo of a watch removed.
    fn drain(&self) -> io::Result<bool> {
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut room);
        let mut changed = false;
        loop {
            match reader.next() {
                Ok(event) => changed |= event.events() != ReadFlags::IGNORED,
                Err(Errno::AGAIN) => return Ok(changed),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Adds every directory on the way to `path` (absolute): symbolic links are followed one by one, since each of them may be
/// swapped; where the way ends, the last directory is watched for the next name.
pub(super) fn way_to(path: &Path, points: &mut Points) {
    let mut ahead: Vec<OsString> = components(path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let kind = match next.symlink_metadata() {
            Ok(metadata) => metadata.file_type(),
            Err(_) => return add(points, at, NAMES),
        };
        if kind.is_symlink() {
            add(points, at.clone(), NAMES);
            let Ok(target) = next.read_link() else { return };
            links += 1;
            if links > MOST_LINKS {
                return;
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            ahead.extend(components(&target));
        } else if kind.is_dir() {
            let flags = if ahead.is_empty() {
                FILES | ITSELF
            } else {
                ITSELF
            };
            add(points, next.clone(), flags);
            at = next;
        } else {
            return add(points, at, FILES);
        }
    }
}

fn add(points: &mut Points, path: PathBuf, flags: WatchFlags) {
    *points.entry(path).or_insert(WatchFlags::empty()) |= flags;
}

/// The names of a path, the first one last.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().rev();
    names
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}
