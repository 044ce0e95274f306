//! What differs between the kinds of objects: everything else in this module is written once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::types::{
    CowMap, EndpointSlice, NamespacedName, Node, Object, Service, ServiceCidr, Slices,
};

/// One kind of object: how it is stored, what listeners see, and the thread that merges it.
pub trait Kind: 'static {
    /// What sources deliver.
    type Object: Object;
    /// What a snapshot holds under a key.
    type Value: Clone + PartialEq + Send + Sync + 'static;
    /// The merge thread's name.
    const THREAD: &'static str;
    /// The kind's plural, for messages.
    const PLURAL: &'static str;

    /// Carries edits of merged objects over to what listeners see; returns the keys that may look different now.
    fn merge(
        view: &mut CowMap<NamespacedName, Self::Value>,
        edits: Vec<Edit<Self::Object>>,
    ) -> Vec<NamespacedName>;
}

/// One object of the merged state: what it was, what it is. Both are the same key's.
#[derive(Debug)]
pub struct Edit<T> {
    /// None: the key is new.
    pub(crate) old: Option<Arc<T>>,
    /// None: the key is gone.
    pub(crate) new: Option<Arc<T>>,
}

/// Services by their own key.
#[derive(Debug)]
pub struct Services;

/// EndpointSlices (or Endpoints), by the Service they belong to.
#[derive(Debug)]
pub struct Endpoints;

/// Nodes by name.
#[derive(Debug)]
pub struct Nodes;

/// ServiceCIDRs by name.
#[derive(Debug)]
pub(crate) struct ServiceCidrs;

impl Kind for Services {
    type Object = Service;
    type Value = Arc<Service>;
    const THREAD: &'static str = "svc-merge";
    const PLURAL: &'static str = "services";

    fn merge(
        view: &mut CowMap<NamespacedName, Arc<Service>>,
        edits: Vec<Edit<Service>>,
    ) -> Vec<NamespacedName> {
        by_own_key(view, edits)
    }
}

impl Kind for Nodes {
    type Object = Node;
    type Value = Arc<Node>;
    const THREAD: &'static str = "node-merge";
    const PLURAL: &'static str = "nodes";

    fn merge(
        view: &mut CowMap<NamespacedName, Arc<Node>>,
        edits: Vec<Edit<Node>>,
    ) -> Vec<NamespacedName> {
        by_own_key(view, edits)
    }
}

impl Kind for ServiceCidrs {
    type Object = ServiceCidr;
    type Value = Arc<ServiceCidr>;
    const THREAD: &'static str = "cidr-merge";
    const PLURAL: &'static str = "ServiceCIDRs";

    fn merge(
        view: &mut CowMap<NamespacedName, Arc<ServiceCidr>>,
        edits: Vec<Edit<ServiceCidr>>,
    ) -> Vec<NamespacedName> {
        by_own_key(view, edits)
    }
}

impl Kind for Endpoints {
    type Object = EndpointSlice;
    type Value = Slices;
    const THREAD: &'static str = "eps-merge";
    const PLURAL: &'static str = "endpoints";

    fn merge(
        view: &mut CowMap<NamespacedName, Slices>,
        edits: Vec<Edit<EndpointSlice>>,
    ) -> Vec<NamespacedName> {
        // Grouped first: a Service's list is rebuilt once, however many of its slices an update touches.
        let mut services: HashMap<NamespacedName, Vec<SliceEdit>> = HashMap::new();
        for Edit { old, new } in edits {
            if let Some(old) = old {
                let edits = services.entry(old.service.clone()).or_default();
                edits.push(SliceEdit::Leave(old));
            }
            if let Some(new) = new {
                let edits = services.entry(new.service.clone()).or_default();
                edits.push(SliceEdit::Join(new));
            }
        }
        let mut touched = Vec::with_capacity(services.len());
        for (service, edits) in services {
            regroup(view, &service, edits);
            touched.push(service);
        }
        touched
    }
}

/// What happens to one Service's list of slices.
enum SliceEdit {
    Leave(Arc<EndpointSlice>),
    Join(Arc<EndpointSlice>),
}

fn regroup(
    view: &mut CowMap<NamespacedName, Slices>,
    service: &NamespacedName,
    edits: Vec<SliceEdit>,
) {
    let current = view.get(service).into_iter().flat_map(|all| all.iter());
    let mut slices: BTreeMap<NamespacedName, Arc<EndpointSlice>> = current
        .map(|slice| (slice.name.clone(), slice.clone()))
        .collect();
    for edit in edits {
        match edit {
            SliceEdit::Leave(slice) => slices.remove(&slice.name),
            SliceEdit::Join(slice) => slices.insert(slice.name.clone(), slice),
        };
    }
    if slices.is_empty() {
        view.remove(service);
    } else {
        view.insert(service.clone(), slices.into_values().collect());
    }
}

/// The view of a kind whose objects stand for themselves.
fn by_own_key<T: Object>(
    view: &mut CowMap<NamespacedName, Arc<T>>,
    edits: Vec<Edit<T>>,
) -> Vec<NamespacedName> {
    let mut touched = Vec::with_capacity(edits.len());
    for Edit { old, new } in edits {
        match (old, new) {
            (_, Some(new)) => {
                let key = new.name().clone();
                touched.push(key.clone());
                view.insert(key, new);
            }
            (Some(old), None) => {
                view.remove(old.name());
                touched.push(old.name().clone());
            }
            (None, None) => {}
        }
    }
    touched
}
