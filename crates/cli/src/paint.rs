//! Colours of text output.

use std::io::{self, IsTerminal};

/// Colours; off if the output is not a terminal.
#[derive(Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    /// On if standard output is a terminal and NO_COLOR is not set (no-color.org).
    pub(crate) fn for_stdout() -> Self {
        Self(io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    /// Off.
    pub(crate) fn none() -> Self {
        Self(false)
    }

    pub(crate) fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn comes(&self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn goes(&self, text: &str) -> String {
        self.with("31", text)
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    pub(crate) fn changes(&self, text: &str) -> String {
        self.with("33", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
