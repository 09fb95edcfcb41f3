//! Text that others chose, made fit for every place where it is shown.

use std::borrow::Cow;

/// The text with what steers a terminal or cannot be seen as an escape: control characters, marks that
/// turn the direction of text, and the like.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !is_visible(c))
}

/// The same for the name of a program, which anybody may choose: what has a meaning in markup is
/// escaped too, wherever it is shown. What is escaped already stays as it is.
pub fn program_name(name: &str) -> Cow<'_, str> {
    escaped(name, |c| !is_visible(c) || matches!(c, '<' | '>' | '&' | '"' | '\''))
}

/// As the debug form of a character has it, which escapes quotes besides.
fn is_visible(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_or_has_a_meaning_is_escaped() {
        assert_eq!(program_name("\x1b[31m<b>"), r"\u{1b}[31m\u{3c}b\u{3e}");
        assert_eq!(program_name("a\u{202e}b\n\u{200b}"), r"a\u{202e}b\u{a}\u{200b}");
        assert_eq!(program_name(r#"\"'&"#), r"\\u{22}\u{27}\u{26}");
        assert_eq!(program_name(&program_name("\x1b<")), r"\u{1b}\u{3c}");
        assert_eq!(visible("chain \"a\\b\" → é <x>"), "chain \"a\\b\" → é <x>");
        assert_eq!(visible("\u{9b}2J\t"), r"\u{9b}2J\u{9}");
        for name in ["kube-proxy", "iptables-nft-re", "(ip) é:1", ""] {
            assert!(matches!(program_name(name), Cow::Borrowed(_)), "{name}");
        }
    }
}
