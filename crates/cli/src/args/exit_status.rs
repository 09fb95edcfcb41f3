//! The exit statuses of each command.

use std::fmt::Write;

/// A command and the meaning of status 0, 1 and 2. Status 2 is also wrong usage.
type CommandStatuses = (&'static str, [&'static str; 3]);

const TABLE: [CommandStatuses; 13] = [
    ("apply", ["applied, or no changes", "not confirmed, or failed", ""]),
    ("--dry-run", ["printed", "invalid input, or failed", ""]),
    ("diff", ["no changes", "changes found", "invalid input, or failed"]),
    ("list", ["listed, even with changes", "Service not found, or failed", ""]),
    ("explain", ["explained", "invalid input, or failed", ""]),
    (
        "doctor",
        [
            "no warnings or errors",
            "warnings, errors, invalid input",
            "a check failed to run, or no API server",
        ],
    ),
    ("test", ["all cases passed", "a case failed", "invalid file or input"]),
    ("lint", ["no findings that count", "findings (see --fail-on)", "unreadable input"]),
    ("golden", ["up to date, or written", "files differ", "invalid file or input"]),
    ("trace", ["stopped as requested", "failed", ""]),
    ("agent", ["stopped by a signal", "failed, or configuration changed", ""]),
    ("cleanup", ["removed, or nothing to do", "not confirmed, or failed", ""]),
    ("completion", ["printed", "failed", ""]),
];

const NOTES: &str = "\
Status 2 is also wrong usage. With invalid input or configuration nothing is printed on standard \
output. With --strict, warnings count as failures.";

/// The table of all commands, for `rulegen --help`.
pub(super) fn table() -> String {
    let mut text = String::from("Exit status:\n");
    let mut line = |name: &str, [ok, failed, other]: [&str; 3]| {
        let line = format!("  {name:<11} {ok:<26} {failed:<34} {other}");
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line("", ["0", "1", "2"]);
    TABLE.iter().for_each(|(name, meanings)| line(name, *meanings));
    text + NOTES
}

/// The text after a command's options: examples and exit statuses.
pub(super) fn with(command: &str, examples: &str) -> String {
    let row = TABLE.iter().find(|(name, _)| *name == command);
    let meanings = row.map(|(_, meanings)| *meanings).unwrap_or_default();
    let [ok, failed, other] = meanings;
    let usage = if other.is_empty() { "wrong usage" } else { ", or wrong usage" };
    format!("{examples}\n\nExit status: 0 {ok}; 1 {failed}; 2 {other}{usage}.")
}
