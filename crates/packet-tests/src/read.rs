//! Reads a test file. An unknown field is an error: a misspelt expectation must not pass.

use std::collections::BTreeSet;

use rulegen_model::{YamlError, yaml_value};
use serde_json::Value;
use serde_path_to_error::{Path, Segment, Track};

use crate::file::TestFile;
use crate::problem::FileProblem;
use crate::wrong_value::{self, PathStep, WrongValue};

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
    let invalid =
        |message: YamlError| vec![FileProblem::of("", format!("invalid YAML: {message}"))];
    let value = yaml_value(text).map_err(invalid)?;
    let (mut track, mut unknown) = (Track::new(), Vec::new());
    let tracked = serde_path_to_error::Deserializer::new(&value, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| unknown.push(fields(&path)));
    let read: Result<TestFile, serde_json::Error> = read;
    if !unknown.is_empty() {
        return Err(unknown.iter().map(|path| unknown_field(&value, path)).collect());
    }
    let file = read.map_err(|error| vec![wrong(&value, &segments(&track.path()), &error)])?;
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
    located(value, path, wrong_value::unknown_field(&schema(), parent, name))
}

/// The first value that the schema does not allow on the way to a value, else the whole message of
/// the reader.
fn wrong(file: &Value, path: &[PathStep], error: &serde_json::Error) -> FileProblem {
    let schema = schema();
    let wrong = (0..=path.len())
        .find_map(|length| wrong_value::wrong_value(&schema, file, path.get(..length)?));
    match wrong {
        Some(WrongValue { path, message }) => located(file, &path, message),
        None => located(file, path, error.to_string()),
    }
}
