//! Reads manifests (YAML or JSON, as from `kubectl get -o yaml|json`) into [`Objects`].

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::details::{Labelled, Pod};
use crate::document::{Document, MAX_DOCUMENT_BYTES, documents};
use crate::foreign;
use crate::kind::{Kind, Object as KubernetesObject};
use crate::object::{ObjectOnly, Service};
use crate::object_key::ObjectKey;
use crate::objects::{Objects, Sourced};
use crate::problem::{ObjectName, Problem, Severity, Source};
use crate::problem_code::ProblemCode;
use crate::typed_value::{WrongField, typed_value};
use crate::watch_events::{WatchEvent, last_states};
use crate::yaml::yaml_value;

/// Whether a file in a folder is a manifest, by its extension; same rule as kubectl.
pub fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Reads all objects of an input into `objects`: YAML or JSON, with any number of documents, lists of
/// any kind, and watch events. An invalid object is reported and skipped. A document that is not a
/// Kubernetes object makes the input [incomplete](Severity::Incomplete).
pub fn read_manifest(file: &str, input: impl BufRead, objects: &mut Objects) -> Vec<Problem> {
    let source = Arc::new(Source { file: file.into(), document: 1 });
    let mut reader = ManifestReader::new(source.clone(), 1, objects);
    let (mut bytes, mut is_blank) = (0, true);
    for (n, document) in documents(input).enumerate() {
        reader.source = Arc::new(Source { file: file.into(), document: n + 1 });
        match document {
            Ok(Document::Text { text, first_line }) => {
                bytes += text.trim_ascii().len();
                reader.first_line = first_line;
                is_blank &= !reader.document(&text);
            }
            Ok(Document::TooLarge(size)) => {
                is_blank = false;
                reader.incomplete(
                    ProblemCode::InvalidDocument,
                    format!(
                        "document too large: {} MiB (limit {} MiB), split it",
                        size >> 20,
                        MAX_DOCUMENT_BYTES >> 20
                    ),
                );
            }
            Err(error) => {
                is_blank = false;
                let problem = Problem::new(Severity::Error, format!("read failed: {error}"));
                let problem = problem.code(ProblemCode::UnreadableInput);
                reader.problems.push(problem.at(&reader.source));
            }
        }
    }
    if is_blank {
        let message = if bytes == 0 { "empty input" } else { "no object found, only comments" };
        reader.source = source;
        reader.incomplete(ProblemCode::EmptyInput, message);
    }
    let ManifestReader { events, problems, .. } = reader;
    last_states(events).into_iter().for_each(|state| objects.append(state));
    problems
}

/// Reads one object of a known kind from JSON.
///
/// # Errors
/// The object is invalid. The problem has its name and field if they are known.
pub fn read_object(kind: Kind, json: &str) -> Result<KubernetesObject, Box<Problem>> {
    let tree = Tree::Json(json);
    let read = match kind {
        Kind::Service => tree.read().map(KubernetesObject::Service),
        Kind::EndpointSlice => tree.read().map(KubernetesObject::EndpointSlice),
        Kind::Node => tree.read().map(KubernetesObject::Node),
        Kind::ServiceCidr => tree.read().map(KubernetesObject::ServiceCidr),
    };
    read.map_err(|error| {
        let problem = Problem::warning(error.path, error.message).code(ProblemCode::InvalidObject);
        Box::new(problem.about(&tree.object_name(kind.name())))
    })
}

/// Number of list items per parallel task.
const ITEMS_PER_TASK: usize = 512;

/// Maximum nesting of lists; kubectl uses one level.
pub const MAX_LIST_DEPTH: usize = 4;

struct ManifestReader<'a> {
    source: Arc<Source>,
    /// The first line of the document in the file.
    first_line: usize,
    objects: &'a mut Objects,
    /// Watch events in order. Only the last event of an object counts, so they are applied at the end.
    events: Vec<WatchEvent>,
    problems: Vec<Problem>,
}

impl<'a> ManifestReader<'a> {
    fn new(source: Arc<Source>, first_line: usize, objects: &'a mut Objects) -> Self {
        Self { source, first_line, objects, events: Vec::new(), problems: Vec::new() }
    }
}

