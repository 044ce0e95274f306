//! One portico a host: two would delete each other's routes.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread;
use std::time::Duration;

use super::error::Error;
use super::marks::LOCK;

/// Held as long as the portal. An abstract name lives in the host's network namespace, as what it protects does, and ends
/// with the process however that ends.
pub(super) struct Lock {
    _socket: UnixListener,
}

impl Lock {
    pub(super) fn take() -> Result<Self, Error> {
        let bind =
            || SocketAddr::from_abstract_name(LOCK).and_then(|at| UnixListener::bind_addr(&at));
        let mut bound = bind();
        // A portico that is just ending, or a child that it is just starting, may hold it a moment longer.
        for _ in 0..20 {
            if !matches!(&bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
            bound = bind();
        }
        match bound {
            Ok(socket) => Ok(Self { _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Error::Running),
            Err(error) => Err(Error::Kernel {
                what: format!("take the abstract socket {LOCK}"),
                error,
            }),
        }
    }
}
