//! Asks the user at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::args::YesArgs;

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Yes,
    No,
    NoTerminal,
}

/// Whether there is a terminal to ask at.
pub(crate) fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on standard error, because results go to standard output.
pub(crate) fn ask(question: &str, yes: &YesArgs) -> Reply {
    if yes.yes {
        return Reply::Yes;
    }
    if !is_terminal() {
        return Reply::NoTerminal;
    }
    let mut out = io::stderr();
    let mut answer = String::new();
    let asked = write!(out, "{question} [y/N] ").and_then(|()| out.flush());
    match asked.and_then(|()| io::stdin().lock().read_line(&mut answer)) {
        Ok(_) if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") => Reply::Yes,
        _ => Reply::No,
    }
}
