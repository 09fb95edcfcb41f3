//! The objects and their history.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::kind::Kind;
use super::selector::Selection;

/// Kind, namespace and name, in the order of lists.
pub(super) type Key = (Kind, String, String);
pub(super) type Objects = BTreeMap<Key, Arc<Value>>;

/// Like etcd: one version for the changes of all objects.
#[derive(Default)]
pub(super) struct Store {
    pub(super) version: u64,
    pub(super) objects: Objects,
    history: Vec<Change>,
    /// The oldest version from which the history is complete.
    pub(super) oldest: u64,
}

/// The change of one version.
pub(super) struct Change {
    pub(super) key: Key,
    version: u64,
    before: Option<Arc<Value>>,
    after: Option<Arc<Value>>,
}

impl Store {
    /// Creates or replaces an object. An equal object is not written again, and no
    /// watch gets an event.
    pub(super) fn apply(&mut self, mut object: Value) {
        let kind = Kind::of(&object).unwrap_or_else(|| panic!("not of a served kind: {object}"));
        let fields = object.as_object_mut().unwrap();
        fields.remove("kind");
        fields.remove("apiVersion");
        let key = key(kind, &mut object);
        let before = self.objects.get(&key);
        identify(&mut object, before.map(|before| &before["metadata"]), self.version + 1);
        if before.is_some_and(|before| **before == object) {
            return;
        }
        object["metadata"]["resourceVersion"] = (self.version + 1).to_string().into();
        self.change(key, Some(Arc::new(object)));
    }

    /// Deletes an object. Returns whether it existed.
    pub(super) fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> bool {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let exists = self.objects.contains_key(&key);
        if exists {
            self.change(key, None);
        }
        exists
    }

    fn change(&mut self, key: Key, after: Option<Arc<Value>>) {
        self.version += 1;
        let before = match after.clone() {
            Some(after) => self.objects.insert(key.clone(), after),
            None => self.objects.remove(&key),
        };
        self.history.push(Change { key, version: self.version, before, after });
    }

    /// The changes after a version; `None` if the history does not go back to it.
    pub(super) fn since(&self, version: u64) -> Option<&[Change]> {
        let first = self.history.partition_point(|change| change.version <= version);
        (version >= self.oldest).then_some(&self.history[first..])
    }

    /// The objects at a version: later changes are undone.
    pub(super) fn at(&self, version: u64) -> Option<Objects> {
        let mut objects = self.objects.clone();
        for change in self.since(version)?.iter().rev() {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), before.clone()),
                None => objects.remove(&change.key),
            };
        }
        Some(objects)
    }

    /// Makes all versions that clients know too old, as after many changes of other objects.
    pub(super) fn expire(&mut self) {
        self.version += 1;
        self.forget();
    }

    /// Like a restart: keeps the objects, but not their history.
    pub(super) fn forget(&mut self) {
        self.oldest = self.version;
        self.history.clear();
    }
}

impl Change {
    /// The event for a watch. An object that enters the selection is added; an object that
    /// leaves it is deleted, with its last selected state.
    pub(super) fn event(&self, selection: &Selection) -> Option<String> {
        let within = |object: &&Arc<Value>| selection.matches(object);
        let kind = self.key.0;
        match (self.before.as_ref().filter(within), self.after.as_ref().filter(within)) {
            (None, None) => None,
            (None, Some(after)) => Some(event("ADDED", &kind.named(after))),
            (Some(_), Some(after)) => Some(event("MODIFIED", &kind.named(after))),
            (Some(before), None) => {
                let mut before = kind.named(before);
                before["metadata"]["resourceVersion"] = self.version.to_string().into();
                Some(event("DELETED", &before))
            }
        }
    }
}

/// A line of a watch, with the type first, as Go writes it.
pub(super) fn event(kind: &str, object: &Value) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn key(kind: Kind, object: &mut Value) -> Key {
    let metadata = &mut object["metadata"];
    if kind.is_namespaced() && metadata["namespace"].is_null() {
        metadata["namespace"] = "default".into();
    }
    let name = metadata["name"].as_str().expect("an object has a metadata.name").to_owned();
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    (kind, namespace.to_owned(), name)
}

/// Adds the metadata that the server sets. Existing values are kept.
fn identify(object: &mut Value, before: Option<&Value>, version: u64) {
    let given = json!({
        "uid": format!("00000000-0000-4000-8000-{version:012x}"),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    let metadata = &mut object["metadata"];
    for field in ["uid", "creationTimestamp"] {
        if metadata[field].is_null() {
            metadata[field] = before.unwrap_or(&given)[field].clone();
        }
    }
    metadata["resourceVersion"] = before.map_or(Value::Null, |b| b["resourceVersion"].clone());
}
