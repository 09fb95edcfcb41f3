//! Converts a parsed value to a type, and finds its unknown fields and the field with a wrong value.

use std::cell::RefCell;
use std::fmt;
use std::iter::Enumerate;
use std::slice;

use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// A step from a value to one that it contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldStep {
    /// To a field of an object.
    Field(String),
    /// To an element of a list, from 0.
    Item(usize),
}

/// The steps from a document to one of its values. Shown as in `spec.ports[0].name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldPath(pub Vec<FieldStep>);

/// A value that its type does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongField {
    /// The field.
    pub path: FieldPath,
    /// serde's message.
    pub message: String,
}

/// Converts a value to a type. Also returns the fields that the type does not have, up to the first
/// wrong value.
///
/// # Errors
/// The first field with a wrong value.
pub fn typed_value<T: DeserializeOwned>(value: &Value) -> (Result<T, WrongField>, Vec<FieldPath>) {
    let tracker = FieldTracker::default();
    let read = T::deserialize(TrackedValue { value, tracker: &tracker });
    let FieldTracker { path, unknown, wrong } = tracker;
    let read = read.map_err(|error| WrongField {
        path: FieldPath(wrong.into_inner().unwrap_or_else(|| path.into_inner())),
        message: error.to_string(),
    });
    (read, unknown.into_inner())
}

/// What is known while a value is read.
#[derive(Default)]
struct FieldTracker {
    /// The path to the current value.
    path: RefCell<Vec<FieldStep>>,
    unknown: RefCell<Vec<FieldPath>>,
    /// The path to the first wrong value.
    wrong: RefCell<Option<Vec<FieldStep>>>,
}

impl FieldTracker {
    /// Reads a value that the current one contains.
    fn inside<'de, S: DeserializeSeed<'de>>(
        &self,
        step: FieldStep,
        seed: S,
        value: &'de Value,
    ) -> Result<S::Value, Error> {
        self.path.borrow_mut().push(step);
        let read = seed.deserialize(TrackedValue { value, tracker: self });
        if read.is_err() {
            self.wrong.borrow_mut().get_or_insert_with(|| self.path.borrow().clone());
        }
        self.path.borrow_mut().pop();
        read
    }
}

/// Reads a value as serde_json does. In place of serde_ignored and serde_path_to_error around it,
/// which would add three times the code for each type, 300 KB in the release.
struct TrackedValue<'de, 'r> {
    value: &'de Value,
    tracker: &'r FieldTracker,
}

impl<'de> Deserializer<'de> for TrackedValue<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Self { value, tracker } = self;
        match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(elements) => {
                let mut items = ValueItems { all: elements.iter().enumerate(), tracker };
                let read = visitor.visit_seq(&mut items)?;
                match items.all.len() {
                    0 => Ok(read),
                    _ => Err(Error::invalid_length(elements.len(), &"fewer elements in array")),
                }
            }
            Value::Object(fields) => {
                let mut rest = ValueFields { all: fields.iter(), next: None, tracker };
                let read = visitor.visit_map(&mut rest)?;
                match rest.all.len() {
                    0 => Ok(read),
                    _ => Err(Error::invalid_length(fields.len(), &"fewer elements in map")),
                }
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::String(variant) => visitor.visit_enum(BorrowedStrDeserializer::new(variant)),
            Value::Object(fields) if fields.len() != 1 => {
                Err(Error::invalid_value(Unexpected::Map, &"map with a single key"))
            }
            Value::Object(fields) => {
                let mut fields =
                    ValueFields { all: fields.iter(), next: None, tracker: self.tracker };
                visitor.visit_enum(MapAccessDeserializer::new(&mut fields))
            }
            value => Err(Error::invalid_type(unexpected(value), &"string or map")),
        }
    }

    /// The type has no such field.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let path = FieldPath(self.tracker.path.borrow().clone());
        self.tracker.unknown.borrow_mut().push(path);
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Unexpected::Unsigned(number),
            (None, Some(number)) => Unexpected::Signed(number),
            (None, None) => Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

struct ValueItems<'de, 'r> {
    all: Enumerate<slice::Iter<'de, Value>>,
    tracker: &'r FieldTracker,
}

impl<'de> SeqAccess<'de> for &mut ValueItems<'de, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((index, value)) = self.all.next() else { return Ok(None) };
        self.tracker.inside(FieldStep::Item(index), seed, value).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.all.len())
    }
}

struct ValueFields<'de, 'r> {
    all: serde_json::map::Iter<'de>,
    /// The field whose name was read last.
    next: Option<(&'de str, &'de Value)>,
    tracker: &'r FieldTracker,
}

impl<'de> MapAccess<'de> for &mut ValueFields<'de, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((name, value)) = self.all.next() else { return Ok(None) };
        self.next = Some((name, value));
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some((name, value)) = self.next.take() else {
            return Err(Error::custom("value is missing"));
        };
        self.tracker.inside(FieldStep::Field(name.to_owned()), seed, value)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(n, step)| match step {
            FieldStep::Item(index) => write!(f, "[{index}]"),
            FieldStep::Field(name) if n == 0 => f.write_str(name),
            FieldStep::Field(name) => write!(f, ".{name}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct WrittenPort {
        name: Option<String>,
        number: u16,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct WrittenPorts {
        ports: Vec<WrittenPort>,
    }

    /// As serde_json reads it.
    #[test]
    fn typed_value_of_enums_options_and_tuples() {
        #[derive(Debug, Deserialize, PartialEq)]
        #[serde(rename_all = "camelCase")]
        enum WrittenChange {
            All,
            Node(String),
            Pair(u8, Option<f64>),
            Port { number: i32 },
        }
        for value in [
            json!("all"),
            json!({"node": "a"}),
            json!({"pair": [1, null]}),
            json!({"pair": [1, 0.5]}),
            json!({"port": {"number": -1}}),
            json!({"node": "a", "port": {"number": 1}}),
            json!({"pair": [1]}),
            json!({"pair": [1, 2, 3]}),
            json!({"port": {}}),
            json!({"other": 1}),
            json!("node"),
            json!({}),
            json!(null),
            json!([1]),
        ] {
            let expected = serde_json::from_value::<WrittenChange>(value.clone());
            let read = typed_value::<WrittenChange>(&value).0;
            assert_eq!(read.map_err(|of| of.message), expected.map_err(|of| of.to_string()));
        }
    }

    #[test]
    fn typed_value_finds_unknown_fields() {
        let value = json!({"ports": [{"name": "a", "number": 1, "nmae": {"a": 1}}], "more": []});
        let (read, unknown) = typed_value::<WrittenPorts>(&value);
        assert_eq!(read.unwrap().ports, [WrittenPort { name: Some("a".to_owned()), number: 1 }]);
        let unknown: Vec<String> = unknown.iter().map(FieldPath::to_string).collect();
        assert_eq!(unknown, ["more", "ports[0].nmae"]);
    }

    #[test]
    fn typed_value_names_the_field_with_a_wrong_value() {
        let value = json!({"ports": [{"number": 1}, {"number": 2, "name": 3}]});
        let wrong = typed_value::<WrittenPorts>(&value).0.unwrap_err();
        assert_eq!(wrong.path.to_string(), "ports[1].name");
        assert_eq!(wrong.message, "invalid type: integer `3`, expected a string");
        let wrong = typed_value::<WrittenPorts>(&json!([])).0.unwrap_err();
        assert_eq!(wrong.path, FieldPath::default());
    }
}
