//! How bad a finding is.

use serde::Serialize;

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FindingSeverity {
    /// Not a fault, but worth knowing.
    Note,
    /// Some traffic may fail.
    Warning,
    /// Traffic fails, or will fail.
    Error,
}

impl FindingSeverity {
    /// The word in text, JSON and SARIF: `note`, `warning`, `error`.
    pub fn name(self) -> &'static str {
        match self {
            FindingSeverity::Note => "note",
            FindingSeverity::Warning => "warning",
            FindingSeverity::Error => "error",
        }
    }
}
