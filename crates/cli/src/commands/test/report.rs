//! The verdicts of a test file, for all output formats.

use rulegen_packet_tests::{CaseReport, FileProblem, Verdict};
use serde::Serialize;

use crate::commands::explain::text::describe;
use crate::paint::Paint;

pub(super) struct FileReport {
    pub(super) file: String,
    /// Why no case was run.
    pub(super) problems: Vec<FileProblem>,
    pub(super) cases: Vec<CaseReport>,
}

#[derive(Default, Serialize)]
pub(super) struct Summary {
    pub(super) passed: usize,
    pub(super) failed: usize,
    /// Wrong files and cases.
    pub(super) errors: usize,
}

pub(super) fn summary<'a>(reports: impl IntoIterator<Item = &'a FileReport>) -> Summary {
    let mut summary = Summary::default();
    for report in reports {
        summary.errors += usize::from(!report.problems.is_empty());
        for case in &report.cases {
            match case.verdict {
                Verdict::Passed => summary.passed += 1,
                Verdict::Failed(_) => summary.failed += 1,
                Verdict::Wrong(_) => summary.errors += 1,
            }
        }
    }
    summary
}

/// The name of a case with its mode.
pub(super) fn name(case: &CaseReport) -> String {
    format!("{} ({})", case.name, case.mode.word())
}

/// What does not hold, and why, without colours.
pub(super) fn details(verdict: &Verdict) -> String {
    details_with(verdict, Paint::none())
}

pub(super) fn details_with(verdict: &Verdict, paint: Paint) -> String {
    let failures = match verdict {
        Verdict::Passed => return String::new(),
        Verdict::Wrong(problem) => return format!("{problem}\n"),
        Verdict::Failed(failures) => failures,
    };
    let one = |failure: &rulegen_packet_tests::Failure| {
        let lines = failure.mismatches.iter().map(|of| {
            format!("{}\n    expected: {}\n    actual:   {}\n", of.field, of.expected, of.actual)
        });
        format!("{}\n{}", lines.collect::<String>(), describe(&failure.explanation, paint))
    };
    failures.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// A short form of what does not hold.
pub(super) fn message(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passed => String::new(),
        Verdict::Wrong(problem) => problem.to_string(),
        Verdict::Failed(failures) => {
            let mismatches = failures.iter().flat_map(|failure| &failure.mismatches);
            let one = mismatches
                .map(|of| format!("{}: expected {}, actual {}", of.field, of.expected, of.actual));
            one.collect::<Vec<_>>().join("; ")
        }
    }
}
