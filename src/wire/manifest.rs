//! Objects in manifests: files instead of an apiserver.

use std::fmt;
use std::io::{self, Read};

use serde_json::{Map, Value};

use super::yaml::{self, Faults, Piece, Refusal, YamlError};
use super::{Decode, Interner, ItemError, Kind};
use crate::types::{
    Complaint, EndpointSlice, NamespacedName, Node, ObjectKind, Problem, Service, ServiceCidr,
    Subject,
};

/// At most so many complaints of one sort are kept of one text.
const MAX_COMPLAINTS: usize = 100;
/// And so many objects that can mean nothing by name; of more, any object may be one.
const MAX_UNUSABLE: usize = 50_000;

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

/// Why an object is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectError {
    /// Of an object, where it is known which one it is.
    pub(crate) complaint: Complaint,
    /// In which document, the first being 1.
    pub(crate) document: usize,
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.complaint.fmt(f)
    }
}

impl std::error::Error for ObjectError {}

/// What a text says, as far as it can be read.
#[derive(Debug, Default, PartialEq)]
pub struct Manifests {
    /// Its objects, in order.
    pub objects: Vec<Object>,
    /// Objects that can mean nothing as it stands: those of the errors, and of errors that are too many to be kept.
    pub(crate) unusable: Vec<(ObjectKind, NamespacedName)>,
    /// Something in it may be any object at all.
    pub(crate) unidentified: bool,
    /// Objects that are no mistake, but of kinds that no proxy reads: a Deployment beside its Service.
    pub(crate) foreign: usize,
    /// Why documents cannot be read.
    pub broken: Vec<YamlError>,
    /// Keys that appear twice, and the object in which they do.
    pub duplicates: Vec<(Subject, YamlError)>,
    /// What is wrong with objects that are not used.
    pub errors: Vec<ObjectError>,
}

/// Why nothing of a text can be used.
#[derive(Debug)]
pub enum ManifestError {
    /// It cannot be read.
    Read(io::Error),
    /// Nothing in it is YAML.
    Yaml(YamlError),
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot be read: {error}"),
            Self::Yaml(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ManifestError {}

/// The objects of a text, YAML or JSON: those of its documents, or of the documents' items where one is a `List` (or
/// `ServiceList` and its like). An EndpointSlice whose addresses are no IPs yields nothing. `open` begins at the text's
/// beginning each time; memory grows with what is kept.
pub fn manifests<R: Read>(
    open: impl Fn() -> io::Result<R>,
    interner: &mut Interner,
) -> Result<Manifests, ManifestError> {
    let mut collector = Collector::new(interner);
    yaml::read(open, &mut |piece| collector.take(piece)).map_err(ManifestError::Read)?;
    let mut found = collector.found;
    match collector.documents == 0 && !found.broken.is_empty() {
        true => Err(ManifestError::Yaml(found.broken.swap_remove(0))),
        false => Ok(found),
    }
}

/// Puts pieces together.
struct Collector<'i> {
    interner: &'i mut Interner,
    /// What complete documents say.
    found: Manifests,
    /// How many these are.
    documents: usize,
    items: Items,
}

/// The items of the document that is being read.
#[derive(Default)]
struct Items {
    /// What they say.
    found: Manifests,
    count: usize,
    /// What the document said that it is, if it did before them.
    of: Option<Form>,
    /// They wait for that, written out: the first of them that does not say itself what it is, and all behind it.
    waiting: Vec<(Box<str>, Option<Refusal>)>,
}

/// What `kind` and `apiVersion` make of a value.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Unnamed,
    Object(Kind),
    /// Of items that have this kind where they say none: the items of an apiserver's lists do not.
    List(Option<Kind>),
    Foreign,
    /// No kind that there is, but it looks like this one of ours.
    Mistaken(Kind),
}

impl<'i> Collector<'i> {
    fn new(interner: &'i mut Interner) -> Self {
        Self {
            interner,
            found: Manifests::default(),
            documents: 0,
            items: Items::default(),
        }
    }

    fn take(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Items(before) => {
                self.items = Items::default();
                if before.contains_key("kind") && before.contains_key("apiVersion") {
                    self.items.of = Some(Form::of(before));
                }
            }
            Piece::Item(item, faults) => self.item(item, faults),
            Piece::Document(document, faults) => self.document(document, faults),
            Piece::Broken(error) => {
                self.items = Items::default();
                self.found.unidentified = true;
                bounded(&mut self.found.broken, [error]);
            }
            Piece::Restart => {
                self.items = Items::default();
                self.found = Manifests::default();
                self.documents = 0;
            }
        }
    }

    fn item(&mut self, item: Value, faults: Faults) {
        let Faults { twice, refusal } = faults;
        self.items.found.twice(&item, twice);
        let unnamed = Form::of_value(&item) == Form::Unnamed;
        let must_wait = self.items.of.is_none() && unnamed;
        match self.items.of {
            // No item of such a document is looked at.
            Some(Form::Unnamed | Form::Object(_) | Form::Foreign | Form::Mistaken(_)) => {}
            _ if must_wait || !self.items.waiting.is_empty() => {
                let waiting = (item.to_string().into(), refusal);
                self.items.waiting.push(waiting);
            }
            Some(Form::List(kind)) => self.items.read(item, refusal, kind, self.interner),
            None => self.items.read(item, refusal, None, self.interner),
        }
    }

    fn document(&mut self, document: Value, faults: Faults) {
        self.documents += 1;
        let items = std::mem::take(&mut self.items);
        let mut found = items.end(&document, self.interner);
        found.twice(&document, faults.twice);
        collect(document, faults.refusal, None, self.interner, &mut found);
        for error in &mut found.errors {
            error.document = self.documents;
        }
        self.found.append(found);
    }
}

