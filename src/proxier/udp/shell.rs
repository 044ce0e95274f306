//! The UDP sockets of one worker.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use mio::Interest;
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use nix::errno::Errno;
use socket2::Socket;

use super::batch::{BATCH, HeaderShape, Inbox, Outbox, Received};
use super::flows::{FlowKey, FlowLimits, Flows};
use crate::proxier::change::ListenerId;
use crate::proxier::files::{FileLease, Files};
use crate::proxier::outbound::{self, OutboundPolicy};
use crate::proxier::own::LoopRisk;
use crate::proxier::shortage::is_shortage;
use crate::proxier::slab::{Slab, SlabKey};
use crate::proxier::subject::Subject;
use crate::proxier::tally::Tally;
use crate::proxier::turn::Turn;
use crate::routing::{Cause, Frontend, Pick};
use crate::types::Protocol;

/// Batches from one socket in one turn, before others have theirs.
const ROUNDS: usize = 4;
/// Endpoints that are tried for one datagram.
const MAX_ATTEMPTS: usize = 16;
/// With less room than this for replies, those that wait are sent first.
const LITTLE_ROOM: usize = 8;

/// All listeners and flows of one worker. A listener has one worker, so that a client has one flow.
pub(crate) struct Udp {
    files: Arc<Files>,
    listeners: Slab<UdpListener>,
    by_id: HashMap<ListenerId, SlabKey>,
    flows: Flows<Carried>,
    /// Made with the first listener: many machines have no UDP Service.
    boxes: Option<Boxes>,
    tally: Tally,
    /// Sockets that have more than their share of one turn.
    ready: VecDeque<Ready>,
}

struct UdpListener {
    socket: Arc<Socket>,
    shape: HeaderShape,
    frontend: Arc<Frontend>,
    flows: usize,
}

struct Boxes {
    inbox: Inbox,
    outbox: Outbox,
    /// Whose replies the outbox holds.
    replying: Option<FlowKey>,
}

/// What a flow has besides its place in the table.
#[derive(Debug)]
struct Carried {
    socket: UdpSocket,
    pick: Pick,
    _file: FileLease,
}

#[derive(Clone, Copy, Debug)]
enum Ready {
    Listener(SlabKey),
    Flow(SlabKey),
}

impl Udp {
    /// No listeners yet.
    pub(crate) fn new(limits: FlowLimits, files: &Arc<Files>) -> Self {
        Self {
            files: Arc::clone(files),
            listeners: Slab::default(),
            by_id: HashMap::new(),
            flows: Flows::new(limits),
            boxes: None,
            tally: Tally::default(),
            ready: VecDeque::new(),
        }
    }

    /// Begins to serve a listener, if it is this worker's.
    pub(crate) fn open(
        &mut self,
        turn: &Turn<'_>,
        id: ListenerId,
        addr: SocketAddr,
        socket: Arc<Socket>,
        frontend: Arc<Frontend>,
    ) -> io::Result<()> {
        if id.0 % turn.shared.workers() as u64 != turn.worker as u64 {
            return Ok(());
        }
        self.close(turn, id);
        let shape = HeaderShape::of(addr);
        if self.boxes.is_none() {
            self.boxes = Some(Boxes {
                inbox: Inbox::new()?,
                outbox: Outbox::new()?,
                replying: None,
            });
        }
        let fd = socket.as_raw_fd();
        let listener = UdpListener {
            socket,
            shape,
            frontend,
            flows: 0,
        };
        let Ok(key) = self.listeners.insert(listener) else {
            return Err(io::Error::other("too many listeners"));
        };
        self.by_id.insert(id, key);
        let token = Subject::UdpListener(key).token();
        let registry = turn.registry;
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// Gives a listener another frontend; flows to endpoints that it does not offer end, and their clients' next
    /// datagrams go elsewhere.
    pub(crate) fn replace(&mut self, turn: &Turn<'_>, id: ListenerId, frontend: &Arc<Frontend>) {
        let Some(key) = self.by_id.get(&id).copied() else {
            return;
        };
        let Some(listener) = self.listeners.get_mut(key) else {
            return;
        };
        listener.frontend = Arc::clone(frontend);
        if listener.flows > 0 {
            let unwanted = self.flows.unwanted(key, |flow| {
                let endpoints = frontend.endpoints(flow.key.client.ip());
                endpoints.contains(&flow.carried.pick.endpoint())
            });
            self.flush(turn);
            for flow in unwanted {
                self.end(flow);
            }
        }
    }

    /// Forgets a listener and ends its flows.
    pub(crate) fn close(&mut self, turn: &Turn<'_>, id: ListenerId) {
        let Some(key) = self.by_id.remove(&id) else {
            return;
        };
        self.flush(turn);
        let all = self.flows.unwanted(key, |_| false);
        for flow in all {
            self.end(flow);
        }
        if let Some(listener) = self.listeners.remove(key) {
            let fd = listener.socket.as_raw_fd();
            if let Err(error) = turn.registry.deregister(&mut SourceFd(&fd)) {
                log::debug!("cannot stop watching a listener: {error}");
            }
        }
    }

    /// Forgets all listeners and flows.
    pub(crate) fn close_all(&mut self, turn: &Turn<'_>) {
        let ids: Vec<_> = self.by_id.keys().copied().collect();
        ids.into_iter().for_each(|id| self.close(turn, id));
    }

    /// When [`Udp::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.flows.deadline()
    }

