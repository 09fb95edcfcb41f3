//! Tables and chains.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::chain_name::{BUILT_IN, ChainName};
use super::rule::Rule;
use rulegen_net::IpFamily;

/// The tables of iptables, in the order in which they are printed and committed: filter before nat,
/// so that packets are refused before a stale translation could be missed, as in kube-proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Before conntrack. For `NOTRACK`.
    Raw,
    /// For changes of packets, such as marks.
    Mangle,
    /// Accepts or refuses packets.
    Filter,
    /// Translates addresses. Only the first packet of a connection passes it.
    Nat,
    /// For SELinux labels, after `filter`.
    Security,
}

impl Table {
    /// All tables.
    pub const ALL: [Table; 5] =
        [Table::Raw, Table::Mangle, Table::Filter, Table::Nat, Table::Security];

    /// Name of the table.
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

/// Policy of a built-in chain: the verdict for packets that no rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Policy {
    /// Packets go on.
    Accept,
    /// Packets are dropped.
    Drop,
}

/// A chain: its rules, and the policy of a built-in chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Policy of a built-in chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// Tables of one family, either desired or read from the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ruleset {
    /// Family of the tables.
    pub family: IpFamily,
    /// Chains by table and name.
    pub tables: BTreeMap<Table, BTreeMap<ChainName, Chain>>,
}

impl Ruleset {
    /// A ruleset without tables.
    pub fn new(family: IpFamily) -> Self {
        Self { family, tables: BTreeMap::new() }
    }

    /// The chain, if it exists.
    pub fn chain(&self, table: Table, name: &ChainName) -> Option<&Chain> {
        self.tables.get(&table)?.get(name)
    }

    /// True if iptables can show everything in a table: it has no base chain with another name, and
    /// no rule with an expression that only `nft` writes.
    pub fn is_shown_by_iptables(&self, table: Table) -> bool {
        let is_shown = |(name, chain): (&ChainName, &Chain)| {
            (chain.policy.is_none() || name.is_built_in())
                && chain.rules.iter().all(Rule::is_shown_by_iptables)
        };
        self.tables.get(&table).into_iter().flatten().all(is_shown)
    }

    /// Number of rules in a table.
    pub fn rules_of(&self, table: Table) -> usize {
        let chains = self.tables.get(&table).into_iter().flat_map(|chains| chains.values());
        chains.map(|chain| chain.rules.len()).sum()
    }

    /// A table's built-in chains, which exist in every kernel.
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
