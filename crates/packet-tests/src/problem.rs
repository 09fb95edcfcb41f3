use std::fmt;

use serde::Serialize;

/// What is wrong with a test file, with golden.yaml or with a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileProblem {
    /// The name of the case, if it is about one.
    pub case: Option<String>,
    /// The path of the field in the case, else in the file; empty for the whole.
    pub field: String,
    /// The line of the field, from 1, if the problem was found while the file was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl FileProblem {
    /// A problem of a field, or of the whole file if the field is empty.
    pub fn of(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { case: None, field: field.into(), line: None, message: message.into() }
    }

    /// Names the case.
    pub(crate) fn in_case(self, name: &str) -> Self {
        Self { case: Some(name.to_owned()), ..self }
    }

    /// The problem with its file: `FILE:LINE: FIELD: MESSAGE`.
    pub fn in_file(&self, file: &str) -> String {
        match self.line {
            Some(line) => format!("{file}:{line}: {self}"),
            None => format!("{file}: {self}"),
        }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(case) = &self.case {
            write!(f, "case {case:?}: ")?;
        }
        match self.field.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.field, self.message),
        }
    }
}
