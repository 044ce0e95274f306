//! A kubeconfig's objects, each with its path for messages.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::user::Material;

/// An object inside the kubeconfig.
pub(super) struct Section<'v> {
    path: String,
    /// None where there is nothing inside.
    value: Option<&'v Map<String, Value>>,
}

impl<'v> Section<'v> {
    pub(super) fn root(document: &'v Value) -> Result<Self, String> {
        let value = document.as_object().ok_or("not a kubeconfig")?;
        Ok(Self {
            path: String::new(),
            value: Some(value),
        })
    }

    pub(super) fn empty(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            value: None,
        }
    }

    pub(super) fn at(&self, field: &str, problem: &str) -> String {
        match self.path.as_str() {
            "" => format!("{field}: {problem}"),
            path => format!("{path}.{field}: {problem}"),
        }
    }

    pub(super) fn field(&self, field: &str) -> Option<&'v Value> {
        self.value?.get(field).filter(|value| !value.is_null())
    }

    /// An object inside of this one; None if it is not there or null.
    pub(super) fn section(&self, field: &str) -> Result<Option<Section<'v>>, String> {
        match self.field(field) {
            None => Ok(None),
            Some(Value::Object(value)) => Ok(Some(Section {
                path: format!("{}.{field}", self.path),
                value: Some(value),
            })),
            Some(_) => Err(self.at(field, "expected an object")),
        }
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&'v str>, String> {
        match self.field(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.at(field, "expected a string")),
        }
    }

    /// As client-go has it: empty is absent.
    pub(super) fn filled(&self, field: &str) -> Result<Option<&'v str>, String> {
        Ok(self.text(field)?.filter(|text| !text.is_empty()))
    }

    pub(super) fn required(&self, field: &str) -> Result<&'v str, String> {
        self.filled(field)?.ok_or_else(|| self.at(field, "missing"))
    }

    pub(super) fn flag(&self, field: &str) -> Result<bool, String> {
        match self.field(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.at(field, "expected true or false")),
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'v str> {
        self.value
            .into_iter()
            .flat_map(|value| value.keys())
            .map(String::as_str)
    }

    pub(super) fn list(&self, field: &str) -> Result<&'v [Value], String> {
        match self.field(field) {
            None => Ok(&[]),
            Some(Value::Array(entries)) => Ok(entries),
            Some(_) => Err(self.at(field, "expected a list")),
        }
    }

    pub(super) fn texts(&self, field: &str) -> Result<Vec<String>, String> {
        let texts = self.list(field)?.iter().map(|entry| match entry {
            Value::String(text) => Ok(text.clone()),
            _ => Err(self.at(field, "expected strings")),
        });
        texts.collect()
    }

    /// `contexts: [{name: ..., context: {...}}]` and its like. None without an entry of that name; one without content is
    /// there, and empty.
    pub(super) fn named(
        &self,
        list: &str,
        name: &str,
        field: &str,
    ) -> Result<Option<Section<'v>>, String> {
        let entries = self.list(list)?.iter();
        let mut entries =
            entries.filter(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
        let Some(entry) = entries.next() else {
            return Ok(None);
        };
        let path = format!("{list}[{name}].{field}");
        match entry.get(field).filter(|value| !value.is_null()) {
            None => Ok(Some(Section::empty(&path))),
            Some(Value::Object(value)) => Ok(Some(Section {
                path,
                value: Some(value),
            })),
            Some(_) => Err(format!("{path}: expected an object")),
        }
    }

    /// The names in such a list, for a message.
    pub(super) fn names(&self, list: &str) -> String {
        let entries = self.list(list).unwrap_or_default().iter();
        let names = entries.filter_map(|entry| entry.get("name")?.as_str());
        let names: Vec<String> = names.take(10).map(|name| format!("{name:?}")).collect();
        match names.is_empty() {
            true => "there are none".to_owned(),
            false => format!("there are {}", names.join(", ")),
        }
    }

    /// `NAME-data` (base64), else the file `NAME`.
    pub(super) fn material(&self, name: &str, folder: &Path) -> Result<Option<Material>, String> {
        let data_field = format!("{name}-data");
        if let Some(data) = self.filled(&data_field)? {
            // Folded YAML leaves line breaks inside.
            let data: String = data.split_whitespace().collect();
            let data = STANDARD
                .decode(data)
                .map_err(|error| self.at(&data_field, &format!("no base64: {error}")))?;
            return Ok(Some(Material::Data(data)));
        }
        let file = self.filled(name)?;
        Ok(file.map(|file| Material::File(folder.join(file))))
    }
}
