//! One file per command.

pub(crate) mod agent;
pub(crate) mod apply;
pub(crate) mod cleanup;
pub(crate) mod completion;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod dry_run;
pub(crate) mod explain;
pub(crate) mod golden;
pub(crate) mod lint;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod test;
pub(crate) mod trace;
pub(crate) mod version;

use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use rulegen_compiler::iptables::{KUBELET_CHAINS, ruleset};
use rulegen_compiler::{nftables, plan};
use rulegen_inspect::listing::{Listing, of_plan};
use rulegen_kernel::iptables::{Access, Iptables, Variant, choose};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::Ruleset;
use rulegen_ruleset::nftables::{Name, Table};

use crate::WrongUsage;
use crate::args::{BackendChoice, KernelArgs, VariantChoice};
use crate::input::Input;
use crate::mode;

/// Compiles the iptables rules of one family.
fn compile(input: &Input, family: IpFamily) -> Ruleset {
    ruleset(&plan(&input.snapshot, &input.config, family))
}

/// The Services of the input, by name and address.
fn services(input: &Input, families: &[IpFamily]) -> Listing {
    let mut listing = Listing::default();
    for family in families {
        listing.append(of_plan(&plan(&input.snapshot, &input.config, *family)));
    }
    listing
}

/// Compiles the nftables tables of these families.
fn tables(input: &Input, name: &Name, families: &[IpFamily]) -> Vec<Table> {
    let plan = |family| plan(&input.snapshot, &input.config, family);
    families.iter().map(|family| nftables::table(&plan(*family), name)).collect()
}

/// The exit status after a successful compilation.
fn exit_code(input: &Input, strict: bool) -> ExitCode {
    ExitCode::from(u8::from(strict && input.has_warnings))
}

/// The variant of the flags.
fn given_variant(args: &KernelArgs) -> Result<Option<Variant>> {
    match (args.iptables_variant, args.iptables_backend) {
        (Some(VariantChoice::Legacy), BackendChoice::Netlink) => {
            let message = "--iptables-backend netlink needs --iptables-variant nft";
            Err(WrongUsage(message.to_owned()).into())
        }
        (Some(VariantChoice::Legacy), _) => Ok(Some(Variant::Legacy)),
        (Some(VariantChoice::Nft), _) | (None, BackendChoice::Netlink) => Ok(Some(Variant::Nft)),
        (None, BackendChoice::Auto | BackendChoice::Exec) => Ok(None),
    }
}

/// How the flags say that rules are read and written.
fn access(args: &KernelArgs) -> Access {
    match args.iptables_backend {
        BackendChoice::Auto | BackendChoice::Netlink => Access::Netlink,
        BackendChoice::Exec => Access::Programs,
    }
}

/// The variant of the flags, or this node's.
fn variant(args: &KernelArgs) -> Result<Variant> {
    match given_variant(args)? {
        Some(variant) => Ok(variant),
        None => Ok(choose(&KUBELET_CHAINS, access(args))?),
    }
}

/// The variant whose rules are read: that of the flags, else the only one with rules of Services,
/// else the one that this node uses.
fn variant_in_use(args: &KernelArgs) -> Result<Variant> {
    match (given_variant(args)?, mode::variants_in_use().as_slice()) {
        (None, [only]) => Ok(*only),
        _ => variant(args),
    }
}

fn iptables(family: IpFamily, variant: Variant, args: &KernelArgs) -> Iptables {
    Iptables::new(family, variant, args.lock.timeout()).accessed_by(access(args))
}

/// Writes results to standard output. A closed pipe, as with `head`, is not an error.
fn print(text: &str) -> Result<()> {
    print_with(|out| out.write_all(text.as_bytes()))
}

/// The same for results that are written in parts.
fn print_with(write: impl FnOnce(&mut BufWriter<StdoutLock<'_>>) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to standard output"),
    }
}
