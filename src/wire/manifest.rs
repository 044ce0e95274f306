//! Objects in manifests: files instead of an apiserver.

use std::fmt;

use serde_json::Value;

use super::{Decode, Interner, ItemError, Kind};
use crate::types::{EndpointSlice, Node, Service, ServiceCidr};

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
    let name = value.pointer("/metadata/name").and_then(Value::as_str);
    let error = |object: &str, problem: String| ObjectError {
        object: match name {
            Some(name) => format!("{object} {name}"),
            None => object.to_string(),
        },
        problem,
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
            for item in items {
                collect(item, listed, interner, objects);
            }
        }
    } else {
        objects.push(Err(foreign(version, kind)));
    }
}

fn object(
    value: &Value,
    kind: Kind,
    interner: &mut Interner,
    objects: &mut Vec<Result<Object, ObjectError>>,
) {
    // Manifests are small: writing the value out again saves a second way of decoding.
    let text = value.to_string();
    let decoded = match kind {
        Kind::Service => decode(kind, &text, interner, Object::Service),
        Kind::EndpointSlice | Kind::Endpoints => {
            decode(kind, &text, interner, Object::EndpointSlice)
        }
        Kind::Node => decode(kind, &text, interner, Object::Node),
        Kind::ServiceCidr => decode(kind, &text, interner, Object::ServiceCidr),
    };
    objects.extend(decoded);
}

fn decode<T: Decode>(
    kind: Kind,
    text: &str,
    interner: &mut Interner,
    wrap: fn(T) -> Object,
) -> Option<Result<Object, ObjectError>> {
    match T::decode(kind, text, interner) {
        Ok(item) => match item.object {
            Ok(object) => object.map(|object| Ok(wrap(object))),
            Err(problem) => Some(Err(ObjectError {
                object: format!("{} {}", kind.as_str(), item.name),
                problem: problem.into(),
                foreign: false,
            })),
        },
        Err(ItemError { problem }) => Some(Err(ObjectError {
            object: kind.as_str().to_string(),
            problem: problem.into(),
            foreign: false,
        })),
    }
}
