//! What checks find.

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Severity {
    /// Nothing is wrong, but an operator may wonder.
    Note,
    /// Some traffic may suffer.
    Warning,
    /// Traffic suffers, or will.
    Error,
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// What is the matter, by the name of the object, sysctl or process.
    pub(crate) what: String,
    /// A command to run or a field to change.
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

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It found these; if none, all is well.
    Found(Vec<Finding>),
    /// It does not apply, or needs what was not given.
    NotChecked(String),
    /// It could not be found out.
    Unknown(String),
}

/// What came of a check, in a word.
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
            Outcome::Found(findings) => {
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
    /// All of them, the best first.
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
