//! The lines of the fields of a YAML or JSON document, for messages.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use crate::yaml::parse;

/// A value of a document with its line. Lines start at 1.
#[derive(Debug, Default)]
pub struct DocumentLines {
    /// Line of the value, or of its key if it is the value of a field.
    pub line: usize,
    value: LinedValue,
}

#[derive(Debug, Default)]
enum LinedValue {
    /// A number, `null`, true or false.
    #[default]
    Other,
    Text(String),
    List(Vec<DocumentLines>),
    Fields(Vec<(String, DocumentLines)>),
}

impl DocumentLines {
    /// Reads a document; `None` if it is neither YAML nor JSON.
    pub fn read(text: &str) -> Option<Self> {
        parse(text).ok()
    }

    /// A field; `None` if this is not an object or has no such field.
    pub fn field(&self, name: &str) -> Option<&Self> {
        let LinedValue::Fields(fields) = &self.value else { return None };
        fields.iter().find(|(of, _)| of == name).map(|(_, value)| value)
    }

    /// The text of a field.
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.field(name)?.value {
            LinedValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements; `None` if this is not a list.
    pub fn elements(&self) -> Option<&[Self]> {
        match &self.value {
            LinedValue::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The deepest value on the way to a field that exists: `spec.ports[0].port`. A part in brackets
    /// is an index or the key of an annotation.
    pub fn nearest(&self, field: &str) -> &Self {
        let mut at = self;
        for part in parts(field) {
            let next = match part.parse::<usize>() {
                Ok(index) => at.elements().and_then(|elements| elements.get(index)),
                Err(_) => at.field(part),
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }
}

/// The parts of a path. A key in brackets may contain dots.
fn parts(field: &str) -> impl Iterator<Item = &str> {
    let segments = field.split('[').enumerate();
    let parts = segments.flat_map(|(n, segment)| {
        let (index, names) = match segment.rsplit_once(']') {
            Some((index, names)) if n > 0 => (Some(index), names),
            _ => (None, segment),
        };
        index.into_iter().chain(names.split('.'))
    });
    parts.filter(|part| !part.is_empty())
}

impl<'de> Deserialize<'de> for DocumentLines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<LinedValue>::deserialize(deserializer)?;
        Ok(Self { line: usize::try_from(referenced.line()).unwrap_or(usize::MAX), value })
    }
}

impl<'de> Deserialize<'de> for LinedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = LinedValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<LinedValue, E> {
                Ok(LinedValue::Other)
            }

            fn visit_none<E>(self) -> Result<LinedValue, E> {
                Ok(LinedValue::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<LinedValue, E> {
                Ok(LinedValue::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<LinedValue, E> {
                Ok(LinedValue::Other)
            }

            fn visit_i128<E>(self, _: i128) -> Result<LinedValue, E> {
                Ok(LinedValue::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<LinedValue, E> {
                Ok(LinedValue::Other)
            }

            fn visit_u128<E>(self, _: u128) -> Result<LinedValue, E> {
                Ok(LinedValue::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<LinedValue, E> {
                Ok(LinedValue::Other)
            }

            fn visit_str<E>(self, text: &str) -> Result<LinedValue, E> {
                Ok(LinedValue::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<LinedValue, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(LinedValue::List(elements))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LinedValue, A::Error> {
                let mut fields = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let value: DocumentLines = map.next_value()?;
                    let line = usize::try_from(key.referenced.line()).unwrap_or(value.line);
                    fields.push((key.value, DocumentLines { line, ..value }));
                }
                Ok(LinedValue::Fields(fields))
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_lines_of_fields_and_elements_in_yaml_and_json() {
        let yaml = "kind: Service\nmetadata:\n  annotations:\n    a/b.c: x\nspec:\n  \
                    ports:\n  - name: http\n    port: 80\n  - port: 81\n    nodePort: ~\n";
        let json = "{\"kind\": \"Service\", \"metadata\":\n {\"annotations\":\n {\n\"a/b.c\": \
                    \"x\"}},\n \"spec\": {\n\"ports\": [\n{\"name\": \"http\",\n\"port\": 80},\n{\
                    \"port\": 81,\n \"nodePort\": null}]}}";
        for (text, expected) in [(yaml, [1, 4, 7, 8, 10]), (json, [1, 4, 7, 8, 10])] {
            let document = DocumentLines::read(text).unwrap();
            assert_eq!(document.text("kind"), Some("Service"));
            let line = |field| document.nearest(field).line;
            let found = [
                line("kind"),
                line("metadata.annotations[a/b.c]"),
                line("spec.ports[0]"),
                line("spec.ports[0].port.missing"),
                line("spec.ports[1].nodePort"),
            ];
            assert_eq!(found, expected, "{text}");
            assert_eq!(document.nearest("").line, 1);
        }
        assert!(DocumentLines::read("a: [").is_none());
    }
}
