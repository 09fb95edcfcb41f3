//! The objects of a parsed document, as they were written: a single object, a list or a watch event.

use rulegen_model::{DocumentLines, MAX_LIST_DEPTH, ObjectName, yaml_value};
use serde_json::Value;

/// The kinds that are checked, and whether they have a namespace.
const KINDS: [(&str, bool); 5] = [
    ("Service", true),
    ("EndpointSlice", true),
    ("Endpoints", true),
    ("Node", false),
    ("ServiceCIDR", false),
];

/// A value of a parsed document.
pub(crate) trait WrittenValue: Sized {
    /// A field; `None` if this is not a map or has no such field.
    fn field(&self, name: &str) -> Option<&Self>;
    /// The text of a field.
    fn text(&self, name: &str) -> Option<&str>;
    /// The elements; `None` if this is not a list.
    fn elements(&self) -> Option<&[Self]>;
}

impl WrittenValue for Value {
    fn field(&self, name: &str) -> Option<&Self> {
        self.get(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    fn elements(&self) -> Option<&[Self]> {
        self.as_array().map(Vec::as_slice)
    }
}

impl WrittenValue for DocumentLines {
    fn field(&self, name: &str) -> Option<&Self> {
        self.field(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.text(name)
    }

    fn elements(&self) -> Option<&[Self]> {
        self.elements()
    }
}

/// An object of a kind that is checked.
pub(crate) struct WrittenObject<'a, V> {
    pub(crate) value: &'a V,
    pub(crate) api_version: &'a str,
    pub(crate) name: ObjectName,
}

/// The values of a document: one in YAML, any number in JSON.
pub(crate) fn values(text: &str) -> Vec<Value> {
    if text.trim_start().starts_with(['{', '[']) {
        let json = serde_json::Deserializer::from_str(text).into_iter();
        let values: Vec<Value> = json.map_while(Result::ok).collect();
        if !values.is_empty() {
            return values;
        }
    }
    yaml_value(text).into_iter().collect()
}

/// The kinds of a document that are most likely misspelt, with the kinds that are meant.
pub(crate) fn misspelt_kinds(document: &Value) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    add_misspelt(document, 0, &mut found);
    found
}

fn add_misspelt(value: &Value, depth: usize, found: &mut Vec<(String, &'static str)>) {
    if depth > MAX_LIST_DEPTH {
        return;
    }
    if let Some(items) = value.elements().or_else(|| value.field("items")?.elements()) {
        return items.iter().for_each(|item| add_misspelt(item, depth + 1, found));
    }
    if !is_of_kubernetes(value.text("apiVersion").unwrap_or_default()) {
        return;
    }
    let kind = value.text("kind").unwrap_or_default();
    let known = KINDS.into_iter().map(|(known, _)| known).find(|known| is_misspelt(kind, known));
    let known = known.filter(|known| kind != *known);
    found.extend(known.map(|known| (kind.to_owned(), known)));
}

/// Whether a version is of a group that has objects for Services. Others may define any kind.
fn is_of_kubernetes(api_version: &str) -> bool {
    match api_version.split_once('/') {
        None => true,
        Some((group, _)) => matches!(group, "discovery.k8s.io" | "networking.k8s.io"),
    }
}

/// One letter is missing, added or replaced, or two are exchanged, or the case is another. Other kinds,
/// such as ServiceAccount, differ more.
fn is_misspelt(kind: &str, known: &str) -> bool {
    let (kind, lower) = (kind.to_lowercase(), known.to_lowercase());
    let is_other = !KINDS.iter().any(|(of, _)| of.to_lowercase() == kind) || kind == lower;
    is_other && strsim::osa_distance(&kind, &lower) <= 1
}

/// The objects of a document, in order.
pub(crate) fn objects<V: WrittenValue>(document: &V) -> Vec<WrittenObject<'_, V>> {
    let mut found = Vec::new();
    add(document, ("", ""), 0, &mut found);
    found
}

/// `list` has the version and kind of the items of a typed list.
fn add<'a, V: WrittenValue>(
    value: &'a V,
    list: (&'a str, &'a str),
    depth: usize,
    found: &mut Vec<WrittenObject<'a, V>>,
) {
    if depth > MAX_LIST_DEPTH {
        return;
    }
    let api_version = value.text("apiVersion").unwrap_or(list.0);
    let kind = value.text("kind").unwrap_or(list.1);
    if let Some(items) = value.elements().or_else(|| value.field("items")?.elements()) {
        let of_items = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
        let list = of_items.map_or(("", ""), |kind| (api_version, kind));
        return items.iter().for_each(|item| add(item, list, depth + 1, found));
    }
    if let ("", Some(object)) = (kind, value.field("object")) {
        return add(object, ("", ""), depth + 1, found);
    }
    let Some((kind, is_namespaced)) = KINDS.into_iter().find(|(known, _)| *known == kind) else {
        return;
    };
    let metadata = |field| value.field("metadata")?.text(field);
    let namespace = match is_namespaced {
        true => metadata("namespace").filter(|text| !text.is_empty()).unwrap_or("default"),
        false => "",
    };
    let name = ObjectName {
        kind,
        namespace: namespace.to_owned(),
        name: metadata("name").unwrap_or_default().to_owned(),
    };
    found.push(WrittenObject { value, api_version, name });
}
