//! An input of the linter.

/// A file with manifests.
#[derive(Debug, Clone)]
pub struct LintFile {
    /// The file as the user named it, `-` for standard input.
    pub name: String,
    /// Its content, or why it cannot be read.
    pub content: Result<Vec<u8>, String>,
}
