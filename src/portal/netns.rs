//! A network namespace of our own, and the veth pair that leads there.
//!
//! ```text
//! host:    10.96.0.10 via 169.254.112.1 dev vethportico onlink    (and a neighbour entry for 169.254.112.1)
//! portal:  local 10.96.0.10 dev lo; default via 169.254.112.2 dev vethportico
//! ```
//!
//! No link has an address, nothing is ever asked by ARP or neighbour discovery: both ends know each other's Ethernet
//! address from the start. The namespace has no name and ends with the process, or with its last connection.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use ipnet::IpNet;
use nix::sched::{CloneFlags, setns, unshare};
use socket2::Socket;

use super::error::{BindError, Error};
use super::holdings::OwnNamespace;
use super::marks::LINK;
use super::netlink::{LinkSettings, Mac, Monitor, Netlink, Request, Route, TABLE_MAIN, Veth, Via};
use super::socket::{self, BindSpec, Freedom};
use crate::types::IpFamily;

/// The index of lo in every namespace.
pub(super) const LO: u32 = 1;

/// "prtco", one for each end. Fixed, so that no one renames or renumbers the link by rules for random addresses.
const HOST_MAC: Mac = [0x02, 0x70, 0x72, 0x74, 0x63, 0x01];
const INNER_MAC: Mac = [0x02, 0x70, 0x72, 0x74, 0x63, 0x02];

/// Far more than links need; then it is tried as it is.
const SETTLING: Duration = Duration::from_secs(2);

/// Next hops: they have a meaning on our link only, and no packet ever carries them.
pub(super) fn gateway(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::new(169, 254, 112, 1).into(),
        IpFamily::V6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x7072, 1).into(),
    }
}

fn way_back(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::new(169, 254, 112, 2).into(),
        IpFamily::V6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x7072, 2).into(),
    }
}

/// "fd" + "portico": what the namespace itself has to say over IPv6 comes from here, that is, "port unreachable". (IPv4 says
/// that in the name of the virtual IP.) Addresses cost the kernel far more than routes, so virtual IPs are not addresses.
pub(super) const VOICE: Ipv6Addr = Ipv6Addr::new(0xfd70, 0x6f72, 0x7469, 0x636f, 0, 0, 0, 1);

/// `0.0.0.0/0` or `::/0`
pub(super) fn everything(family: IpFamily) -> IpNet {
    IpNet::new(family.unspecified(), 0).unwrap_or_default()
}

/// Sockets to make inside, and where to send them.
pub(super) type Order = (Vec<BindSpec>, Sender<Vec<Result<Socket, BindError>>>);

/// The namespace.
pub(super) struct Inside {
    /// Changes things inside.
    pub(crate) netlink: Netlink,
    /// Hears of what others change inside; None once it was taken.
    pub(crate) monitor: Option<Monitor>,
    /// The host's end of the veth pair.
    pub(crate) link: u32,
    /// The other end.
    inner: u32,
    /// Whether IPv6 can be carried.
    pub(crate) v6: bool,
    namespace: File,
    /// Where the kernel tells about its sockets; empty if it does not.
    proc_net: PathBuf,
    orders: Sender<Order>,
    /// Ends when `orders` is gone.
    _thread: JoinHandle<()>,
}

impl Inside {
    /// Makes the namespace and connects it to the host's, whose netlink socket is given.
    pub(super) fn make(host: &mut Netlink) -> Result<Self, Error> {
        let mut inside = Self::start(None)?;
        inside.connect(host)?;
        Ok(inside)
    }

    /// Goes on with one that is connected already, or was.
    pub(super) fn enter(host: &mut Netlink, space: OwnNamespace) -> Result<Self, Error> {
        let mut inside = Self::start(Some(space.file))?;
        let link = host.link(LINK);
        match link.map_err(|error| Error::net_admin("find the veth pair", error))? {
            Some(link) => {
                (inside.link, inside.v6) = (link.index, space.v6);
                let inner = inside.netlink.link(LINK).ok().flatten();
                inside.inner = inner.map_or(0, |link| link.index);
            }
            None => inside.connect(host)?,
        }
        Ok(inside)
    }

    /// The namespace alone, for others to go on with.
    pub(super) fn into_space(self) -> OwnNamespace {
        OwnNamespace {
            file: self.namespace,
            v6: self.v6,
        }
    }

    /// Starts the thread inside; in a namespace of its own if none is given.
    fn start(namespace: Option<File>) -> Result<Self, Error> {
        let (orders, received) = unbounded();
        let (ready, started) = bounded(1);
        let thread = thread::Builder::new()
            .name("portal-ns".to_owned())
            .spawn(move || live(namespace, &ready, &received))
            .map_err(|error| Error::Kernel {
                what: "start a thread".to_owned(),
                error,
            })?;
        let moved = started.recv().unwrap_or_else(|_| {
            Err(Error::Kernel {
                what: "make a network namespace".to_owned(),
                error: io::ErrorKind::BrokenPipe.into(),
            })
        })?;
        Ok(Self {
            netlink: moved.netlink,
            monitor: Some(moved.monitor),
            link: 0,
            inner: 0,
            v6: false,
            namespace: moved.namespace,
            proc_net: moved.proc_net,
            orders,
            _thread: thread,
        })
    }

