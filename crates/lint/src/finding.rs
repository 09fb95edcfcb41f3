//! Findings.

use rulegen_model::{ObjectName, ProblemCode, Source};

use crate::rule::{LintRule, rule};
use crate::severity::FindingSeverity;

/// Something wrong with the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintFinding {
    /// The kind of problem, for programs.
    pub code: ProblemCode,
    /// How bad it is.
    pub severity: FindingSeverity,
    /// The file and document, if known.
    pub source: Option<Source>,
    /// The line in the file, starting at 1, if known.
    pub line: Option<usize>,
    /// The object, if known.
    pub object: Option<ObjectName>,
    /// Path of the field: `spec.ports[0].port`.
    pub field: Option<String>,
    /// The problem, in one sentence.
    pub what: String,
    /// A fix: a field to change or a command to run.
    pub remedy: String,
}

impl LintFinding {
    /// A finding with the severity and remedy of its rule, without place, object and field.
    pub(crate) fn new(code: ProblemCode, what: impl Into<String>) -> Self {
        let LintRule { severity, remedy, .. } = rule(code);
        Self {
            code,
            severity,
            source: None,
            line: None,
            object: None,
            field: None,
            what: what.into(),
            remedy: remedy.to_owned(),
        }
    }

    /// Sets a more precise remedy than the rule's.
    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }

    /// Lowers the severity, because here it is not a fault.
    pub(crate) fn lowered_to_note(self) -> Self {
        Self { severity: FindingSeverity::Note, ..self }
    }

    /// Sets the object.
    pub(crate) fn about(self, object: &ObjectName) -> Self {
        Self { object: Some(object.clone()), ..self }
    }

    /// Sets the field.
    pub(crate) fn field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Sets the file and document.
    pub(crate) fn at(self, source: Option<&Source>) -> Self {
        Self { source: source.cloned(), ..self }
    }
}
