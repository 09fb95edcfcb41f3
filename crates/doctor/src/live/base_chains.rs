//! The base chains of other programs, which a packet passes besides the followed rules.

use rulegen_kernel::iptables::{Iptables, Variant, is_installed};
use rulegen_kernel::nftables::NfTables;
use rulegen_net::IpFamily;
use rulegen_os::host;
use rulegen_ruleset::firewall::{FirewallBaseChain, chain_of_iptables, of_iptables};
use rulegen_ruleset::iptables::{ChainName, Ruleset, Table};
use rulegen_ruleset::nftables::{Name, TableFamily};

use super::error::LiveError;

/// Access to iptables of a family and variant.
pub type IptablesAccess<'a> = &'a dyn Fn(IpFamily, Variant) -> Iptables;

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
    iptables: IptablesAccess<'_>,
) -> Result<Vec<FirewallBaseChain>, LiveError> {
    let saved;
    let of_nft = match followed {
        Followed::Ruleset(Variant::Nft, ruleset) => Some(*ruleset),
        _ => {
            saved = iptables_nft(family, iptables);
            saved.as_ref()
        }
    };
    let is_shown = |table: Table| of_nft.is_some_and(|rules| rules.is_shown_by_iptables(table));
    let mut chains = of_nftables(family, followed, is_shown)?;
    let is_of_iptables = |table: Table| {
        let is_followed = matches!(followed, Followed::Ruleset(Variant::Nft, _));
        is_shown(table) && !(is_followed && is_followed_table(table))
    };
    chains.extend(of_nft.into_iter().flat_map(|rules| of_iptables(rules, "", is_of_iptables)));
    chains.extend(of_iptables_legacy(family, followed, iptables));
    Ok(chains)
}

/// The tables of nf_tables, without those that iptables shows. In a table that is followed, only
/// base chains with the names of iptables are.
fn of_nftables(
    family: IpFamily,
    followed: &Followed<'_>,
    is_shown: impl Fn(Table) -> bool,
) -> Result<Vec<FirewallBaseChain>, LiveError> {
    let own = TableFamily::from(family);
    let of_iptables = |of: TableFamily, table: &str| {
        let known = Table::ALL.into_iter().find(|known| known.name() == table);
        known.filter(|_| of == own)
    };
    let is_wanted = |of: TableFamily, table: &str| {
        let is_followed = match followed {
            Followed::Table(name) => of == own && table == name.as_str(),
            Followed::Ruleset(..) => false,
        };
        let sees = of == own || of.of_packets().is_none();
        sees && !is_followed && !of_iptables(of, table).is_some_and(&is_shown)
    };
    // The kernel may have no nf_tables.
    let Ok(mut kernel) = NfTables::open() else { return Ok(Vec::new()) };
    if kernel.generation().is_err_and(|error| error.is_absence()) {
        return Ok(Vec::new());
    }
    let is_followed = |of: TableFamily, base: &FirewallBaseChain| {
        let table = base.table.split_once(' ').map_or("", |(_, table)| table);
        let is_table = of_iptables(of, table).is_some_and(is_followed_table);
        let is_ruleset = matches!(followed, Followed::Ruleset(Variant::Nft, _));
        is_ruleset && is_table && ChainName::from(&*base.chain).is_built_in()
    };
    let chains = kernel.firewall_chains(is_wanted)?.into_iter();
    Ok(chains.filter(|(of, base)| !is_followed(*of, base)).map(|(_, base)| base).collect())
}

/// The tables of iptables-nft; `None` if there are none, or they cannot be read.
fn iptables_nft(family: IpFamily, iptables: IptablesAccess<'_>) -> Option<Ruleset> {
    let own = TableFamily::from(family);
    let chains = NfTables::open().ok()?.base_chains().ok()?;
    let is_of_iptables = |table: &str| Table::ALL.into_iter().any(|of| of.name() == table);
    let mut tables = chains.iter().filter(|(id, _)| id.family == own).map(|(id, _)| &id.table);
    let is_used = tables.any(|table| is_of_iptables(table.as_str()));
    is_used.then(|| iptables(family, Variant::Nft).save().ok())?
}

/// `explain` follows these tables.
fn is_followed_table(table: Table) -> bool {
    matches!(table, Table::Nat | Table::Filter)
}

fn is_not_followed(table: Table) -> bool {
    !is_followed_table(table)
}

/// The loaded tables of iptables-legacy that are not followed.
fn of_iptables_legacy(
    family: IpFamily,
    followed: &Followed<'_>,
    iptables: IptablesAccess<'_>,
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
        .then(|| iptables(family, Variant::Legacy).save().ok())
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
