//! Findings and results of checks.

use rulegen_lint::LintFinding;
use serde::Serialize;

use crate::code::FindingCode;

pub use rulegen_lint::FindingSeverity;

/// A problem found by a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The kind of problem, for programs.
    pub code: FindingCode,
    /// How bad it is.
    pub severity: FindingSeverity,
    /// The problem, with the name of the object, sysctl or process.
    pub what: String,
    /// A fix: a command to run or a field to change.
    pub remedy: String,
}

impl Finding {
    /// A finding of [`FindingSeverity::Note`].
    pub fn note(code: FindingCode, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(code, FindingSeverity::Note, what, remedy)
    }

    /// A finding of [`FindingSeverity::Warning`].
    pub fn warning(code: FindingCode, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(code, FindingSeverity::Warning, what, remedy)
    }

    /// A finding of [`FindingSeverity::Error`].
    pub fn error(code: FindingCode, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(code, FindingSeverity::Error, what, remedy)
    }

    /// A finding.
    pub fn new(
        code: FindingCode,
        severity: FindingSeverity,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { code, severity, what: what.into(), remedy: remedy.into() }
    }
}

/// A finding about the cluster's objects.
impl From<LintFinding> for Finding {
    fn from(finding: LintFinding) -> Self {
        let LintFinding { code, severity, what, remedy, .. } = finding;
        Self { code: FindingCode::Object(code), severity, what, remedy }
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckResult {
    /// The findings; the check is ok if there are none.
    Found(Vec<Finding>),
    /// The check does not apply, or needs input that was not given. Holds the reason.
    NotChecked(String),
    /// The check failed to run. Holds the error.
    Unknown(String),
}

/// The result of a check as shown in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Grade {
    /// Nothing was found.
    Ok,
    /// The worst finding is a note.
    Note,
    /// The worst finding is a warning.
    Warning,
    /// The worst finding is an error.
    Error,
    /// The check failed to run.
    Unknown,
    /// The check does not apply.
    NotChecked,
}

impl CheckResult {
    /// The worst finding, or the reason that there is none.
    pub fn grade(&self) -> Grade {
        match self {
            CheckResult::NotChecked(_) => Grade::NotChecked,
            CheckResult::Unknown(_) => Grade::Unknown,
            CheckResult::Found(findings) => {
                match findings.iter().map(|finding| finding.severity).max() {
                    None => Grade::Ok,
                    Some(FindingSeverity::Note) => Grade::Note,
                    Some(FindingSeverity::Warning) => Grade::Warning,
                    Some(FindingSeverity::Error) => Grade::Error,
                }
            }
        }
    }
}

impl Grade {
    /// All grades, best first.
    pub const ALL: [Grade; 6] =
        [Grade::Ok, Grade::Note, Grade::Warning, Grade::Error, Grade::Unknown, Grade::NotChecked];

    /// The grade in text output.
    pub fn word(self) -> &'static str {
        match self {
            Grade::Ok => "ok",
            Grade::Note => "note",
            Grade::Warning => "warning",
            Grade::Error => "error",
            Grade::Unknown => "unknown",
            Grade::NotChecked => "not checked",
        }
    }

    /// A character for the grade in text output.
    pub fn mark(self) -> char {
        match self {
            Grade::Ok | Grade::Note => '✓',
            Grade::Warning => '!',
            Grade::Error => '✗',
            Grade::Unknown => '?',
            Grade::NotChecked => '-',
        }
    }
}
