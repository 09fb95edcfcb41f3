//! The base chains of other programs, which a packet passes besides the followed rules.

use anyhow::Result;
use rulegen_kernel::iptables::{Variant, is_installed};
use rulegen_kernel::nftables::NfTables;
use rulegen_net::IpFamily;
use rulegen_os::host;
use rulegen_ruleset::firewall::{FirewallBaseChain, chain_of_iptables, of_iptables};
use rulegen_ruleset::iptables::{ChainName, Ruleset, Table};
use rulegen_ruleset::nftables::{Name, TableFamily};

use crate::args::KernelArgs;
use crate::commands::iptables;

/// The rules that are followed.
pub(super) enum Followed<'a> {
    /// A table of nftables.
    Table(&'a Name),
    /// The tables nat and filter of a variant of iptables.
    Ruleset(Variant, &'a Ruleset),
}

/// All other base chains that packets of a family may pass.
pub(super) fn base_chains(
    family: IpFamily,
    followed: &Followed<'_>,
    args: &KernelArgs,
) -> Result<Vec<FirewallBaseChain>> {
    let of_nft = of_iptables_nft(family, followed, args)?;
    let mut chains = of_nftables(family, followed, of_nft.is_some())?;
    chains.extend(of_nft.into_iter().flatten());
    chains.extend(of_iptables_legacy(family, followed, args));
    Ok(chains)
}

/// The tables of nf_tables. Those of iptables-nft are left out if iptables showed them.
fn of_nftables(
    family: IpFamily,
    followed: &Followed<'_>,
    is_iptables_known: bool,
) -> Result<Vec<FirewallBaseChain>> {
    let own = TableFamily::from(family);
    let is_wanted = |of: TableFamily, table: &str| {
        let is_followed = match followed {
            Followed::Table(name) => of == own && table == name.as_str(),
            Followed::Ruleset(..) => false,
        };
        let sees = of == own || of.of_packets().is_none();
        sees && !is_followed && !(is_iptables_known && of == own && is_of_iptables(table))
    };
    // The kernel may have no nf_tables.
    let Ok(mut kernel) = NfTables::open() else { return Ok(Vec::new()) };
    if kernel.generation().is_err_and(|error| error.is_absence()) {
        return Ok(Vec::new());
    }
    Ok(kernel.firewall_chains(is_wanted)?.into_iter().map(|(_, base)| base).collect())
}

fn is_of_iptables(table: &str) -> bool {
    Table::ALL.into_iter().any(|of| of.name() == table)
}

/// The tables of iptables-nft that are not followed; `None` if iptables cannot show them, or there
/// are none.
fn of_iptables_nft(
    family: IpFamily,
    followed: &Followed<'_>,
    args: &KernelArgs,
) -> Result<Option<Vec<FirewallBaseChain>>> {
    if let Followed::Ruleset(Variant::Nft, ruleset) = followed {
        return Ok(Some(of_iptables(ruleset, "", is_not_followed)));
    }
    let own = TableFamily::from(family);
    let Ok(mut kernel) = NfTables::open() else { return Ok(None) };
    let Ok(chains) = kernel.base_chains() else { return Ok(None) };
    let mut tables = chains.iter().filter(|(id, _)| id.family == own).map(|(id, _)| &id.table);
    let is_used = tables.any(|table| is_of_iptables(table.as_str()));
    if !is_used || !is_installed(family, Variant::Nft) {
        return Ok(None);
    }
    // Tables that iptables cannot show are read like those of other programs.
    let saved = iptables(family, Variant::Nft, args).save().ok();
    Ok(saved.map(|ruleset| of_iptables(&ruleset, "", |_| true)))
}

/// `explain` follows the others.
fn is_not_followed(table: Table) -> bool {
    !matches!(table, Table::Nat | Table::Filter)
}

/// The loaded tables of iptables-legacy that are not followed.
fn of_iptables_legacy(
    family: IpFamily,
    followed: &Followed<'_>,
    args: &KernelArgs,
) -> Vec<FirewallBaseChain> {
    const SUFFIX: &str = " of iptables-legacy";
    if let Followed::Ruleset(Variant::Legacy, ruleset) = followed {
        return of_iptables(ruleset, SUFFIX, is_not_followed);
    }
    let loaded = host::legacy_iptables_tables(family == IpFamily::Ipv6);
    if loaded.is_empty() {
        return Vec::new();
    }
    let saved = is_installed(family, Variant::Legacy)
        .then(|| iptables(family, Variant::Legacy, args).save().ok())
        .flatten();
    match saved {
        Some(ruleset) => of_iptables(&ruleset, SUFFIX, |_| true),
        None => unread(family, &loaded, SUFFIX),
    }
}

/// The built-in chains of tables whose rules cannot be read.
fn unread(family: IpFamily, tables: &[String], suffix: &str) -> Vec<FirewallBaseChain> {
    let of = |name: &String| Table::ALL.into_iter().find(|table| table.name() == name.as_str());
    let chains = tables.iter().filter_map(of).flat_map(|table| {
        let chains = Ruleset::built_in_chains(table).into_keys();
        chains.filter_map(move |chain: ChainName| {
            let name = format!("{} {table}{suffix}", family.nft_name());
            chain_of_iptables(name, chain.as_str(), table)
        })
    });
    chains.collect()
}
