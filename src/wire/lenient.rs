//! Fields that may hold anything. A field of the wrong type costs that field, not its object, and is reported by its path.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use crate::types::Problems;

/// A field as it came. With `#[serde(default)]` on the struct, a missing one is `Absent`, as is a null.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    Present(T),
    /// Holds something else, of this kind.
    Wrong(&'static str),
}

/// A nested object whose fields are lenient themselves.
#[derive(Debug, Default)]
pub(super) struct Struct<T>(pub(crate) T);

/// `Field` of a nested object.
pub(super) type Nested<T> = Field<Struct<T>>;
/// `Field` of a list; each element is lenient by itself.
pub(super) type List<T> = Field<Vec<Field<T>>>;
/// `Field` of a string, borrowed from the text where it has no escapes.
pub(super) type Text<'a> = Field<Cow<'a, str>>;

impl<T> Field<T> {
    /// The value, if there is one. A wrong one is reported.
    pub(crate) fn take(self, path: fmt::Arguments<'_>, problems: &mut Problems) -> Option<T>
    where
        T: Shape,
    {
        match self {
            Self::Absent => None,
            Self::Present(value) => Some(value),
            Self::Wrong(found) => {
                problems.add(path, format_args!("expected {}, found {found}", T::NAME));
                None
            }
        }
    }

    /// It holds something that cannot be read.
    pub(crate) fn is_wrong(&self) -> bool {
        matches!(self, Self::Wrong(_))
    }

    /// The value, if there is a good one; for fields whose absence is all that matters.
    pub(crate) fn ok(self) -> Option<T> {
        match self {
            Self::Absent | Self::Wrong(_) => None,
            Self::Present(value) => Some(value),
        }
    }
}

/// How messages call a type.
pub(super) trait Shape {
    const NAME: &'static str;
}

/// A type that a JSON value may turn into; what it does not override it does not take.
pub(super) trait FromJson<'de>: Shape + Sized {
    fn from_text(_: Cow<'de, str>) -> Option<Self> {
        None
    }

    fn from_integer(_: i64) -> Option<Self> {
        None
    }

    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn from_object<A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl Shape for Cow<'_, str> {
    const NAME: &'static str = "a string";
}

impl<'de: 'a, 'a> FromJson<'de> for Cow<'a, str> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(text)
    }
}

impl Shape for i64 {
    const NAME: &'static str = "a number";
}

impl FromJson<'_> for i64 {
    fn from_integer(number: i64) -> Option<Self> {
        Some(number)
    }
}

impl Shape for bool {
    const NAME: &'static str = "true or false";
}

impl FromJson<'_> for bool {
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl<T> Shape for Vec<T> {
    const NAME: &'static str = "a list";
}

impl<'de, T: Deserialize<'de>> FromJson<'de> for Vec<T> {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        // No capacity from the size hint: it comes from outside.
        let mut elements = Self::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(Some(elements))
    }
}

impl<T> Shape for Struct<T> {
    const NAME: &'static str = "an object";
}

impl<'de, T: Deserialize<'de>> FromJson<'de> for Struct<T> {
    fn from_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(|value| Some(Self(value)))
    }
}

impl<'de, T: FromJson<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

fn field<T, E>(value: Option<T>, found: &'static str) -> Result<Field<T>, E> {
    Ok(value.map_or(Field::Wrong(found), Field::Present))
}

impl<'de, T: FromJson<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        field(T::from_text(Cow::Borrowed(text)), "a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        field(T::from_text(Cow::Owned(text.to_string())), "a string")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        field(T::from_integer(number), "a number")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        // Saturating: whatever is that large is out of every range here, and is then reported as such.
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        field(T::from_integer(number), "a number")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        // 8080.0 and 8e3 are whole numbers. Whatever is too large saturates, as above.
        match number.fract() == 0.0 {
            true => field(T::from_integer(number as i64), "a number"),
            false => Ok(Field::Wrong("a fraction")),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        // Somebody's name may be meant.
        let found =
            "true or false, as which YAML has yes, no, on, off, y and n, too, unless quoted";
        field(T::from_bool(value), found)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Field::Absent)
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Field::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        field(T::from_list(list)?, "a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        field(T::from_object(object)?, "an object")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Thing<'a> {
        #[serde(borrow)]
        text: Text<'a>,
        number: Field<i64>,
        list: List<i64>,
        nested: Nested<Inner>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Inner {
        flag: Field<bool>,
    }

    fn read(text: &str) -> Thing<'_> {
        serde_json::from_str(text).expect("well-formed")
    }

    #[test]
    fn any_json_is_taken_and_what_is_wrong_is_said() {
        let values = [
            "1",
            "-1",
            "1.5",
            "\"x\"",
            "true",
            "null",
            "[]",
            "[[1],{\"a\":2}]",
            "{}",
            "{\"flag\":[]}",
            "99999999999999999999",
        ];
        for name in ["text", "number", "list", "nested", "unknown"] {
            for value in values {
                read(&format!("{{\"{name}\":{value}}}"));
            }
        }
        let thing = read(r#"{"text": 5, "number": "5", "list": [1, "2"], "nested": []}"#);
        let mut problems = Problems::default();
        assert_eq!(thing.text.take(format_args!("text"), &mut problems), None);
        assert_eq!(
            thing.number.take(format_args!("number"), &mut problems),
            None
        );
        assert!(
            thing
                .nested
                .take(format_args!("nested"), &mut problems)
                .is_none()
        );
        let list = thing
            .list
            .take(format_args!("list"), &mut problems)
            .expect("a list");
        for (i, element) in list.into_iter().enumerate() {
            element.take(format_args!("list[{i}]"), &mut problems);
        }
        let expect = [
            "text: expected a string, found a number",
            "number: expected a number, found a string",
            "nested: expected an object, found a list",
            "list[1]: expected a number, found a string",
        ];
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn null_is_absent() {
        let thing = read(r#"{"text": null, "nested": {"flag": null}}"#);
        assert_eq!(thing.text, Field::Absent);
        let inner = thing.nested.ok().expect("an object").0;
        assert_eq!(inner.flag, Field::Absent);
    }

    #[test]
    fn strings_are_borrowed_unless_escaped() {
        let text = String::from(r#"{"text": "plain"}"#);
        assert!(matches!(
            read(&text).text,
            Field::Present(Cow::Borrowed("plain"))
        ));
        let text = String::from(r#"{"text": "\u0041"}"#);
        assert!(matches!(read(&text).text, Field::Present(Cow::Owned(ref s)) if s == "A"));
    }
}