    /// Ends the flows that have been silent for too long.
    pub(crate) fn expire(&mut self, turn: &Turn<'_>) {
        while let Some(flow) = self.flows.expired(turn.now) {
            self.end(flow);
        }
    }

    /// Some sockets wait for their turn, not for an event.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Gives each socket that had more than its share its next turn.
    pub(crate) fn run_ready(&mut self, turn: &Turn<'_>) {
        for _ in 0..self.ready.len() {
            match self.ready.pop_front() {
                Some(Ready::Listener(key)) => self.listener_event(turn, key),
                Some(Ready::Flow(key)) => self.flow_event(turn, key),
                None => return,
            }
        }
    }

    /// Sends what waits to be sent and brings counters up to date: the end of a turn.
    pub(crate) fn flush(&mut self, _turn: &Turn<'_>) {
        self.tally.flush();
        let Some(boxes) = &mut self.boxes else {
            return;
        };
        if let Some(flow) = boxes.replying.take() {
            if let Some(listener) = self.listeners.get(flow.listener) {
                let fd = listener.socket.as_raw_fd();
                boxes.outbox.send(fd, listener.shape, flow.local);
            }
        }
    }

    /// Clients have sent something.
    pub(crate) fn listener_event(&mut self, turn: &Turn<'_>, key: SlabKey) {
        let mut errors = 0;
        for _ in 0..ROUNDS {
            let Some(listener) = self.listeners.get(key) else {
                return;
            };
            let Some(boxes) = &mut self.boxes else {
                return;
            };
            let fd = listener.socket.as_raw_fd();
            let received = match boxes.inbox.receive(fd, listener.shape) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return,
                // About an earlier reply, say, and not about what waits now.
                Err(error) => {
                    log::debug!("cannot receive from a listener: {error}");
                    errors += 1;
                    continue;
                }
            };
            self.forward(turn, key, received);
            if received < BATCH {
                return;
            }
        }
        // Nothing but errors will not get better by trying at once.
        if errors < ROUNDS {
            self.ready.push_back(Ready::Listener(key));
        }
    }

    /// Sends what is in the inbox to the flows it belongs to, what is for one flow in one go.
    fn forward(&mut self, turn: &Turn<'_>, listener: SlabKey, received: usize) {
        let mut flows = [None; BATCH];
        for (position, flow) in flows.iter_mut().enumerate().take(received) {
            let datagram = self.boxes.as_ref().and_then(|b| b.inbox.get(position));
            *flow = datagram.and_then(|datagram| self.flow(turn, listener, datagram));
        }
        for position in 0..received.min(BATCH) {
            let Some(flow) = flows[position] else {
                continue;
            };
            let mut positions = [0; BATCH];
            let mut count = 0;
            for (other, of) in flows.iter_mut().enumerate().skip(position) {
                if *of == Some(flow) {
                    *of = None;
                    positions[count] = other;
                    count += 1;
                }
            }
            self.send(turn, listener, flow, &positions[..count]);
        }
    }

    /// Sends datagrams from the inbox to a flow; once more to another endpoint, if this one turns out to refuse.
    fn send(&mut self, turn: &Turn<'_>, listener: SlabKey, flow: SlabKey, positions: &[usize]) {
        let Err(error) = self.try_send(flow, positions) else {
            return;
        };
        match error {
            // No room: lost, as datagrams may be. Too large for the way to the endpoint: not the flow's fault.
            Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::EMSGSIZE => {}
            Errno::ECONNREFUSED => {
                self.refused(turn, flow);
                let first = positions.first();
                let boxes = self.boxes.as_ref();
                let datagram = first.and_then(|first| boxes?.inbox.get(*first));
                let next = datagram.and_then(|datagram| self.flow(turn, listener, datagram));
                if let Some(next) = next {
                    // What fails twice is lost.
                    let _ = self.try_send(next, positions);
                }
            }
            error => {
                log::debug!("cannot send to an endpoint: {error}");
                self.end(flow);
            }
        }
    }

    fn try_send(&mut self, flow: SlabKey, positions: &[usize]) -> Result<(), Errno> {
        let (Some(flow), Some(boxes)) = (self.flows.get(flow), &mut self.boxes) else {
            return Ok(());
        };
        let fd = flow.carried.socket.as_raw_fd();
        let mut rest = positions;
        while !rest.is_empty() {
            let sent = match boxes.inbox.send(fd, rest) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let (done, left) = rest.split_at(sent.clamp(1, rest.len()));
            let datagrams = done
                .iter()
                .filter_map(|position| boxes.inbox.get(*position));
            let bytes = datagrams.map(|datagram| datagram.len).sum();
            self.tally.received(flow.carried.pick.counters(), bytes);
            rest = left;
        }
        Ok(())
    }

    /// The flow that a client's datagram belongs to, begun if need be. None: it has nowhere to go.
    fn flow(&mut self, turn: &Turn<'_>, listener: SlabKey, datagram: Received) -> Option<SlabKey> {
        let key = FlowKey {
            listener,
            client: datagram.client,
            local: datagram.local,
        };
        if let Some(flow) = self.flows.find(&key) {
            self.flows.used_by_client(turn.now, flow);
            return Some(flow);
        }
        let frontend = Arc::clone(&self.listeners.get(listener)?.frontend);
        let mut tried = Vec::new();
        for _ in 0..MAX_ATTEMPTS {
            let pick = frontend.pick(datagram.client.ip(), &tried, turn.now)?;
            if tried.contains(&pick.endpoint()) {
                return None;
            }
            match self.connect(turn, listener, datagram, pick.endpoint()) {
                Ok(socket) => {
                    let carried = Carried {
                        socket,
                        pick,
                        _file: self.files.lease(1),
                    };
                    return self.begin(turn, key, carried);
                }
                Err(cause) => {
                    turn.report(cause, &frontend.route.name, key.client, pick.endpoint());
                    tried.push(pick.endpoint());
                    pick.failed(cause, turn.now);
                }
            }
        }
        None
    }

    /// Makes a flow's socket, or says why not.
    fn connect(
        &mut self,
        turn: &Turn<'_>,
        listener: SlabKey,
        datagram: Received,
        endpoint: SocketAddr,
    ) -> Result<UdpSocket, Cause> {
        let risk = turn.shared.loop_risk(endpoint, Protocol::Udp);
        if risk == LoopRisk::Possible {
            self.ask_for_ttl(listener);
        }
        let policy = OutboundPolicy::new(risk, || datagram.ttl)?;
        let connect = || outbound::connect(datagram.client, endpoint, Protocol::Udp, policy);
        if self.files.free() == 0 {
            self.end_oldest();
        }
        let mut connected = connect();
        if connected.as_ref().is_err_and(is_shortage) && self.end_oldest() {
            connected = connect();
        }
        match connected {
            Ok(socket) => Ok(UdpSocket::from_std(socket.into())),
            Err(error) => Err(outbound::cause_of(&error)),
        }
    }

    /// Frees a file for another flow.
    fn end_oldest(&mut self) -> bool {
        let oldest = self.flows.oldest();
        oldest.and_then(|oldest| self.end(oldest)).is_some()
    }

    /// Has a listener report the TTL of each datagram from now on. The first client that may be going in a circle is taken for
    /// one that comes from no proxy.
    fn ask_for_ttl(&mut self, listener: SlabKey) {
        let listener = self.listeners.get_mut(listener);
        let Some(listener) = listener.filter(|listener| !listener.shape.has_ttl()) else {
            return;
        };
        match listener.shape.ask_for_ttl(&listener.socket) {
            Ok(shape) => listener.shape = shape,
            Err(error) => log::debug!("cannot ask for the TTL of datagrams: {error}"),
        }
    }

    fn begin(&mut self, turn: &Turn<'_>, key: FlowKey, carried: Carried) -> Option<SlabKey> {
        if let Some(oldest) = self.flows.in_the_way() {
            self.end(oldest);
        }
        let flow = self.flows.begin(turn.now, key, carried)?;
        if let Some(listener) = self.listeners.get_mut(key.listener) {
            listener.flows += 1;
        }
        let carried = &mut self.flows.get_mut(flow)?.carried;
        let counters = carried.pick.counters();
        counters.accepted.add(1);
        counters.active.inc();
        let token = Subject::Flow(flow).token();
        let socket = &mut carried.socket;
        let registered = turn.registry.register(socket, token, Interest::READABLE);
        if let Err(error) = registered {
            log::debug!("cannot watch a flow's socket: {error}");
            self.end(flow);
            return None;
        }
        Some(flow)
    }

    /// An endpoint has answered, or its host has said that nobody is there.
    pub(crate) fn flow_event(&mut self, turn: &Turn<'_>, name: SlabKey) {
        for _ in 0..ROUNDS {
            let Some(flow) = self.flows.get(name) else {
                return;
            };
            let key = flow.key;
            let Some(boxes) = &mut self.boxes else {
                return;
            };
            let same = |other: FlowKey| (other.listener, other.local) == (key.listener, key.local);
            if boxes.outbox.room() < LITTLE_ROOM || !boxes.replying.is_none_or(same) {
                self.flush(turn);
            }
            let (Some(flow), Some(boxes)) = (self.flows.get(name), &mut self.boxes) else {
                return;
            };
            let room = boxes.outbox.room();
            match boxes.outbox.receive(&flow.carried.socket, key.client) {
                Ok((datagrams, bytes)) => {
                    boxes.replying = Some(key);
                    let pick = &flow.carried.pick;
                    self.tally.sent(pick.counters(), bytes);
                    if !flow.has_replied() {
                        pick.connected();
                    }
                    self.flows.used_by_endpoint(turn.now, name);
                    if datagrams < room {
                        return;
                    }
                }
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNREFUSED) => return self.refused(turn, name),
                Err(error) => {
                    log::debug!("cannot receive from an endpoint: {error}");
                    self.end(name);
                    return;
                }
            }
        }
        self.ready.push_back(Ready::Flow(name));
    }

    /// Nobody is at this flow's endpoint: the client's next datagram goes elsewhere.
    fn refused(&mut self, turn: &Turn<'_>, name: SlabKey) {
        if let Some(pick) = self.end(name) {
            pick.failed(Cause::Refused, turn.now);
        }
    }

    /// Ends a flow; what is dropped of it says that its client is gone.
    fn end(&mut self, name: SlabKey) -> Option<Pick> {
        let flow = self.flows.end(name)?;
        let pick = flow.carried.pick;
        pick.counters().active.dec();
        if let Some(listener) = self.listeners.get_mut(flow.key.listener) {
            listener.flows = listener.flows.saturating_sub(1);
        }
        Some(pick)
    }
}