impl ManifestReader<'_> {
    /// Reads a document. Returns false if it has only blanks and comments.
    fn document(&mut self, bytes: &[u8]) -> bool {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                let message = foreign::recognise_bytes(bytes).unwrap_or_else(|| {
                    format!("not text: byte {} is not UTF-8", error.valid_up_to())
                });
                self.incomplete(ProblemCode::InvalidDocument, message);
                return true;
            }
        };
        if is_blank(text) {
            return false;
        }
        let before = self.problems.len();
        self.text(text);
        let new = self.problems.get(before..).unwrap_or_default();
        if new.iter().any(|problem| problem.severity == Severity::Incomplete)
            && let Some(what) = foreign::recognise(text)
        {
            self.problems.truncate(before);
            self.incomplete(ProblemCode::NotAnObject, what);
        }
        true
    }

    fn text(&mut self, text: &str) {
        if text.trim_start().starts_with(['{', '[']) {
            return self.json_document(text);
        }
        match yaml_value(text) {
            Ok(value) => self.object(&Tree::Value(value), Position::DOCUMENT),
            Err(error) => {
                let error = error.in_file(self.first_line);
                self.invalid_text(format!("invalid YAML: {error}"), error.line());
            }
        }
    }

    fn json_document(&mut self, text: &str) {
        // Usually the document is one large list; then it is parsed as a whole only here.
        if let Ok(ObjectOnly(head)) = serde_json::from_str::<ObjectOnly<ManifestHead<'_>>>(text) {
            return self.headed(&Tree::Json(text), head, Position::DOCUMENT);
        }
        let (values, error) = json_values(text);
        if let (true, Some(error)) = (values.is_empty(), &error) {
            // YAML's flow style also starts with a brace. If it is neither, report the JSON error, which
            // has the position.
            return match yaml_value(text) {
                Ok(value) => self.object(&Tree::Value(value), Position::DOCUMENT),
                Err(_) => self.invalid_json(error),
            };
        }
        values.iter().for_each(|raw| self.object(&Tree::Json(raw.get()), Position::DOCUMENT));
        if let Some(error) = error {
            self.invalid_json(&error);
        }
    }

    fn invalid_json(&mut self, error: &serde_json::Error) {
        let message = format!("invalid JSON: {}", without_position(error));
        match error.line() {
            0 => self.invalid_text(message, None),
            line => {
                let line = line + self.first_line - 1;
                let message = format!("{message} at line {line} column {}", error.column());
                self.invalid_text(message, Some(line));
            }
        }
    }

    /// The line is that in the file.
    fn invalid_text(&mut self, message: String, line: Option<usize>) {
        self.incomplete(ProblemCode::InvalidDocument, message);
        if let Some(problem) = self.problems.last_mut() {
            problem.line = line;
        }
    }

    fn object(&mut self, tree: &Tree<'_>, position: Position<'_>) {
        if let (None, Some(items)) = (position.item, tree.elements()) {
            if items.is_empty() {
                return self.incomplete(ProblemCode::EmptyInput, "empty list, no object found");
            }
            return self.list(&items, Position { list: "", ..Position::DOCUMENT });
        }
        if let Some(what) = tree.describe_non_object() {
            let message = format!("not a Kubernetes object but {what}");
            let problem = not_an_object(message).field(position.field(""));
            return self.problems.push(problem.at(&self.source));
        }
        match tree.head() {
            Ok(head) => self.headed(tree, head, position),
            Err(error) => self.report_non_object(tree, position, &error.path, error.message),
        }
    }

    fn headed(&mut self, tree: &Tree<'_>, head: ManifestHead<'_>, position: Position<'_>) {
        if let (None, None, Some(event)) = (&head.kind, &head.api_version, tree.event(&head)) {
            return self.event(&event, position);
        }
        let kind = head.kind.or_else(|| position.kind.map(str::to_owned)).unwrap_or_default();
        let inherited = || position.api_version.map(str::to_owned);
        let api_version = head.api_version.or_else(inherited).unwrap_or_default();
        if kind.is_empty() || api_version.is_empty() {
            let field = if kind.is_empty() { "kind" } else { "apiVersion" };
            let message = "missing: not a Kubernetes object".to_owned();
            return self.report_non_object(tree, position, field, message);
        }
        if let Some(what) = foreign::instead_of_objects(&api_version, &kind) {
            let message = tree.message().map(|message| format!(": {message}")).unwrap_or_default();
            let problem = not_an_object(format!("{what}{message}"));
            return self.problems.push(problem.field(position.field("")).at(&self.source));
        }
        match (api_version.as_str(), kind.as_str()) {
            ("v1", "Service") => {
                let read: Option<Sourced<Service>> = self.read(tree, "Service");
                if let (Some(read), Some(details)) = (&read, &mut self.objects.details) {
                    let labels = tree.read::<Labelled>().map(Labelled::labels).unwrap_or_default();
                    let key = ObjectKey::of(&read.object.metadata);
                    details.service_labels.entry(key).or_insert(labels);
                }
                self.objects.services.extend(read);
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                let read = self.read(tree, "EndpointSlice");
                self.objects.slices.extend(read);
            }
            ("v1", "Endpoints") => {
                let read = self.read(tree, "Endpoints");
                self.objects.endpoints.extend(read);
            }
            ("v1", "Node") => {
                let read = self.read(tree, "Node");
                self.objects.nodes.extend(read);
            }
            ("v1", "Pod") if self.objects.details.is_some() => {
                let read: Option<Sourced<Pod>> = self.read(tree, "Pod");
                if let (Some(Sourced { object, .. }), Some(details)) =
                    (read, &mut self.objects.details)
                {
                    let key = ObjectKey::of(&object.metadata);
                    let labels = tree.read::<Labelled>().map(Labelled::labels).unwrap_or_default();
                    details.pods.entry(key).or_insert_with(|| object.details(labels));
                }
            }
            ("networking.k8s.io/v1" | "networking.k8s.io/v1beta1", "ServiceCIDR") => {
                let read = self.read(tree, "ServiceCIDR");
                self.objects.service_cidrs.extend(read);
            }
            (_, list) if list.ends_with("List") => {
                let items = match tree {
                    Tree::Json(_) => {
                        head.items.into_iter().flatten().map(|raw| Tree::Json(raw.get())).collect()
                    }
                    Tree::Value(value) => value_items(value),
                };
                let kind = list.strip_suffix("List").filter(|kind| !kind.is_empty());
                let api_version = kind.map(|_| api_version.as_str());
                self.list(&items, Position { kind, api_version, ..position });
            }
            (version, kind) if is_kubernetes_kind(version, kind) => {
                self.other_version(tree, version, kind)
            }
            _ => *self.objects.ignored.entry(kind).or_default() += 1,
        }
    }

    /// Reports a document or list item that is not a Kubernetes object.
    fn report_non_object(
        &mut self,
        tree: &Tree<'_>,
        position: Position<'_>,
        field: &str,
        message: String,
    ) {
        let problem = not_an_object(message).field(position.field(field));
        self.problems.push(problem.of(&self.source, &tree.object_name("object")));
    }

    fn event(&mut self, (kind, object): &(String, Tree<'_>), position: Position<'_>) {
        if kind == "BOOKMARK" {
            return;
        }
        let mut objects = self.objects.emptied();
        let mut reader = ManifestReader::new(self.source.clone(), self.first_line, &mut objects);
        reader.object(object, Position { item: None, ..position });
        let problems = reader.problems;
        self.problems.extend(problems);
        match kind.as_str() {
            "ADDED" | "MODIFIED" => self.events.push(WatchEvent { objects, is_gone: false }),
            "DELETED" => self.events.push(WatchEvent { objects, is_gone: true }),
            // Its object is a Status, which was already reported.
            "ERROR" => {}
            _ => {
                let message = format!("unsupported type of watch event {kind:?}");
                let problem = not_an_object(message).field(position.field("type"));
                self.problems.push(problem.at(&self.source));
            }
        }
    }

    /// Reads the items of a list at this position, which has the default kind and version of the items.
    fn list(&mut self, items: &[Tree<'_>], position: Position<'_>) {
        if position.depth == MAX_LIST_DEPTH {
            return self.incomplete(
                ProblemCode::InvalidDocument,
                format!("lists nested more than {MAX_LIST_DEPTH} levels deep"),
            );
        }
        let position = Position { depth: position.depth + 1, ..position };
        let (source, first_line, kept) = (&self.source, self.first_line, &*self.objects);
        let read_part = |(part, items): (usize, &[Tree<'_>])| {
            let mut objects = kept.emptied();
            let mut reader = ManifestReader::new(source.clone(), first_line, &mut objects);
            for (n, item) in (part * ITEMS_PER_TASK..).zip(items) {
                reader.object(item, Position { item: Some(n), ..position });
            }
            let ManifestReader { events, problems, .. } = reader;
            (objects, events, problems)
        };
        // Reading a list of a whole cluster is most of the work, and its items are independent.
        let parts: Vec<(Objects, Vec<WatchEvent>, Vec<Problem>)> =
            items.par_chunks(ITEMS_PER_TASK).enumerate().map(read_part).collect();
        self.objects.reserve(parts.iter().map(|(objects, _, _)| objects));
        for (objects, events, problems) in parts {
            self.objects.append(objects);
            self.events.extend(events);
            self.problems.extend(problems);
        }
    }

    /// Warns about an object of a supported kind with an unsupported version.
    fn other_version(&mut self, tree: &Tree<'_>, version: &str, kind: &str) {
        let message = match kind {
            "EndpointSlice" => format!("unsupported version {version:?}, use discovery.k8s.io/v1"),
            _ => format!("unsupported version {version:?}, use v1"),
        };
        let name = match kind {
            "EndpointSlice" => "EndpointSlice",
            "Service" => "Service",
            _ => "Node",
        };
        let problem = Problem::warning("apiVersion", message).code(ProblemCode::UnsupportedVersion);
        self.problems.push(problem.of(&self.source, &tree.object_name(name)));
    }

    fn read<T: DeserializeOwned>(
        &mut self,
        tree: &Tree<'_>,
        kind: &'static str,
    ) -> Option<Sourced<T>> {
        match tree.read() {
            Ok(object) => Some(Sourced { source: self.source.clone(), object }),
            Err(error) => {
                let problem =
                    Problem::warning(error.path, error.message).code(ProblemCode::InvalidObject);
                self.problems.push(problem.of(&self.source, &tree.object_name(kind)));
                None
            }
        }
    }

    fn incomplete(&mut self, code: ProblemCode, message: impl Into<String>) {
        let problem = Problem::new(Severity::Incomplete, message).code(code);
        self.problems.push(problem.at(&self.source));
    }
}

fn not_an_object(message: impl Into<String>) -> Problem {
    Problem::new(Severity::Incomplete, message).code(ProblemCode::NotAnObject)
}

/// Whether it is a supported kind in one of Kubernetes' own groups. A Service of another group
/// (Knative) is ignored.
fn is_kubernetes_kind(api_version: &str, kind: &str) -> bool {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    matches!(kind, "Service" | "EndpointSlice" | "Node")
        && matches!(group, "" | "apps" | "core" | "discovery.k8s.io" | "extensions")
}

/// Whether a text has only blanks, comments and directives such as %YAML.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let words = line.trim_start();
        words.is_empty() || words.starts_with('#') || line.starts_with('%')
    })
}

