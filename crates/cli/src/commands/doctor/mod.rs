//! `rulegen doctor`: diagnoses this node and suggests fixes.
//!
//! ```text
//! Rim ──facts──▶ check ──▶ findings ──▶ report ──▶ text or JSON, and the exit status
//! ```
//!
//! A check is a pure function of facts. The `Rim` reads each fact once, when a check first needs it.
//! The doctor never changes anything: the kernel rolls back what `kernel-features` sends.

mod checks;
mod finding;
mod report;
mod rim;

use std::process::ExitCode;

use anyhow::Result;

use super::{print, print_with};
use crate::args::{DoctorArgs, DoctorForm};
use crate::inputs::{self, Unreachable};
use crate::problems::print_error;

use checks::{CHECKS, Check};
use report::Report;
use rim::Rim;

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    if args.list_checks {
        print(&report::list(&CHECKS))?;
        return Ok(ExitCode::SUCCESS);
    }
    let checks = chosen(&args.checks);
    let found = match inputs::find(&args.objects, &args.proxy) {
        Ok(found) => found,
        Err(error) if error.is::<Unreachable>() => {
            print_error(&error);
            return Ok(ExitCode::from(2));
        }
        Err(error) => return Err(error),
    };
    let rim = Rim::new(found, args);
    let report = Report::new(&rim, checks);
    match args.output {
        DoctorForm::Text => print(&report.text())?,
        DoctorForm::Json => print_with(|out| report.write_json(out))?,
    }
    Ok(ExitCode::from(report.status()))
}

/// The checks with these names in the order of [`CHECKS`], or all if there are no names.
fn chosen(names: &[String]) -> Vec<&'static Check> {
    let is_chosen = |check: &&Check| names.is_empty() || names.iter().any(|n| n == check.name);
    CHECKS.iter().filter(is_chosen).collect()
}

#[cfg(test)]
mod tests {
    use super::CHECKS;
    use crate::args::CHECK_NAMES;

    #[test]
    fn the_flag_check_takes_the_name_of_every_check() {
        assert_eq!(CHECKS.each_ref().map(|check| check.name), CHECK_NAMES);
    }
}
