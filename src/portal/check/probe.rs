//! Looking, and trying.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Resource, getrlimit};

use super::findings::{Findings, Trial};
use super::foreign::Foreign;
use crate::portal::error::Error;
use crate::portal::forward;
use crate::portal::handle::Portal;
use crate::portal::lock::Lock;
use crate::portal::marks::LINK;
use crate::portal::netlink::{Netlink, Request};
use crate::portal::netns::LO;
use crate::portal::socket::BindSpec;
use crate::types::{BindKey, Capture, IpFamily, PortalKind, Protocol, Scope};

/// In link-local space and beside our next hops, so that no host knows them.
const VIRTUAL: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 112, 8)),
    IpAddr::V6(Ipv6Addr::new(0xfd70, 0x6f72, 0x7469, 0x636f, 0, 0, 0, 8)),
];
const CLIENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 112, 9)),
    IpAddr::V6(Ipv6Addr::new(0xfd70, 0x6f72, 0x7469, 0x636f, 0, 0, 0, 9)),
];
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn findings(wanted: PortalKind) -> Findings {
    let mut host = Netlink::new().ok();
    let running = matches!(Lock::take(), Err(Error::Running));
    let leftovers = host.as_mut().is_some_and(left_something);
    let tried = |kind| match wanted == kind || wanted == PortalKind::Auto {
        true => try_apart(kind),
        false => Trial::NotTried("it was not asked for"),
    };
    let netns = tried(PortalKind::Netns);
    let host_trial = match netns.works() && wanted == PortalKind::Auto {
        true => Trial::NotTried("it is not needed"),
        false => tried(PortalKind::Host),
    };
    Findings {
        netns,
        host: host_trial,
        running,
        leftovers,
        low_ports: low_ports(),
        open_files: Some(open_files()),
        forwarding: [
            setting("net/ipv4/ip_forward").map(|value| value != 0),
            setting("net/ipv6/conf/all/forwarding").map(|value| value != 0),
        ],
        dropping_chains: forward::dropping_chains().ok(),
        rp_filter: setting("net/ipv4/conf/all/rp_filter"),
        foreign: Foreign::look(host.as_mut()),
    }
}

/// The soft limit and the hard one.
fn open_files() -> (u64, u64) {
    let limits = getrlimit(Resource::Nofile);
    let [soft, hard] = [limits.current, limits.maximum].map(|limit| limit.unwrap_or(u64::MAX));
    (soft, hard)
}

fn setting(name: &str) -> Option<u8> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    text.trim().parse().ok()
}

fn left_something(host: &mut Netlink) -> bool {
    let link = matches!(host.link(LINK), Ok(Some(_)));
    let mut routes = |family| !host.our_routes(family).unwrap_or_default().is_empty();
    link || IpFamily::ALL.into_iter().any(&mut routes)
}

fn low_ports() -> Option<String> {
    let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 1));
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    listening
        .err()
        .filter(denied)
        .map(|error| error.to_string())
}

/// Tries a portal in a namespace that stands for the host's, so that the host is not touched and a portico that runs here
/// is not in the way. Where namespaces cannot be made, the host portal is tried on the host.
fn try_apart(kind: PortalKind) -> Trial {
    let trial = thread::Builder::new()
        .name("portal-check".to_owned())
        .spawn(move || match set_apart() {
            Ok(()) => attempt(kind),
            Err(_) if kind == PortalKind::Host => match attempt(kind) {
                Trial::Failed(Error::Running) => Trial::NotTried(
                    "another portico runs and there is no second namespace to try it in",
                ),
                tried => tried,
            },
            Err(error) => Trial::Failed(error),
        });
    let failed = |error| {
        Trial::Failed(Error::Kernel {
            what: "start a thread".to_owned(),
            error,
        })
    };
    match trial.map(thread::JoinHandle::join) {
        Ok(Ok(trial)) => trial,
        Ok(Err(_)) => failed(io::ErrorKind::Other.into()),
        Err(error) => failed(error),
    }
}

/// Moves this thread into a namespace of its own with addresses to connect from.
fn set_apart() -> Result<(), Error> {
    let what = "make a network namespace";
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Error::of("CAP_SYS_ADMIN", what, errno.into()))?;
    let mut netlink = Netlink::new().map_err(|error| Error::net_admin("use netlink", error))?;
    let up = netlink.request(Request::link_up(LO));
    up.map_err(|error| Error::net_admin("bring lo up", error))?;
    for address in CLIENT {
        let added = netlink.request(Request::add_address(LO, address));
        match (address, added) {
            (_, Ok(())) | (IpAddr::V6(_), Err(_)) => {}
            (IpAddr::V4(_), Err(error)) => return Err(Error::net_admin("add an address", error)),
        }
    }
    Ok(())
}

fn attempt(kind: PortalKind) -> Trial {
    let portal = match Portal::open(kind) {
        Ok(portal) => portal,
        Err(error) => return Trial::Failed(error),
    };
    let [v4, v6] = VIRTUAL.map(|ip| carry(&portal, ip));
    match v4 {
        Err(error) => Trial::Silent(error),
        Ok(took) => Trial::Carried {
            microseconds: took.as_micros(),
            by_port: portal.routes_by_port(),
            v6: v6.is_ok(),
        },
    }
}

/// Has the portal serve an address, and connects to it.
fn carry(portal: &Portal, ip: IpAddr) -> Result<Duration, String> {
    // Whether low ports can be listened on is another question.
    let addr = SocketAddr::new(ip, 8080);
    let spec = BindSpec {
        key: BindKey {
            scope: Scope::Portal,
            addr,
            protocol: Protocol::Tcp,
        },
        allow: None,
    };
    let bound = portal.bind(&[spec]).pop().ok_or("no socket")?;
    let listener = bound.map_err(|error| error.to_string())?;
    let refused = portal.apply(&[Capture::Address(ip)], &[], Instant::now());
    if let Some((_, error)) = refused.first() {
        return Err(error.to_string());
    }
    let start = Instant::now();
    let connect = || -> io::Result<Duration> {
        let mut client = TcpStream::connect_timeout(&addr, PATIENCE)?;
        // The handshake is done, so the connection waits to be accepted.
        let (served, _) = listener.accept()?;
        TcpStream::from(served).write_all(b"!")?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.read_exact(&mut [0])?;
        Ok(start.elapsed())
    };
    connect().map_err(|error| error.to_string())
}
