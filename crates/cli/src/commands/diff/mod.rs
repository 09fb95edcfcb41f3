//! `rulegen diff`: shows what apply would change, by Service, then by object.

pub(crate) mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use rulegen_compiler::iptables::ruleset;
use rulegen_compiler::{Plan, plan};
use rulegen_config::ProxyMode;
use rulegen_inspect::diff::{DiffReport, diff_iptables, diff_nftables};
use rulegen_inspect::listing::{Listing, of_plan};
use rulegen_kernel::nftables::{Dataplane, NfTables};
use rulegen_model::Cluster;
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::Ruleset;
use rulegen_ruleset::nftables::{Actual, Name, Table};

use super::{access, iptables, print_with, tables, variant};
use crate::WrongUsage;
use crate::args::{DiffArgs, DiffForm};
use crate::families;
use crate::input::Input;
use crate::inputs::find;
use crate::mode::OtherMode;
use crate::paint::Paint;
use crate::problems::print_error;

/// Exit status as in kubectl diff and diff(1): 0 no changes, 1 changes, 2 error.
pub(crate) fn run(args: &DiffArgs) -> Result<ExitCode> {
    let found = compare(args).unwrap_or_else(|error| {
        print_error(&error);
        2
    });
    Ok(ExitCode::from(found))
}

fn compare(args: &DiffArgs) -> Result<u8> {
    let input = input(args)?;
    OtherMode::search(input.config.mode, &args.proxy.nftables.nftables_table).warn();
    let report = match input.config.mode {
        ProxyMode::Iptables => compare_iptables(args, &input)?,
        ProxyMode::Nftables => compare_nftables(args, &input)?,
    };
    print(args.output, &report)?;
    Ok(u8::from(!report.is_empty()))
}

/// The desired state, from manifests or the API server.
fn input(args: &DiffArgs) -> Result<Input> {
    let found = find(&args.objects, &args.proxy)?;
    let Some(Cluster { objects, snapshot }) = found.cluster else {
        let message = "no desired state to compare with: give manifests (-f) or an API server \
                       (--kubeconfig)";
        return Err(WrongUsage(message.to_owned()).into());
    };
    let has_slices = !objects.slices.is_empty();
    // find() rejects warnings with --strict.
    Ok(Input { snapshot, config: found.config, has_slices, has_warnings: false })
}

fn compare_iptables(args: &DiffArgs, input: &Input) -> Result<DiffReport> {
    let variant = variant(&args.kernel)?;
    let (mut actual, mut plans) = (Vec::new(), Vec::new());
    for family in families::on_this_host(args.family.ip_family, variant, access(&args.kernel)) {
        actual.push(iptables(*family, variant, &args.kernel).save()?);
        plans.push(plan(&input.snapshot, &input.config, *family));
    }
    let desired: Vec<Ruleset> = plans.iter().map(ruleset).collect();
    let both: Vec<(&Ruleset, &Ruleset)> = actual.iter().zip(&desired).collect();
    let of_family = |family| plans.iter().find(|plan: &&Plan| plan.family == family);
    let report = diff_iptables(&both, |family| of_family(family).map(of_plan).unwrap_or_default());
    // Skip destructors: freeing a large cluster takes longer than comparing it.
    std::mem::forget((actual, desired));
    Ok(report)
}

fn compare_nftables(args: &DiffArgs, input: &Input) -> Result<DiffReport> {
    let families = families::of_nftables(args.family.ip_family);
    let desired = tables(input, &args.proxy.nftables.nftables_table, families);
    let names: Vec<(IpFamily, &Name)> =
        desired.iter().map(|table| (table.family, &table.name)).collect();
    let (_, actual) = NfTables::open()?.read(&names)?;
    let both: Vec<(Option<&Actual>, &Table)> =
        actual.iter().map(Option::as_ref).zip(&desired).collect();
    let known = |family| -> Listing { of_plan(&plan(&input.snapshot, &input.config, family)) };
    let report = diff_nftables(&both, known);
    // Skip destructors: freeing a large cluster takes longer than comparing it.
    std::mem::forget((actual, desired));
    Ok(report)
}

fn print(form: Option<DiffForm>, report: &DiffReport) -> Result<()> {
    match form {
        Some(DiffForm::Json) => print_with(|out| {
            serde_json::to_writer_pretty(&mut *out, report).map_err(io::Error::from)?;
            writeln!(out)
        }),
        None => print_with(|out| text::write(out, report, &Paint::for_stdout())),
    }
}
