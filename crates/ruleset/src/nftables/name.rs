//! Names of tables, chains and sets.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// The name of a table, chain or set: up to 255 letters, digits and `_ . / -`. Other characters are
/// replaced by `_`, so that no name can break out of its place in text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

/// NFT_NAME_MAXLEN of linux/netfilter/nf_tables.h, less the NUL.
const LONGEST: usize = 255;

impl Name {
    /// A name exactly as the kernel reports it.
    pub fn from_kernel(text: &str) -> Self {
        Self(text.into())
    }

    /// True for the name of a set that belongs to a rule. nft gives it, and shows the set's
    /// elements in braces in its place.
    pub fn is_anonymous(&self) -> bool {
        self.0.starts_with("__set") || self.0.starts_with("__map")
    }

    /// A reference to the set of this name in a rule.
    pub fn reference(&self) -> impl fmt::Display {
        match self.is_anonymous() {
            true => "{ … }".to_owned(),
            false => format!("@{self}"),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<T: AsRef<str>> From<T> for Name {
    fn from(text: T) -> Self {
        let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
        let text = text.as_ref();
        let letters = text.chars().map(|c| if fits(&c) { c } else { '_' }).take(LONGEST);
        Self(letters.collect::<String>().into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_never_contains_characters_that_end_it() {
        assert_eq!(Name::from("endpoint/a/b/tcp/x__::1/80").as_str(), "endpoint/a/b/tcp/x____1/80");
        assert_eq!(Name::from("a\n}; flush ruleset").as_str(), "a____flush_ruleset");
        assert_eq!(Name::from("x".repeat(300)).as_str().len(), LONGEST);
    }
}
