//! The data path over real sockets, on loopback: no privilege needed.

mod limits;
mod tcp;
mod udp;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use portico::proxier::{ListenerChange, ListenerId, Proxier, ProxierConfig};
use portico::routing::{
    Balancer, EndpointList, Frontend, FrontendKind, Route, SourcePolicy, Target,
};
use portico::types::counters::ServiceCounters;
use portico::types::{IpFamily, NamespacedName, Protocol, ServicePortName};
use socket2::{Domain, Socket, Type};

pub const LONG: Duration = Duration::from_secs(20);

/// A Proxier with Services in front of backends.
pub struct Rig {
    pub proxier: Proxier,
}

/// One Service, as its clients see it.
pub struct Served {
    pub id: ListenerId,
    pub addr: SocketAddr,
    pub counters: Arc<ServiceCounters>,
    balancer: Arc<Balancer>,
    affinity: Option<Duration>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(ProxierConfig::default())
    }

    pub fn with(config: ProxierConfig) -> Self {
        let config = ProxierConfig {
            workers: 2,
            ..config
        };
        let proxier = Proxier::start(config).unwrap();
        Self { proxier }
    }

    pub fn tcp(&self, endpoints: &[SocketAddr]) -> Served {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.serve(Protocol::Tcp, any, endpoints, None)
    }

    pub fn udp(&self, endpoints: &[SocketAddr]) -> Served {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.serve(Protocol::Udp, any, endpoints, None)
    }

    pub fn serve(
        &self,
        protocol: Protocol,
        bind: SocketAddr,
        endpoints: &[SocketAddr],
        affinity: Option<Duration>,
    ) -> Served {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let socket = listener(protocol, bind);
        let served = Served {
            id: ListenerId(NEXT.fetch_add(1, Ordering::Relaxed)),
            addr: socket.local_addr().unwrap().as_socket().unwrap(),
            counters: Arc::default(),
            balancer: Arc::default(),
            affinity,
        };
        self.proxier.apply(vec![ListenerChange::Open {
            id: served.id,
            protocol,
            addr: served.addr,
            socket: Arc::new(socket),
            frontend: served.frontend(endpoints),
        }]);
        served
    }

    pub fn replace(&self, served: &Served, endpoints: &[SocketAddr]) {
        let frontend = served.frontend(endpoints);
        let id = served.id;
        self.proxier
            .apply(vec![ListenerChange::Replace { id, frontend }]);
    }

    pub fn close(&self, served: &Served) {
        self.proxier
            .apply(vec![ListenerChange::Close { id: served.id }]);
    }
}

impl Served {
    pub fn frontend(&self, endpoints: &[SocketAddr]) -> Arc<Frontend> {
        let name = ServicePortName {
            service: NamespacedName::new("test", "web"),
            port: "http".into(),
            protocol: Protocol::Tcp,
        };
        let route = Route {
            name,
            family: IpFamily::V4,
            cluster: endpoints.into(),
            local: EndpointList::default(),
            affinity: self.affinity,
            balancer: Arc::clone(&self.balancer),
            counters: Arc::clone(&self.counters),
        };
        Arc::new(Frontend {
            kind: FrontendKind::ClusterIp,
            route: Arc::new(route),
            policy: SourcePolicy {
                allow: None,
                short_cut: Arc::new([]),
                target: Target::Cluster,
            },
        })
    }
}

/// As the portal makes them.
fn listener(protocol: Protocol, bind: SocketAddr) -> Socket {
    let domain = Domain::for_address(bind);
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
        Protocol::Sctp => panic!("SCTP is not served"),
    };
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), None).unwrap();
    if bind.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    match bind {
        _ if protocol != Protocol::Udp || !bind.ip().is_unspecified() => {}
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).unwrap(),
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).unwrap(),
    }
    socket.bind(&bind.into()).unwrap();
    if protocol == Protocol::Tcp {
        socket.set_tcp_nodelay(true).unwrap();
        socket.listen(1024).unwrap();
    }
    socket
}

pub fn loopback(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}
