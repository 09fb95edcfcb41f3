//! One file a command.

pub(crate) mod agent;
pub(crate) mod apply;
pub(crate) mod cleanup;
pub(crate) mod completion;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod dry_run;
pub(crate) mod explain;
pub(crate) mod list;
pub(crate) mod trace;

use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use rulegen_compiler::iptables::{KUBELET_CHAINS, ruleset};
use rulegen_compiler::{nftables, plan};
use rulegen_inspect::listing::{Listing, of_plan};
use rulegen_kernel::iptables::{Iptables, Variant, choose};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::Ruleset;
use rulegen_ruleset::nftables::{Name, Table};

use crate::args::{KernelArgs, VariantChoice};
use crate::input::Input;

/// The rules of one family.
fn compile(input: &Input, family: IpFamily) -> Ruleset {
    ruleset(&plan(&input.snapshot, &input.config, family))
}

/// The Services that the input has, by their names and addresses.
fn services(input: &Input, families: &[IpFamily]) -> Listing {
    let mut listing = Listing::default();
    for family in families {
        listing.append(of_plan(&plan(&input.snapshot, &input.config, *family)));
    }
    listing
}

/// The nftables tables of these families.
fn tables(input: &Input, name: &Name, families: &[IpFamily]) -> Vec<Table> {
    let plan = |family| plan(&input.snapshot, &input.config, family);
    families.iter().map(|family| nftables::table(&plan(*family), name)).collect()
}

/// The status to exit with after the input was compiled.
fn exit_code(input: &Input, strict: bool) -> ExitCode {
    ExitCode::from(u8::from(strict && input.has_warnings))
}

/// The variant that was asked for, or the one this node uses.
fn variant(args: &KernelArgs) -> Result<Variant> {
    Ok(match args.iptables_variant {
        Some(VariantChoice::Nft) => Variant::Nft,
        Some(VariantChoice::Legacy) => Variant::Legacy,
        None => choose(&KUBELET_CHAINS)?,
    })
}

fn iptables(family: IpFamily, variant: Variant, args: &KernelArgs) -> Iptables {
    Iptables::new(family, variant, args.lock.timeout())
}

/// Writes results to standard output. A reader that went away, as `head` does, is no failure.
fn print(text: &str) -> Result<()> {
    print_with(|out| out.write_all(text.as_bytes()))
}

/// The same for results that are written piece by piece.
fn print_with(write: impl FnOnce(&mut BufWriter<StdoutLock<'_>>) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("standard output cannot be written"),
    }
}