impl Items {
    fn read(
        &mut self,
        item: Value,
        refusal: Option<Refusal>,
        listed: Option<Kind>,
        interner: &mut Interner,
    ) {
        let found = &mut self.found;
        collect_item(self.count, item, refusal, listed, interner, found);
        self.count += 1;
    }

    /// What they say, now that the rest of the document is known.
    fn end(mut self, document: &Value, interner: &mut Interner) -> Manifests {
        let form = Form::of_value(document);
        let (Form::List(kind), Some(Value::Array(_))) = (form, document.get("items")) else {
            return self.void();
        };
        if self.of.is_some_and(|of| of != form) {
            let mut found = self.void();
            let problem = Problem::new("kind", "another one is given behind the items");
            found.refuse(nameless("object", document), problem);
            return found;
        }
        for (item, refusal) in std::mem::take(&mut self.waiting) {
            // We wrote it.
            let item = serde_json::from_str(&item).unwrap_or_default();
            self.read(item, refusal, kind, interner);
        }
        self.found
    }

    /// They are no objects after all.
    fn void(self) -> Manifests {
        Manifests {
            duplicates: self.found.duplicates,
            ..Manifests::default()
        }
    }
}

impl Form {
    fn of_value(value: &Value) -> Self {
        value.as_object().map_or(Self::Unnamed, Self::of)
    }

    fn of(fields: &Map<String, Value>) -> Self {
        let text = |field: &str| fields.get(field).and_then(Value::as_str);
        let Some(kind) = text("kind") else {
            return Self::Unnamed;
        };
        let version = text("apiVersion").unwrap_or_default();
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let find = |name: &str| {
            Kind::ALL
                .into_iter()
                .find(|kind| kind.as_str() == name && kind.group() == group)
        };
        match (find(kind), kind.strip_suffix("List")) {
            (Some(kind), _) => return Self::Object(kind),
            (None, Some("")) if version == "v1" => return Self::List(None),
            (None, Some(item)) => {
                if let Some(kind) = find(item) {
                    return Self::List(Some(kind));
                }
            }
            (None, None) => {}
        }
        // Kubernetes' own groups have no kinds of these names but ours. Others' may: Knative has Services, too.
        let own = ["", "core"].contains(&group) || group.ends_with(".k8s.io");
        let same = |ours: &Kind| singular(ours.as_str()) == singular(kind);
        let meant = Kind::ALL
            .into_iter()
            .find(same)
            .filter(|_| own && !version.is_empty());
        meant.map_or(Self::Foreign, Self::Mistaken)
    }
}

/// A kind's name without what is easily mistaken: `services` for Service.
fn singular(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.trim_end_matches('s').to_owned()
}

impl Manifests {
    fn refuse(&mut self, subject: Subject, problem: Problem) {
        match &subject {
            Subject::Object(kind, name) if self.unusable.len() < MAX_UNUSABLE => {
                self.unusable.push((*kind, name.clone()));
            }
            Subject::Object(..) | Subject::Kind(_) | Subject::Other(_) => self.unidentified = true,
        }
        let complaint = Complaint { subject, problem };
        bounded(
            &mut self.errors,
            [ObjectError {
                complaint,
                document: 0,
            }],
        );
    }

    /// Keys that appear twice in an object.
    fn twice(&mut self, object: &Value, errors: Vec<YamlError>) {
        if errors.is_empty() {
            return;
        }
        let kind = object.get("kind").and_then(Value::as_str);
        let known = match Form::of_value(object) {
            Form::Object(kind) => identified(object, kind),
            Form::Unnamed | Form::List(_) | Form::Foreign | Form::Mistaken(_) => None,
        };
        let object = known.unwrap_or_else(|| nameless(kind.unwrap_or("object"), object));
        let errors = errors.into_iter().map(|error| (object.clone(), error));
        bounded(&mut self.duplicates, errors);
    }

    fn append(&mut self, mut more: Self) {
        // The first of them, and most of the time the only one, as it is.
        if self.objects.is_empty() {
            self.objects = more.objects;
        } else {
            self.objects.append(&mut more.objects);
        }
        self.unusable.append(&mut more.unusable);
        self.unidentified |= more.unidentified || self.unusable.len() > MAX_UNUSABLE;
        self.unusable.truncate(MAX_UNUSABLE);
        self.foreign += more.foreign;
        bounded(&mut self.broken, more.broken);
        bounded(&mut self.duplicates, more.duplicates);
        bounded(&mut self.errors, more.errors);
    }
}

