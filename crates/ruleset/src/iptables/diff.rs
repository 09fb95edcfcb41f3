//! The least change from what is held to what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::rule::Rule;
use super::ruleset::{Chain, ChainName, Ruleset, Table};
use super::transaction::{Change, TableChanges, Transaction};

/// Which chains are ours, to fill and to delete as we like. Everything else is shared: we only
/// see to it that our rules are there, and touch no other.
#[derive(Debug, Clone, Copy)]
pub struct Ownership<'a> {
    /// Chains by table and name.
    pub chains: &'a [(Table, &'static str)],
    /// Chains by table and the start of their names.
    pub prefixes: &'a [(Table, &'static str)],
}

impl Ownership<'_> {
    /// Whether a chain is ours.
    pub fn owns(&self, table: Table, chain: &ChainName) -> bool {
        let name = chain.as_str();
        self.chains.iter().any(|(of, ours)| *of == table && *ours == name)
            || self.prefixes.iter().any(|(of, start)| *of == table && name.starts_with(start))
    }
}

/// What makes `held` into `wanted`. Chains that are ours are refilled whole if they differ, and
/// deleted if they are not wanted and nobody else's rule leads to them. In shared chains each
/// missing rule goes before all others, the last one first, as kube-proxy does it.
pub fn diff<'a>(held: &'a Ruleset, wanted: &'a Ruleset, ours: &Ownership<'_>) -> Transaction<'a> {
    let no_chains = &EMPTY;
    let tables = wanted.tables.iter().filter_map(|(table, wanted)| {
        let held = held.tables.get(table).unwrap_or(no_chains);
        let changes = table_diff(*table, held, wanted, ours);
        (!changes.is_empty()).then_some(TableChanges { table: *table, changes })
    });
    Transaction { tables: tables.collect() }
}

/// What takes everything that is ours out of `held`: the chains, and the rules in built-in
/// chains that lead to them. A chain that somebody else's rule leads to stays.
pub fn removal<'a>(held: &'a Ruleset, ours: &Ownership<'_>) -> Transaction<'a> {
    let tables = held.tables.iter().filter_map(|(table, held)| {
        let leads_to_ours =
            |rule: &&Rule| rule.target_chain().is_some_and(|c| ours.owns(*table, c));
        let mut changes: Vec<Change<'_>> = Vec::new();
        for (chain, content) in held.iter().filter(|(name, _)| name.is_built_in()) {
            let jumps = content.rules.iter().filter(leads_to_ours);
            changes.extend(jumps.map(|rule| Change::Remove { chain, rule }));
        }
        let is_ours = |name: &ChainName| ours.owns(*table, name);
        // The jumps from built-in chains are taken out above.
        let others = |name: &ChainName| !is_ours(name) && !name.is_built_in();
        let stay = led_to_by_others(held, others, is_ours);
        let gone = held.keys().filter(|name| is_ours(name) && !stay.contains(name));
        changes.extend(gone.map(|chain| Change::Delete { chain }));
        (!changes.is_empty()).then_some(TableChanges { table: *table, changes })
    });
    Transaction { tables: tables.collect() }
}

static EMPTY: BTreeMap<ChainName, Chain> = BTreeMap::new();

fn table_diff<'a>(
    table: Table,
    held: &'a BTreeMap<ChainName, Chain>,
    wanted: &'a BTreeMap<ChainName, Chain>,
    ours: &Ownership<'_>,
) -> Vec<Change<'a>> {
    let (mut filled, mut prepended) = (Vec::new(), Vec::new());
    for (chain, content) in wanted {
        let there = held.get(chain).map(|chain| chain.rules.as_slice());
        if ours.owns(table, chain) || (there.is_none() && !chain.is_built_in()) {
            if there != Some(content.rules.as_slice()) {
                filled.push(Change::Fill { chain, rules: &content.rules });
            }
        } else {
            let there = there.unwrap_or_default();
            let missing = content.rules.iter().rev().filter(|rule| !there.contains(rule));
            prepended.extend(missing.map(|rule| Change::Prepend { chain, rule }));
        }
    }
    let is_stale = |name: &ChainName| ours.owns(table, name) && !wanted.contains_key(name);
    let stay = led_to_by_others(held, |name| !ours.owns(table, name), is_stale);
    let gone = held.keys().filter(|name| is_stale(name) && !stay.contains(name));
    let deleted = gone.map(|chain| Change::Delete { chain });
    prepended.into_iter().chain(filled).chain(deleted).collect()
}

/// The `stale` chains that rules of others lead to, and those that are reached from there: the
/// kernel would refuse to delete them, and with them the whole transaction.
fn led_to_by_others<'a>(
    held: &'a BTreeMap<ChainName, Chain>,
    is_others: impl Fn(&ChainName) -> bool,
    is_stale: impl Fn(&ChainName) -> bool,
) -> BTreeSet<&'a ChainName> {
    let targets = |chain: &'a Chain| chain.rules.iter().filter_map(Rule::target_chain);
    let others = held.iter().filter(|(name, _)| is_others(name));
    let mut waiting: Vec<&ChainName> = others.flat_map(|(_, chain)| targets(chain)).collect();
    let mut reached = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if is_stale(name) && reached.insert(name) {
            waiting.extend(held.get(name).into_iter().flat_map(targets));
        }
    }
    reached
}
