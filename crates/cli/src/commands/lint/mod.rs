//! `rulegen lint`: reads manifests, prints findings, sets the status.

mod codequality;
mod counts;
mod json;
mod list;
mod sarif;
mod text;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rulegen_config::{ProxyConfig, read_config};
use rulegen_lint::{FindingSeverity, LintFile, LintFinding, LintReport, lint};
use rulegen_model::{ProblemCode, Severity};

use super::print;
use crate::args::{LintArgs, LintForm};
use crate::input::read_contents;
use crate::paint::Paint;
use crate::problems::{self, print_error};

/// The status for wrong usage and unreadable input.
const FAILED: u8 = 2;

pub(crate) fn run(args: &LintArgs) -> Result<ExitCode> {
    Ok(ExitCode::from(run_checks(args).unwrap_or_else(|error| {
        print_error(&error);
        FAILED
    })))
}

fn run_checks(args: &LintArgs) -> Result<u8> {
    if args.list {
        print(&list::describe())?;
        return Ok(0);
    }
    let config = args.config.as_deref().map(configuration).transpose()?.unwrap_or_default();
    let files: Vec<LintFile> = args.filename.iter().flat_map(|path| read_contents(path)).collect();
    let LintReport { findings, objects } = lint(&files, &config);
    let fail_on = FindingSeverity::from(args.fail_on);
    let least = FindingSeverity::from(args.severity).min(fail_on);
    let (shown, hidden): (Vec<LintFinding>, Vec<LintFinding>) =
        findings.into_iter().partition(|finding| finding.severity >= least);
    print(&match args.output {
        LintForm::Text => text::describe(&shown, hidden.len(), objects, Paint::for_stdout()),
        LintForm::Json => json::describe(&shown, hidden.len(), objects)?,
        LintForm::Sarif => sarif::describe(&shown)?,
        LintForm::Codequality => codequality::describe(&shown)?,
    })?;
    Ok(status(&shown, fail_on))
}

fn status(findings: &[LintFinding], fail_on: FindingSeverity) -> u8 {
    if findings.iter().any(|finding| finding.code == ProblemCode::UnreadableInput) {
        return FAILED;
    }
    u8::from(findings.iter().any(|finding| finding.severity >= fail_on))
}

/// The configuration, independent of the rules on this machine.
fn configuration(path: &Path) -> Result<ProxyConfig> {
    let content = std::fs::read(path)
        .with_context(|| format!("{}: cannot read the configuration", path.display()))?;
    let (config, problems) = read_config(&path.display().to_string(), &content);
    problems::print(&problems);
    if problems.iter().any(|problem| problem.severity >= Severity::Incomplete) {
        bail!("invalid configuration (see above)");
    }
    Ok(ProxyConfig::from(&config))
}
