//! Escapes foreign text for a terminal.

use std::borrow::Cow;

/// Replaces control characters. Names of foreign tables, chains and processes, and comments, may
/// contain terminal escape sequences.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    Cow::Owned(text.chars().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_replaces_control_characters() {
        assert_eq!(plain("\x1b]0;owned\x07 \u{9b}2J\n\t→ é"), "�]0;owned� �2J��→ é");
        assert!(matches!(plain("default/web:http → é"), Cow::Borrowed(_)));
    }
}
