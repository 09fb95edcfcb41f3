//! What the kernel holds.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::Result;
use rulegen_compiler::listing::{Listing, of_ruleset, of_table};
use rulegen_compiler::nftables::{counted_by_element, counted_by_rule, counted_endpoint};
use rulegen_kernel::nftables::{Counted, Dataplane, NfTables};
use rulegen_model::{IpFamily, ProxyConfig, ProxyMode, ServicePortName};
use rulegen_ruleset::Family;
use rulegen_ruleset::nftables::{Name, Unknown};

use super::super::{iptables, variant};
use super::table_name;
use crate::args::ListArgs;
use crate::families;

/// Connections to endpoints of service ports since they were made.
pub(super) type Connections = HashMap<(ServicePortName, SocketAddr), u64>;

/// Services as they are held.
#[derive(Default)]
pub(super) struct Held {
    pub(super) listing: Listing,
    /// Where they are counted.
    pub(super) connections: Option<Connections>,
    /// What is in the table that rulegen does not make.
    pub(super) unknown: Vec<Unknown>,
}

impl Held {
    pub(super) fn of(listing: Listing) -> Self {
        Self { listing, ..Self::default() }
    }
}

/// The families to look at.
pub(super) fn families(args: &ListArgs, config: &ProxyConfig) -> Result<&'static [IpFamily]> {
    let choice = args.family.ip_family;
    Ok(match config.mode {
        ProxyMode::Nftables => families::of_nftables(choice),
        ProxyMode::Iptables => families::on_this_host(choice, variant(&args.kernel)?),
    })
}

pub(super) fn read(args: &ListArgs, config: &ProxyConfig, families: &[IpFamily]) -> Result<Held> {
    match config.mode {
        ProxyMode::Nftables => read_nftables(table_name(args), families),
        ProxyMode::Iptables => read_iptables(args, families),
    }
}

fn read_iptables(args: &ListArgs, families: &[IpFamily]) -> Result<Held> {
    let variant = variant(&args.kernel)?;
    let mut listing = Listing::default();
    for family in families {
        let ruleset = iptables(*family, variant, &args.kernel).save()?;
        listing.append(of_ruleset(&ruleset));
        // Freeing a large ruleset rule by rule takes longer than listing it.
        std::mem::forget(ruleset);
    }
    Ok(Held::of(listing))
}

fn read_nftables(name: &Name, families: &[IpFamily]) -> Result<Held> {
    let names: Vec<(Family, &Name)> =
        families.iter().map(|family| (rulegen_compiler::family(*family), name)).collect();
    let mut kernel = NfTables::open()?;
    let (_, tables) = kernel.read(&names)?;
    let mut held = Held::default();
    for ((family, _), table) in names.iter().zip(tables) {
        let Some(table) = table else { continue };
        let raised = table.raised(*family, name);
        held.listing.append(of_table(&raised.table));
        held.unknown.extend(raised.unknown);
        if raised.table.sets.values().any(|set| set.counter) {
            let connections = held.connections.get_or_insert_default();
            kernel.counted(*family, name, |counted| add(connections, counted))?;
        }
        std::mem::forget(raised.table);
    }
    Ok(held)
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
