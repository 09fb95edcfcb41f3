//! The text of a file that people write, such as a test file. An unknown field is an error: a misspelt
//! expectation must not pass.

use std::cell::OnceCell;

use rulegen_model::{
    DocumentLines, FieldPath, FieldStep, WrongField, YamlError, typed_value, yaml_value,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::problem::FileProblem;
use crate::wrong_value::{self, WrongValue};

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
        let (read, unknown) = typed_value(&self.value);
        if !unknown.is_empty() {
            let problem = |path: &FieldPath| self.unknown_field(schema, &path.0);
            return Err(unknown.iter().map(problem).collect());
        }
        read.map_err(|wrong| vec![self.wrong(schema, wrong)])
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
    fn located(&self, path: &[FieldStep], message: String) -> FileProblem {
        let line = self.line(&FieldPath(path.to_vec()).to_string());
        let problem = match path {
            [FieldStep::Field(cases), FieldStep::Item(index), rest @ ..] if cases == "cases" => {
                let case = self.value.get("cases").and_then(|cases| cases.get(index));
                let name = case.and_then(|case| case.get("name")).and_then(Value::as_str);
                let name = name.map_or_else(|| format!("#{}", index + 1), str::to_owned);
                FileProblem::of(FieldPath(rest.to_vec()).to_string(), message).in_case(&name)
            }
            path => FileProblem::of(FieldPath(path.to_vec()).to_string(), message),
        };
        FileProblem { line, ..problem }
    }

    fn unknown_field(&self, schema: &Value, path: &[FieldStep]) -> FileProblem {
        let message = match path.split_last() {
            Some((FieldStep::Field(name), parent)) => {
                wrong_value::unknown_field(schema, parent, name)
            }
            _ => "unknown field".to_owned(),
        };
        self.located(path, message)
    }

    /// The first value that the schema does not allow on the way to a value, else the whole message
    /// of the reader.
    fn wrong(&self, schema: &Value, WrongField { path, message }: WrongField) -> FileProblem {
        let path = path.0;
        let wrong = (0..=path.len())
            .find_map(|length| wrong_value::wrong_value(schema, &self.value, path.get(..length)?));
        match wrong {
            Some(WrongValue { path, message }) => self.located(&path, message),
            None => self.located(&path, message),
        }
    }
}
