//! The smallest transaction from the kernel's ruleset to the desired one.

use std::collections::{BTreeMap, BTreeSet};

use super::chain_name::ChainName;
use super::rule::Rule;
use super::ruleset::{Chain, Ruleset, Table};
use super::transaction::{Change, TableChanges, Transaction};

/// Chains that rulegen owns: it rewrites and deletes them freely. All other chains are shared:
/// rulegen only adds its own rules there and leaves other rules alone.
#[derive(Debug, Clone, Copy)]
pub struct Ownership<'a> {
    /// Tables and names of chains.
    pub chains: &'a [(Table, &'static str)],
    /// Tables and name prefixes of chains.
    pub prefixes: &'a [(Table, &'static str)],
}

impl Ownership<'_> {
    /// True if rulegen owns the chain.
    pub fn owns(&self, table: Table, chain: &ChainName) -> bool {
        let name = chain.as_str();
        self.chains.iter().any(|(of, ours)| *of == table && *ours == name)
            || self.prefixes.iter().any(|(of, start)| *of == table && name.starts_with(start))
    }
}

/// Computes the changes from `actual` to `desired`. Owned chains that differ are rewritten as a whole;
/// those not desired are deleted unless a foreign rule leads to them. In shared chains missing rules
/// are prepended, the last one first, as in kube-proxy.
pub fn diff<'a>(
    actual: &'a Ruleset,
    desired: &'a Ruleset,
    ours: &Ownership<'_>,
) -> Transaction<'a> {
    let no_chains = &EMPTY;
    let tables = desired.tables.iter().filter_map(|(table, desired)| {
        let actual = actual.tables.get(table).unwrap_or(no_chains);
        let changes = table_diff(*table, actual, desired, ours);
        (!changes.is_empty()).then_some(TableChanges { table: *table, changes })
    });
    Transaction { tables: tables.collect() }
}

/// Removes everything owned from `actual`: the chains, and the rules of built-in chains for which
/// `is_our_jump` returns true. A chain stays if a foreign rule leads to it.
pub fn removal<'a>(
    actual: &'a Ruleset,
    ours: &Ownership<'_>,
    is_our_jump: impl Fn(Table, &Rule) -> bool,
) -> Transaction<'a> {
    let tables = actual.tables.iter().filter_map(|(table, actual)| {
        let is_jump =
            |chain: &ChainName, rule: &Rule| chain.is_built_in() && is_our_jump(*table, rule);
        let mut changes: Vec<Change<'_>> = Vec::new();
        for (chain, content) in actual {
            let jumps = content.rules.iter().filter(|rule| is_jump(chain, rule));
            changes.extend(jumps.map(|rule| Change::Remove { chain, rule }));
        }
        let is_ours = |name: &ChainName| ours.owns(*table, name);
        let others = |chain: &ChainName, rule: &Rule| !is_ours(chain) && !is_jump(chain, rule);
        let stay = led_to_by_others(actual, others, is_ours);
        let gone = actual.keys().filter(|name| is_ours(name) && !stay.contains(name));
        changes.extend(gone.map(|chain| Change::Delete { chain }));
        (!changes.is_empty()).then_some(TableChanges { table: *table, changes })
    });
    Transaction { tables: tables.collect() }
}

static EMPTY: BTreeMap<ChainName, Chain> = BTreeMap::new();

fn table_diff<'a>(
    table: Table,
    actual: &'a BTreeMap<ChainName, Chain>,
    desired: &'a BTreeMap<ChainName, Chain>,
    ours: &Ownership<'_>,
) -> Vec<Change<'a>> {
    let (mut filled, mut prepended) = (Vec::new(), Vec::new());
    for (chain, content) in desired {
        let there = actual.get(chain).map(|chain| chain.rules.as_slice());
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
    let is_stale = |name: &ChainName| ours.owns(table, name) && !desired.contains_key(name);
    let stay = led_to_by_others(actual, |name, _| !ours.owns(table, name), is_stale);
    let gone = actual.keys().filter(|name| is_stale(name) && !stay.contains(name));
    let deleted = gone.map(|chain| Change::Delete { chain });
    prepended.into_iter().chain(filled).chain(deleted).collect()
}

/// The `stale` chains that foreign rules lead to, directly or through other chains. The kernel
/// would refuse to delete them, and with them the whole transaction.
fn led_to_by_others(
    actual: &BTreeMap<ChainName, Chain>,
    is_others: impl Fn(&ChainName, &Rule) -> bool,
    is_stale: impl Fn(&ChainName) -> bool,
) -> BTreeSet<&ChainName> {
    let mut waiting: Vec<&ChainName> = Vec::new();
    for (name, chain) in actual {
        let others = chain.rules.iter().filter(|rule| is_others(name, rule));
        waiting.extend(others.filter_map(Rule::target_chain));
    }
    let mut reached = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if is_stale(name) && reached.insert(name) {
            let rules = actual.get(name).into_iter().flat_map(|chain| &chain.rules);
            waiting.extend(rules.filter_map(Rule::target_chain));
        }
    }
    reached
}
