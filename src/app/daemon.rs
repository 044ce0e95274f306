//! The daemon: the order in which things start, and the order in which they stop.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, bounded, unbounded};

use super::audience::Audience;
use super::capabilities::{self, Duty};
use super::error::Error;
use super::events::{Events, Occasion};
use super::feeds::Feeds;
use super::listeners::Listeners;
use super::sync::{Pace, Sync};
use super::world::World;
use super::{config_file, notify, process, settings, signals};
use crate::api::{Access, AccessOptions};
use crate::control::ControlServer;
use crate::options::Options;
use crate::portal::{Portal, Protected};
use crate::proxier::{Proxier, ProxierConfig};
use crate::routing::Table;

/// How long the portal outlives the last connection, whatever is left of `--drain-timeout`, for its last bytes and its FIN to
/// reach the client.
const LAST_BYTES: Duration = Duration::from_secs(1);
/// Between two looks at whether they have; more each time.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(200);

/// How long a start that fails waits for the Event that says why.
const TIME_TO_REPORT: Duration = Duration::from_secs(2);

/// What the main thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// SIGTERM or SIGINT.
    Signal,
    /// The configuration file is not what it was: end, so that the supervisor starts us with the new one.
    ConfigChanged,
}

/// Runs the proxy until a signal ends it.
pub(super) fn run(options: Options) -> Result<(), Error> {
    let (tell, events) = unbounded();
    let (signal, changed) = (tell.clone(), tell.clone());
    with_only(Duty::Nothing, || {
        signals::spawn(signal, || Event::Signal).map_err(Error::start("signals"))
    })?;
    // These two need what is given up below.
    process::set_oom_score_adj(options.oom_score_adj);
    let configuration = watch_configuration(&options)?;
    capabilities::limit_process();
    if let Some(watch) = configuration {
        with_only(Duty::Nothing, || report_change(watch, changed))?;
    }
    let daemon = Daemon::start(&options)?;
    let outcome = match wait(&events) {
        Event::ConfigChanged => Err(Error::Missing(
            "the content of the configuration file was updated: start again to use it".into(),
        )),
        Event::Signal => Ok(()),
    };
    daemon.stop(options.drain_timeout, &events);
    outcome
}

fn wait(events: &Receiver<Event>) -> Event {
    // The sending ends outlive this call; without one there is nothing left to wait for.
    events.recv().unwrap_or(Event::Signal)
}

/// Everything that runs.
struct Daemon {
    proxier: Arc<Proxier>,
    feeds: Feeds,
    sync: JoinHandle<Listeners>,
    /// Dropped to end the sync thread.
    stop: Sender<()>,
    /// Answers until the end.
    control: Option<ControlServer>,
}

impl Daemon {
    /// Downstream first: whoever is told something exists before whoever tells.
    fn start(options: &Options) -> Result<Self, Error> {
        let files = process::raise_open_file_limit();
        let node_name = node_name(options)?;
        let access = access(options)?;
        notify::status(&awaited(access.as_ref()));
        let proxier = Arc::new(with_only(Duty::Nothing, || start_proxier(options))?);
        let portal = Portal::open(super::portal_kind(options.portal))?;
        let files_read = with_only(Duty::Files, || {
            let feeds = Feeds::start(options, access.as_ref(), &node_name)?;
            let events = Events::start(access.as_ref(), &node_name);
            Ok((feeds, events.map_err(Error::start("events"))?))
        });
        let (feeds, events) = files_read?;
        capabilities::limit_thread(Duty::Kernel);
        log::info!(
            "portico {} on node {node_name}: portal {}, {files} open files",
            env!("CARGO_PKG_VERSION"),
            portal.kind()
        );
        portal.protect(protected(options, access.as_ref()));
        let table = Table::new(settings::of(options, &node_name, portal.kind())?);
        let (stop, stopped) = bounded(0);
        let (asking, questions) = unbounded();
        let audience = with_only(duty_of_servers(options), || {
            Audience::start(options, access.as_ref(), &asking, &events)
                .inspect_err(|_| events.flush(TIME_TO_REPORT))
        })?;
        events.report(Occasion::Starting);
        proxier
            .count_files()
            .map_err(Error::start("the event loops"))?;
        let sync = Sync {
            world: World::new(&feeds, &node_name, Vec::new()),
            table,
            listeners: Listeners::new(portal, Arc::clone(&proxier), options.sync_period),
            observers: audience.observers,
            questions,
            stop: stopped,
            pace: Pace::new(options.coalesce),
        };
        let sync = thread::Builder::new()
            .name("sync".into())
            .spawn(move || sync.run())
            .map_err(Error::start("sync"))?;
        Ok(Self {
            proxier,
            feeds,
            sync,
            stop,
            control: audience.control,
        })
    }

