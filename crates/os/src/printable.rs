//! Escapes untrusted text for output.

use std::borrow::Cow;

/// Escapes control characters, text direction marks and other invisible characters.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !is_visible(c))
}

/// Escapes a program name, which any program can choose: also escapes characters with a meaning in
/// markup. Text that is already escaped stays as it is.
pub fn program_name(name: &str) -> Cow<'_, str> {
    escaped(name, |c| !is_visible(c) || matches!(c, '<' | '>' | '&' | '"' | '\''))
}

/// According to the debug format of a character. Quotes and backslashes are visible too.
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
    fn printable_escapes_invisible_and_markup_characters() {
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
