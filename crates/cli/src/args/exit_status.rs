//! What the exit status of each command means.

use std::fmt::Write;

/// A command and what 0, 1 and 2 mean; 2 is wrong usage besides.
type Row = (&'static str, [&'static str; 3]);

const TABLE: [Row; 10] = [
    ("apply", ["applied, or nothing to do", "refused, or failed", ""]),
    ("--dry-run", ["printed", "input not usable, or failed", ""]),
    ("diff", ["nothing would change", "something would change", "not usable, or failed"]),
    ("list", ["listed, whatever differs", "input not usable, or failed", ""]),
    ("explain", ["explained", "input not usable, or failed", ""]),
    (
        "doctor",
        ["nothing is wrong", "something is, or input not usable", "something not found out"],
    ),
    ("trace", ["ended as it was asked to", "failed", ""]),
    ("agent", ["ended by a signal", "failed, or configuration changed", ""]),
    ("cleanup", ["removed, or nothing to do", "failed, or not confirmed", ""]),
    ("completion", ["printed", "failed", ""]),
];

const NOTES: &str = "\
2 is also wrong usage. Where the input or the configuration is not usable, nothing is printed on \
standard output; --strict makes warnings fail.";

/// Of all commands.
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

/// A command's help behind its options, with what its status means.
pub(super) fn with(command: &str, examples: &str) -> String {
    let row = TABLE.iter().find(|(name, _)| *name == command);
    let meanings = row.map(|(_, meanings)| *meanings).unwrap_or_default();
    let [ok, failed, other] = meanings;
    let usage = if other.is_empty() { "wrong usage" } else { ", or wrong usage" };
    format!("{examples}\n\nExit status: 0 {ok}; 1 {failed}; 2 {other}{usage}.")
}