    /// Where the kernel tells about the sockets inside.
    pub(super) fn proc_net(&self) -> &Path {
        &self.proc_net
    }

    /// Where to order sockets.
    pub(super) fn orders(&self) -> Sender<Order> {
        self.orders.clone()
    }

    /// Makes the veth pair and everything that does not depend on captures. Also used when someone deleted it.
    pub(super) fn connect(&mut self, host: &mut Netlink) -> Result<(), Error> {
        let what = "connect a veth pair";
        let veth = Veth {
            near: (LINK, HOST_MAC),
            far: (LINK, INNER_MAC),
            namespace: self.namespace.as_fd(),
            mtu: mtu(host),
        };
        host.request(Request::add_veth(&veth))
            .map_err(|error| Error::net_admin("make a veth pair", error))?;
        let index = |netlink: &mut Netlink| match netlink.link(LINK) {
            Ok(Some(link)) => Ok(link.index),
            Ok(None) => Err(Error::net_admin(what, io::ErrorKind::NotFound.into())),
            Err(error) => Err(Error::net_admin(what, error)),
        };
        let inner = index(&mut self.netlink)?;
        (self.link, self.inner) = (index(host)?, inner);
        // Inside first: the host's end then has a carrier as soon as it is up.
        let settings = LinkSettings {
            forwarding: Some(false),
            rp_filter: Some(0),
        };
        end(&mut self.netlink, inner, settings)?;
        // Only we are at the other end. "Port unreachable" comes from a virtual IP, and where a rule for a port captures
        // that, the way back to it is not over our link; without an address on the link loose is as strict as strict.
        let settings = LinkSettings {
            forwarding: None,
            rp_filter: Some(0),
        };
        end(host, self.link, settings)?;
        self.greet(host, IpFamily::V4)
            .map_err(|error| Error::net_admin(what, error))?;
        let voice = self.netlink.request(Request::add_address(LO, VOICE.into()));
        self.v6 = voice.is_ok() && self.greet(host, IpFamily::V6).is_ok();
        self.settle(host);
        Ok(())
    }

