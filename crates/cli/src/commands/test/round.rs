//! One run of all test files.

use anyhow::{Result, bail};
use rulegen_config::ProxyMode;
use rulegen_packet_tests::{
    CaseInputs, CaseReport, LiveRules, OnConditions, TestFile, run as run_cases, run_live,
};

use super::inputs::{LoadedFile, load};
use super::report::{self, FileReport};
use super::{json, junit, tap, text};
use crate::args::{TestArgs, TestForm};
use crate::commands::explain::live::KernelRules;
use crate::commands::print;
use crate::mode;
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
    let live = args.live.then(|| kernel_rules(args)).transpose()?;
    let on_conditions =
        if args.fail_on_conditions { OnConditions::Fail } else { OnConditions::Report };
    let live = live.as_ref().map(|rules| (rules as &dyn LiveRules, on_conditions));
    let reports: Vec<FileReport> = files.iter().map(|file| reported(file, live)).collect();
    print(&match args.output {
        TestForm::Text => text::describe(&reports, Paint::for_stdout()),
        TestForm::Json => json::describe(&reports)?,
        TestForm::Junit => junit::describe(&reports),
        TestForm::Tap => tap::describe(&reports),
    })?;
    let summary = report::summary(&reports);
    Ok(match (summary.errors, summary.failed) {
        // A node name with a typo must not look like success.
        (0, 0) if summary.passed + summary.conditional == 0 && summary.ignored > 0 => WRONG,
        (0, 0) => 0,
        (0, _) => 1,
        _ => WRONG,
    })
}

/// The rules in the kernel, in the mode that they have.
fn kernel_rules(args: &TestArgs) -> Result<KernelRules<'_>> {
    let table = &args.nftables_table;
    let mode = match mode::detect(table) {
        Some(mode) => mode,
        None if !mode::variants_in_use().is_empty() => ProxyMode::Iptables,
        None => bail!(
            "this network namespace has no rules of Services, or they cannot be read without \
             CAP_NET_ADMIN"
        ),
    };
    Ok(KernelRules::new(&args.kernel, table, mode))
}

type Live<'a> = Option<(&'a dyn LiveRules, OnConditions)>;

fn cases(tests: &TestFile, inputs: &CaseInputs, live: Live<'_>) -> Vec<CaseReport> {
    match live {
        Some((live, on_conditions)) => run_live(tests, inputs, live, on_conditions),
        None => run_cases(tests, inputs),
    }
}

fn reported(file: &LoadedFile, live: Live<'_>) -> FileReport {
    let (problems, cases) = match &file.tests {
        Ok((tests, inputs)) => (Vec::new(), cases(tests, inputs, live)),
        Err(problems) => (problems.clone(), Vec::new()),
    };
    FileReport { file: file.path.display().to_string(), problems, cases }
}
