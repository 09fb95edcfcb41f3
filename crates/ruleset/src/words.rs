//! Words that both kinds of rules share.

use serde::Serialize;

/// A match that may be turned round with `!`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Negatable<T> {
    /// Whether it is turned round.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub negated: bool,
    /// What is matched.
    pub value: T,
}

impl<T> Negatable<T> {
    /// Matches what is equal.
    pub fn is(value: T) -> Self {
        Self { negated: false, value }
    }

    /// Matches what is not equal.
    pub fn is_not(value: T) -> Self {
        Self { negated: true, value }
    }
}
