//! Reads a test file. An unknown field is an error: a misspelt expectation must not pass.

use std::collections::BTreeSet;

use rulegen_model::{YamlError, nearest, yaml_value};
use serde_json::Value;
use serde_path_to_error::{Path, Segment, Track};

use crate::file::TestFile;
use crate::problem::FileProblem;

/// The JSON Schema of test files. A test compares it with the types: to make it from them when it is
/// needed would add 100 kB to the program.
pub fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/test-file.schema.json")).unwrap_or_default()
}

/// Reads a test file in YAML or JSON.
///
/// # Errors
/// All unknown fields, or the first field with a wrong value.
pub fn read_test_file(text: &str) -> Result<TestFile, Vec<FileProblem>> {
    let wrong = |message: YamlError| vec![FileProblem::of("", format!("invalid YAML: {message}"))];
    let value = yaml_value(text).map_err(wrong)?;
    let (mut track, mut unknown) = (Track::new(), Vec::new());
    let tracked = serde_path_to_error::Deserializer::new(&value, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| unknown.push(fields(&path)));
    let read: Result<TestFile, serde_json::Error> = read;
    if !unknown.is_empty() {
        return Err(unknown.iter().map(|path| unknown_field(&value, path)).collect());
    }
    let file =
        read.map_err(|error| vec![located(&value, &segments(&track.path()), error.to_string())])?;
    let problems = checked(&file);
    if problems.is_empty() { Ok(file) } else { Err(problems) }
}

/// What the types do not express.
fn checked(file: &TestFile) -> Vec<FileProblem> {
    let mut problems = Vec::new();
    if file.inputs.config.is_some() && file.inputs.configuration.is_some() {
        let message = "give either config or configuration";
        problems.push(FileProblem::of("inputs.configuration", message));
    }
    if file.cases.is_empty() {
        problems.push(FileProblem::of("cases", "no cases"));
    }
    let mut names = BTreeSet::new();
    for case in &file.cases {
        if !names.insert(&case.name) {
            let message = "another case has the same name";
            problems.push(FileProblem::of("name", message).in_case(&case.name));
        }
    }
    problems
}

/// A step from a value to a part of it.
#[derive(Debug, Clone, PartialEq)]
enum PathStep {
    Field(String),
    Item(usize),
}

fn fields(path: &serde_ignored::Path<'_>) -> Vec<PathStep> {
    use serde_ignored::Path;
    let (parent, step) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(PathStep::Item(*index))),
        Path::Map { parent, key } => (parent, Some(PathStep::Field(key.clone()))),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut steps = fields(parent);
    steps.extend(step);
    steps
}

fn segments(path: &Path) -> Vec<PathStep> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(PathStep::Item(*index)),
        Segment::Map { key } => Some(PathStep::Field(key.clone())),
        Segment::Enum { variant } => Some(PathStep::Field(variant.clone())),
        Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

/// A problem with its case and field.
fn located(value: &Value, path: &[PathStep], message: String) -> FileProblem {
    match path {
        [PathStep::Field(cases), PathStep::Item(index), rest @ ..] if cases == "cases" => {
            let case = value.get("cases").and_then(|cases| cases.get(index));
            let name = case.and_then(|case| case.get("name")).and_then(Value::as_str);
            let name = name.map_or_else(|| format!("#{}", index + 1), str::to_owned);
            FileProblem::of(written(rest), message).in_case(&name)
        }
        path => FileProblem::of(written(path), message),
    }
}

/// A path as text, such as `expect.chances[0].chance`.
fn written(path: &[PathStep]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            PathStep::Item(index) => text += &format!("[{index}]"),
            PathStep::Field(name) if text.is_empty() => text += name,
            PathStep::Field(name) => text += &format!(".{name}"),
        }
    }
    text
}

fn unknown_field(value: &Value, path: &[PathStep]) -> FileProblem {
    let Some((PathStep::Field(name), parent)) = path.split_last() else {
        return located(value, path, "unknown field".to_owned());
    };
    let schema = schema();
    let known = known_fields(&schema, parent);
    let message = match nearest(name, known.iter().copied()) {
        Some(similar) => format!("unknown field, did you mean {similar:?}?"),
        None => format!("unknown field, use one of {}", known.join(", ")),
    };
    located(value, path, message)
}

/// The fields that the schema has at a path.
fn known_fields<'a>(root: &'a Value, path: &[PathStep]) -> Vec<&'a str> {
    let start = alternatives(root, root);
    let at = path.iter().fold(start, |schemas, step| {
        let parts = schemas.iter().filter_map(|schema| match step {
            PathStep::Item(_) => schema.get("items"),
            PathStep::Field(name) => schema.get("properties")?.get(name),
        });
        parts.flat_map(|part| alternatives(root, part)).collect()
    });
    let fields = at.iter().filter_map(|schema| schema.get("properties")?.as_object());
    let mut fields: Vec<&str> = fields.flat_map(|of| of.keys().map(String::as_str)).collect();
    fields.sort_unstable();
    fields.dedup();
    fields
}

/// A schema with references followed, or its alternatives.
fn alternatives<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    if let Some(pointer) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(pointer.trim_start_matches('#'));
        return target.map(|target| alternatives(root, target)).unwrap_or_default();
    }
    let of = |key| schema.get(key).and_then(Value::as_array);
    match of("anyOf").or_else(|| of("oneOf")) {
        Some(all) => all.iter().flat_map(|one| alternatives(root, one)).collect(),
        None => vec![schema],
    }
}
