//! Tells a person what was wrong, on standard error.

use std::io::{self, IsTerminal};

use rulegen_model::{Problem, Severity};

use crate::log;

/// Of each severity so many are told; a cluster may hold thousands of headless Services.
const TOLD: usize = 100;

/// Prints problems, the worst last, where the eye is.
pub(crate) fn print(problems: &[Problem]) {
    for (severity, label) in [
        (Severity::Note, Label::Note),
        (Severity::Warning, Label::Warning),
        (Severity::Unread, Label::Error),
        (Severity::Error, Label::Error),
    ] {
        let those: Vec<&Problem> = problems.iter().filter(|p| p.severity == severity).collect();
        for problem in those.iter().take(TOLD) {
            line(label, &problem.to_string());
        }
        if let Some(more) = those.len().checked_sub(TOLD).filter(|more| *more > 0) {
            line(label, &format!("and {more} more like these"));
        }
    }
}

/// Prints why the program failed, with all its causes.
pub(crate) fn print_error(error: &anyhow::Error) {
    line(Label::Error, &format!("{error:#}"));
}

/// Says what was done.
pub(crate) fn say(message: &str) {
    log::say(message);
}

#[derive(Clone, Copy)]
enum Label {
    Note,
    Warning,
    Error,
}

fn line(label: Label, message: &str) {
    // Who reads a log of JSON takes no other line.
    if log::is_json() {
        return match label {
            Label::Note => tracing::info!("{message}"),
            Label::Warning => tracing::warn!("{message}"),
            Label::Error => tracing::error!("{message}"),
        };
    }
    let (name, colour) = match label {
        Label::Note => ("note", "36"),
        Label::Warning => ("warning", "33"),
        Label::Error => ("error", "31"),
    };
    let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    say(&match coloured {
        true => format!("\x1b[1;{colour}m{name}:\x1b[0m {message}"),
        false => format!("{name}: {message}"),
    });
}