    /// Waits until both ends send. The kernel brings the end that was up first to life in its own time, usually within
    /// a millisecond, and drops what is sent over it before.
    pub(super) fn settle(&mut self, host: &mut Netlink) {
        let deadline = Instant::now() + SETTLING;
        let operational = |netlink: &mut Netlink| {
            let link = netlink.link(LINK);
            // If it cannot be seen it need not be waited for.
            link.map_or(true, |link| link.is_none_or(|link| link.operational))
        };
        while !(operational(&mut self.netlink) && operational(host)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Tells both ends where the other is, and the inner one that it is the way back.
    fn greet(&mut self, host: &mut Netlink, family: IpFamily) -> io::Result<()> {
        self.meet(host, family)?;
        let requests = [
            Request::set_neighbour(self.inner, way_back(family), HOST_MAC),
            Request::add_route(&self.way_out(family)),
        ];
        self.netlink.batch(requests).into_iter().collect()
    }

    fn way_out(&self, family: IpFamily) -> Route {
        Route {
            net: everything(family),
            table: TABLE_MAIN,
            via: Via::Gateway(way_back(family), self.inner),
            source: None,
        }
    }

    fn families(&self) -> impl Iterator<Item = IpFamily> + use<> {
        let v6 = self.v6;
        let families = IpFamily::ALL.into_iter();
        families.filter(move |family| v6 || *family == IpFamily::V4)
    }

    /// The ways out of the namespace that there should be.
    pub(super) fn ways_out(&self) -> Vec<Route> {
        self.families().map(|family| self.way_out(family)).collect()
    }

    /// Brings up again what somebody brought down inside; true if there was something. Routes are another matter.
    pub(super) fn mend(&mut self, host: &mut Netlink) -> io::Result<bool> {
        let is_down = |netlink: &mut Netlink, name| -> io::Result<bool> {
            Ok(netlink.link(name)?.is_some_and(|link| !link.up))
        };
        let lo = is_down(&mut self.netlink, "lo")?;
        if lo {
            self.netlink.request(Request::link_up(LO))?;
        }
        if lo && self.v6 {
            self.netlink
                .request(Request::add_address(LO, VOICE.into()))?;
        }
        let link = is_down(&mut self.netlink, LINK)?;
        if link {
            self.netlink.request(Request::link_up(self.inner))?;
            // Going down made it forget its neighbour.
            for family in self.families() {
                let neighbour = Request::set_neighbour(self.inner, way_back(family), HOST_MAC);
                self.netlink.request(neighbour)?;
            }
            self.settle(host);
        }
        Ok(lo || link)
    }

    /// Tells the host's end where the inner one is; it forgets when it goes down.
    pub(super) fn meet(&self, host: &mut Netlink, family: IpFamily) -> io::Result<()> {
        host.request(Request::set_neighbour(
            self.link,
            gateway(family),
            INNER_MAC,
        ))
    }
}

/// Brings one end of the pair up, without addresses.
fn end(netlink: &mut Netlink, index: u32, settings: LinkSettings) -> Result<(), Error> {
    // The first two fail where a kernel lacks them, and then the defaults must do; `portico check` looks at those.
    let requests = [
        Request::link_settings(index, settings),
        Request::link_without_addresses(index),
        Request::link_up(index),
    ];
    let up = netlink.batch(requests).pop().unwrap_or(Ok(()));
    up.map_err(|error| Error::net_admin("bring the veth pair up", error))
}

/// That of the link which most traffic takes, or Ethernet's.
fn mtu(host: &mut Netlink) -> u32 {
    let source = IpFamily::ALL
        .into_iter()
        .find_map(super::source::by_default);
    let link = source.and_then(|source| {
        let addresses = host.addresses().ok()?;
        addresses.iter().find(|a| a.ip == source).map(|a| a.link)
    });
    let links = host.links().unwrap_or_default();
    let mtu = link.and_then(|index| links.iter().find(|l| l.index == index));
    // IPv6 asks for 1280 at least.
    mtu.map_or(1500, |link| link.mtu.clamp(1280, 65535))
}

/// What the thread inside has for the portal.
struct MovedIn {
    netlink: Netlink,
    monitor: Monitor,
    namespace: File,
    proc_net: PathBuf,
}

/// The thread that stays in the namespace and makes sockets there.
fn live(namespace: Option<File>, ready: &Sender<Result<MovedIn, Error>>, orders: &Receiver<Order>) {
    let moved = match namespace {
        None => settle_down(),
        Some(namespace) => move_in(namespace),
    };
    let usable = moved.is_ok();
    if ready.send(moved).is_err() || !usable {
        return;
    }
    for (specs, answer) in orders {
        let made = specs.iter().map(|spec| socket::open(spec, Freedom::Free));
        // Whoever asked has gone away, and with the sockets dropped so has what it asked for.
        let _ = answer.send(made.collect());
    }
}

/// Enters a namespace that is set up already.
fn move_in(namespace: File) -> Result<MovedIn, Error> {
    let failed = |error| Error::of("CAP_SYS_ADMIN", "enter the portal's namespace", error);
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
    let netlink = Netlink::new().map_err(failed)?;
    moved(netlink, namespace)
}

fn moved(netlink: Netlink, namespace: File) -> Result<MovedIn, Error> {
    let monitor = Monitor::new(netlink.port());
    Ok(MovedIn {
        monitor: monitor.map_err(|error| Error::net_admin("watch the portal's links", error))?,
        netlink,
        namespace,
        proc_net: proc_net(),
    })
}

/// Makes a namespace and sets it up.
fn settle_down() -> Result<MovedIn, Error> {
    let making = "make a network namespace";
    let failed = |error: io::Error| Error::of("CAP_SYS_ADMIN", making, error);
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        nix::Error::EINVAL | nix::Error::ENOSYS => Error::Unsupported {
            lacks: making,
            error: errno.into(),
        },
        _ => failed(errno.into()),
    })?;
    let namespace = File::open("/proc/thread-self/ns/net").map_err(failed)?;
    // Where /proc/sys can be written; the netlink settings and the blackhole routes do without. A new namespace inherits
    // the host's ip_forward, and a packet to an unallocated address would come and go until its TTL ends.
    for (setting, value) in [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv6/conf/all/forwarding", "0"),
        ("net/ipv4/ip_unprivileged_port_start", "0"),
        ("net/core/somaxconn", "65535"),
    ] {
        let _ = fs::write(format!("/proc/sys/{setting}"), value);
    }
    // Better said now than once for each Service.
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 1))
        .map_err(|error| Error::of("CAP_NET_BIND_SERVICE", "listen on ports below 1024", error))?;
    let mut netlink = Netlink::new().map_err(failed)?;
    netlink
        .request(Request::link_up(LO))
        .map_err(|error| Error::net_admin("bring lo up", error))?;
    moved(netlink, namespace)
}

/// `/proc/PID/task/TID/net`: this thread's, for others to read; empty if it cannot be had.
fn proc_net() -> PathBuf {
    let thread = fs::read_link("/proc/thread-self");
    thread.map_or_else(
        |_| PathBuf::new(),
        |thread| Path::new("/proc").join(thread).join("net"),
    )
}
