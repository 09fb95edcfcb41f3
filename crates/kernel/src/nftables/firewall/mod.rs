//! Base chains of other tables with their rules, as far as they can be evaluated
//! ([`rulegen_ruleset::firewall`]).
//!
//! Rules are decoded from the attributes of the messages, because rules of other programs may have
//! any expression. An expression that is not understood becomes an unknown condition or action.

mod rule;
mod sets;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nftnl::nftnl_sys::libc;
use rulegen_ruleset::firewall::{
    Action, FilterChains, FirewallBaseChain, FirewallChainKind, NetfilterHook,
};
use rulegen_ruleset::nftables::TableFamily;

use super::nat_base_chains::{dump, each_rule, family, inside};
use super::nftrace::family_of_number;
use super::read::Interrupted;
use super::socket::NfTablesSocket;
use super::table::DORMANT;
use super::{ATTEMPTS, DataplaneError, NfTables, attribute};
use sets::Sets;

impl NfTables {
    /// The base chains of the desired tables, given by family and name, each with the rules of its
    /// table. Ordered by family and table. Tables of family arp are left out, and dormant ones, which
    /// the kernel does not use.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Busy`].
    pub fn firewall_chains(
        &mut self,
        is_wanted: impl Fn(TableFamily, &str) -> bool,
    ) -> Result<Vec<(TableFamily, FirewallBaseChain)>, DataplaneError> {
        for _ in 0..ATTEMPTS {
            match read(&mut self.socket, &is_wanted) {
                Ok(chains) => return Ok(chains),
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Changed) => {}
            }
        }
        Err(DataplaneError::Busy { attempts: ATTEMPTS })
    }
}

fn read(
    socket: &mut NfTablesSocket,
    is_wanted: impl Fn(TableFamily, &str) -> bool,
) -> Result<Vec<(TableFamily, FirewallBaseChain)>, Interrupted> {
    let mut tables: BTreeMap<(u8, String), Vec<FirewallBaseChain>> = BTreeMap::new();
    let dormant = dormant_tables(socket)?;
    dump(socket, libc::NFT_MSG_GETCHAIN, 0, None, |message| {
        if let Some((number, table, base)) = base_chain(message) {
            tables.entry((number, table)).or_default().push(base);
        }
    })?;
    tables.retain(|table, _| !dormant.contains(table));
    let mut found = Vec::new();
    for ((number, table), bases) in tables {
        let of = family_of_number(number).filter(|of| *of != TableFamily::Arp);
        let Some(of) = of.filter(|of| is_wanted(*of, &table)) else { continue };
        let chains = Arc::new(chains(socket, number, &table)?);
        for base in bases {
            let table = format!("{} {table}", of.word());
            let sees_all =
                base.sees_all && !matches!(of, TableFamily::Bridge | TableFamily::Netdev);
            let base = FirewallBaseChain { table, chains: Some(chains.clone()), sees_all, ..base };
            found.push((of, base));
        }
    }
    Ok(found)
}

/// The numbers of the families and the names of dormant tables.
fn dormant_tables(socket: &mut NfTablesSocket) -> Result<BTreeSet<(u8, String)>, Interrupted> {
    // NFTA_TABLE_*.
    const NAME: u16 = 1;
    const FLAGS: u16 = 2;
    let mut dormant = BTreeSet::new();
    dump(socket, libc::NFT_MSG_GETTABLE, 0, None, |message| {
        let flags = attribute::be32(message, FLAGS).unwrap_or_default();
        if flags & DORMANT != 0 {
            dormant.extend(family(message).zip(attribute::text(message, NAME)));
        }
    })?;
    Ok(dormant)
}

/// The number of the family, the table, and the chain without its rules.
fn base_chain(message: &[u8]) -> Option<(u8, String, FirewallBaseChain)> {
    // NFTA_CHAIN_* and NFTA_HOOK_*, NF_DROP.
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    const NUMBER: u16 = 1;
    const PRIORITY: u16 = 2;
    const DROP: u32 = 0;
    let number = family(message)?;
    let place = attribute::find(message, HOOK)?;
    let number_of = |desired| {
        let value: [u8; 4] = inside(place, desired)?.try_into().ok()?;
        Some(u32::from_be_bytes(value))
    };
    let hook = hook(family_of_number(number)?, number_of(NUMBER)?)?;
    let is_nat = attribute::text(message, TYPE)? == "nat";
    let base = FirewallBaseChain {
        table: String::new(),
        chain: attribute::text(message, NAME)?.into(),
        hook,
        kind: if is_nat { FirewallChainKind::Nat } else { FirewallChainKind::Filter },
        priority: number_of(PRIORITY)?.cast_signed(),
        drops_rest: attribute::be32(message, POLICY) == Some(DROP),
        sees_all: !matches!(hook, NetfilterHook::Ingress | NetfilterHook::Egress),
        chains: None,
    };
    Some((number, attribute::text(message, TABLE)?, base))
}

/// NF_INET_*, NF_BR_* and NF_NETDEV_* of linux/netfilter*.h.
fn hook(family: TableFamily, number: u32) -> Option<NetfilterHook> {
    const OF_IP: [NetfilterHook; 6] = [
        NetfilterHook::Prerouting,
        NetfilterHook::Input,
        NetfilterHook::Forward,
        NetfilterHook::Output,
        NetfilterHook::Postrouting,
        NetfilterHook::Ingress,
    ];
    let hooks: &[NetfilterHook] = match family {
        TableFamily::Netdev => &[NetfilterHook::Ingress, NetfilterHook::Egress],
        _ => &OF_IP,
    };
    hooks.get(usize::try_from(number).ok()?).copied()
}

/// All chains of a table. Chains without rules are missing.
fn chains(socket: &mut NfTablesSocket, of: u8, table: &str) -> Result<FilterChains, Interrupted> {
    let mut decoded: BTreeMap<Arc<str>, Vec<rule::Decoded>> = BTreeMap::new();
    each_rule(socket, of, table, |chain, expressions| {
        decoded.entry(chain.into()).or_default().push(rule::decode(expressions));
    })?;
    let lookups = decoded.values().flatten().flat_map(|rule| &rule.lookups);
    let sets = Sets::read(socket, of, table, lookups.map(|lookup| &*lookup.set))?;
    let chains = decoded.into_iter().map(|(name, rules)| {
        (name, rules.into_iter().flat_map(|rule| rule.with_sets(&sets)).collect())
    });
    let mut chains: FilterChains = chains.collect();
    add_empty_chains(&mut chains);
    Ok(chains)
}

/// Adds the chains that rules lead to and that have no rules themselves.
fn add_empty_chains(chains: &mut FilterChains) {
    let targets = chains.values().flatten().filter_map(|rule| match &rule.action {
        Action::Jump(to) | Action::Goto(to) => Some(to.clone()),
        _ => None,
    });
    let targets: Vec<Arc<str>> = targets.collect();
    for target in targets {
        chains.entry(target).or_default();
    }
}
