//! `portico explain`: asks the running proxy, or works the answer out from manifests.

use std::time::{Duration, Instant};

use crossbeam_channel::Select;

use super::complaints;
use super::error::Error;
use super::feeds::Feeds;
use super::settings;
use super::world::{Changes, World};
use crate::control;
use crate::options::{Explain, Options};
use crate::routing::{ExplainRequest, Perfect, Table, explain};
use crate::types::{IpFamily, PortalKind};

/// Everything is read by then; the merge threads take no time.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answer, as printed.
pub(super) fn run(explain: Explain) -> Result<String, Error> {
    let Explain { request, options } = explain;
    if options.manifests.is_empty() {
        live(&request, &options)
    } else {
        offline(&request, &options)
    }
}

/// What the running proxy says.
fn live(request: &ExplainRequest, options: &Options) -> Result<String, Error> {
    let Some(path) = &options.control_socket else {
        return Err(Error::Missing(
            "explain asks the running portico at --control-socket, or works from --manifests"
                .into(),
        ));
    };
    let answer = control::ask(path, &request.to_json())?;
    match (answer["answer"].as_str(), answer["error"].as_str()) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, error) => Err(Error::Missing(
            error.unwrap_or("no answer came back").to_owned(),
        )),
    }
}

/// What a proxy would say that had these manifests, on the Node that is named or else the only one in them: this machine is
/// not looked at.
fn offline(request: &ExplainRequest, options: &Options) -> Result<String, Error> {
    let node_name = options.node_name("").unwrap_or_default();
    let feeds = Feeds::read(options)?;
    let mut world = World::new(&feeds, &node_name, Vec::new());
    receive(&mut world)?;
    let mut addresses = world
        .node()
        .map(|node| node.addresses.to_vec())
        .unwrap_or_default();
    // Every host has these, and no Node says so.
    addresses.extend(IpFamily::ALL.map(IpFamily::localhost));
    world.set_host_addresses(addresses);
    let node_name = match world.node() {
        Some(node) => node.name.name(),
        None => &node_name,
    };
    let mut table = Table::new(settings::of(options, node_name, PortalKind::Netns)?);
    let delta = table.rebuild(&world.inputs(Instant::now()));
    complaints::log(delta.news);
    Ok(explain::answer(
        &table,
        &world.complaints(),
        request,
        &Perfect,
    ))
}

/// Waits until every kind of object has been read.
fn receive(world: &mut World) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    while !world.received_everything() {
        let mut select = Select::new();
        for signal in world.signals() {
            select.recv(signal);
        }
        if select.ready_deadline(deadline).is_err() {
            return Err(Error::Missing("the manifests were not taken in".into()));
        }
        world.collect(&mut Changes::default());
    }
    Ok(())
}