/// Position of an object, and the kind and version that a typed list (`ServiceList`) gives to items
/// without their own.
#[derive(Clone, Copy)]
struct Position<'a> {
    kind: Option<&'a str>,
    api_version: Option<&'a str>,
    /// The list's name in messages: empty for a bare array.
    list: &'a str,
    item: Option<usize>,
    depth: usize,
}

impl Position<'_> {
    const DOCUMENT: Self =
        Self { kind: None, api_version: None, list: "items", item: None, depth: 0 };

    /// Path of a field of the object.
    fn field(&self, path: &str) -> String {
        let list = self.list;
        match (self.item, path) {
            (None, path) => path.to_owned(),
            (Some(n), "." | "") => format!("{list}[{n}]"),
            (Some(n), path) => format!("{list}[{n}].{path}"),
        }
    }
}

/// The fields that are read before the kind is known.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ManifestHead<'a> {
    kind: Option<String>,
    api_version: Option<String>,
    /// JSON only.
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
    /// Only used for watch events; other objects have types too.
    #[serde(rename = "type")]
    event: Option<Value>,
    /// Only for watch events, JSON only.
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

/// A document or list item before it is converted to an object. JSON remains text until its kind is
/// known, so that a large list is in memory only once.
enum Tree<'a> {
    Json(&'a str),
    Value(Value),
}

