//! The Services in the kernel.

use anyhow::Result;
use rulegen_compiler::nftables::{
    ConnectionCounts, KUBE_PROXY_TABLE, counted_by_element, counted_by_rule, counted_endpoint,
};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_inspect::listing::{
    Listing, closed_hooks_of_ruleset, closed_hooks_of_table, is_table_of_kube_proxy, of_ruleset,
    of_table,
};
use rulegen_kernel::iptables::Variant;
use rulegen_kernel::nftables::{Counted, Dataplane, NfTables};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Actual, Delinearized, Name, Unknown};

use super::super::{access, iptables, variant_in_use};
use crate::args::ListArgs;
use crate::families;

/// The Services in the kernel, and how they compare with the desired state.
#[derive(Default)]
pub(super) struct ActualServices {
    pub(super) listing: Listing,
    /// `None` without counters.
    pub(super) connections: Option<ConnectionCounts>,
    /// The tables of kube-proxy that were listed, such as `ip kube-proxy`.
    pub(super) kube_proxy_tables: Vec<String>,
    /// Notes about the rules.
    pub(super) remarks: Vec<String>,
}

impl ActualServices {
    pub(super) fn of(listing: Listing) -> Self {
        Self { listing, ..Self::default() }
    }
}

/// The table or the iptables variant that the rules were read from.
pub(super) enum RuleSource {
    Nftables,
    Iptables(Variant),
}

impl RuleSource {
    pub(super) fn of(args: &ListArgs, config: &ProxyConfig) -> Result<Self> {
        Ok(match config.mode {
            ProxyMode::Nftables => RuleSource::Nftables,
            ProxyMode::Iptables => RuleSource::Iptables(variant_in_use(&args.kernel)?),
        })
    }

    /// The families to list.
    pub(super) fn families(&self, args: &ListArgs) -> &'static [IpFamily] {
        let choice = args.family.ip_family;
        match self {
            RuleSource::Nftables => families::of_nftables(choice),
            RuleSource::Iptables(variant) => {
                families::on_this_host(choice, *variant, access(&args.kernel))
            }
        }
    }

    pub(super) fn read(&self, args: &ListArgs, families: &[IpFamily]) -> Result<ActualServices> {
        match self {
            RuleSource::Nftables => read_nftables(table_name(args), families),
            RuleSource::Iptables(variant) => read_iptables(args, *variant, families),
        }
    }
}

/// Reports rules that no packet reaches: the listed Services then have no effect.
fn closed(family: &str, hooks: &[&str], remedy: &str) -> Option<String> {
    (!hooks.is_empty()).then(|| {
        format!(
            "{family}: no rule jumps from {} to the Services, so their traffic is not translated \
             there{remedy}",
            hooks.join(" and ")
        )
    })
}

/// For rules that rulegen can write.
const SEE_DIFF: &str = " (see `rulegen diff`)";

fn read_iptables(
    args: &ListArgs,
    variant: Variant,
    families: &[IpFamily],
) -> Result<ActualServices> {
    let mut actual = ActualServices::default();
    for family in families {
        let ruleset = iptables(*family, variant, &args.kernel).save()?;
        let listing = of_ruleset(&ruleset);
        if !listing.services.is_empty() {
            let hooks = closed_hooks_of_ruleset(&ruleset);
            actual.remarks.extend(closed(family.api_name(), &hooks, SEE_DIFF));
        }
        actual.listing.append(listing);
        // Freeing a large ruleset rule by rule takes longer than listing it.
        std::mem::forget(ruleset);
    }
    Ok(actual)
}

