//! Comments on tables, sets, elements and rules.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// A comment of up to 127 ASCII letters, digits and punctuation characters. nft has no escape
/// character, so everything that could end a comment is removed. Linux 5.10 and newer keeps the
/// comments of tables and chains.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Comment(Arc<str>);

/// NFTNL_UDATA_COMMENT_MAXLEN of libnftnl/udata.h, less the NUL.
const LONGEST: usize = 127;

impl Comment {
    /// The comment as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: AsRef<str>> From<T> for Comment {
    fn from(text: T) -> Self {
        let text = text.as_ref();
        let fits = |c: &char| c.is_ascii() && !c.is_ascii_control() && *c != '"';
        if text.len() <= LONGEST && text.chars().all(|c| fits(&c)) {
            return Self(text.into());
        }
        Self(text.chars().filter(fits).take(LONGEST).collect::<String>().into())
    }
}

/// In the quotes that nft requires.
impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comment_never_contains_characters_that_end_it() {
        assert_eq!(Comment::from("a\"; }\nflush ruleset").to_string(), "\"a; }flush ruleset\"");
        assert_eq!(Comment::from("x".repeat(300)).as_str().len(), LONGEST);
    }
}
