//! The Services in the kernel.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::Result;
use rulegen_compiler::nftables::{
    KUBE_PROXY_TABLE, counted_by_element, counted_by_rule, counted_endpoint,
};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_inspect::listing::{
    Listing, closed_hooks_of_ruleset, closed_hooks_of_table, of_ruleset, of_table,
    services_of_kube_proxy,
};
use rulegen_kernel::iptables::Variant;
use rulegen_kernel::nftables::{Counted, Dataplane, NfTables};
use rulegen_net::{IpFamily, ServicePortName};
use rulegen_ruleset::nftables::{Actual, Name};

use super::super::{iptables, variant};
use crate::args::ListArgs;
use crate::families;

/// Number of connections per endpoint of a service port, since the endpoint was added.
pub(super) type Connections = HashMap<(ServicePortName, SocketAddr), u64>;

/// The Services in the kernel, and how they compare with the desired state.
#[derive(Default)]
pub(super) struct ActualServices {
    pub(super) listing: Listing,
    /// `None` without counters.
    pub(super) connections: Option<Connections>,
    /// Notes about the rules.
    pub(super) remarks: Vec<String>,
}

impl ActualServices {
    pub(super) fn of(listing: Listing) -> Self {
        Self { listing, ..Self::default() }
    }
}

/// The source of the rules.
pub(super) enum RuleSource {
    Nftables,
    Iptables(Variant),
}

impl RuleSource {
    pub(super) fn of(args: &ListArgs, config: &ProxyConfig) -> Result<Self> {
        Ok(match config.mode {
            ProxyMode::Nftables => RuleSource::Nftables,
            ProxyMode::Iptables => RuleSource::Iptables(variant(&args.kernel)?),
        })
    }

    /// The families to list.
    pub(super) fn families(&self, args: &ListArgs) -> &'static [IpFamily] {
        let choice = args.family.ip_family;
        match self {
            RuleSource::Nftables => families::of_nftables(choice),
            RuleSource::Iptables(variant) => families::on_this_host(choice, *variant),
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
fn closed(family: &str, hooks: &[&str]) -> Option<String> {
    (!hooks.is_empty()).then(|| {
        format!(
            "{family}: no rule jumps from {} to the Services, so their traffic is not translated \
             there (see `rulegen diff`)",
            hooks.join(" and ")
        )
    })
}

fn read_iptables(
    args: &ListArgs,
    variant: Variant,
    families: &[IpFamily],
) -> Result<ActualServices> {
    let mut held = ActualServices::default();
    for family in families {
        let ruleset = iptables(*family, variant, &args.kernel).save()?;
        let listing = of_ruleset(&ruleset);
        if !listing.services.is_empty() {
            held.remarks.extend(closed(family.api_name(), &closed_hooks_of_ruleset(&ruleset)));
        }
        held.listing.append(listing);
        // Freeing a large ruleset rule by rule takes longer than listing it.
        std::mem::forget(ruleset);
    }
    Ok(held)
}

fn read_nftables(name: &Name, families: &[IpFamily]) -> Result<ActualServices> {
    let names: Vec<(IpFamily, &Name)> = families.iter().map(|family| ((*family), name)).collect();
    let mut kernel = NfTables::open()?;
    let (_, tables) = kernel.read(&names)?;
    let mut held = ActualServices::default();
    for ((family, _), table) in names.iter().zip(tables) {
        let Some(table) = table else { continue };
        let delinearized = table.delinearize(*family, name);
        held.listing.append(of_table(&delinearized.table));
        held.remarks.extend(
            delinearized
                .unknown
                .iter()
                .map(|unknown| format!("{} {name}: {unknown}", family.nft_name())),
        );
        held.remarks.extend(closed(family.nft_name(), &closed_hooks_of_table(&delinearized.table)));
        if delinearized.table.sets.values().any(|set| set.counter) {
            let connections = held.connections.get_or_insert_default();
            kernel.counted(*family, name, |counted| add(connections, counted))?;
        }
        std::mem::forget(delinearized.table);
    }
    if held.listing.services.is_empty() && name.as_str() != KUBE_PROXY_TABLE {
        held.remarks.extend(remarks_on_kube_proxy(&mut kernel, families)?);
    }
    Ok(held)
}

/// kube-proxy's own tables have another layout, and are not listed.
fn remarks_on_kube_proxy(kernel: &mut NfTables, families: &[IpFamily]) -> Result<Vec<String>> {
    let name = Name::from(KUBE_PROXY_TABLE);
    let names: Vec<(IpFamily, &Name)> = families.iter().map(|family| (*family, &name)).collect();
    let (_, tables) = kernel.read(&names)?;
    let found = families.iter().zip(tables).filter_map(|(family, table)| Some((family, table?)));
    let remark = |(family, table): (&IpFamily, Actual)| {
        let (family, services) = (family.nft_name(), services_of_kube_proxy(&table).len());
        format!(
            "{family} {name}: kube-proxy's own table, with chains of {services} service ports, is not \
             listed (see `nft list table {family} {name}`)"
        )
    };
    Ok(found.map(remark).collect())
}

fn add(connections: &mut Connections, counted: Counted) {
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
