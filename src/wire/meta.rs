//! What every object has: identity, version, and the few labels and annotations that a proxy reads.

use std::fmt;

use serde::Deserialize;

use super::Kind;
use super::lenient::{Field, Nested, Struct, Text};
use crate::types::{NamespacedName, Problem, Problems};

/// One decoded object of a list or an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Item<T> {
    /// Its key.
    pub name: NamespacedName,
    /// `metadata.resourceVersion`; empty in manifests.
    pub(crate) resource_version: Box<str>,
    /// The object; None if it is of a sort that is not for us (such as an EndpointSlice of DNS names); an error if it can
    /// mean nothing.
    pub object: Result<Option<T>, Problem>,
}

/// An object that cannot even be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemError {
    /// Of a field, or what the JSON parser said.
    pub(crate) problem: Problem,
}

impl ItemError {
    pub(super) fn new(field: &str, what: impl fmt::Display) -> Self {
        Self {
            problem: Problem::new(field, what),
        }
    }
}

impl fmt::Display for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for ItemError {}

/// `metadata`. Most of it (managedFields above all) is skipped unread.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Meta<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    namespace: Text<'a>,
    #[serde(borrow)]
    resource_version: Text<'a>,
    #[serde(borrow)]
    pub(crate) labels: Nested<Labels<'a>>,
    #[serde(borrow)]
    pub(crate) annotations: Nested<Annotations<'a>>,
    #[serde(borrow)]
    pub(crate) deletion_timestamp: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Labels<'a> {
    #[serde(borrow, rename = "kubernetes.io/service-name")]
    pub(crate) service_name: Text<'a>,
    #[serde(borrow, rename = "service.kubernetes.io/service-proxy-name")]
    pub(crate) service_proxy_name: Text<'a>,
    /// Its presence counts, whatever its value.
    #[serde(borrow, rename = "service.kubernetes.io/headless")]
    pub(crate) headless: Text<'a>,
    #[serde(borrow, rename = "topology.kubernetes.io/zone")]
    pub(crate) zone: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotations<'a> {
    #[serde(borrow, rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub(crate) last_change_trigger_time: Text<'a>,
    #[serde(borrow, rename = "k8s.io/initial-events-end")]
    pub(crate) initial_events_end: Text<'a>,
}

impl Meta<'_> {
    /// Has the label by which Services, and what belongs to them, are left alone.
    pub(super) fn is_labelled_headless(&self) -> bool {
        match &self.labels {
            Field::Present(Struct(labels)) => labels.headless != Field::Absent,
            Field::Absent | Field::Wrong(_) => false,
        }
    }

    /// What of the labels and annotations cannot be read.
    pub(crate) fn check(&self, problems: &mut Problems) {
        if let Field::Wrong(found) = self.labels {
            problems.add(
                "metadata.labels",
                format_args!("expected an object, found {found}"),
            );
        }
        if let Field::Wrong(found) = self.annotations {
            problems.add(
                "metadata.annotations",
                format_args!("expected an object, found {found}"),
            );
        }
        let mut texts: Vec<(&str, &Text<'_>)> = Vec::new();
        if let Field::Present(Struct(labels)) = &self.labels {
            texts.extend([
                ("labels[kubernetes.io/service-name]", &labels.service_name),
                (
                    "labels[service.kubernetes.io/service-proxy-name]",
                    &labels.service_proxy_name,
                ),
                ("labels[topology.kubernetes.io/zone]", &labels.zone),
            ]);
        }
        if let Field::Present(Struct(annotations)) = &self.annotations {
            texts.push((
                "annotations[endpoints.kubernetes.io/last-change-trigger-time]",
                &annotations.last_change_trigger_time,
            ));
        }
        for (name, text) in texts {
            if let Field::Wrong(found) = text {
                problems.add(
                    format_args!("metadata.{name}"),
                    format_args!("expected a string, found {found}"),
                );
            }
        }
    }
}

/// The identity of an object, and what is left of its metadata.
pub(super) struct Identity<'a> {
    pub(crate) name: NamespacedName,
    pub(crate) resource_version: Box<str>,
    pub(crate) meta: Meta<'a>,
}

impl<'a> Identity<'a> {
    /// Checks kind and name. Lists leave out their items' kind; in events it must be right.
    pub(crate) fn of(
        found_kind: &Text<'_>,
        metadata: Nested<Meta<'a>>,
        kind: Kind,
    ) -> Result<Self, ItemError> {
        match found_kind {
            Text::Present(found) if found != kind.as_str() => {
                let expected = kind.as_str();
                return Err(ItemError::new(
                    "kind",
                    format_args!("expected {expected}, found {found}"),
                ));
            }
            Text::Present(_) | Text::Absent | Text::Wrong(_) => {}
        }
        let mut problems = Problems::default();
        let meta = metadata.take(format_args!("metadata"), &mut problems);
        let Some(Struct(mut meta)) = meta else {
            return Err(nameless(problems, "metadata"));
        };
        let name = std::mem::take(&mut meta.name);
        let name = name.take(format_args!("metadata.name"), &mut problems);
        let namespace = std::mem::take(&mut meta.namespace);
        // Taken for the default namespace it would be another object.
        if namespace.is_wrong() {
            namespace.take(format_args!("metadata.namespace"), &mut problems);
            return Err(nameless(problems, "metadata.namespace"));
        }
        let namespace = namespace.ok();
        let namespace = namespace.as_deref().filter(|name| !name.is_empty());
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(nameless(problems, "metadata.name"));
        };
        let Some(key) = kind.key(namespace, &name) else {
            let namespace = namespace.map(|namespace| format!("{namespace}/"));
            let namespace = namespace.unwrap_or_default();
            return Err(ItemError::new(
                "metadata.name",
                format_args!("{namespace}{name} is no name"),
            ));
        };
        let resource_version = std::mem::take(&mut meta.resource_version).ok();
        Ok(Self {
            name: key,
            resource_version: resource_version.unwrap_or_default().into(),
            meta,
        })
    }

    /// The item with this identity.
    pub(crate) fn item<T>(self, object: Result<Option<T>, Problem>) -> Item<T> {
        Item {
            name: self.name,
            resource_version: self.resource_version,
            object,
        }
    }
}

/// The wrong type of a field explains its absence best.
pub(super) fn first(problems: Problems, otherwise: Problem) -> Problem {
    problems.into_first().unwrap_or(otherwise)
}

fn nameless(problems: Problems, field: &str) -> ItemError {
    ItemError {
        problem: first(problems, Problem::new(field, "missing")),
    }
}

/// Parses one object's text into a raw struct.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ItemError> {
    serde_json::from_str(text).map_err(|error| ItemError::new("", error))
}
