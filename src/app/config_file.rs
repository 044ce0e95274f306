//! Watches `--config`: when its content changes the process ends, and its supervisor starts it with the new one.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// What kube-proxy takes for a change: the file was written, or renamed away.
const CHANGE: WatchFlags = WatchFlags::CLOSE_WRITE.union(WatchFlags::MOVE_SELF);

/// A file that is being watched.
#[derive(Debug)]
pub(super) struct Watch(OwnedFd);

impl Watch {
    /// Begins to watch. It takes the right to read the file.
    ///
    /// # Errors
    /// When the file cannot be watched.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC)?;
        inotify::add_watch(&inotify, path, CHANGE)?;
        Ok(Self(inotify))
    }

    /// Starts the thread `config-watch`, which calls `changed` once. It sleeps in the kernel until then, and goes with the
    /// process.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(super) fn spawn(self, changed: impl FnOnce() + Send + 'static) -> io::Result<()> {
        thread::Builder::new()
            .name("config-watch".into())
            .spawn(move || {
                let mut buffer = [MaybeUninit::uninit(); 1024];
                let mut events = inotify::Reader::new(&self.0, &mut buffer);
                while let Ok(event) = events.next() {
                    // The kernel also tells when the watch itself ends (IGNORED), which is no change.
                    if event
                        .events()
                        .intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVE_SELF)
                    {
                        return changed();
                    }
                }
            })?;
        Ok(())
    }
}
