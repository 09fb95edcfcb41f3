//! Label selectors as text. Same grammar as kubectl's `--selector`.

use std::collections::BTreeSet;

use rulegen_agent::{Expression, Selector};

/// Reads requirements with commas between them: `a=b`, `a==b`, `a!=b`, `a in (b,c)`,
/// `a notin (b,c)`, `a` and `!a`. An empty text selects everything.
pub(super) fn parse(text: &str) -> Result<Selector, String> {
    let mut rest = Rest(text.trim());
    let mut selector = Selector::default();
    while !rest.0.is_empty() {
        selector.extend(rest.requirement()?);
        if !rest.0.is_empty() {
            rest.symbol(",").ok_or_else(|| rest.wanted("a comma"))?;
            if rest.0.is_empty() {
                return Err(rest.wanted("a label"));
            }
        }
    }
    Ok(selector)
}

/// What is not read yet, without leading blanks.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn requirement(&mut self) -> Result<Expression, String> {
        if self.symbol("!").is_some() {
            return Ok(Expression::DoesNotExist(self.key()?));
        }
        let key = self.key()?;
        // "==" before "=".
        if self.symbol("==").or_else(|| self.symbol("=")).is_some() {
            return Ok(Expression::Equal(key, self.value()?));
        }
        if self.symbol("!=").is_some() {
            return Ok(Expression::NotEqual(key, self.value()?));
        }
        if self.0.is_empty() || self.0.starts_with(',') {
            return Ok(Expression::Exists(key));
        }
        match self.word() {
            "in" => Ok(Expression::In(key, self.values()?)),
            "notin" => Ok(Expression::NotIn(key, self.values()?)),
            _ => Err(format!("{key:?} needs =, ==, !=, in or notin, or a comma after it")),
        }
    }

    fn key(&mut self) -> Result<String, String> {
        let key = self.word();
        let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(p, n)| (Some(p), n));
        let is_prefix = |prefix: &str| {
            let is_part =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
            !prefix.is_empty() && prefix.len() <= 253 && prefix.bytes().all(is_part)
        };
        match !name.is_empty() && is_value(name) && prefix.is_none_or(is_prefix) {
            true => Ok(key.to_owned()),
            false if key.is_empty() => Err(self.wanted("a label")),
            false => Err(format!("invalid label {key:?}")),
        }
    }

    fn value(&mut self) -> Result<String, String> {
        let value = self.word();
        match is_value(value) {
            true => Ok(value.to_owned()),
            false => Err(format!("invalid label value {value:?}")),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        self.symbol("(").ok_or_else(|| self.wanted("( and values"))?;
        let mut values = BTreeSet::from([self.value()?]);
        while self.symbol(",").is_some() {
            values.insert(self.value()?);
        }
        self.symbol(")").map(|()| values).ok_or_else(|| self.wanted(")"))
    }

    /// The text up to the next blank or symbol.
    fn word(&mut self) -> &'a str {
        let is_end = |c: char| c.is_whitespace() || "=!(),<>".contains(c);
        let end = self.0.find(is_end).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest.trim_start();
        word
    }

    fn symbol(&mut self, symbol: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(symbol)?.trim_start();
        Some(())
    }

    fn wanted(&self, what: &str) -> String {
        match self.0 {
            "" => format!("ends where {what} is expected"),
            rest => format!("{rest:?} where {what} is expected"),
        }
    }
}

/// Whether it is empty, or at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at
/// both ends.
fn is_value(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let is_end = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(is_part)
        && is_end(text.bytes().next())
        && is_end(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use rulegen_agent::SelectorExt;

    use super::*;

    /// With the result for the labels `app: web`, `tier: back`, `empty: ""`.
    #[test]
    fn selector_has_the_grammar_and_meaning_of_kubectl() {
        let labels = [("app", "web"), ("tier", "back"), ("empty", "")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for (text, canonical, is_selected) in [
            ("", "", true),
            ("app=web", "app=web", true),
            (" app == web ", "app=web", true),
            ("app=db", "app=db", false),
            ("app!=db", "app!=db", true),
            ("other != x", "other!=x", true),
            ("app=web,tier!=back", "app=web,tier!=back", false),
            ("app", "app", true),
            ("! app", "!app", false),
            ("app,!other", "app,!other", true),
            ("tier in (back, front)", "tier in (back,front)", true),
            ("tier notin(back)", "tier notin (back)", false),
            ("other notin (back),app", "other notin (back),app", true),
            ("empty=", "empty=", true),
            ("empty=,app=web", "empty=,app=web", true),
            ("empty in (,x)", "empty in (,x)", true),
            ("in in (in)", "in in (in)", false),
            ("app.kubernetes.io/name=a_B.c-1", "app.kubernetes.io/name=a_B.c-1", false),
        ] {
            let selector = parse(text).unwrap();
            assert_eq!(selector.to_string(), canonical, "{text}");
            assert_eq!(selector.matches(&labels), is_selected, "{text}");
        }
    }

    #[test]
    fn selector_errors_name_the_place() {
        for (text, error) in [
            ("app=web,", "ends where a label is expected"),
            (",app", "\",app\" where a label is expected"),
            ("=web", "\"=web\" where a label is expected"),
            ("app web", "\"app\" needs ="),
            ("app in web", "\"web\" where ( and values is expected"),
            ("app in (web", "ends where ) is expected"),
            ("app=web tier=back", "\"tier=back\" where a comma is expected"),
            ("app=web=x", "\"=x\" where a comma is expected"),
            ("app>1", "\"app\" needs ="),
            ("-app", "invalid label \"-app\""),
            ("/app", "invalid label \"/app\""),
            ("A.b/app", "invalid label \"A.b/app\""),
            ("app=we$b", "invalid label value \"we$b\""),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.starts_with(error), "{text}: {told}");
        }
    }
}
