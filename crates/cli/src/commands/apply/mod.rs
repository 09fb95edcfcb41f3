//! `rulegen apply`: compiles the input and writes differences to this network namespace.

mod iptables;
mod removal;
mod skipped;

use std::collections::{BTreeSet, HashSet};
use std::process::ExitCode;

use anyhow::{Result, bail};
use removal::Removal;
use rulegen_config::ProxyMode;
use rulegen_inspect::listing::{Listing, of_table, services_of_kube_proxy};
use rulegen_kernel::nftables::{
    DataplaneError, Missing, NfTables, isolate, reconcile, reconcile_if,
};
use rulegen_model::{ObjectKey, ServicePort};
use rulegen_net::IpFamily;
use rulegen_ruleset::MOST_TRIALS;
use rulegen_ruleset::nftables::{self, Actual, Name};
use skipped::{end_with, left_out};

use super::{exit_code, services, tables};
use crate::args::ApplyArgs;
use crate::families;
use crate::input::{self, Input};
use crate::mode::OtherMode;
use crate::problems::say;

pub(crate) fn run(args: &ApplyArgs) -> Result<ExitCode> {
    let input = input::load(
        &args.input,
        &args.proxy,
        "nothing is applied, because missing Services would lose their rules",
    )?;
    let other_mode = OtherMode::search(input.config.mode, &args.proxy.nftables.nftables_table);
    if args.input.strict && input.has_warnings {
        bail!("the input has warnings and --strict is set: nothing is applied");
    }
    other_mode.warn();
    match input.config.mode {
        ProxyMode::Iptables => iptables::apply(args, &input)?,
        ProxyMode::Nftables => apply_nftables(args, &input)?,
    }
    let code = exit_code(&input, args.input.strict);
    std::mem::forget(input);
    Ok(code)
}

fn apply_nftables(args: &ApplyArgs, input: &Input) -> Result<()> {
    let families = families::of_nftables(args.family.ip_family);
    let desired = tables(input, &args.proxy.nftables.nftables_table, families);
    let mut kernel = NfTables::open()?;
    let names: Vec<(IpFamily, &Name)> = desired.iter().map(|t| (t.family, &t.name)).collect();
    if !kernel.has_all(&names)? {
        refuse_old_kernel(&kernel.missing(&desired)?)?;
    }
    let mut removal = Removal::new(args, input);
    let mut objection = None;
    let may_change = |actual: &[Option<Actual>]| {
        let actual = services_of_tables(actual, &desired);
        // Slow for a large cluster, and not needed if the kernel has no Services.
        let is_empty = actual.services.is_empty();
        let desired = if is_empty { Listing::default() } else { services(input, families) };
        objection = removal.check(&actual, &desired).err();
        objection.is_none()
    };
    let summaries = reconcile_if(&mut kernel, &desired, may_change, |transactions| {
        transactions.iter().map(describe_transaction).collect::<Vec<String>>()
    });
    if let Some(objection) = objection {
        return Err(objection);
    }
    let refused = match summaries {
        Ok(summaries) => {
            summaries.iter().flatten().for_each(|line| say(line));
            0
        }
        Err(error) => {
            let error = explain_refusal(error, &mut kernel, &desired)?;
            write_others(args, input, &mut kernel, error)?
        }
    };
    // Skip destructors: freeing a large cluster takes longer than compiling it.
    std::mem::forget(desired);
    end_with(refused, "the kernel")
}

fn write(kernel: &mut NfTables, desired: &[nftables::Table]) -> Result<(), DataplaneError> {
    let summaries = reconcile(kernel, desired, |transactions| {
        transactions.iter().map(describe_transaction).collect::<Vec<String>>()
    })?;
    summaries.iter().for_each(|line| say(line));
    Ok(())
}

/// The Services in the kernel's tables, both rulegen's and kube-proxy's.
fn services_of_tables(actual: &[Option<Actual>], desired: &[nftables::Table]) -> Listing {
    let mut listing = Listing::default();
    for (actual, table) in actual.iter().zip(desired) {
        let Some(actual) = actual else { continue };
        for name in services_of_kube_proxy(actual) {
            listing.services.entry(Some(name)).or_default();
        }
        listing.append(of_table(&actual.clone().delinearize(table.family, &table.name).table));
    }
    listing
}

/// Writes all Services that the kernel accepts. Prints the refused ones and returns their number.
fn write_others(
    args: &ApplyArgs,
    input: &Input,
    kernel: &mut NfTables,
    error: DataplaneError,
) -> Result<usize> {
    if !error.is_about_content() {
        return Err(error.into());
    }
    let table = &args.proxy.nftables.nftables_table;
    let families = families::of_nftables(args.family.ip_family);
    let ports = families.iter().flat_map(|family| input.snapshot.service_ports(*family));
    let services: BTreeSet<ObjectKey> = ports.map(service_of).collect();
    let services = Vec::from_iter(services);
    let tables_of = |services: &[ObjectKey]| {
        let mut snapshot = input.snapshot.clone();
        let services: HashSet<&ObjectKey> = services.iter().collect();
        for ports in [&mut snapshot.ipv4, &mut snapshot.ipv6] {
            ports.retain(|port| services.contains(&service_of(port)));
        }
        let plan = |family: &IpFamily| rulegen_compiler::plan(&snapshot, &input.config, *family);
        let tables = families.iter().map(plan);
        tables.map(|plan| rulegen_compiler::nftables::table(&plan, table)).collect::<Vec<_>>()
    };
    let found = isolate(kernel, &[], &services, MOST_TRIALS, tables_of)?;
    let refused = left_out(found, "the kernel");
    let accepted: Vec<ObjectKey> =
        services.into_iter().filter(|service| !refused.contains(service)).collect();
    write(kernel, &tables_of(&accepted))?;
    say(&format!("kernel error: {error}"));
    Ok(refused.len())
}

fn service_of(port: &ServicePort) -> ObjectKey {
    ObjectKey { namespace: port.name.namespace.clone(), name: port.name.service.clone() }
}

/// Checks for missing kernel features before the first write. If the tables exist, the kernel has
/// what they need, and the check is skipped: it takes 8 to 16 ms, because it waits for all CPUs.
fn refuse_old_kernel(missing: &[Missing]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = missing.iter().map(Missing::to_string).collect();
    bail!("this kernel does not support the required features: {}", listed.join("; "))
}

/// Fails with the missing kernel features if the kernel lacks any.
fn explain_refusal(
    error: DataplaneError,
    kernel: &mut NfTables,
    desired: &[nftables::Table],
) -> Result<DataplaneError> {
    if matches!(error, DataplaneError::Refused(_)) {
        refuse_old_kernel(&kernel.missing(desired).unwrap_or_default())?;
    }
    Ok(error)
}

fn describe_transaction(transaction: &nftables::Transaction<'_>) -> String {
    let (family, table) = (transaction.family.nft_name(), transaction.table);
    format!("{family} {table}: {}", transaction.summary())
}
