//! Text of others, made fit for a terminal.

use std::borrow::Cow;

/// The text without characters that steer a terminal. What others call their tables, chains and
/// processes, and the comments they put there, may hold any.
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
    fn what_steers_a_terminal_is_shown_and_not_sent() {
        assert_eq!(plain("\x1b]0;owned\x07 \u{9b}2J\n\t→ é"), "�]0;owned� �2J��→ é");
        assert!(matches!(plain("default/web:http → é"), Cow::Borrowed(_)));
    }
}