    /// Serves as ever until the drain is over. Then upstream first: no new work, then the connections that are left, which
    /// are told, then what the kernel holds for us.
    fn stop(self, drain: Duration, events: &Receiver<Event>) {
        notify::stopping();
        let deadline = Instant::now() + drain;
        let patient = drain.is_zero() || wait_for_connections(&self.proxier, deadline, events);
        drop(self.control);
        drop(self.stop);
        let listeners = self.sync.join();
        drop(self.feeds);
        let Ok(mut listeners) = listeners else {
            return log::error!("the sync thread panicked");
        };
        listeners.stop_listening();
        if patient && !drain.is_zero() {
            // For what has come since, most of which takes no time.
            self.proxier.drain(Instant::now() + LAST_BYTES);
        }
        self.proxier.hang_up();
        self.proxier.drain(Instant::now() + LAST_BYTES);
        if patient {
            wait_for_last_bytes(&listeners, deadline, events);
        }
        self.proxier.end(Instant::now() + LAST_BYTES);
        match listeners.shut() {
            Ok(()) => log::info!("stopped"),
            Err(error) => log::warn!("stopped, but not everything is cleaned up: {error}"),
        }
    }
}

fn watch_configuration(options: &Options) -> Result<Option<config_file::Watch>, Error> {
    let Some(path) = &options.config_file else {
        return Ok(None);
    };
    let watch = config_file::Watch::new(path);
    watch
        .map(Some)
        .map_err(|error| Error::file("cannot watch", path, error))
}

fn report_change(watch: config_file::Watch, tell: Sender<Event>) -> Result<(), Error> {
    let changed = move || {
        // The receiver may be gone: then we are stopping already.
        let _ = tell.send(Event::ConfigChanged);
    };
    watch.spawn(changed).map_err(Error::start("config-watch"))
}

/// See [`capabilities::with_only`].
fn with_only<T: Send>(
    duty: Duty,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    capabilities::with_only(duty, work).map_err(Error::start("a thread"))?
}

/// Gives those connections time that there are; false if a second signal takes it back.
fn wait_for_connections(proxier: &Proxier, deadline: Instant, events: &Receiver<Event>) -> bool {
    let ended = proxier.current_ended();
    let active = proxier.active_connections();
    if active > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        log::info!(
            "serving for up to {left:.0?} more, until {active} connections have ended; a second signal ends this"
        );
    }
    let mut select = Select::new();
    let signal = select.recv(events);
    select.recv(&ended);
    select.ready_deadline(deadline) != Ok(signal)
}

/// What ended connections have sent may still be on its way, and the portal's routes carry it. A signal ends this, too.
fn wait_for_last_bytes(listeners: &Listeners, deadline: Instant, events: &Receiver<Event>) {
    let now = Instant::now();
    let (mut until, mut look) = (deadline.max(now + LAST_BYTES), FIRST_LOOK);
    for looks in 0.. {
        match listeners.unacknowledged() {
            Some(0) => return,
            // Not worth a word before: a FIN takes a moment.
            Some(count) if looks == 5 => {
                log::info!(
                    "{count} connections have ended, but their clients have yet to take the last bytes"
                );
            }
            Some(_) => {}
            None => until = until.min(now + LAST_BYTES),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || events.recv_timeout(look.min(left)).is_ok() {
            return;
        }
        look = (2 * look).min(LONGEST_LOOK);
    }
}

/// What `systemctl status` shows until the first sync.
fn awaited(access: Option<&Access>) -> String {
    match access {
        Some(access) => format!("waiting for the apiserver at {}", access.requests().host()),
        None => "reading manifests".to_owned(),
    }
}

/// Listeners are opened again where that has failed, so the thread needs to be able to.
fn duty_of_servers(options: &Options) -> Duty {
    let addresses = [options.healthz_bind_address, options.metrics_bind_address];
    let mut addresses = addresses.into_iter().flatten();
    match addresses.any(|address| address.port() < 1024) {
        true => Duty::Server,
        false => Duty::Nothing,
    }
}

fn node_name(options: &Options) -> Result<String, Error> {
    options.node_name(&process::hostname()).ok_or_else(|| {
        Error::Missing(
            "this machine has no host name: set --hostname-override to the Node's name".into(),
        )
    })
}

/// How to reach the apiserver; None with manifests alone.
fn access(options: &Options) -> Result<Option<Access>, Error> {
    let asked = options.kubeconfig.is_some() || options.master.is_some();
    if !asked && !options.manifests.is_empty() {
        return Ok(None);
    }
    let access = AccessOptions {
        kubeconfig: options.kubeconfig.clone(),
        master: options.master.clone(),
        insecure_token_over_http: options.insecure_token_over_http,
    };
    Ok(Some(Access::load(&access)?))
}

/// What must not be captured whole where the kernel cannot route by port: the way to the apiserver, and the pods.
fn protected(options: &Options, access: Option<&Access>) -> Protected {
    let server = access.and_then(Access::server_ip);
    Protected {
        addresses: Arc::new(server.into_iter().collect()),
        nets: options.cluster_cidr.clone(),
    }
}

fn start_proxier(options: &Options) -> Result<Proxier, Error> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let config = ProxierConfig {
        workers: options.worker_count(cores),
        udp_stream_timeout: options.udp_idle_timeout,
        ..ProxierConfig::default()
    };
    Proxier::start(config).map_err(Error::start("the event loops"))
}
