//! Converts a parsed value to a type, and finds its unknown fields and the field with a wrong value.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Segment, Track};

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
/// The type is read through a `dyn` deserializer, so that the code which keeps track of fields exists
/// once and not for each type and field: in the release this saves 400 KB. It is several times
/// slower than serde_json alone.
///
/// # Errors
/// The first field with a wrong value.
pub fn typed_value<T: DeserializeOwned>(value: &Value) -> (Result<T, WrongField>, Vec<FieldPath>) {
    let (mut track, mut unknown) = (Track::new(), Vec::new());
    // Not a plain closure, which would be another type for each `T`.
    let mut on_unknown: &mut dyn FnMut(serde_ignored::Path<'_>) =
        &mut |path| unknown.push(FieldPath::from(&path));
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let reader = serde_ignored::Deserializer::new(tracked, &mut on_unknown);
    let mut reader = <dyn erased_serde::Deserializer<'_>>::erase(reader);
    let read = erased_serde::deserialize(&mut reader).map_err(|error: erased_serde::Error| {
        WrongField { path: FieldPath::from(&track.path()), message: error.to_string() }
    });
    (read, unknown)
}

impl From<&serde_ignored::Path<'_>> for FieldPath {
    fn from(path: &serde_ignored::Path<'_>) -> Self {
        use serde_ignored::Path;
        let (parent, step) = match path {
            Path::Root => return Self::default(),
            Path::Seq { parent, index } => (parent, Some(FieldStep::Item(*index))),
            Path::Map { parent, key } => (parent, Some(FieldStep::Field(key.clone()))),
            Path::Some { parent }
            | Path::NewtypeStruct { parent }
            | Path::NewtypeVariant { parent } => (parent, None),
        };
        let mut steps = Self::from(*parent);
        steps.0.extend(step);
        steps
    }
}

impl From<&serde_path_to_error::Path> for FieldPath {
    fn from(path: &serde_path_to_error::Path) -> Self {
        let step = |segment: &Segment| match segment {
            Segment::Seq { index } => Some(FieldStep::Item(*index)),
            Segment::Map { key } => Some(FieldStep::Field(key.clone())),
            Segment::Enum { variant } => Some(FieldStep::Field(variant.clone())),
            Segment::Unknown => None,
        };
        Self(path.iter().filter_map(step).collect())
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
