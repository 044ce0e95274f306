//! The objects, their versions, and the log of changes that watches read.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A resource that the server has.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// `/api/v1` or `/apis/GROUP/VERSION`
    pub root: &'static str,
    pub api_version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
}

const fn resource(
    root: &'static str,
    api_version: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Resource {
    Resource {
        root,
        api_version,
        plural,
        kind,
        namespaced,
    }
}

/// Everything but EndpointSlice v1beta1, which is another view of v1's.
pub static RESOURCES: [Resource; 7] = [
    resource("/api/v1", "v1", "services", "Service", true),
    resource("/api/v1", "v1", "endpoints", "Endpoints", true),
    resource("/api/v1", "v1", "nodes", "Node", false),
    resource("/api/v1", "v1", "events", "Event", true),
    resource(
        "/apis/discovery.k8s.io/v1",
        "discovery.k8s.io/v1",
        "endpointslices",
        "EndpointSlice",
        true,
    ),
    resource(
        "/apis/networking.k8s.io/v1",
        "networking.k8s.io/v1",
        "servicecidrs",
        "ServiceCIDR",
        false,
    ),
    resource(
        "/apis/events.k8s.io/v1",
        "events.k8s.io/v1",
        "events",
        "Event",
        true,
    ),
];

impl Resource {
    pub fn by_plural(plural: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|resource| resource.plural == plural)
    }

    fn of(object: &Value) -> Option<&'static Self> {
        let version = object["apiVersion"].as_str()?.replace("v1beta1", "v1");
        let kind = object["kind"].as_str()?;
        RESOURCES
            .iter()
            .find(|r| r.kind == kind && r.api_version == version)
    }
}

/// The key of an object: resource, namespace, name.
type Key = (&'static str, String, String);

/// One change, as watches see it.
pub(crate) struct Change {
    pub version: u64,
    pub resource: &'static Resource,
    /// What the object was; None: it is new.
    pub before: Option<Value>,
    /// What it is; None: it is gone.
    pub after: Option<Value>,
}

#[derive(Default)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Value>,
    version: u64,
    compacted: u64,
    log: Vec<Change>,
}

impl Store {
    /// The resourceVersion of the newest change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Watches from before this version are told that it is too old.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    pub fn set_version(&mut self, version: u64) {
        self.version = version;
        self.log.clear();
    }

    pub fn compact(&mut self) {
        self.compacted = self.version;
        self.log.clear();
    }

    /// Creates or replaces; the object's own text says where it belongs. Returns it as stored.
    pub fn put(&mut self, mut object: Value) -> Result<Value, String> {
        let resource = Resource::of(&object).ok_or("unknown apiVersion and kind")?;
        let name = object["metadata"]["name"]
            .as_str()
            .ok_or("metadata.name is missing")?
            .to_owned();
        let namespace = match (
            resource.namespaced,
            object["metadata"]["namespace"].as_str(),
        ) {
            (true, given) => given.unwrap_or("default").to_owned(),
            (false, _) => String::new(),
        };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if resource.namespaced {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let before = self
            .objects
            .insert((resource.kind, namespace, name), object.clone());
        let after = Some(object.clone());
        self.log.push(Change {
            version: self.version,
            resource,
            before,
            after,
        });
        Ok(object)
    }

    pub fn get(&self, resource: &'static Resource, namespace: &str, name: &str) -> Option<&Value> {
        self.objects
            .get(&(resource.kind, namespace.to_owned(), name.to_owned()))
    }

    pub fn delete(
        &mut self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        let mut gone =
            self.objects
                .remove(&(resource.kind, namespace.to_owned(), name.to_owned()))?;
        self.version += 1;
        let before = Some(gone.clone());
        self.log.push(Change {
            version: self.version,
            resource,
            before,
            after: None,
        });
        gone["metadata"]["resourceVersion"] = json!(self.version.to_string());
        Some(gone)
    }

    /// Every object of a resource, ordered by key.
    pub fn list(&self, resource: &'static Resource, namespace: Option<&str>) -> Vec<&Value> {
        let of_kind = self
            .objects
            .iter()
            .filter(|((kind, ..), _)| *kind == resource.kind);
        of_kind
            .filter(|((_, ns, _), _)| namespace.is_none_or(|want| want == ns))
            .map(|(_, object)| object)
            .collect()
    }

    /// Changes after this version, oldest first.
    pub fn changes_after(&self, version: u64) -> impl Iterator<Item = &Change> {
        self.log
            .iter()
            .filter(move |change| change.version > version)
    }
}
