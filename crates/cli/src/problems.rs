//! Prints problems on standard error.

use std::io::{self, IsTerminal};

use rulegen_model::{Problem, ProblemCode, Severity};

use crate::log;

/// Maximum number of problems per severity.
const PRINTED: usize = 100;

/// Logs an event at the level of a label. With JSON logging all lines must be JSON.
macro_rules! event {
    ($label:expr, $($event:tt)*) => {
        match $label {
            Label::Note => tracing::info!($($event)*),
            Label::Warning => tracing::warn!($($event)*),
            Label::Error => tracing::error!($($event)*),
        }
    };
}

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
            print_services_without_rules(label, &without_rules);
        }
        for problem in matching.iter().take(PRINTED) {
            print_problem(label, problem);
        }
        if let Some(more) = matching.len().checked_sub(PRINTED).filter(|more| *more > 0) {
            match log::is_json() {
                true => event!(label, more, "more problems in the input"),
                false => line(label, &format!("and {more} more")),
            }
        }
    }
}

fn print_problem(label: Label, problem: &Problem) {
    if !log::is_json() {
        return line(label, &problem.to_string());
    }
    let source = problem.source.as_ref().map(ToString::to_string);
    let object = problem.object.as_ref().map(ToString::to_string);
    let field = problem.shown_field();
    let code = problem.code.map(ProblemCode::name);
    event!(
        label,
        source,
        object,
        field,
        code,
        problem = problem.shown_message(),
        "problem in the input"
    );
}

/// One line for all, because a cluster may have thousands of such Services.
fn print_services_without_rules(label: Label, problems: &[&Problem]) {
    let services = problems.len();
    let names = problems.iter().filter_map(|problem| problem.object.as_ref());
    let names: Vec<String> =
        names.take(NAMED).map(|of| format!("{}/{}", of.namespace, of.name)).collect();
    let (shown, more) = (names.join(", "), services - names.len());
    if log::is_json() {
        return event!(label, services, shown, "skipped headless and ExternalName Services");
    }
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    line(
        label,
        &format!(
            "skipped {services} headless and ExternalName Services, which need no rules: \
             {shown}{more}"
        ),
    );
}

/// Maximum number of names in a line.
const NAMED: usize = 3;

/// Prints an error with its causes.
pub(crate) fn print_error(error: &anyhow::Error) {
    let error = format!("{error:#}");
    match log::is_json() {
        true => event!(Label::Error, error, "command failed"),
        false => line(Label::Error, &error),
    }
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
