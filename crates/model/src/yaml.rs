//! Reads a document as a JSON value, and writes a value as YAML.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::localizer::Localizer;
use serde_saphyr::{DefaultMessageFormatter, Error, Location};

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
    #[error("duplicate key {key:?}{}", At(*position))]
    DuplicateKey {
        /// The key as written.
        key: String,
        /// The second key; `None` if the parser does not know it.
        position: Option<TextPosition>,
    },
    /// Any other error of syntax or type.
    #[error("{message}{}", At(*position))]
    Syntax {
        /// The parser's words, without the position.
        message: String,
        /// Where the parser stopped; `None` if it does not know.
        position: Option<TextPosition>,
    },
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPosition {
    /// The line, from 1.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
}

/// Follows the error at a position.
struct At(Option<TextPosition>);

impl Display for At {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(TextPosition { line, column }) = self.0 else { return Ok(()) };
        write!(f, " at line {line}, column {column}")
    }
}

impl YamlError {
    /// The error in a file, of a text that begins at this line of it.
    pub(crate) fn in_file(mut self, first_line: usize) -> Self {
        if let Self::DuplicateKey { position: Some(position), .. }
        | Self::Syntax { position: Some(position), .. } = &mut self
        {
            let before = u64::try_from(first_line).unwrap_or(u64::MAX).saturating_sub(1);
            position.line = position.line.saturating_add(before);
        }
        self
    }

    /// The line of the error, from 1, if it is known.
    pub(crate) fn line(&self) -> Option<usize> {
        let (Self::DuplicateKey { position, .. } | Self::Syntax { position, .. }) = self else {
            return None;
        };
        usize::try_from(position.as_ref()?.line).ok()
    }
}

impl TextPosition {
    fn of(location: Location) -> Option<Self> {
        let is_known = location != Location::UNKNOWN;
        is_known.then(|| Self { line: location.line(), column: location.column() })
    }
}

/// Leaves positions out of the parser's messages: they have a field of their own.
struct WithoutPosition;

impl Localizer for WithoutPosition {
    fn attach_location<'a>(&self, base: Cow<'a, str>, _: Location) -> Cow<'a, str> {
        base
    }
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
            Error::DuplicateMappingKey { key: Some(key), location } => {
                Self::DuplicateKey { key: key.clone(), position: TextPosition::of(*location) }
            }
            Error::AliasError { error, .. } => Self::from(&**error),
            other => {
                let words = DefaultMessageFormatter.with_localizer(&WithoutPosition);
                let message = other.render_with_formatter(&words);
                let message = message.lines().next().unwrap_or_default().to_owned();
                Self::Syntax { message, position: other.location().and_then(TextPosition::of) }
            }
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
