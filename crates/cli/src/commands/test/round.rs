//! One run of all test files.

use anyhow::Result;
use rulegen_packet_tests::run as run_cases;

use super::inputs::{LoadedFile, load};
use super::report::{self, FileReport};
use super::{json, junit, tap, text};
use crate::args::{TestArgs, TestForm};
use crate::commands::print;
use crate::paint::Paint;
use crate::problems;

/// The status for a wrong file, case or input.
pub(super) const WRONG: u8 = 2;

pub(super) fn load_all(args: &TestArgs) -> Vec<LoadedFile> {
    args.files.iter().map(|path| load(path)).collect()
}

/// Runs all cases and prints the verdicts. Returns the status.
pub(super) fn run(args: &TestArgs, files: &[LoadedFile]) -> Result<u8> {
    files.iter().for_each(|file| problems::print(&file.warnings));
    let reports: Vec<FileReport> = files.iter().map(reported).collect();
    print(&match args.output {
        TestForm::Text => text::describe(&reports, Paint::for_stdout()),
        TestForm::Json => json::describe(&reports)?,
        TestForm::Junit => junit::describe(&reports),
        TestForm::Tap => tap::describe(&reports),
    })?;
    let summary = report::summary(&reports);
    Ok(match (summary.errors, summary.failed) {
        (0, 0) => 0,
        (0, _) => 1,
        _ => WRONG,
    })
}

fn reported(file: &LoadedFile) -> FileReport {
    let (problems, cases) = match &file.tests {
        Ok((tests, inputs)) => (Vec::new(), run_cases(tests, inputs)),
        Err(problems) => (problems.clone(), Vec::new()),
    };
    FileReport { file: file.path.display().to_string(), problems, cases }
}
