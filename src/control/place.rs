//! Where the socket is to be: its directory, held open, so that nobody can put another one in its place; and found without
//! following symlinks of other users, who could have the socket, or what is removed to make way for it, anywhere.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, open, openat, readlinkat};
use rustix::io::Errno;

use super::error::Error;

/// As the kernel's.
const MOST_SYMLINKS: usize = 40;

/// A file's name in a directory.
#[derive(Debug)]
pub(super) struct SocketPlace {
    directory: OwnedFd,
    name: OsString,
}

impl SocketPlace {
    /// Finds it; what is missing on the way is made.
    pub(super) fn find(path: &Path) -> Result<Self, Error> {
        let failed = |errno: Errno| Error::io("cannot open the directory of", path)(errno.into());
        let Some(name) = path.file_name() else {
            return Err(failed(Errno::ISDIR));
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let mut walk = Walk {
            at: open(".", DIRECTORY, Mode::empty()).map_err(failed)?,
            seen: PathBuf::new(),
            ahead: parent.components().map(owned).collect(),
            symlinks: 0,
        };
        while let Some(step) = walk.ahead.pop_front() {
            match walk.take(&step) {
                Ok(None) => {}
                Ok(Some(owner)) => return Err(Error::Symlink(walk.seen.join(step), owner)),
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(Self {
            directory: walk.at,
            name: name.to_owned(),
        })
    }

    /// A path that leads there, whatever has become of the one that it was found by.
    pub(super) fn path(&self) -> PathBuf {
        self.beside(OsStr::new(""))
    }

    /// The same, of a file beside it with so much more to its name.
    pub(super) fn beside(&self, suffix: &OsStr) -> PathBuf {
        let mut name = self.name.clone();
        name.push(suffix);
        let directory = self.directory.as_raw_fd();
        Path::new("/proc/self/fd")
            .join(directory.to_string())
            .join(name)
    }
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const UNFOLLOWED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// On the way.
struct Walk {
    at: OwnedFd,
    /// For messages.
    seen: PathBuf,
    ahead: VecDeque<OsString>,
    symlinks: usize,
}

impl Walk {
    /// One step; the owner if it is a symlink that must not be followed.
    fn take(&mut self, step: &OsStr) -> Result<Option<u32>, Errno> {
        if step == "/" {
            self.at = open("/", DIRECTORY, Mode::empty())?;
            self.seen = PathBuf::from("/");
            return Ok(None);
        }
        let mut next = openat(&self.at, step, UNFOLLOWED, Mode::empty());
        if matches!(next, Err(Errno::NOENT)) {
            mkdirat(&self.at, step, Mode::from_raw_mode(0o755))?;
            next = openat(&self.at, step, UNFOLLOWED, Mode::empty());
        }
        let next = next?;
        let stat = fstat(&next)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.at = next;
                self.seen.push(step);
                Ok(None)
            }
            FileType::Symlink if !is_trusted(stat.st_uid) => Ok(Some(stat.st_uid)),
            FileType::Symlink => {
                self.symlinks += 1;
                if self.symlinks > MOST_SYMLINKS {
                    return Err(Errno::LOOP);
                }
                let target = readlinkat(&next, "", Vec::new())?.into_bytes();
                let target = PathBuf::from(OsString::from_vec(target));
                for step in target.components().rev() {
                    self.ahead.push_front(owned(step));
                }
                Ok(None)
            }
            _ => Err(Errno::NOTDIR),
        }
    }
}

/// Who could do anything here by other means as well.
fn is_trusted(user: u32) -> bool {
    user == 0 || user == nix::unistd::geteuid().as_raw()
}

fn owned(component: Component<'_>) -> OsString {
    component.as_os_str().to_owned()
}
