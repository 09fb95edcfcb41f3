//! Parts of objects that do not affect rules. They are read only for commands that use them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::object::{object, or_default};
use crate::object_key::ObjectKey;

/// Parts of objects that do not affect rules.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// All labels of the Services.
    pub service_labels: BTreeMap<ObjectKey, ServiceLabels>,
}

/// All labels of a Service. A label without a value has the empty string.
pub type ServiceLabels = BTreeMap<String, String>;

impl Details {
    /// Adds others. The first object of a name counts, as for rules.
    pub(crate) fn append(&mut self, other: Self) {
        for (key, labels) in other.service_labels {
            self.service_labels.entry(key).or_insert(labels);
        }
    }
}

/// The labels of a valid object in JSON.
pub fn read_labels(json: &str) -> ServiceLabels {
    serde_json::from_str::<Labelled>(json).unwrap_or_default().labels()
}

/// An object of which only the labels are read.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Labelled {
    #[serde(deserialize_with = "object")]
    metadata: LabelledMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LabelledMetadata {
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, Option<String>>,
}

impl Labelled {
    pub(crate) fn labels(self) -> ServiceLabels {
        let labels = self.metadata.labels.into_iter();
        labels.map(|(key, value)| (key, value.unwrap_or_default())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Objects, read_manifest};

    /// From YAML and from the items of a JSON list. The first of two objects with one name counts.
    #[test]
    fn labels_of_services_are_kept_only_if_asked_for() {
        let texts = [
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {app: web, empty: }}",
            r#"{"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b", "namespace": "c", "labels": null}},
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": {"app": "other"}}}]}"#,
            r#"{"type": "ADDED", "object": {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "d", "labels": {"x": "y"}}}}"#,
        ];
        let mut objects = Objects::with_details();
        let mut without = Objects::default();
        for text in texts {
            assert_eq!(read_manifest("test", text.as_bytes(), &mut objects), []);
            assert_eq!(read_manifest("test", text.as_bytes(), &mut without), []);
        }
        assert!(without.details.is_none());
        let labels = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            owned.collect::<ServiceLabels>()
        };
        let expected = [
            (ObjectKey::new("c", "b"), labels(&[])),
            (ObjectKey::new("default", "a"), labels(&[("app", "web"), ("empty", "")])),
            (ObjectKey::new("default", "d"), labels(&[("x", "y")])),
        ];
        assert_eq!(objects.details.unwrap().service_labels, expected.into());
        let json = r#"{"kind": "Service", "metadata": {"labels": {"a": "b"}}, "spec": {}}"#;
        assert_eq!(read_labels(json), labels(&[("a", "b")]));
    }
}
