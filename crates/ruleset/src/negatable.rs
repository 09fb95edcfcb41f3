//! Types shared by both kinds of rules.

use serde::Serialize;

/// A match that `!` can negate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Negatable<T> {
    /// True for a negated match.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub negated: bool,
    /// The value to compare with.
    pub value: T,
}

impl<T> Negatable<T> {
    /// Matches an equal value.
    pub fn is(value: T) -> Self {
        Self { negated: false, value }
    }

    /// Matches any other value.
    pub fn is_not(value: T) -> Self {
        Self { negated: true, value }
    }
}