fn bounded<T>(kept: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    let room = MAX_COMPLAINTS.saturating_sub(kept.len());
    kept.extend(more.into_iter().take(room));
}

/// `listed`: the kind of the list that this is an item of, since such items have none themselves.
fn collect(
    value: Value,
    refusal: Option<Refusal>,
    listed: Option<Kind>,
    interner: &mut Interner,
    found: &mut Manifests,
) {
    let kind = value
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or("object");
    match (Form::of_value(&value), listed) {
        (Form::Object(kind), _) | (Form::Unnamed, Some(kind)) => match refusal {
            None => object(&value, kind, interner, found),
            Some(refusal) => {
                let subject = identified(&value, kind);
                let subject = subject.unwrap_or_else(|| nameless(kind.as_str(), &value));
                found.refuse(subject, Problem::new("", refusal));
            }
        },
        (Form::Unnamed, None) => {
            let problem = match refusal {
                None => Problem::new("kind", "missing"),
                Some(refusal) => Problem::new("", refusal),
            };
            found.refuse(nameless(kind, &value), problem);
        }
        (Form::Mistaken(meant), _) => {
            let (meant, group) = (meant.as_str(), meant.group());
            let version = match group {
                "" => "v1".to_owned(),
                group => format!("{group}/v1"),
            };
            let what =
                format!("there is no such kind; did you mean {meant}, with apiVersion {version}?");
            found.refuse(nameless(kind, &value), Problem::new("kind", what));
        }
        (Form::Foreign, _) => match value.get("apiVersion").and_then(Value::as_str) {
            None | Some("") => {
                found.refuse(
                    nameless(kind, &value),
                    Problem::new("apiVersion", "missing"),
                );
            }
            Some(_) => found.foreign += 1,
        },
        (Form::List(listed), _) => match value.get("items") {
            Some(Value::Null) | None => {}
            Some(Value::Array(_)) => {
                let Value::Object(mut value) = value else {
                    return;
                };
                if let Some(Value::Array(items)) = value.remove("items") {
                    for (i, item) in items.into_iter().enumerate() {
                        collect_item(i, item, None, listed, interner, found);
                    }
                }
            }
            Some(_) => {
                let problem = Problem::new("items", "expected a list");
                found.refuse(nameless(kind, &value), problem);
            }
        },
    }
}

fn collect_item(
    index: usize,
    item: Value,
    refusal: Option<Refusal>,
    listed: Option<Kind>,
    interner: &mut Interner,
    found: &mut Manifests,
) {
    let before = found.errors.len();
    collect(item, refusal, listed, interner, found);
    for error in found.errors.iter_mut().skip(before) {
        let complaint = &mut error.complaint;
        // Where to look for what has no name.
        if !matches!(complaint.subject, Subject::Object(..)) {
            complaint.locate(format_args!("items[{index}]"));
        }
    }
}

/// An object of a kind and with a name that we know.
fn identified(value: &Value, kind: Kind) -> Option<Subject> {
    let metadata = value.get("metadata")?;
    let of = |field: &str| match metadata.get(field) {
        None | Some(Value::Null) => Some(""),
        Some(text) => text.as_str(),
    };
    let namespace = Some(of("namespace")?).filter(|namespace| !namespace.is_empty());
    let name = kind.key(namespace, of("name")?)?;
    Some(Subject::Object(kind.into(), name))
}

/// `KIND namespace/name` of what is no object, as far as it says so.
fn nameless(kind: &str, value: &Value) -> Subject {
    let of = |field: &str| {
        let text = value.get("metadata")?.get(field)?.as_str();
        text.filter(|text| !text.is_empty())
    };
    let name = match (of("namespace"), of("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (_, None) => kind.to_string(),
    };
    Subject::Other(name.into())
}

fn object(value: &Value, kind: Kind, interner: &mut Interner, found: &mut Manifests) {
    match kind {
        Kind::Service => decode(kind, value, interner, Object::Service, found),
        Kind::EndpointSlice | Kind::Endpoints => {
            decode(kind, value, interner, Object::EndpointSlice, found);
        }
        Kind::Node => decode(kind, value, interner, Object::Node, found),
        Kind::ServiceCidr => decode(kind, value, interner, Object::ServiceCidr, found),
    }
}

fn decode<T: Decode>(
    kind: Kind,
    value: &Value,
    interner: &mut Interner,
    wrap: fn(T) -> Object,
    found: &mut Manifests,
) {
    // Writing the value out again saves a second way of decoding.
    match T::decode(kind, &value.to_string(), interner) {
        Ok(item) => match item.object {
            Ok(object) => found.objects.extend(object.map(wrap)),
            Err(problem) => {
                found.refuse(Subject::Object(T::KIND, item.name), problem);
            }
        },
        Err(ItemError { problem }) => {
            found.refuse(nameless(kind.as_str(), value), problem);
        }
    }
}
