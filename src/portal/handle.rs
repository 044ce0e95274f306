//! The portal as its owner has it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use ipnet::IpNet;
use socket2::Socket;

use super::clean::{Report, clean};
use super::error::{BindError, Error};
use super::event::PortalEvent;
use super::fabric::Fabric;
use super::forward;
use super::holdings::Holdings;
use super::ledger::Ledger;
use super::lock::Lock;
use super::netlink::{Monitor, Netlink};
use super::netns::{Inside, Order};
use super::socket::{self, BindSpec, Freedom};
use super::state::{Routed, State};
use super::surroundings::Protected;
use super::unsent;
use super::watch::{Monitors, Watch};
use crate::types::{Capture, PortalKind, Protocol, Scope};

/// See the module's page. Dropping it removes what it added to the host, unless that was handed on.
pub struct Portal {
    kind: PortalKind,
    fell_back: Vec<(PortalKind, Error)>,
    state: Arc<Mutex<State>>,
    /// Makes sockets in the namespace of our own.
    orders: Option<Sender<Order>>,
    events: Receiver<PortalEvent>,
    /// None once the portal is given up. Goes before `lock`: nothing may be restored when the next portico may be starting.
    watch: Option<Watch>,
    lock: Option<Lock>,
}

impl Portal {
    /// Opens a portal in the network namespace of the calling thread, which [`Self::bind`] must be called in too.
    ///
    /// With [`PortalKind::Auto`] the first kind that works is taken and the reasons against the others are logged; another
    /// portico on this host is an error even so.
    pub fn open(kind: PortalKind) -> Result<Self, Error> {
        let kinds = match kind {
            PortalKind::Auto => &[PortalKind::Netns, PortalKind::Host][..],
            PortalKind::Netns | PortalKind::Host | PortalKind::None => &[],
        };
        let mut fell_back = Vec::new();
        for kind in kinds {
            match Self::open_kind(*kind, Vec::new()) {
                Err(Error::Running) => return Err(Error::Running),
                Err(error) => {
                    log::warn!("portal: {kind} does not work: {error}");
                    fell_back.push((*kind, error));
                }
                Ok(mut portal) => {
                    portal.fell_back = fell_back;
                    return Ok(portal);
                }
            }
        }
        let kind = match kind {
            PortalKind::Auto => PortalKind::None,
            other => other,
        };
        Self::open_kind(kind, fell_back)
    }

    fn open_kind(kind: PortalKind, fell_back: Vec<(PortalKind, Error)>) -> Result<Self, Error> {
        let (mut host, monitor) = open_sockets()?;
        let (mut lock, mut inside) = (None, None);
        if kind != PortalKind::None {
            lock = Some(Lock::take()?);
            clean(&mut host)?;
        }
        if kind == PortalKind::Netns {
            inside = Some(Inside::make(&mut host)?);
        }
        let holdings = Holdings {
            kind,
            lock,
            namespace: None,
            by_port: None,
            captures: Vec::new(),
        };
        let mut portal = Self::serve(holdings, (host, monitor), inside)?;
        portal.fell_back = fell_back;
        Ok(portal)
    }

    /// Goes on with what another portal, of this process or another, held. Restores what is missing of it.
    pub fn adopt(mut holdings: Holdings) -> Result<Self, Error> {
        let (mut host, monitor) = open_sockets()?;
        let inside = match holdings.namespace.take() {
            Some(space) => Some(Inside::enter(&mut host, space)?),
            None => None,
        };
        let portal = Self::serve(holdings, (host, monitor), inside)?;
        portal.state().restore()?;
        Ok(portal)
    }

