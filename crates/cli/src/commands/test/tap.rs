//! Verdicts in the Test Anything Protocol, version 14 (testanything.org).

use std::fmt::Write;

use rulegen_packet_tests::CaseVerdict;

use super::report::{FileReport, details, name};
use crate::plain::plain;

pub(super) fn describe(reports: &[FileReport]) -> String {
    let mut points = Vec::new();
    for report in reports {
        for case in &report.cases {
            let name = escaped(&format!("{}: {}", report.file, name(case)));
            let (is_ok, name) = match &case.verdict {
                CaseVerdict::Passed | CaseVerdict::Conditional(_) => (true, name),
                CaseVerdict::Ignored(reason) => {
                    (true, format!("{name} # SKIP {}", escaped(reason)))
                }
                CaseVerdict::Failed(_) | CaseVerdict::Wrong(_) => (false, name),
            };
            let notes = case.notes.iter().map(|note| format!("note: {note}\n"));
            let details = notes.collect::<String>() + &details(&case.verdict);
            points.push((is_ok, name, details));
        }
        if !report.problems.is_empty() {
            points.push((false, escaped(&report.file), report.problem_lines().join("\n")));
        }
    }
    let mut out = format!("TAP version 14\n1..{}\n", points.len());
    for (n, (is_ok, name, details)) in points.iter().enumerate() {
        // Writing into a String cannot fail.
        let _ = write_point(&mut out, n + 1, *is_ok, name, details);
    }
    out
}

fn write_point(
    out: &mut String,
    number: usize,
    is_ok: bool,
    name: &str,
    details: &str,
) -> std::fmt::Result {
    let not = if is_ok { "" } else { "not " };
    writeln!(out, "{not}ok {number} - {name}")?;
    if details.is_empty() {
        return Ok(());
    }
    // A YAML block with a literal text.
    writeln!(out, "  ---\n  message: |")?;
    for line in details.trim_end().lines() {
        writeln!(out, "{}", format!("    {}", plain(line)).trim_end())?;
    }
    writeln!(out, "  ...")
}

/// A description. `#` would start a directive, such as TODO, and a line break another test point.
fn escaped(text: &str) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    one_line.replace('\\', "\\\\").replace('#', "\\#")
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn tap_description_has_no_directive_and_one_line() {
        assert_eq!(escaped("a # TODO \\ b\nok"), "a \\# TODO \\\\ b ok");
    }
}
