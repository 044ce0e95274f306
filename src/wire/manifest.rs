//! Objects in manifests: files instead of an apiserver.

use std::fmt;

use serde_json::Value;

use super::{Decode, Interner, ItemError, Kind};
use crate::types::{EndpointSlice, NamespacedName, Node, Service, ServiceCidr};

/// An object of any kind that we read.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Object {
    Service(Service),
    /// An EndpointSlice, or an Endpoints.
    EndpointSlice(EndpointSlice),
    Node(Node),
    ServiceCidr(ServiceCidr),
}

/// Why a document, or one of the objects in it, is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectError {
    /// Kind and name, as far as they are known.
    pub object: String,
    /// `field: what`.
    pub problem: String,
    /// Which object it is, where at least that is known.
    pub key: Option<(Kind, NamespacedName)>,
    /// No mistake, just none of the kinds that a proxy reads: a Deployment beside its Service.
    pub foreign: bool,
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.problem)
    }
}

impl std::error::Error for ObjectError {}

/// The objects in one document: one, or those of a `List` (or `ServiceList` and its like). An EndpointSlice whose addresses
/// are no IPs yields nothing.
pub fn objects(document: Value, interner: &mut Interner) -> Vec<Result<Object, ObjectError>> {
    let mut objects = Vec::new();
    collect(document, None, interner, &mut objects);
    objects
}

/// `listed`: the kind of the list that this is an item of, since such items have none themselves.
fn collect(
    value: Value,
    listed: Option<Kind>,
    interner: &mut Interner,
    objects: &mut Vec<Result<Object, ObjectError>>,
) {
    let error = |object: &str, problem: String| ObjectError {
        object: described(object, &value),
        problem,
        key: None,
        foreign: false,
    };
    let foreign = |version: &str, kind: &str| {
        if version.is_empty() {
            return error(kind, "apiVersion: missing".to_string());
        }
        let problem = format!("{version} {kind} is no kind that a proxy reads");
        ObjectError {
            foreign: true,
            ..error(kind, problem)
        }
    };
    let Some(kind) = value.get("kind").and_then(Value::as_str) else {
        match listed {
            Some(kind) => object(&value, kind, interner, objects),
            None => objects.push(Err(error("object", "kind: missing".to_string()))),
        }
        return;
    };
    let version = value
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or("");
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let find = |name: &str| {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name && kind.group() == group)
    };
    if let Some(kind) = find(kind) {
        object(&value, kind, interner, objects);
    } else if let Some(item_kind) = kind.strip_suffix("List") {
        let listed = find(item_kind);
        if listed.is_none() && (item_kind, version) != ("", "v1") {
            objects.push(Err(foreign(version, kind)));
            return;
        }
        match value.get("items") {
            Some(Value::Array(_)) => {}
            Some(Value::Null) | None => return,
            Some(_) => {
                objects.push(Err(error(kind, "items: expected a list".to_string())));
                return;
            }
        }
        let Value::Object(mut value) = value else {
            return;
        };
        if let Some(Value::Array(items)) = value.remove("items") {
            for (i, item) in items.into_iter().enumerate() {
                let before = objects.len();
                collect(item, listed, interner, objects);
                // Where to look for what has no name.
                for error in objects
                    .iter_mut()
                    .skip(before)
                    .filter_map(|o| o.as_mut().err())
                {
                    if error.key.is_none() {
                        error.problem.push_str(&format!(" (items[{i}])"));
                    }
                }
            }
        }
    } else {
        objects.push(Err(foreign(version, kind)));
    }
}

/// `KIND namespace/name` of an object, as far as it says so.
pub fn described(kind: &str, value: &Value) -> String {
    let of = |field: &str| {
        let text = value.get("metadata")?.get(field)?.as_str();
        text.filter(|text| !text.is_empty())
    };
    match (of("namespace"), of("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (_, None) => kind.to_string(),
    }
}

fn object(
    value: &Value,
    kind: Kind,
    interner: &mut Interner,
    objects: &mut Vec<Result<Object, ObjectError>>,
) {
    let decoded = match kind {
        Kind::Service => decode(kind, value, interner, Object::Service),
        Kind::EndpointSlice | Kind::Endpoints => {
            decode(kind, value, interner, Object::EndpointSlice)
        }
        Kind::Node => decode(kind, value, interner, Object::Node),
        Kind::ServiceCidr => decode(kind, value, interner, Object::ServiceCidr),
    };
    objects.extend(decoded);
}

fn decode<T: Decode>(
    kind: Kind,
    value: &Value,
    interner: &mut Interner,
    wrap: fn(T) -> Object,
) -> Option<Result<Object, ObjectError>> {
    // Manifests are small: writing the value out again saves a second way of decoding.
    match T::decode(kind, &value.to_string(), interner) {
        Ok(item) => match item.object {
            Ok(object) => object.map(|object| Ok(wrap(object))),
            Err(problem) => Some(Err(ObjectError {
                object: format!("{} {}", T::KIND, item.name),
                problem: problem.into(),
                key: Some((kind, item.name)),
                foreign: false,
            })),
        },
        Err(ItemError { problem }) => Some(Err(ObjectError {
            object: described(kind.as_str(), value),
            problem: problem.into(),
            key: None,
            foreign: false,
        })),
    }
}
