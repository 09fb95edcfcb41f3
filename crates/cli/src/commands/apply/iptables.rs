//! Applying in iptables mode.

use std::collections::BTreeSet;
use std::thread;

use anyhow::{Context, Result};
use rulegen_compiler::iptables::{LiveRuleset, OURS};
use rulegen_inspect::iptables::holds_services;
use rulegen_inspect::listing::{Listing, of_ruleset};
use rulegen_kernel::iptables::{Iptables, IptablesError, Restored, Variant, holds_chain};
use rulegen_model::ObjectKey;
use rulegen_net::IpFamily;
use rulegen_ruleset::MOST_TRIALS;
use rulegen_ruleset::iptables::{Ruleset, Split, Table, Transaction, diff, isolate};

use super::removal::Removal;
use super::skipped::{end_with, left_out};
use crate::args::ApplyArgs;
use crate::commands::{access, compile, iptables, services, variant};
use crate::families;
use crate::input::Input;
use crate::problems::say;

pub(super) fn apply(args: &ApplyArgs, input: &Input) -> Result<()> {
    let variant = variant(&args.kernel)?;
    // Runs in parallel: it takes 10 ms, a tenth of applying 1,000 Services.
    let others = thread::Builder::new()
        .spawn(move || others_in_use(variant))
        .context("cannot start a thread")?;
    let families = families::on_this_host(args.family.ip_family, variant, access(&args.kernel));
    let refused = restore(args, input, families, variant)?;
    others.join().unwrap_or_default().into_iter().for_each(warn_of_other);
    hint_at_localnet(input);
    end_with(refused.len(), &format!("iptables-{variant}"))
}

/// Reads all families before writing any, so that nothing is written if the removal of Services is not
/// confirmed. Returns the skipped Services.
fn restore(
    args: &ApplyArgs,
    input: &Input,
    families: &[IpFamily],
    variant: Variant,
) -> Result<BTreeSet<ObjectKey>> {
    let (mut actual, mut desired) = (Vec::new(), Vec::new());
    for family in families {
        desired.push(compile(input, *family));
        actual.push(iptables(*family, variant, &args.kernel).save()?);
    }
    let transactions: Vec<Transaction<'_>> =
        actual.iter().zip(&desired).map(|(actual, desired)| diff(actual, desired, &OURS)).collect();
    if transactions.iter().any(|transaction| !transaction.is_empty())
        && actual.iter().any(holds_services)
    {
        let mut listing = Listing::default();
        actual.iter().for_each(|actual| listing.append(of_ruleset(actual)));
        Removal::new(args, input).check(&listing, &services(input, families))?;
    }
    let are_written = are_written_together(families, variant, args, &transactions)?;
    let mut refused = BTreeSet::new();
    for ((family, actual), transaction) in families.iter().zip(&actual).zip(&transactions) {
        let mut tables = iptables(*family, variant, &args.kernel);
        let written = match are_written || transaction.is_empty() {
            true => Ok(()),
            false => tables.restore(transaction).map(warn_of_chains_in_use),
        };
        let summary = match written {
            Ok(()) => transaction.summary(),
            Err(error) if error.is_about_content() => {
                let (services, summary) =
                    write_others(input, *family, actual, &mut tables, &error)?;
                refused.extend(services);
                summary
            }
            Err(error) => return Err(error.into()),
        };
        say(&format!("{} (iptables-{variant}): {summary}", family.api_name()));
    }
    drop(transactions);
    // Skip destructors: freeing a large cluster takes longer than compiling it.
    std::mem::forget((actual, desired));
    Ok(refused)
}

/// Writes all families in one commit, if the variant can. Not if one of them is refused: then each
/// is written on its own, without the Services that are refused.
fn are_written_together(
    families: &[IpFamily],
    variant: Variant,
    args: &ApplyArgs,
    transactions: &[Transaction<'_>],
) -> Result<bool> {
    let is_native = |family: &IpFamily| iptables(*family, variant, &args.kernel).uses_netlink();
    if !families.iter().all(is_native) {
        return Ok(false);
    }
    let of_families = families.iter().copied().zip(transactions);
    match Iptables::commit_together(&Vec::from_iter(of_families)) {
        Err(error) if error.is_about_content() => Ok(false),
        written => {
            warn_of_chains_in_use(written?);
            Ok(true)
        }
    }
}

fn warn_of_chains_in_use(restored: Restored) {
    restored.in_use.into_iter().for_each(|chain| say(&format!("warning: {chain}")));
}

/// Writes all Services of a family that iptables accepts. Returns the rejected ones, and a summary of
/// the changes since `before`.
fn write_others(
    input: &Input,
    family: IpFamily,
    before: &Ruleset,
    tables: &mut Iptables,
    error: &IptablesError,
) -> Result<(Vec<ObjectKey>, String)> {
    let plan = rulegen_compiler::plan(&input.snapshot, &input.config, family);
    let mut live = LiveRuleset::new(plan);
    let all = Vec::from_iter(live.services());
    let found = isolate(tables, &OURS, &[], &all, MOST_TRIALS, |services| {
        let (chosen, rest) = live.split(services);
        Split { chosen, rest }
    })?;
    say(&format!("iptables error: {error}"));
    let refused = left_out(found, "iptables");
    live.remove(&refused);
    let (actual, desired) = (tables.save()?, live.ruleset());
    let transaction = diff(&actual, &desired, &OURS);
    if !transaction.is_empty() {
        warn_of_chains_in_use(Iptables::restore(tables, &transaction)?);
    }
    Ok((refused, diff(before, &desired, &OURS).summary()))
}

/// The other variants that have rules of Services.
fn others_in_use(variant: Variant) -> Vec<Variant> {
    let in_use = |other: &Variant| holds_chain(*other, Table::Nat, "KUBE-SERVICES");
    Variant::ALL.into_iter().filter(|other| *other != variant).filter(in_use).collect()
}

/// Rules of the other variant still translate packets, in an undefined order.
fn warn_of_other(other: Variant) {
    say(&format!(
        "warning: iptables-{other} also has rules of kube-proxy or rulegen, which still apply: run \
         `rulegen cleanup` to remove both, then apply again"
    ));
}

/// Node ports at 127.0.0.1 need a sysctl that this command does not set, because it makes 127.0.0.0/8
/// reachable from the network unless our rules prevent it.
fn hint_at_localnet(input: &Input) {
    let is_guarded =
        rulegen_compiler::plan(&input.snapshot, &input.config, IpFamily::Ipv4).guards_loopback;
    if is_guarded && !rulegen_os::host::routes_localnet() {
        tracing::info!(
            "node ports at 127.0.0.1 require the sysctl net.ipv4.conf.all.route_localnet=1"
        );
    }
}
