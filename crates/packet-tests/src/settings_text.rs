//! The text of a file that people write, such as a test file. An unknown field is an error: a misspelt
//! expectation must not pass.

use std::cell::OnceCell;

use rulegen_model::{DocumentLines, YamlError, yaml_value};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment, Track};

use crate::problem::FileProblem;
use crate::wrong_value::{self, PathStep, WrongValue};

/// The text of a file in YAML or JSON, and its value.
pub struct SettingsText<'a> {
    text: &'a str,
    value: Value,
    /// Only needed for problems.
    lines: OnceCell<Option<DocumentLines>>,
}

impl<'a> SettingsText<'a> {
    /// Reads one document.
    ///
    /// # Errors
    /// The syntax error and its position.
    pub fn read(text: &'a str) -> Result<Self, YamlError> {
        Ok(Self { text, value: yaml_value(text)?, lines: OnceCell::new() })
    }

    /// The value of the whole document.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The value as a type, whose JSON Schema is used for messages.
    ///
    /// # Errors
    /// All unknown fields, or the first field with a wrong value.
    pub fn parsed<T: DeserializeOwned>(&self, schema: &Value) -> Result<T, Vec<FileProblem>> {
        let (mut track, mut unknown) = (Track::new(), Vec::new());
        let tracked = serde_path_to_error::Deserializer::new(&self.value, &mut track);
        let read = serde_ignored::deserialize(tracked, |path| unknown.push(fields(&path)));
        let read: Result<T, serde_json::Error> = read;
        if !unknown.is_empty() {
            let problem = |path: &Vec<PathStep>| self.unknown_field(schema, path);
            return Err(unknown.iter().map(problem).collect());
        }
        read.map_err(|error| vec![self.wrong(schema, &segments(&track.path()), &error)])
    }

    /// A problem of a field, with its line.
    pub fn problem(&self, field: &str, message: impl Into<String>) -> FileProblem {
        FileProblem { line: self.line(field), ..FileProblem::of(field, message) }
    }

    /// The line of a field, or of the nearest one around it.
    pub(crate) fn line(&self, field: &str) -> Option<usize> {
        let lines = self.lines.get_or_init(|| DocumentLines::read(self.text)).as_ref()?;
        Some(lines.nearest(field).line)
    }

    /// A problem with its case, if it is in one, field and line.
    fn located(&self, path: &[PathStep], message: String) -> FileProblem {
        let line = self.line(&written(path));
        let problem = match path {
            [PathStep::Field(cases), PathStep::Item(index), rest @ ..] if cases == "cases" => {
                let case = self.value.get("cases").and_then(|cases| cases.get(index));
                let name = case.and_then(|case| case.get("name")).and_then(Value::as_str);
                let name = name.map_or_else(|| format!("#{}", index + 1), str::to_owned);
                FileProblem::of(written(rest), message).in_case(&name)
            }
            path => FileProblem::of(written(path), message),
        };
        FileProblem { line, ..problem }
    }

    fn unknown_field(&self, schema: &Value, path: &[PathStep]) -> FileProblem {
        let message = match path.split_last() {
            Some((PathStep::Field(name), parent)) => {
                wrong_value::unknown_field(schema, parent, name)
            }
            _ => "unknown field".to_owned(),
        };
        self.located(path, message)
    }

    /// The first value that the schema does not allow on the way to a value, else the whole message
    /// of the reader.
    fn wrong(&self, schema: &Value, path: &[PathStep], error: &serde_json::Error) -> FileProblem {
        let wrong = (0..=path.len())
            .find_map(|length| wrong_value::wrong_value(schema, &self.value, path.get(..length)?));
        match wrong {
            Some(WrongValue { path, message }) => self.located(&path, message),
            None => self.located(path, error.to_string()),
        }
    }
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
