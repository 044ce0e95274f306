use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why the socket cannot be served, or cannot be asked.
#[derive(Debug)]
pub enum Error {
    /// Another process answers there.
    InUse(PathBuf),
    /// Something that is no socket is in the way.
    Occupied(PathBuf),
    /// A symlink on the way there is another user's, whose number follows.
    Symlink(PathBuf, u32),
    /// Nobody answers there.
    NotRunning(PathBuf),
    /// What came back is no answer.
    BadAnswer(String),
    /// The kernel would not.
    Io {
        /// What was being done.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Io {
            doing,
            path: path.clone(),
            error,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => {
                let path = path.display();
                write!(
                    f,
                    "another process answers on {path}; give this one another --control-socket"
                )
            }
            Self::Occupied(path) => {
                let path = path.display();
                write!(
                    f,
                    "{path} is no socket; remove it or choose another --control-socket"
                )
            }
            Self::Symlink(path, owner) => {
                let path = path.display();
                write!(
                    f,
                    "{path} is a symlink of user {owner}, and is not followed; remove it or choose another --control-socket"
                )
            }
            Self::NotRunning(path) => {
                let path = path.display();
                write!(
                    f,
                    "nobody answers on {path}: portico is not running, or has another --control-socket"
                )
            }
            Self::BadAnswer(what) => write!(f, "the running portico gave no answer: {what}"),
            Self::Io { doing, path, error } => {
                write!(f, "{doing} {}: {error}", path.display())?;
                if error.kind() == io::ErrorKind::PermissionDenied {
                    f.write_str("; it takes the user that portico runs as")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Error {}
