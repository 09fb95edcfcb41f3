//! `rulegen cleanup`: removes the rules of rulegen and kube-proxy from the kernel.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rulegen_agent::takeover::{Cleaned, clean_iptables, delete_tables, find_tables, plan_cleaning};
use rulegen_compiler::nftables::KUBE_PROXY_TABLE;
use rulegen_kernel::iptables::{Access, Variant, accessible, is_accessible};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;
use serde::Serialize;

use super::print;
use crate::args::{CleanupArgs, CleanupForm};
use crate::problems::{print_error, say};
use crate::question::{Reply, ask, is_terminal};

pub(crate) fn run(args: &CleanupArgs) -> Result<ExitCode> {
    if args.dry_run {
        return report(args, &clean_up(args, true));
    }
    if !args.yes.yes && is_terminal() {
        let planned = clean_up(args, true);
        planned.print_text();
        if !planned.is_clean() && ask("Remove all this?", &args.yes) == Reply::No {
            bail!("not confirmed, nothing is removed");
        }
    }
    let done = clean_up(args, false);
    if done.iptables.iter().any(|family| !family.is_clean) && rulegen_os::host::routes_localnet() {
        say(
            "note: net.ipv4.conf.all.route_localnet is 1, which only node ports at 127.0.0.1 needed; the \
             rule that kept other hosts from 127.0.0.1 of this node may be removed (CVE-2020-8558): \
             sysctl -w net.ipv4.conf.all.route_localnet=0",
        );
    }
    report(args, &done)
}

fn report(args: &CleanupArgs, report: &CleanupReport) -> Result<ExitCode> {
    match args.output {
        None => report.print_text(),
        Some(CleanupForm::Json) => {
            let json = serde_json::to_string_pretty(report);
            print(&format!("{}\n", json.context("cannot write the report as JSON")?))?;
        }
    }
    Ok(ExitCode::from(u8::from(report.failed)))
}

/// The removed objects; in a dry run, the objects to remove. The field names are stable across versions.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CleanupReport {
    dry_run: bool,
    nftables: Vec<TableReport>,
    iptables: Vec<IptablesCleanup>,
    /// Whether any part could not be read or removed.
    failed: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TableReport {
    family: &'static str,
    table: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IptablesCleanup {
    family: &'static str,
    variant: String,
    /// Whether there was nothing to remove.
    is_clean: bool,
    /// Summary of the changes, in words.
    summary: String,
    kept: Vec<KeptChain>,
}

/// A chain that cannot be deleted because a foreign rule jumps to it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeptChain {
    table: String,
    chain: String,
}

/// Cleans both variants and families, and continues after errors. Includes disabled families, because
/// they may have been enabled when the rules were written.
fn clean_up(args: &CleanupArgs, dry_run: bool) -> CleanupReport {
    let mut report =
        CleanupReport { dry_run, nftables: Vec::new(), iptables: Vec::new(), failed: false };
    let mut names = vec![args.nftables_table.clone()];
    if !args.keep_kube_proxy {
        names.push(Name::from(KUBE_PROXY_TABLE));
    }
    let tables = if dry_run { find_tables(&names) } else { delete_tables(&names) };
    let tables = report.succeeded(tables.map_err(anyhow::Error::from)).unwrap_or_default();
    report.nftables = tables
        .into_iter()
        .map(|(family, name)| TableReport { family: family.nft_name(), table: name.to_string() })
        .collect();
    if args.keep_kube_proxy {
        return report;
    }
    let access = Access::default();
    let variants = accessible(access).map_err(anyhow::Error::from);
    let variants = report.succeeded(variants).unwrap_or_default();
    for variant in variants {
        for family in IpFamily::BOTH.into_iter().filter(|f| is_accessible(*f, variant, access)) {
            let timeout = args.lock.timeout();
            let cleaned = match dry_run {
                true => plan_cleaning(family, variant, timeout),
                false => clean_iptables(family, variant, timeout),
            };
            let cleaned = report.succeeded(cleaned.map_err(anyhow::Error::from));
            report.iptables.extend(cleaned.map(|cleaned| of_iptables(family, variant, cleaned)));
        }
    }
    report
}

fn of_iptables(family: IpFamily, variant: Variant, cleaned: Cleaned) -> IptablesCleanup {
    let kept = cleaned.kept.into_iter();
    IptablesCleanup {
        family: family.api_name(),
        variant: variant.to_string(),
        is_clean: cleaned.was_clean,
        summary: cleaned.summary,
        kept: kept.map(|(table, chain)| KeptChain { table: table.to_string(), chain }).collect(),
    }
}

impl CleanupReport {
    fn succeeded<T>(&mut self, result: Result<T>) -> Option<T> {
        self.failed |= result.is_err();
        result.map_err(|error| print_error(&error)).ok()
    }

    fn is_clean(&self) -> bool {
        self.nftables.is_empty() && self.iptables.iter().all(|family| family.is_clean)
    }

    fn print_text(&self) {
        let dry_run = if self.dry_run { " (dry run)" } else { "" };
        for TableReport { family, table } in &self.nftables {
            say(&format!("{family} {table}: table deleted{dry_run}"));
        }
        if self.nftables.is_empty() {
            say(&format!("nftables: nothing to do{dry_run}"));
        }
        for family in &self.iptables {
            let (name, variant, summary) = (family.family, &family.variant, &family.summary);
            say(&format!("{name} (iptables-{variant}): {summary}{dry_run}"));
            for KeptChain { table, chain } in &family.kept {
                say(&format!("  kept {table} {chain}: a rule of another program jumps to it"));
            }
        }
    }
}
