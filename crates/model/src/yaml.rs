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
pub fn yaml_value(text: &str) -> Result<Value, String> {
    parse(text)
}

/// Reads one YAML document. The budget limits the expansion of aliases and the
/// recursion of the parser; [`MAX_DOCUMENT_BYTES`] limits the size.
///
/// # Errors
/// The syntax error and its position.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
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
    serde_saphyr::from_str_with_options(text, options).map_err(|error| message(&error))
}

/// The error for the user. The library's own messages are for programmers.
fn message(error: &Error) -> String {
    match error.without_snippet() {
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            format!("nested more than {MAX_DEPTH} levels deep")
        }
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "YAML alias expansion limit exceeded".to_owned()
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            "an anchor refers to itself".to_owned()
        }
        Error::MultipleDocuments { .. } => "there is more than one document".to_owned(),
        Error::DuplicateMappingKey { key: Some(key), location } => {
            let (line, column) = (location.line(), location.column());
            format!("duplicate key {key:?} at line {line}, column {column}")
        }
        Error::AliasError { error, .. } => message(error),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
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
