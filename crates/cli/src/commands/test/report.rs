//! The verdicts of a test file, for all output formats.

use rulegen_packet_tests::{CaseReport, CaseVerdict, FileProblem};
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
pub(super) struct TestSummary {
    pub(super) passed: usize,
    /// Passed cases with conditions.
    pub(super) conditional: usize,
    pub(super) failed: usize,
    /// Wrong files and cases.
    pub(super) errors: usize,
    /// Cases that cannot run with the rules in the kernel.
    pub(super) ignored: usize,
}

impl FileReport {
    /// The problems, each with the file.
    pub(super) fn problem_lines(&self) -> Vec<String> {
        self.problems.iter().map(|problem| problem.in_file(&self.file)).collect()
    }
}

pub(super) fn summary<'a>(reports: impl IntoIterator<Item = &'a FileReport>) -> TestSummary {
    let mut summary = TestSummary::default();
    for report in reports {
        summary.errors += usize::from(!report.problems.is_empty());
        for case in &report.cases {
            match case.verdict {
                CaseVerdict::Passed => summary.passed += 1,
                CaseVerdict::Conditional(_) => summary.conditional += 1,
                CaseVerdict::Failed(_) => summary.failed += 1,
                CaseVerdict::Wrong(_) => summary.errors += 1,
                CaseVerdict::Ignored(_) => summary.ignored += 1,
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
pub(super) fn details(verdict: &CaseVerdict) -> String {
    details_with(verdict, Paint::none())
}

pub(super) fn details_with(verdict: &CaseVerdict, paint: Paint) -> String {
    let failures = match verdict {
        CaseVerdict::Passed | CaseVerdict::Ignored(_) => return String::new(),
        CaseVerdict::Conditional(conditions) => {
            return conditions.iter().map(|of| format!("{of}\n")).collect();
        }
        CaseVerdict::Wrong(problem) => return format!("{problem}\n"),
        CaseVerdict::Failed(failures) => failures,
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
pub(super) fn message(verdict: &CaseVerdict) -> String {
    match verdict {
        CaseVerdict::Passed | CaseVerdict::Conditional(_) | CaseVerdict::Ignored(_) => {
            String::new()
        }
        CaseVerdict::Wrong(problem) => problem.to_string(),
        CaseVerdict::Failed(failures) => {
            let mismatches = failures.iter().flat_map(|failure| &failure.mismatches);
            let one = mismatches
                .map(|of| format!("{}: expected {}, actual {}", of.field, of.expected, of.actual));
            one.collect::<Vec<_>>().join("; ")
        }
    }
}
