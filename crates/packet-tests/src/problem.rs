use std::fmt;

use serde::Serialize;

/// What is wrong with a test file or a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileProblem {
    /// The name of the case, if it is about one.
    pub case: Option<String>,
    /// The path of the field in the case, else in the file; empty for the whole.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl FileProblem {
    /// A problem of a field.
    pub(crate) fn of(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { case: None, field: field.into(), message: message.into() }
    }

    /// Names the case.
    pub(crate) fn in_case(self, name: &str) -> Self {
        Self { case: Some(name.to_owned()), ..self }
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
