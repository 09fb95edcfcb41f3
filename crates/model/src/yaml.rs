//! Reads a document as a JSON value, and writes a value as YAML.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;

use crate::document::MAX_DOCUMENT_BYTES;

/// Maximum nesting of a document; a Service nests seven levels deep.
const MAX_DEPTH: usize = 64;

/// Reads one YAML document as a JSON value.
///
/// # Errors
/// The syntax error and its position.
pub fn yaml_value(text: &str) -> Result<Value, YamlError> {
    parse(text)
}

/// Reads one YAML document. The budget limits the expansion of aliases and the
/// recursion of the parser; [`MAX_DOCUMENT_BYTES`] limits the size.
///
/// # Errors
/// The syntax error and its position.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 64_000_000,
            max_nodes: 32_000_000,
            max_total_scalar_bytes: MAX_DOCUMENT_BYTES,
            max_depth: MAX_DEPTH,
            max_aliases: 10_000,
            max_anchors: 10_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 1_000_000,
            max_alias_expansions_per_anchor: 10_000,
        },
        emit_comments: false,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| YamlError::from(&error))
}

/// Why a text is not one YAML document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// Nested deeper than any object of Kubernetes.
    #[error("nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// Its aliases stand for too much.
    #[error("YAML alias expansion limit exceeded")]
    TooManyAliases,
    /// An anchor contains an alias of itself.
    #[error("an anchor refers to itself")]
    AnchorInItself,
    /// More than one document, separated by `---`.
    #[error("there is more than one document")]
    SeveralDocuments,
    /// A key twice in one mapping.
    #[error("duplicate key {key:?} at line {line}, column {column}")]
    DuplicateKey {
        /// The key as written.
        key: String,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
    },
    /// Any other error of syntax or type, in the parser's words, with the position.
    #[error("{0}")]
    Syntax(String),
}

impl From<&Error> for YamlError {
    fn from(error: &Error) -> Self {
        match error.without_snippet() {
            Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => Self::TooDeep,
            Error::Budget { .. }
            | Error::AliasReplayCounterOverflow { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. } => Self::TooManyAliases,
            Error::RecursiveReferencesRequireWeakTypes { .. } => Self::AnchorInItself,
            Error::MultipleDocuments { .. } => Self::SeveralDocuments,
            Error::DuplicateMappingKey { key: Some(key), location } => Self::DuplicateKey {
                key: key.clone(),
                line: location.line(),
                column: location.column(),
            },
            Error::AliasError { error, .. } => Self::from(&**error),
            other => Self::Syntax(other.to_string().lines().next().unwrap_or_default().to_owned()),
        }
    }
}

/// Writes a value as one YAML document.
///
/// # Errors
/// Writing to `out` failed.
pub fn write_yaml(out: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    serde_saphyr::to_io_writer(out, value).map_err(|error| match error {
        serde_saphyr::ser::Error::IO { error } => error,
        other => io::Error::other(other.to_string()),
    })
}