/// A field that could not be read, and the reason.
struct FieldError {
    path: String,
    message: String,
}

/// Maximum number of characters that are quoted from a text, which may be any file.
const QUOTED_CHARACTERS: usize = 80;

impl Tree<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, FieldError> {
        let read: Result<ObjectOnly<T>, FieldError> = match self {
            Tree::Json(text) => read_json(text),
            Tree::Value(value) => typed_value(value).0.map_err(FieldError::from),
        };
        read.map(|ObjectOnly(object)| object)
    }

    fn head(&self) -> Result<ManifestHead<'_>, FieldError> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct ValueHead {
            kind: Option<String>,
            api_version: Option<String>,
            items: Option<Vec<IgnoredAny>>,
            #[serde(rename = "type")]
            event: Option<Value>,
        }
        match self {
            Tree::Json(text) => match serde_json::from_str(text) {
                Ok(ObjectOnly(head)) => Ok(head),
                Err(error) => match read_json::<ObjectOnly<ValueHead>>(text) {
                    Err(wrong) => Err(wrong),
                    Ok(_) => Err(FieldError::without_path(&error)),
                },
            },
            Tree::Value(_) => self.read().map(|head: ValueHead| ManifestHead {
                kind: head.kind,
                api_version: head.api_version,
                items: head.items.map(|_| Vec::new()),
                event: head.event,
                object: None,
            }),
        }
    }

    /// Describes the value if it is not a JSON object.
    fn describe_non_object(&self) -> Option<String> {
        let value = match self {
            Tree::Json(text) if text.trim_start().starts_with('{') => return None,
            Tree::Json(text) => &serde_json::from_str(text).ok()?,
            Tree::Value(value) => value,
        };
        match value {
            Value::Object(_) => None,
            Value::Array(_) => Some("a list".to_owned()),
            Value::String(text) => {
                let start: String = text.chars().take(QUOTED_CHARACTERS).collect();
                Some(format!("the text {start:?}"))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        }
    }

    /// The items, if it is an array.
    fn elements(&self) -> Option<Vec<Tree<'_>>> {
        match self {
            Tree::Json(text) if text.trim_start().starts_with('[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                Some(elements.into_iter().map(|raw| Tree::Json(raw.get())).collect())
            }
            Tree::Value(Value::Array(elements)) => {
                Some(elements.iter().cloned().map(Tree::Value).collect())
            }
            _ => None,
        }
    }

    /// Type and object of a watch event, if it is one.
    fn event<'b>(&'b self, head: &ManifestHead<'b>) -> Option<(String, Tree<'b>)> {
        let kind = head.event.as_ref()?.as_str()?.to_owned();
        let object = match self {
            Tree::Json(_) => Tree::Json(head.object?.get()),
            Tree::Value(value) => Tree::Value(value.get("object")?.clone()),
        };
        Some((kind, object))
    }

    /// The `message` of a Status.
    fn message(&self) -> Option<String> {
        let message = match self {
            Tree::Json(text) => {
                serde_json::from_str::<Value>(text).ok()?.get("message")?.as_str()?.to_owned()
            }
            Tree::Value(value) => value.get("message")?.as_str()?.to_owned(),
        };
        Some(message)
    }

    /// The object's namespace and name, also if the object is otherwise invalid. Unreadable parts are
    /// empty.
    fn object_name(&self, kind: &'static str) -> ObjectName {
        let value = match self {
            Tree::Json(text) => serde_json::from_str(text).unwrap_or_default(),
            Tree::Value(value) => value.clone(),
        };
        let text = |field: &str| {
            let field = value.get("metadata").and_then(|metadata| metadata.get(field));
            field.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let namespace = match (kind, text("namespace")) {
            ("Service" | "EndpointSlice" | "Endpoints" | "Pod", namespace)
                if namespace.is_empty() =>
            {
                "default".to_owned()
            }
            (_, namespace) => namespace,
        };
        ObjectName { kind, namespace, name: text("name") }
    }
}