    fn serve(
        holdings: Holdings,
        (mut host, monitor): (Netlink, Monitor),
        mut inside: Option<Inside>,
    ) -> Result<Self, Error> {
        let kind = holdings.kind;
        let orders = inside.as_ref().map(Inside::orders);
        let monitors = Monitors {
            host: monitor,
            inside: inside.as_mut().and_then(|inside| inside.monitor.take()),
        };
        let mut routed = None;
        if kind != PortalKind::None {
            let fabric = Fabric::open(&mut host, inside, holdings.by_port)?;
            let ledger = Ledger::resume(fabric.layout(), &holdings.captures, Instant::now());
            routed = Some(Routed { ledger, fabric });
        }
        let state = Arc::new(Mutex::new(State {
            host,
            routed,
            protected: Protected::default(),
        }));
        let (sender, events) = unbounded();
        let watch = Watch::start(monitors, Arc::clone(&state), sender)?;
        Ok(Self {
            kind,
            fell_back: Vec::new(),
            state,
            orders,
            events,
            watch: Some(watch),
            lock: holdings.lock,
        })
    }

    /// Gives up the portal, but nothing that it holds: that is for [`Self::adopt`].
    pub fn hand_on(mut self) -> Holdings {
        // Nothing is restored, and by the drop nothing is removed, from here on.
        self.watch = None;
        let routed = self.state().routed.take();
        let by_port = routed.as_ref().and_then(|routed| routed.fabric.policy);
        let captures = routed
            .as_ref()
            .map(|routed| routed.ledger.held(Instant::now()));
        let inside = routed.and_then(|routed| routed.fabric.inside);
        Holdings {
            kind: self.kind,
            lock: self.lock.take(),
            namespace: inside.map(Inside::into_space),
            by_port,
            captures: captures.unwrap_or_default(),
        }
    }

    /// Which kind it is; never `Auto`.
    pub fn kind(&self) -> PortalKind {
        self.kind
    }

    /// The kinds that were tried before this one, and why they do not work.
    pub fn fell_back(&self) -> &[(PortalKind, Error)] {
        &self.fell_back
    }

    /// Whether single ports of external and load-balancer IPs can be captured. Without that their whole addresses are,
    /// unless they are [`Protected`].
    pub fn routes_by_port(&self) -> bool {
        self.state().routes_by_port()
    }

    /// Says which addresses must never be captured whole. Counts from the next [`Self::apply`] on.
    pub(crate) fn protect(&self, protected: Protected) {
        self.state().protected = protected;
    }

    /// Captures some addresses and gives others up, which stay routed to the portal for a minute (see
    /// [`Self::next_deadline`]). Returns what cannot be captured; asking again later is up to the caller.
    ///
    /// Best called after [`Self::bind`] has made the listeners for what is added: then nobody is refused.
    pub fn apply(
        &self,
        add: &[Capture],
        remove: &[Capture],
        now: Instant,
    ) -> Vec<(Capture, Error)> {
        self.state().apply(add, remove, now)
    }

    /// Lets go of what has been given up for long enough.
    pub fn tick(&self, now: Instant) {
        self.state().tick(now);
    }

    /// Whether a connection to this address and port meets only what is kept for a minute after it was given up.
    pub(crate) fn lingers(&self, addr: SocketAddr, protocol: Protocol) -> bool {
        let captures = [Capture::Address(addr.ip()), Capture::Port(addr, protocol)];
        let state = self.state();
        let ledger = state.routed.as_ref().map(|routed| &routed.ledger);
        ledger.is_some_and(|ledger| captures.iter().any(|capture| ledger.lingers(capture)))
    }

    /// Whether what reaches the portal for this address is taken there, if only to be refused.
    pub(crate) fn delivers(&self, ip: IpAddr) -> bool {
        let state = self.state();
        let ledger = state.routed.as_ref().map(|routed| &routed.ledger);
        ledger.is_some_and(|ledger| ledger.delivers(ip))
    }

