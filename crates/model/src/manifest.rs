//! Manifests, as `kubectl get -o yaml|json` prints them or people write them, to [`Objects`].

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::document::{Document, Documents, MAX_DOCUMENT_BYTES};
use crate::object::{EndpointSlice, Metadata, NodeObject, Service};
use crate::problem::{ObjectName, Problem, Severity, Source};

/// An object and where it was read from.
#[derive(Debug, Clone)]
pub struct Sourced<T> {
    /// File and document.
    pub source: Arc<Source>,
    /// The object.
    pub object: T,
}

/// Everything read so far that a proxy looks at.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Services, in the order they were read.
    pub services: Vec<Sourced<Service>>,
    /// EndpointSlices, in the order they were read.
    pub slices: Vec<Sourced<EndpointSlice>>,
    /// Nodes, in the order they were read.
    pub nodes: Vec<Sourced<NodeObject>>,
    /// How many objects of other kinds were passed over, by kind.
    pub ignored: BTreeMap<String, usize>,
}

/// Reads every object of an input into `objects`. YAML or JSON, any number of documents, lists
/// of any kind. What is broken is reported and costs nothing else.
pub fn read_manifest(file: &str, input: impl BufRead, objects: &mut Objects) -> Vec<Problem> {
    let mut reader = Reader {
        source: Arc::new(Source { file: file.into(), document: 0 }),
        objects,
        problems: Vec::new(),
    };
    for (n, document) in Documents::new(input, MAX_DOCUMENT_BYTES).enumerate() {
        reader.source = Arc::new(Source { file: file.into(), document: n + 1 });
        match document {
            Ok(Document::Text(text)) if text.trim_ascii().is_empty() => {
                if n == 0 {
                    reader.warn("is empty: there is no object in it");
                }
            }
            Ok(Document::Text(text)) => reader.document(&text),
            Ok(Document::TooLarge(size)) => reader.warn(format!(
                "{} MiB are too much for one document (limit {} MiB): split it",
                size >> 20,
                MAX_DOCUMENT_BYTES >> 20
            )),
            Err(error) => reader.problems.push(
                Problem::new(Severity::Error, format!("cannot be read: {error}"))
                    .at(&reader.source),
            ),
        }
    }
    reader.problems
}

/// How deep lists may stand in lists; kubectl makes one level.
const MAX_LIST_DEPTH: usize = 4;

struct Reader<'a> {
    source: Arc<Source>,
    objects: &'a mut Objects,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn document(&mut self, bytes: &[u8]) {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                return self
                    .warn(format!("is not text: byte {} is not UTF-8", error.valid_up_to()));
            }
        };
        if text.trim_start().starts_with('{') {
            return self.json_document(text);
        }
        match yaml_value(text) {
            Ok(Value::Null) => {}
            Ok(value) => self.object(&Tree::Value(value), None, 0),
            Err(error) => self.warn(format!("is not valid YAML: {error}")),
        }
    }

    fn json_document(&mut self, text: &str) {
        // Mostly it is one large list: then this is the only look at the document as a whole.
        if let Ok(head) = serde_json::from_str::<Head<'_>>(text) {
            return self.headed(&Tree::Json(text), head, None, 0);
        }
        match json_values(text) {
            Ok(values) => {
                values.iter().for_each(|raw| self.object(&Tree::Json(raw.get()), None, 0))
            }
            // YAML's flow style also starts with a brace; what is neither is told in JSON's
            // words, which give the place.
            Err(error) => match yaml_value(text) {
                Ok(value) => self.object(&Tree::Value(value), None, 0),
                Err(_) => self.warn(format!("is not valid JSON: {error}")),
            },
        }
    }

    /// One object; `inherited` is the kind that a typed list (`ServiceList`) gives its items.
    fn object(&mut self, tree: &Tree<'_>, inherited: Option<&TypeMeta>, depth: usize) {
        match tree.head() {
            Ok(head) => self.headed(tree, head, inherited, depth),
            Err(error) => {
                let message = format!("{}; a Kubernetes object is needed", error.message);
                let problem = Problem::warning(error.path, message);
                self.problems.push(problem.of(&self.source, &tree.object_name("object")));
            }
        }
    }

    fn headed(
        &mut self,
        tree: &Tree<'_>,
        head: Head<'_>,
        inherited: Option<&TypeMeta>,
        depth: usize,
    ) {
        let inherited = inherited.cloned().unwrap_or_default();
        let kind = head.kind.or(inherited.kind).unwrap_or_default();
        let api_version = head.api_version.or(inherited.api_version).unwrap_or_default();
        if kind.is_empty() || api_version.is_empty() {
            let field = if kind.is_empty() { "kind" } else { "apiVersion" };
            let object = tree.object_name("object");
            let problem = Problem::warning(field, "is missing: this is not a Kubernetes object");
            return self.problems.push(problem.of(&self.source, &object));
        }
        match (api_version.as_str(), kind.as_str()) {
            ("v1", "Service") => {
                let read = self.read(tree, "Service");
                self.objects.services.extend(read);
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                let read = self.read(tree, "EndpointSlice");
                self.objects.slices.extend(read);
            }
            ("v1", "Node") => {
                let read = self.read(tree, "Node");
                self.objects.nodes.extend(read);
            }
            (_, list) if list.ends_with("List") => {
                let items = match tree {
                    Tree::Json(_) => {
                        head.items.into_iter().flatten().map(|raw| Tree::Json(raw.get())).collect()
                    }
                    Tree::Value(value) => value_items(value),
                };
                self.list(items, &api_version, list, depth);
            }
            _ => *self.objects.ignored.entry(kind).or_default() += 1,
        }
    }

    fn list(&mut self, items: Vec<Tree<'_>>, api_version: &str, kind: &str, depth: usize) {
        if depth == MAX_LIST_DEPTH {
            return self.warn(format!("lists stand more than {MAX_LIST_DEPTH} deep in lists"));
        }
        let item = TypeMeta {
            kind: kind.strip_suffix("List").filter(|kind| !kind.is_empty()).map(str::to_owned),
            api_version: Some(api_version.to_owned()),
        };
        let inherited = item.kind.is_some().then_some(&item);
        items.iter().for_each(|item| self.object(item, inherited, depth + 1));
    }

    fn read<T: DeserializeOwned>(
        &mut self,
        tree: &Tree<'_>,
        kind: &'static str,
    ) -> Option<Sourced<T>> {
        match tree.read() {
            Ok(object) => Some(Sourced { source: self.source.clone(), object }),
            Err(error) => {
                let problem = Problem::warning(error.path, error.message);
                self.problems.push(problem.of(&self.source, &tree.object_name(kind)));
                None
            }
        }
    }

    fn warn(&mut self, message: impl Into<String>) {
        self.problems.push(Problem::new(Severity::Warning, message).at(&self.source));
    }
}

