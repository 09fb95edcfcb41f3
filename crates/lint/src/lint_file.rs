//! An input of the linter.

use std::io;
use std::sync::Arc;

/// A file with manifests.
#[derive(Debug, Clone)]
pub struct LintFile {
    /// The file as the user named it, `-` for standard input.
    pub name: String,
    /// Its content, or why it cannot be read.
    pub content: Result<Vec<u8>, UnreadableFile>,
}

/// Why there is no content.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnreadableFile {
    /// The system's error.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// A folder without manifests.
    #[error("no *.yaml, *.yml or *.json file in this folder")]
    NoManifest,
}

impl From<io::Error> for UnreadableFile {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