    /// When [`Self::tick`] next has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let routed = |state: &State| state.routed.as_ref()?.ledger.next_deadline();
        routed(&self.state())
    }

    /// Makes sockets, in the order asked for. An error concerns that socket alone and may be gone at the next try.
    ///
    /// TCP sockets listen already; accepted connections inherit TCP_NODELAY and keepalive. UDP sockets on the wildcard
    /// address deliver IP_PKTINFO or IPV6_PKTINFO. All are nonblocking and IPv6 ones take no IPv4.
    pub fn bind(&self, specs: &[BindSpec]) -> Vec<Result<Arc<Socket>, BindError>> {
        let inside = |spec: &BindSpec| spec.key.scope == Scope::Portal && self.orders.is_some();
        let mut made_inside =
            self.bind_inside(specs.iter().filter(|s| inside(s)).cloned().collect());
        let sockets = specs.iter().map(|spec| {
            let made = if inside(spec) {
                let gone = "the portal's namespace is gone";
                let missing = || Err(io::Error::other(gone).into());
                made_inside.next().unwrap_or_else(missing)
            } else {
                socket::open(spec, self.freedom(spec.key.scope))
            };
            made.map(Arc::new)
        });
        sockets.collect()
    }

    fn bind_inside(&self, specs: Vec<BindSpec>) -> std::vec::IntoIter<Result<Socket, BindError>> {
        let order = || {
            let (answer, sockets) = bounded(1);
            let orders = self.orders.as_ref().filter(|_| !specs.is_empty())?;
            orders.send((specs, answer)).ok()?;
            sockets.recv().ok()
        };
        order().unwrap_or_default().into_iter()
    }

    fn freedom(&self, scope: Scope) -> Freedom {
        match (self.kind, scope) {
            (PortalKind::Host, Scope::Portal) => Freedom::Transparent,
            _ => Freedom::Strict,
        }
    }

    /// Changes which sources a socket hears, from the next connection or datagram on.
    pub fn refilter(&self, socket: &Socket, allow: Option<&[IpNet]>) -> Result<(), BindError> {
        socket::refilter(socket, allow).map_err(BindError::from)
    }

    /// All addresses that this host has now, loopback included.
    pub fn host_addresses(&self) -> Result<Vec<IpAddr>, Error> {
        let addresses = self.state().host.addresses();
        let addresses = addresses.map_err(|error| Error::Kernel {
            what: "list this host's addresses".to_owned(),
            error,
        })?;
        Ok(addresses.into_iter().map(|address| address.ip).collect())
    }

    /// What the portal has noticed. Never closed while the portal lives.
    pub fn events(&self) -> &Receiver<PortalEvent> {
        &self.events
    }

    /// What on this host keeps traffic from the portal, as far as that can be seen.
    pub(crate) fn obstacles(&self) -> Vec<String> {
        if self.kind != PortalKind::Netns {
            return Vec::new();
        }
        let chains = forward::dropping_chains().unwrap_or_default();
        chains.iter().map(|chain| forward::advice(chain)).collect()
    }

    /// How many connections have ended, but for their last bytes or their FIN, which the client has not acknowledged:
    /// [`Self::close`] would cut these off. None if that cannot be seen.
    pub(crate) fn unacknowledged(&self) -> Option<usize> {
        let state = self.state();
        let Some(routed) = &state.routed else {
            return Some(0);
        };
        let count = match &routed.fabric.inside {
            Some(inside) => unsent::count(inside.proc_net(), |_| true),
            None => unsent::count(Path::new("/proc/thread-self/net"), |ip| {
                routed.ledger.delivers(ip)
            }),
        };
        count.ok()
    }

    /// Removes what was added to the host. Connections through the portal end here.
    pub(crate) fn close(mut self) -> Result<Report, Error> {
        self.shut()
    }

    fn shut(&mut self) -> Result<Report, Error> {
        // The thread ends, so that it does not put back what is removed now.
        if self.watch.take().is_none() || self.kind == PortalKind::None {
            return Ok(Report::default());
        }
        clean(&mut self.state().host)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        if let Err(error) = self.shut() {
            log::warn!("portal: {error}");
        }
    }
}

/// Removes what an earlier run left on this host. An error if a portico is running.
pub fn cleanup() -> Result<Report, Error> {
    let _lock = Lock::take()?;
    clean(&mut open_sockets()?.0)
}

/// One to change things with, and one to hear of what others change from now on.
fn open_sockets() -> Result<(Netlink, Monitor), Error> {
    let failed = |error| Error::net_admin("open a netlink socket", error);
    let host = Netlink::new().map_err(failed)?;
    let monitor = Monitor::new(host.port()).map_err(failed)?;
    Ok((host, monitor))
}
