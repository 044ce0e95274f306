//! What is known of an object that is not kept: who it is.

use serde_json::{Map, Value};

use super::Kind;
use crate::types::NamespacedName;

/// Names longer than this are none (253 is Kubernetes' own limit; escapes may take more).
const LONGEST: usize = 1024;

/// Reads over an object's text, in any pieces, and keeps its identity.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) resource_version: Option<String>,
    /// Brackets that are open, the text's own being the first.
    depth: usize,
    inside: Within,
    /// The string that is being read or was read last, with its quotes.
    token: Vec<u8>,
    /// A value comes, not a key.
    value: bool,
    /// The key that was read last in the object itself, and in what stands there.
    keys: [Option<IdentityField>; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Within {
    #[default]
    Plain,
    Quotes,
    Escape,
}

/// The keys that count.
#[derive(Clone, Copy, Debug, PartialEq)]
enum IdentityField {
    ApiVersion,
    Kind,
    Metadata,
    Namespace,
    Name,
    ResourceVersion,
}

impl Outline {
    /// Of `metadata` alone.
    pub(super) fn of_metadata() -> Self {
        Self {
            depth: 1,
            keys: [Some(IdentityField::Metadata), None],
            ..Self::default()
        }
    }

    /// What comes next of the text.
    pub(super) fn draw(&mut self, text: &[u8]) {
        for byte in text {
            match self.inside {
                Within::Plain => self.plain(*byte),
                Within::Quotes | Within::Escape if self.depth > 2 => self.inside = self.next(*byte),
                Within::Quotes | Within::Escape => {
                    if self.token.len() <= LONGEST {
                        self.token.push(*byte);
                    }
                    self.inside = self.next(*byte);
                    if self.inside == Within::Plain && self.value {
                        self.string();
                    }
                }
            }
        }
    }

    /// The name of the object, which is of this kind.
    pub(super) fn key(&self, kind: Kind) -> Option<NamespacedName> {
        kind.key(self.namespace.as_deref(), self.name.as_deref()?)
    }

    /// What is known of the object.
    pub(super) fn object(self) -> Value {
        let text = |text: &Option<String>| text.clone().map(Value::String);
        let fields = [
            ("apiVersion", text(&self.api_version)),
            ("kind", text(&self.kind)),
            ("metadata", Some(self.metadata())),
        ];
        object(fields)
    }

    /// What is known of its `metadata`.
    pub(super) fn metadata(self) -> Value {
        let fields = [
            ("namespace", self.namespace.map(Value::String)),
            ("name", self.name.map(Value::String)),
        ];
        object(fields)
    }

    /// Where the text is behind a byte within quotes.
    fn next(&self, byte: u8) -> Within {
        match (self.inside, byte) {
            (Within::Quotes, b'"') => Within::Plain,
            (Within::Quotes, b'\\') => Within::Escape,
            (Within::Plain | Within::Quotes | Within::Escape, _) => Within::Quotes,
        }
    }

    fn plain(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.inside = Within::Quotes;
                self.token.clear();
                self.token.push(byte);
            }
            b'{' | b'[' => {
                self.depth = self.depth.saturating_add(1);
                self.value = byte == b'[';
                if self.depth == 2 {
                    self.keys[1] = None;
                }
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' => self.value = false,
            b':' => {
                self.value = true;
                let key = self.read().and_then(|key| IdentityField::of(&key));
                if let Some(place) = self.depth.checked_sub(1).and_then(|i| self.keys.get_mut(i)) {
                    *place = key;
                }
            }
            _ => {}
        }
    }

    /// A string that is a value has ended.
    fn string(&mut self) {
        let place = match (self.depth, self.keys) {
            (1, [Some(IdentityField::ApiVersion), _]) => &mut self.api_version,
            (1, [Some(IdentityField::Kind), _]) => &mut self.kind,
            (
                2,
                [
                    Some(IdentityField::Metadata),
                    Some(IdentityField::Namespace),
                ],
            ) => &mut self.namespace,
            (2, [Some(IdentityField::Metadata), Some(IdentityField::Name)]) => &mut self.name,
            (
                2,
                [
                    Some(IdentityField::Metadata),
                    Some(IdentityField::ResourceVersion),
                ],
            ) => &mut self.resource_version,
            _ => return,
        };
        *place = serde_json::from_slice(&self.token).ok();
    }

    fn read(&self) -> Option<String> {
        serde_json::from_slice(&self.token).ok()
    }
}

impl IdentityField {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "apiVersion" => Self::ApiVersion,
            "kind" => Self::Kind,
            "metadata" => Self::Metadata,
            "namespace" => Self::Namespace,
            "name" => Self::Name,
            "resourceVersion" => Self::ResourceVersion,
            _ => return None,
        })
    }
}

/// An object of these fields, as far as there are any.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter();
    let entries: Map<String, Value> = fields
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect();
    Value::Object(entries)
}
