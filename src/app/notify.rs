//! The service manager's readiness protocol (sd_notify(3)): one datagram to `$NOTIFY_SOCKET`.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::types::one_line;

/// One line of a terminal or two.
const LONGEST_STATUS: usize = 300;

/// Tells the service manager that every port is open or reported. Nothing to do without one.
pub(super) fn ready() {
    send("READY=1");
}

/// Tells it what `systemctl status` shows.
pub(super) fn status(text: &str) {
    send(&format!("STATUS={}", one_line(text, LONGEST_STATUS)));
}

/// Tells it that the stop has begun.
pub(super) fn stopping() {
    send("STOPPING=1\nSTATUS=draining");
}

fn send(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let deliver = || -> io::Result<()> {
        // A leading @ stands for the NUL of the abstract namespace.
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not stop us.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), &address)?;
        Ok(())
    };
    if let Err(error) = deliver() {
        log::warn!("cannot tell the service manager {message:?} on {path:?}: {error}");
    }
}
