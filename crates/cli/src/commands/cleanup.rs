//! `rulegen cleanup`: takes away what rulegen or kube-proxy put into the kernel.

use std::process::ExitCode;

use anyhow::Result;
use rulegen_agent::takeover::{self, KUBE_PROXY_TABLE, clean_iptables};
use rulegen_compiler::family as family_of;
use rulegen_kernel::iptables::{Variant, installed, is_installed};
use rulegen_model::IpFamily;
use rulegen_ruleset::nftables::Name;

use crate::args::CleanupArgs;
use crate::problems::{print_error, say};

/// Goes through both variants and families, whatever fails on the way, and tells all of it. A
/// family that is switched off may have been on when the rules were made.
pub(crate) fn run(args: &CleanupArgs) -> Result<ExitCode> {
    let mut failed = false;
    let ours = args.nftables_table.clone();
    if args.keep_kube_proxy {
        delete_tables(&[ours])?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Err(error) = delete_tables(&[ours, Name::from(KUBE_PROXY_TABLE)]) {
        print_error(&error);
        failed = true;
    }
    for variant in installed()? {
        for family in IpFamily::BOTH.into_iter().filter(|f| is_installed(family_of(*f), variant)) {
            if let Err(error) = clean(args, variant, family) {
                print_error(&error);
                failed = true;
            }
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// Tables of nftables modes, each as a whole.
fn delete_tables(names: &[Name]) -> Result<()> {
    let deleted = takeover::delete_tables(names)?;
    for (family, table) in &deleted {
        say(&format!("{} {table}: table deleted", family.word()));
    }
    if deleted.is_empty() {
        say("nftables: nothing to do");
    }
    Ok(())
}

fn clean(args: &CleanupArgs, variant: Variant, family: IpFamily) -> Result<()> {
    let cleaned = clean_iptables(family, variant, args.lock.timeout())?;
    say(&format!("{} (iptables-{variant}): {}", family.api_name(), cleaned.summary));
    for (table, chain) in cleaned.kept {
        say(&format!("  kept {table} {chain}: a rule that is not ours leads to it"));
    }
    Ok(())
}
