//! What is asked for: paths, selectors and queries of the four kinds, with what older servers know instead.

use std::fmt::Write;

use super::machine::{PAGE, Request};
use crate::types::{EndpointSlice, Node, Service, ServiceCidr};
use crate::wire::{Decode, Kind};

/// A label whose presence gives a Service to another proxy.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// The label of Services that no proxy serves, and of slices of headless ones.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Which objects are for this proxy.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// None: Services without the label `service.kubernetes.io/service-proxy-name`. Some: those where it has this value.
    pub service_proxy_name: Option<String>,
    /// The name of our Node.
    pub node_name: String,
}

/// One way to ask for a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What the answer holds.
    pub(crate) kind: Kind,
    /// The collection's path.
    pub(crate) path: &'static str,
    /// `labelSelector`; empty for none.
    pub(crate) labels: String,
    /// `fieldSelector`; empty for none.
    pub(crate) fields: String,
    /// Without the field selector the answer is larger, but not wrong: we select again ourselves.
    pub(crate) fields_optional: bool,
}

/// A kind of object that a reflector can follow.
pub trait Resource: Decode {
    /// The reflector's thread.
    const THREAD: &'static str;
    /// Whether to go without where the server does not know or not permit it.
    const OPTIONAL: bool;

    /// The ways to ask for it, the best first; each is for servers that do not know those before it.
    fn targets(selection: &Selection) -> Vec<Target>;
}

impl Resource for Service {
    const THREAD: &'static str = "svc-reflector";
    const OPTIONAL: bool = false;

    fn targets(selection: &Selection) -> Vec<Target> {
        let labels = match &selection.service_proxy_name {
            None => format!("!{PROXY_NAME},!{HEADLESS}"),
            Some(name) => format!("{PROXY_NAME}={name},!{HEADLESS}"),
        };
        vec![Target {
            kind: Kind::Service,
            path: "/api/v1/services",
            labels,
            // Known since 1.31; older servers answer 400.
            fields: "spec.clusterIP!=None".to_string(),
            fields_optional: true,
        }]
    }
}

impl Resource for EndpointSlice {
    const THREAD: &'static str = "eps-reflector";
    const OPTIONAL: bool = false;

    fn targets(_: &Selection) -> Vec<Target> {
        let target = |kind, path| Target {
            kind,
            path,
            labels: format!("!{HEADLESS}"),
            fields: String::new(),
            fields_optional: false,
        };
        vec![
            target(
                Kind::EndpointSlice,
                "/apis/discovery.k8s.io/v1/endpointslices",
            ),
            target(
                Kind::EndpointSlice,
                "/apis/discovery.k8s.io/v1beta1/endpointslices",
            ),
            target(Kind::Endpoints, "/api/v1/endpoints"),
        ]
    }
}

impl Resource for Node {
    const THREAD: &'static str = "node-reflector";
    const OPTIONAL: bool = false;

    fn targets(selection: &Selection) -> Vec<Target> {
        vec![Target {
            kind: Kind::Node,
            path: "/api/v1/nodes",
            labels: String::new(),
            fields: format!("metadata.name={}", selection.node_name),
            fields_optional: false,
        }]
    }
}

impl Resource for ServiceCidr {
    const THREAD: &'static str = "cidr-reflector";
    // Newer servers only, and not in every role.
    const OPTIONAL: bool = true;

    fn targets(_: &Selection) -> Vec<Target> {
        vec![Target {
            kind: Kind::ServiceCidr,
            path: "/apis/networking.k8s.io/v1/servicecidrs",
            labels: String::new(),
            fields: String::new(),
            fields_optional: false,
        }]
    }
}

/// The ways to ask for a resource, and which of them this server understands.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    all: Vec<Target>,
    current: usize,
    /// The current one has answered.
    settled: bool,
}

impl Targets {
    /// Begins with the best.
    pub(crate) fn new<T: Resource>(selection: &Selection) -> Self {
        Self {
            all: T::targets(selection),
            current: 0,
            settled: false,
        }
    }

    /// The one to ask now.
    pub(crate) fn current(&self) -> &Target {
        &self.all[self.current]
    }

    /// The current one has answered.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
    }

    /// The path is not served (404). True if there is another to try at once. All are tried from the best on; also when the
    /// one that used to answer no longer does, since that is what an upgrade of the server looks like.
    pub(crate) fn not_found(&mut self) -> bool {
        let next = match std::mem::take(&mut self.settled) && self.current > 0 {
            true => 0,
            false => self.current + 1,
        };
        self.current = if next < self.all.len() { next } else { 0 };
        next < self.all.len()
    }

    /// The request is not understood (400). True if it may be understood without its field selector.
    pub(crate) fn bad_request(&mut self) -> bool {
        let target = &mut self.all[self.current];
        let retry = target.fields_optional && !target.fields.is_empty();
        if retry {
            target.fields.clear();
        }
        retry
    }
}

impl Target {
    /// Path and query of a request. `timeout` is the watch's `timeoutSeconds`.
    pub(crate) fn url(&self, request: &Request, timeout: u64) -> String {
        let mut url = format!("{}?", self.path);
        let watch = |url: &mut String, version: &str| {
            let _ = write!(
                url,
                "watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={timeout}",
                encode(version)
            );
        };
        match request {
            Request::WatchList { version } => {
                watch(&mut url, version);
                url.push_str("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
            }
            Request::Watch { version } => watch(&mut url, version),
            Request::Page {
                version,
                limit,
                continue_token,
            } => {
                let mut query = Vec::new();
                if *limit {
                    query.push(format!("limit={PAGE}"));
                }
                if let Some(version) = version {
                    query.push(format!("resourceVersion={}", encode(version)));
                }
                if !continue_token.is_empty() {
                    query.push(format!("continue={}", encode(continue_token)));
                }
                url.push_str(&query.join("&"));
            }
        }
        for (name, selector) in [
            ("labelSelector", &self.labels),
            ("fieldSelector", &self.fields),
        ] {
            if !selector.is_empty() {
                let separator = if url.ends_with('?') { "" } else { "&" };
                let _ = write!(url, "{separator}{name}={}", encode(selector));
            }
        }
        url
    }
}

/// Percent-encodes a query value.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
