//! Tables and chains.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::chain_name::{BUILT_IN, ChainName};
use super::rule::Rule;
use rulegen_net::IpFamily;

/// The tables of iptables, in the order in which we print and commit them: packets must be
/// refused (filter) before a stale translation (nat) could be missed, as in kube-proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are netfilter's")]
pub enum Table {
    Raw,
    Mangle,
    Filter,
    Nat,
    Security,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 5] =
        [Table::Raw, Table::Mangle, Table::Filter, Table::Nat, Table::Security];

    /// The name that iptables has for it.
    pub fn name(self) -> &'static str {
        match self {
            Table::Raw => "raw",
            Table::Mangle => "mangle",
            Table::Filter => "filter",
            Table::Nat => "nat",
            Table::Security => "security",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a built-in chain does with what no rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "they are netfilter's")]
pub enum Policy {
    Accept,
    Drop,
}

/// A chain: its rules, and a policy if it is a built-in one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Of built-in chains only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// In the order in which packets meet them.
    pub rules: Vec<Rule>,
}

/// The tables of one family: what is wanted, or what the kernel holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ruleset {
    /// Whose tables they are.
    pub family: IpFamily,
    /// Chains by table and name.
    pub tables: BTreeMap<Table, BTreeMap<ChainName, Chain>>,
}

impl Ruleset {
    /// No table at all.
    pub fn new(family: IpFamily) -> Self {
        Self { family, tables: BTreeMap::new() }
    }

    /// A chain, if it is there.
    pub fn chain(&self, table: Table, name: &ChainName) -> Option<&Chain> {
        self.tables.get(&table)?.get(name)
    }

    /// How many rules a table has.
    pub fn rules_of(&self, table: Table) -> usize {
        let chains = self.tables.get(&table).into_iter().flat_map(|chains| chains.values());
        chains.map(|chain| chain.rules.len()).sum()
    }

    /// A table with the built-in chains it has in every kernel.
    pub fn built_in_chains(table: Table) -> BTreeMap<ChainName, Chain> {
        let names: &[&str] = match table {
            Table::Raw => &["PREROUTING", "OUTPUT"],
            Table::Mangle => &BUILT_IN,
            Table::Filter | Table::Security => &["INPUT", "FORWARD", "OUTPUT"],
            Table::Nat => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
        };
        let chain = Chain { policy: Some(Policy::Accept), rules: Vec::new() };
        names.iter().map(|name| (ChainName::from(*name), chain.clone())).collect()
    }
}
