//! The producers and the merge threads: from the options to four merged kinds of objects.

use std::path::Path;
use std::thread::JoinHandle;

use super::capabilities::{self, Duty};
use super::error::Error;
use crate::api::{self, Access, Selection};
use crate::config::sources::{FileSource, Sinks};
use crate::config::{EndpointsConfig, Mux, NodeConfig, ServiceCidrConfig, ServiceConfig};
use crate::options::Options;
use crate::types::{EndpointSlice, Node, Service, ServiceCidr};

/// The name of the apiserver as a source.
const API: &str = "api";

/// Everything that delivers objects. Dropping it ends the merge threads.
pub(super) struct Feeds {
    pub(super) services: ServiceConfig,
    pub(super) endpoints: EndpointsConfig,
    pub(super) nodes: NodeConfig,
    pub(super) service_cidrs: ServiceCidrConfig,
    /// Not joined: a reflector sits in a read that only the apiserver ends, and goes with the process.
    _reflectors: Vec<JoinHandle<()>>,
    _manifests: Vec<FileSource>,
}

impl Feeds {
    /// Starts every source of the options. The apiserver's word comes before the manifests' where both have an object.
    pub(super) fn start(
        options: &Options,
        access: Option<&Access>,
        node_name: &str,
    ) -> Result<Self, Error> {
        let mut muxes = Muxes::default();
        let reflectors = match access {
            Some(access) => reflectors(&mut muxes, access, options, node_name)?,
            None => Vec::new(),
        };
        let manifests = options
            .manifests
            .iter()
            .map(|path| manifest(&mut muxes, path))
            .collect::<Result<_, _>>()?;
        // Those who read files may; those who merge what they say need nothing.
        let merge = || Self::merge(muxes, reflectors, manifests);
        capabilities::with_only(Duty::Nothing, merge).map_err(Error::start("a thread"))?
    }

    /// What the manifests of the options say now. Nothing more will come.
    pub(super) fn read(options: &Options) -> Result<Self, Error> {
        let mut muxes = Muxes::default();
        let paths = options.manifests.iter();
        let sources: Vec<_> = paths
            .map(|path| (path, muxes.sinks(&FileSource::name(path))))
            .collect();
        let feeds = Self::merge(muxes, Vec::new(), Vec::new())?;
        let said = sources
            .iter()
            .map(|(path, sinks)| FileSource::read_once(path, sinks));
        let troubles: Vec<String> = said.filter_map(Result::err).collect();
        match troubles.len() < sources.len() {
            true => Ok(feeds),
            false => Err(Error::Missing(format!(
                "manifests: {}",
                troubles.join("; ")
            ))),
        }
    }

    fn merge(
        muxes: Muxes,
        reflectors: Vec<JoinHandle<()>>,
        manifests: Vec<FileSource>,
    ) -> Result<Self, Error> {
        Ok(Self {
            services: ServiceConfig::start(muxes.services).map_err(Error::start("svc-merge"))?,
            endpoints: EndpointsConfig::start(muxes.endpoints)
                .map_err(Error::start("eps-merge"))?,
            nodes: NodeConfig::start(muxes.nodes).map_err(Error::start("node-merge"))?,
            service_cidrs: ServiceCidrConfig::start(muxes.service_cidrs)
                .map_err(Error::start("cidr-merge"))?,
            _reflectors: reflectors,
            _manifests: manifests,
        })
    }
}

/// The sources of each kind, while they are being collected.
#[derive(Default)]
struct Muxes {
    services: Mux<Service>,
    endpoints: Mux<EndpointSlice>,
    nodes: Mux<Node>,
    service_cidrs: Mux<ServiceCidr>,
}

impl Muxes {
    fn sinks(&mut self, source: &str) -> Sinks {
        Sinks {
            services: self.services.channel(source),
            endpoints: self.endpoints.channel(source),
            nodes: self.nodes.channel(source),
            service_cidrs: self.service_cidrs.channel(source),
        }
    }
}

fn reflectors(
    muxes: &mut Muxes,
    access: &Access,
    options: &Options,
    node_name: &str,
) -> Result<Vec<JoinHandle<()>>, Error> {
    let selection = Selection {
        service_proxy_name: options.service_proxy_name.clone(),
        node_name: node_name.to_owned(),
    };
    let sinks = muxes.sinks(API);
    let started = [
        api::spawn_reflector(access, &selection, sinks.services),
        api::spawn_reflector(access, &selection, sinks.endpoints),
        api::spawn_reflector(access, &selection, sinks.nodes),
        api::spawn_reflector(access, &selection, sinks.service_cidrs),
    ];
    started
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(Error::start("a reflector"))
}

fn manifest(muxes: &mut Muxes, path: &Path) -> Result<FileSource, Error> {
    let sinks = muxes.sinks(&FileSource::name(path));
    FileSource::start(path, sinks).map_err(|error| Error::file("cannot watch", path, error))
}
