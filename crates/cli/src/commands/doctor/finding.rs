//! Findings and results of checks.

use serde::Serialize;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Severity {
    /// Not a fault, but worth knowing.
    Note,
    /// Some traffic may fail.
    Warning,
    /// Traffic fails, or will fail.
    Error,
}

/// A problem found by a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// The problem, with the name of the object, sysctl or process.
    pub(crate) what: String,
    /// A fix: a command to run or a field to change.
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) fn note(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Note, what, remedy)
    }

    pub(crate) fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Warning, what, remedy)
    }

    pub(crate) fn error(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Error, what, remedy)
    }

    pub(crate) fn new(
        severity: Severity,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity, what: what.into(), remedy: remedy.into() }
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The findings; the check is ok if there are none.
    Inputs(Vec<Finding>),
    /// The check does not apply, or needs input that was not given. Holds the reason.
    NotChecked(String),
    /// The check failed to run. Holds the error.
    Unknown(String),
}

/// The result of a check as shown in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Grade {
    Ok,
    Note,
    Warning,
    Error,
    Unknown,
    NotChecked,
}

impl Outcome {
    pub(crate) fn grade(&self) -> Grade {
        match self {
            Outcome::NotChecked(_) => Grade::NotChecked,
            Outcome::Unknown(_) => Grade::Unknown,
            Outcome::Inputs(findings) => {
                match findings.iter().map(|finding| finding.severity).max() {
                    None => Grade::Ok,
                    Some(Severity::Note) => Grade::Note,
                    Some(Severity::Warning) => Grade::Warning,
                    Some(Severity::Error) => Grade::Error,
                }
            }
        }
    }
}

impl Grade {
    /// All grades, best first.
    pub(crate) const ALL: [Grade; 6] =
        [Grade::Ok, Grade::Note, Grade::Warning, Grade::Error, Grade::Unknown, Grade::NotChecked];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Grade::Ok => "ok",
            Grade::Note => "note",
            Grade::Warning => "warning",
            Grade::Error => "error",
            Grade::Unknown => "unknown",
            Grade::NotChecked => "not checked",
        }
    }

    pub(crate) fn mark(self) -> char {
        match self {
            Grade::Ok | Grade::Note => '✓',
            Grade::Warning => '!',
            Grade::Error => '✗',
            Grade::Unknown => '?',
            Grade::NotChecked => '-',
        }
    }
}