/// Of each family, lists our table. If it has no Services, lists kube-proxy's own.
fn read_nftables(name: &Name, families: &[IpFamily]) -> Result<ActualServices> {
    let mut kernel = NfTables::open()?;
    let kube_proxys = Name::from(KUBE_PROXY_TABLE);
    let mut actual = ActualServices::default();
    let mut without = Vec::new();
    if *name == kube_proxys {
        without.extend(families);
    } else {
        let names: Vec<_> = families.iter().map(|family| (*family, name)).collect();
        let (_, tables) = kernel.read(&names)?;
        for (family, table) in families.iter().zip(tables) {
            let has_services = match table {
                Some(table) => actual.add_table(&mut kernel, *family, name, table)?,
                None => false,
            };
            if !has_services {
                without.push(family);
            } else if kernel.has_all(&[(*family, &kube_proxys)])? {
                actual.remarks.push(both(*family, name));
            }
        }
    }
    let names: Vec<_> = without.iter().map(|family| (**family, &kube_proxys)).collect();
    let tables = kernel.read_of_others(&names)?;
    for (family, table) in without.into_iter().zip(tables) {
        if let Some(table) = table {
            actual.add_table(&mut kernel, *family, &kube_proxys, table)?;
        }
    }
    Ok(actual)
}

fn both(family: IpFamily, name: &Name) -> String {
    let family = family.nft_name();
    format!(
        "{family} {KUBE_PROXY_TABLE}: kube-proxy's own table exists too; only the Services of table \
         {family} {name} are listed (--nftables-table {KUBE_PROXY_TABLE} lists the others)"
    )
}

impl ActualServices {
    /// Adds the Services of a table. Returns true if it has any.
    fn add_table(
        &mut self,
        kernel: &mut NfTables,
        family: IpFamily,
        name: &Name,
        table: Actual,
    ) -> Result<bool> {
        let Delinearized { table, unknown } = table.delinearize(family, name);
        let listing = of_table(&table);
        let has_services = !listing.services.is_empty();
        let place = format!("{} {name}", family.nft_name());
        let hooks = closed_hooks_of_table(&table);
        let is_kube_proxys_name = name.as_str() == KUBE_PROXY_TABLE;
        if is_table_of_kube_proxy(&table) || is_kube_proxys_name && !has_services {
            self.remarks.extend(unknown_of_kube_proxy(&place, &unknown));
            // Nothing needs to lead to Services in a table that has none.
            if has_services {
                self.remarks.push(format!("{place}: these Services are in kube-proxy's own table"));
                self.remarks.extend(closed(family.nft_name(), &hooks, ""));
                self.kube_proxy_tables.push(place);
            }
        } else {
            self.remarks.extend(unknown.iter().map(|unknown| format!("{place}: {unknown}")));
            self.remarks.extend(closed(family.nft_name(), &hooks, SEE_DIFF));
        }
        self.listing.append(listing);
        if table.sets.values().any(|set| set.counter) {
            let connections = self.connections.get_or_insert_default();
            kernel.counted(family, name, |counted| add(connections, counted))?;
        }
        // Freeing a large table rule by rule takes longer than listing it.
        std::mem::forget(table);
        Ok(has_services)
    }
}

/// One remark on everything: a rule that a version of kube-proxy writes in another form may be there
/// for each Service.
fn unknown_of_kube_proxy(place: &str, unknown: &[Unknown]) -> Option<String> {
    let what = match unknown.first()? {
        Unknown::Table(what) => what.clone(),
        Unknown::Set(name) => format!("set {name}"),
        Unknown::Chain(name) => format!("chain {name}"),
        Unknown::Rule { chain, text } => format!("a rule of chain {chain}: {text}"),
    };
    Some(format!(
        "{place}: {} parts of kube-proxy's own table are not understood and not listed, first {what}",
        unknown.len()
    ))
}

fn add(connections: &mut ConnectionCounts, counted: Counted) {
    let (name, endpoint, packets) = match counted {
        Counted::Element { key, endpoint, comment, packets, .. } => {
            (counted_by_element(&key, &comment), Some(endpoint), packets)
        }
        Counted::Rule { chain, packets } => {
            (counted_by_rule(&chain), counted_endpoint(&chain), packets)
        }
    };
    if let (Some(name), Some(endpoint)) = (name, endpoint) {
        *connections.entry((name, endpoint)).or_default() += packets;
    }
}

/// The name of the nftables table.
pub(super) fn table_name(args: &ListArgs) -> &Name {
    &args.proxy.nftables.nftables_table
}
