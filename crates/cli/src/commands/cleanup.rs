//! `rulegen cleanup`: takes away what rulegen or kube-proxy put into the kernel.

use std::process::ExitCode;

use anyhow::Result;
use rulegen_compiler::family as family_of;
use rulegen_compiler::iptables::removal_of_everything;
use rulegen_kernel::iptables::{Iptables, Variant, installed, is_installed};
use rulegen_model::IpFamily;

use super::apply::summary;
use crate::args::CleanupArgs;
use crate::problems::{print_error, say};

/// Goes through both variants and families, whatever fails on the way, and tells all of it. A
/// family that is switched off may have been on when the rules were made.
pub(crate) fn run(args: &CleanupArgs) -> Result<ExitCode> {
    let mut failed = false;
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

fn clean(args: &CleanupArgs, variant: Variant, family: IpFamily) -> Result<()> {
    let iptables = Iptables::new(family_of(family), variant, args.lock.timeout());
    let held = iptables.save()?;
    let (transaction, kept) = removal_of_everything(&held);
    if !transaction.is_empty() {
        iptables.restore(&transaction)?;
    }
    say(&format!("{} (iptables-{variant}): {}", family.api_name(), summary(&transaction)));
    for (table, chain) in kept {
        say(&format!("  kept {table} {chain}: a rule that is not ours leads to it"));
    }
    Ok(())
}
