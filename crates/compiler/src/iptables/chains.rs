//! Chains while they are rendered.

use std::collections::BTreeMap;

use rayon::prelude::*;
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{Chain, ChainName, Rule, Ruleset, Table};

/// The chains rendered so far: shared chains by name, and the chains of single service ports.
#[derive(Default)]
pub(super) struct RenderedChains {
    pub(super) filter: BTreeMap<&'static str, Vec<Rule>>,
    pub(super) nat: BTreeMap<&'static str, Vec<Rule>>,
    pub(super) own: Vec<(ChainName, Vec<Rule>)>,
}

impl RenderedChains {
    pub(super) fn filter(&mut self, chain: &'static str) -> &mut Vec<Rule> {
        self.filter.entry(chain).or_default()
    }

    pub(super) fn nat(&mut self, chain: &'static str) -> &mut Vec<Rule> {
        self.nat.entry(chain).or_default()
    }

    /// Adds a whole chain of the table `nat`.
    pub(super) fn add(&mut self, name: ChainName, rules: Vec<Rule>) {
        self.own.push((name, rules));
    }

    pub(super) fn append(&mut self, other: RenderedChains) {
        other.filter.into_iter().for_each(|(name, rules)| self.filter(name).extend(rules));
        other.nat.into_iter().for_each(|(name, rules)| self.nat(name).extend(rules));
        self.own.extend(other.own);
    }

    pub(super) fn into_ruleset(self, family: IpFamily) -> Ruleset {
        let mut ruleset = Ruleset::new(family);
        ruleset.tables.insert(Table::Filter, table(Table::Filter, self.filter, Vec::new()));
        ruleset.tables.insert(Table::Nat, table(Table::Nat, self.nat, self.own));
        ruleset
    }
}

/// A table of these chains and the built-in ones.
fn table(
    table: Table,
    shared: BTreeMap<&'static str, Vec<Rule>>,
    mut own: Vec<(ChainName, Vec<Rule>)>,
) -> BTreeMap<ChainName, Chain> {
    own.par_sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let own = own.into_iter().map(|(name, rules)| (name, Chain { policy: None, rules }));
    let mut chains: BTreeMap<ChainName, Chain> = own.collect();
    chains.append(&mut Ruleset::built_in_chains(table));
    for (name, rules) in shared {
        chains.entry(name.into()).or_default().rules = rules;
    }
    chains
}
