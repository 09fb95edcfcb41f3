//! `rulegen doctor`: the checks of the crate `doctor`, with arguments, text and JSON.

mod report;

use std::process::ExitCode;

use anyhow::Result;
use rulegen_config::Overrides;
use rulegen_doctor::{CHECKS, Check, DoctorOptions, NodeFacts, Report};
use rulegen_kernel::iptables::Variant;

use super::{access, print, print_with};
use crate::args::{DoctorArgs, DoctorForm, VariantChoice};
use crate::configuration;
use crate::families;
use crate::inputs::{self, ApiUnreachable, Inputs};
use crate::problems::print_error;

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    if args.list_checks {
        print(&report::list(&CHECKS))?;
        return Ok(ExitCode::SUCCESS);
    }
    let checks = chosen(&args.checks);
    let found = match inputs::find_with(&args.objects, &args.proxy, flags(args)?) {
        Ok(found) => found,
        Err(error) if error.is::<ApiUnreachable>() => {
            print_error(&error);
            return Ok(ExitCode::from(2));
        }
        Err(error) => return Err(error),
    };
    let report = Report::new(&NodeFacts::new(options(found, args)), checks);
    match args.output {
        DoctorForm::Text => print(&report::text(&report))?,
        DoctorForm::Json => print_with(|out| report::write_json(&report, out))?,
    }
    Ok(ExitCode::from(report::status(&report)))
}

/// The flags that the checks use.
fn flags(args: &DoctorArgs) -> Result<Overrides> {
    let (metrics_bind_address, metrics_port) = args.metrics();
    let flags = configuration::overrides(&args.proxy)?;
    Ok(Overrides { metrics_bind_address, metrics_port, ..flags })
}

fn options(found: Inputs, args: &DoctorArgs) -> DoctorOptions {
    DoctorOptions {
        config: found.config,
        metrics_address: found.metrics_address,
        cluster: found.cluster,
        problems: found.problems,
        is_from_api_server: found.is_from_api_server,
        families: args.family.ip_family.map(families::chosen),
        table: args.proxy.nftables.nftables_table.clone(),
        iptables_variant: args.kernel.iptables_variant.map(|choice| match choice {
            VariantChoice::Nft => Variant::Nft,
            VariantChoice::Legacy => Variant::Legacy,
        }),
        iptables_access: access(&args.kernel),
        lock_timeout: args.kernel.lock.timeout(),
    }
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
    fn doctor_check_flag_accepts_every_check_name() {
        assert_eq!(CHECKS.each_ref().map(|check| check.name), CHECK_NAMES);
    }
}