/// The second reading finds the field. It is of a `Value`, as that of YAML: another deserializer
/// would make the program 130 KB larger.
fn read_json<T: DeserializeOwned>(text: &str) -> Result<T, FieldError> {
    serde_json::from_str(text).map_err(|error| {
        let field = serde_json::from_str(text)
            .map(|value: Value| typed_value::<T>(&value).0.map_err(FieldError::from).err());
        let error = match field {
            Ok(Some(field)) => return field,
            // Of two equal keys, a `Value` has the last.
            Ok(None) => error,
            Err(error) => error,
        };
        FieldError::without_path(&error)
    })
}

impl From<WrongField> for FieldError {
    fn from(wrong: WrongField) -> Self {
        FieldError { path: wrong.path.to_string(), message: user_message(&wrong.message) }
    }
}

impl FieldError {
    fn without_path(error: &serde_json::Error) -> Self {
        Self { path: String::new(), message: user_message(&without_position(error)) }
    }
}

/// serde's message without Rust types.
fn user_message(message: &str) -> String {
    let message = message
        .replace("invalid type: map", "invalid type: object")
        .replace("invalid type: sequence", "invalid type: list");
    let Some((what, expected)) = message.rsplit_once("expected ") else {
        return message;
    };
    let expected = match expected {
        "i64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        other => other,
    };
    format!("{what}expected {expected}")
}

/// `serde_json` appends the position, if it has one. It is relative to the start of the object and not
/// of the file.
fn without_position(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    if message.ends_with(&position) {
        message.truncate(message.len() - position.len());
    }
    message
}

fn value_items(list: &Value) -> Vec<Tree<'static>> {
    let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    items.into_iter().map(Tree::Value).collect()
}

/// All JSON values of a text, and the error after the last one.
fn json_values(text: &str) -> (Vec<&RawValue>, Option<serde_json::Error>) {
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        match value {
            Ok(value) => values.push(value),
            Err(error) => return (values, Some(error)),
        }
    }
    (values, None)
}
