//! Verdicts as `cargo test` prints them.

use std::fmt::Write;

use rulegen_packet_tests::{CaseReport, CaseVerdict};

use super::report::{FileReport, TestSummary, details_with, name, summary};
use crate::paint::Paint;
use crate::plain::plain;
use crate::plural::counted;

pub(super) fn describe(reports: &[FileReport], paint: Paint) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = write_all(&mut out, reports, paint);
    out
}

fn write_all(out: &mut String, reports: &[FileReport], paint: Paint) -> std::fmt::Result {
    for report in reports {
        if report.problems.is_empty() {
            let tests = counted(report.cases.len(), "test");
            writeln!(out, "running {tests} of {}", plain(&report.file))?;
        }
        for case in &report.cases {
            let verdict = match &case.verdict {
                CaseVerdict::Passed => paint.comes("ok"),
                CaseVerdict::Conditional(_) => paint.changes("ok, unless"),
                CaseVerdict::Failed(_) => paint.goes("FAILED"),
                CaseVerdict::Wrong(_) => paint.goes("ERROR"),
                CaseVerdict::Ignored(reason) => {
                    paint.changes(&format!("ignored, {}", plain(reason)))
                }
            };
            writeln!(out, "test {} ... {verdict}", plain(&name(case)))?;
            if let CaseVerdict::Conditional(conditions) = &case.verdict {
                conditions
                    .iter()
                    .try_for_each(|of| writeln!(out, "    {}", plain(&of.reason.to_string())))?;
            }
            for note in &case.notes {
                writeln!(out, "    {} {}", paint.changes("note:"), plain(&note.to_string()))?;
            }
        }
        for problem in report.problem_lines() {
            writeln!(out, "{} {}", paint.goes("ERROR"), plain(&problem))?;
        }
        writeln!(out)?;
    }
    let is_bad =
        |case: &&CaseReport| matches!(case.verdict, CaseVerdict::Failed(_) | CaseVerdict::Wrong(_));
    let bad = |report: &FileReport| report.cases.iter().any(|case| is_bad(&case));
    if reports.iter().any(bad) {
        writeln!(out, "failures:\n")?;
    }
    for report in reports {
        for case in report.cases.iter().filter(is_bad) {
            let heading = format!("---- {}: {} ----", report.file, plain(&name(case)));
            writeln!(out, "{}", paint.bold(&heading))?;
            writeln!(out, "{}", details_with(&case.verdict, paint))?;
        }
    }
    let TestSummary { passed, conditional, failed, errors, ignored } = summary(reports);
    let conditional = match conditional {
        0 => String::new(),
        conditional => format!("; {conditional} passed with conditions"),
    };
    let ignored = if ignored > 0 { format!("; {ignored} ignored") } else { String::new() };
    let result = match failed + errors {
        0 => paint.comes("ok"),
        _ => paint.goes("FAILED"),
    };
    let errors = counted(errors, "error");
    writeln!(
        out,
        "test result: {result}. {passed} passed{conditional}; {failed} failed; {errors}{ignored}"
    )
}
