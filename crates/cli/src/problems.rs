//! Prints problems on standard error.

use std::io::{self, IsTerminal};

use rulegen_model::{Problem, Severity};

use crate::log;

/// Maximum number of problems per severity.
const PRINTED: usize = 100;

/// Prints problems, the worst last so that they are visible at the prompt.
pub(crate) fn print(problems: &[Problem]) {
    for (severity, label) in [
        (Severity::Note, Label::Note),
        (Severity::Warning, Label::Warning),
        (Severity::Incomplete, Label::Error),
        (Severity::Error, Label::Error),
    ] {
        let mut matching: Vec<&Problem> =
            problems.iter().filter(|p| p.severity == severity).collect();
        let needs_no_rules = |problem: &&Problem| problem.is_service_without_rules();
        let without_rules: Vec<&Problem> =
            matching.iter().copied().filter(needs_no_rules).collect();
        if without_rules.len() > 1 {
            matching.retain(|problem| !problem.is_service_without_rules());
            line(label, &services_without_rules(&without_rules));
        }
        for problem in matching.iter().take(PRINTED) {
            line(label, &problem.to_string());
        }
        if let Some(more) = matching.len().checked_sub(PRINTED).filter(|more| *more > 0) {
            line(label, &format!("and {more} more"));
        }
    }
}

/// One line for all, because a cluster may have thousands of such Services.
fn services_without_rules(problems: &[&Problem]) -> String {
    let names = problems.iter().filter_map(|problem| problem.object.as_ref());
    let names: Vec<String> =
        names.take(NAMED).map(|of| format!("{}/{}", of.namespace, of.name)).collect();
    let more = problems.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "skipped {} headless and ExternalName Services, which need no rules: {}{more}",
        problems.len(),
        names.join(", ")
    )
}

/// Maximum number of names in a line.
const NAMED: usize = 3;

/// Prints an error with its causes.
pub(crate) fn print_error(error: &anyhow::Error) {
    line(Label::Error, &format!("{error:#}"));
}

/// Prints a message.
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
    // With JSON logging all lines must be JSON.
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
