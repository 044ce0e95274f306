//! portico: a userspace Kubernetes service proxy in one small static binary.
//!
//! It does kube-proxy's job on nodes without netfilter, conntrack, IPVS or eBPF: Services become reachable because their
//! addresses are routed to sockets of ours, and two event loops carry the bytes.
//!
//! # The pipeline
//!
//! Data flows one way. The names are those of Kubernetes' own `pkg/proxy/config`.
//!
//! ```text
//!  apiserver ══ list, watch (JSON) ══▶ api::Reflector ───┐ Update{Set,Add,Remove,Unavailable}
//!  manifests (files, directories)  ══▶ config::FileSource┤ one named channel per source
//!                                                        ▼
//!                      config::Mux ─▶ ServiceStore   ─▶ Broadcaster ─┐   merge thread: ServiceConfig
//!                      config::Mux ─▶ EndpointsStore ─▶ Broadcaster ─┤   merge thread: EndpointsConfig
//!                      (Node and ServiceCIDR objects the same way)   │   snapshot + changed keys, latest wins
//!                                                                    ▼
//!                         app::sync ── routing::Table ─▶ Delta ─▶ sync::Plan ─▶ portal (routes, sockets)
//!                                                                    │ Arc<Socket>, Arc<Frontend>
//!  clients ◀══ TCP, UDP ══▶ proxier (mio event loops) ◀─ mailbox, Waker ┘      health, metrics, control
//! ```
//!
//! # The threads
//!
//! | name | count | waits for | tells |
//! |---|---|---|---|
//! | `portico` | 1 | events of these | everyone, by stopping them in order |
//! | `svc-reflector`, `eps-reflector`, `node-reflector`, `cidr-reflector` | 1 each, with an apiserver | the watch's next line | its Mux channel |
//! | `manifests` | 1 for each `--manifests` | inotify | all four Mux channels |
//! | `svc-merge`, `eps-merge`, `node-merge`, `cidr-merge` | 1 each | its Mux channels | its listeners |
//! | `sync` | 1 | snapshots, the portal's events, explain requests, retries | portal, proxier, health |
//! | `portal-ns` | 1, netns portal | requests for sockets | whoever asked |
//! | `portal-watch` | 1, netns and host portals | rtnetlink | `sync` |
//! | `worker-N` | `--workers` | epoll | - |
//! | `health` | 1 | epoll | - |
//! | `control` | 1 | the control socket | `sync` |
//! | `events` | 1, with an apiserver | something worth an Event | the apiserver |
//! | `config-watch` | 1, with `--config` | inotify | `portico` |
//! | `log` | 1 | lines of the log | standard error |
//! | `signals` | 1 | the signal pipe | `portico` |
//!
//! A disconnected channel is shutdown: no flag is polled. Nothing wakes up while nothing happens.
//!
//! # The layers
//!
//! Imports point down this list; modules on one line are siblings and never import each other. `tests/tidy.rs` holds it.
//! Files do not import each other in circles, but for those that `tests/tidy/circles.rs` still lists.
//!
//! 1. [`app`] knows everyone and connects them.
//! 2. `sync`: the pure plan of what portal and proxier are to do; knows their words, touches neither.
//! 3. [`api`], [`config`], [`portal`], [`proxier`], [`health`], [`control`], [`options`].
//! 4. [`wire`] (the only serde derives of API objects; used by api, config's sources and options),
//!    [`routing`] (pure decisions; used by proxier and app).
//! 5. [`types`]: no serde, no I/O, no clock.
//!
//! # The words
//!
//! One word stands for one thing, and a type's name for one type; `tests/tidy/names.rs` lists those that still stand for two.
//!
//! | word | what it is |
//! |---|---|
//! | object | a Service, EndpointSlice, Node or ServiceCIDR, as its source delivered it |
//! | source | a named producer of objects: the apiserver, a `--manifests` |
//! | snapshot | all objects of a kind that the sources agree on, at one moment |
//! | complaint | what is wrong, with which object, in which field |
//! | ServicePort | one port of one Service; its name is a ServicePortName |
//! | endpoint | an address and port that serves a ServicePort |
//! | frontend | an address and port by which a ServicePort is reached, and what happens to whoever comes |
//! | route | a ServicePort in one family with its endpoints, balancer and counters |
//! | pick | the endpoint chosen for a client; hears what became of it |
//! | virtual IP | a clusterIP, external IP or load-balancer IP |
//! | portal | what makes virtual IPs land on sockets of ours |
//! | capture | a virtual IP, or one port of it, that the kernel brings to the portal |
//! | listener | a socket that clients reach |
//! | client, endpoint | the two ends of what is carried; a side is one of them |
//! | session | one TCP connection of a client, with its connection to an endpoint |
//! | flow | the datagrams of one UDP client to one frontend |
//! | hop | one proxy on the way from a client to an endpoint |
//! | delta | what a change of the snapshots means for listeners and captures |
//! | plan | what portal and proxier are to do about it |
//!
//! # Invariants
//!
//! - Nothing is opened or closed before services and endpoints have both been received whole; afterwards the absence of
//!   the apiserver closes nothing. (`tests/pipeline.rs`)
//! - One source's failure never touches what another said; one bad object costs that object. (`tests/config.rs`, `tests/api.rs`)
//! - A listener exists exactly for frontends that have somewhere to send a connection, or that owe silence: a REJECT is the
//!   kernel's own. (`tests/routing.rs`, `tests/portal.rs`)
//! - Explain and the data path read the same [`routing::Frontend`] values: what explain says is what a connection gets.
//!   (`tests/routing.rs`, `tests/flows.rs`)
//! - A client's way through proxies comes to an end, whatever Services point to each other. (`proxier::hops`, `tests/loops.rs`)
//! - What portico adds to the kernel carries its mark: link `vethportico`, routes and rules of protocol 112. (`tests/portal.rs`)
//! - No panic on anything that a client, an endpoint, a file or the apiserver sends; a panic is a bug and aborts the
//!   process. (`panic = "abort"` in Cargo.toml; `tests/fuzz`, a target for each decoder, run by `scripts/fuzz`)

#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod config;
pub mod control;
pub mod health;
pub mod options;
pub mod portal;
pub mod proxier;
pub mod routing;
mod sync;
pub mod types;
pub mod wire;