/// The kind that a list gives to items which do not say theirs.
#[derive(Debug, Clone, Default)]
struct TypeMeta {
    kind: Option<String>,
    api_version: Option<String>,
}

/// What is looked at before the kind is known.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Head<'a> {
    kind: Option<String>,
    api_version: Option<String>,
    /// Of JSON only.
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// A document or a list's item that is not yet an object. JSON stays text until its kind is
/// known, so that a large list is held once only.
enum Tree<'a> {
    Json(&'a str),
    Value(Value),
}

/// Which field could not be read, and why.
struct FieldError {
    path: String,
    message: String,
}

impl Tree<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, FieldError> {
        match self {
            Tree::Json(text) => serde_json::from_str(text).or_else(|_| {
                let mut deserializer = serde_json::Deserializer::from_str(text);
                serde_path_to_error::deserialize(&mut deserializer).map_err(FieldError::from)
            }),
            Tree::Value(value) => serde_path_to_error::deserialize(value).map_err(FieldError::from),
        }
    }

    fn head(&self) -> Result<Head<'_>, FieldError> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct ValueHead {
            kind: Option<String>,
            api_version: Option<String>,
            items: Option<Vec<IgnoredAny>>,
        }
        match self {
            Tree::Json(text) => serde_json::from_str(text).or_else(|_| {
                let mut deserializer = serde_json::Deserializer::from_str(text);
                serde_path_to_error::deserialize(&mut deserializer).map_err(FieldError::from)
            }),
            Tree::Value(_) => self.read().map(|head: ValueHead| Head {
                kind: head.kind,
                api_version: head.api_version,
                items: head.items.map(|_| Vec::new()),
            }),
        }
    }

    /// As much of the object's name as can be read from it.
    fn object_name(&self, kind: &'static str) -> ObjectName {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Named {
            metadata: Option<Metadata>,
        }
        let metadata = self.read::<Named>().ok().and_then(|named| named.metadata);
        let metadata = metadata.unwrap_or_default();
        let namespace = match kind {
            "Service" | "EndpointSlice" => metadata.namespace().to_owned(),
            _ => metadata.namespace,
        };
        ObjectName { kind, namespace, name: metadata.name }
    }
}

impl<E: std::fmt::Display> From<serde_path_to_error::Error<E>> for FieldError {
    fn from(error: serde_path_to_error::Error<E>) -> Self {
        let path = error.path().to_string();
        FieldError { path, message: in_plain_words(&error.inner().to_string()) }
    }
}

/// serde's message without its Rust types, and without a line and column that count from the
/// start of the object rather than of the file.
fn in_plain_words(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or_default();
    let Some((what, expected)) = message.rsplit_once("expected ") else {
        return message.to_owned();
    };
    let expected = match expected {
        "i64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("{what}expected {expected}")
}

fn value_items(list: &Value) -> Vec<Tree<'static>> {
    let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    items.into_iter().map(Tree::Value).collect()
}

/// All JSON values of a text, one behind the other.
fn json_values(text: &str) -> Result<Vec<&RawValue>, serde_json::Error> {
    serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().collect()
}

/// One YAML document as a JSON value. The budget bounds what anchors may unfold to and how deep
/// the parser recurses; [`MAX_DOCUMENT_BYTES`] bounds the rest.
pub(crate) fn yaml_value(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 64_000_000,
            max_nodes: 32_000_000,
            max_total_scalar_bytes: MAX_DOCUMENT_BYTES,
            max_depth: 64,
            max_aliases: 10_000,
            max_anchors: 10_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 1_000_000,
            max_alias_expansions_per_anchor: 10_000,
        },
        emit_comments: false,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let message = error.to_string();
        message.lines().next().unwrap_or_default().to_owned()
    })
}
