//! Changes from the kernel's ruleset to the desired one.

use std::collections::BTreeMap;
use std::io;

use askama::Template;

use super::chain_name::ChainName;
use super::rule::Rule;
use super::ruleset::{Chain, Ruleset, Table};

/// A change to a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// Replaces all rules of a chain, and creates it if needed.
    Fill {
        /// Name of the chain to fill.
        chain: &'a ChainName,
        /// All its rules.
        rules: &'a [Rule],
    },
    /// Inserts a rule at the start of a chain.
    Prepend {
        /// Name of the built-in or shared chain.
        chain: &'a ChainName,
        /// The rule to insert at the start.
        rule: &'a Rule,
    },
    /// Removes a rule from a chain.
    Remove {
        /// Name of the built-in or shared chain.
        chain: &'a ChainName,
        /// The rule to delete, found by its content.
        rule: &'a Rule,
    },
    /// Deletes a chain with all its rules.
    Delete {
        /// Name of the chain to delete.
        chain: &'a ChainName,
    },
}

/// Changes to one table. The kernel applies all of them or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChanges<'a> {
    /// The table that is changed.
    pub table: Table,
    /// Removals, then additions, then deletions, so that no rule ever leads to a missing chain.
    pub changes: Vec<Change<'a>>,
}

/// All changes of one family; empty if there is nothing to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction<'a> {
    /// Tables with at least one change.
    pub tables: Vec<TableChanges<'a>>,
}

impl Transaction<'_> {
    /// True if there are no changes.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// True if it deletes the chain.
    pub fn deletes(&self, table: Table, chain: &ChainName) -> bool {
        let of_table = self.tables.iter().filter(|changes| changes.table == table);
        of_table
            .flat_map(|changes| &changes.changes)
            .any(|change| matches!(change, Change::Delete { chain: deleted } if *deleted == chain))
    }

    /// The text for `iptables-restore --noflush`.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail, and nothing in the template can.
        let _ = self.restore().render_into(&mut text);
        text
    }

    /// Writes the text for `iptables-restore --noflush`.
    ///
    /// # Errors
    /// Errors of `out`.
    pub fn write_text(&self, out: &mut impl io::Write) -> io::Result<()> {
        self.restore().write_into(out)
    }

    fn restore(&self) -> Restore<'_> {
        Restore { tables: self.tables.iter().map(TableInput::new).collect() }
    }

    /// Applies the changes to a ruleset. Tests use it to verify [`diff`](super::diff()).
    pub fn apply(&self, ruleset: &mut Ruleset) {
        for TableChanges { table, changes } in &self.tables {
            let chains =
                ruleset.tables.entry(*table).or_insert_with(|| Ruleset::built_in_chains(*table));
            changes.iter().for_each(|change| change.apply(chains));
        }
    }
}

impl Change<'_> {
    /// The chain that it changes.
    pub fn chain(&self) -> &ChainName {
        match self {
            Change::Fill { chain, .. }
            | Change::Prepend { chain, .. }
            | Change::Remove { chain, .. }
            | Change::Delete { chain } => chain,
        }
    }

    fn apply(&self, chains: &mut BTreeMap<ChainName, Chain>) {
        match self {
            Change::Fill { chain, rules } => {
                chains.entry((*chain).clone()).or_default().rules = rules.to_vec();
            }
            Change::Prepend { chain, rule } => {
                chains.entry((*chain).clone()).or_default().rules.insert(0, (*rule).clone());
            }
            Change::Remove { chain, rule } => {
                if let Some(chain) = chains.get_mut(*chain)
                    && let Some(at) = chain.rules.iter().position(|other| other == *rule)
                {
                    chain.rules.remove(at);
                }
            }
            Change::Delete { chain } => {
                chains.remove(*chain);
            }
        }
    }
}

#[derive(Template)]
#[template(path = "iptables-restore.txt", escape = "none")]
struct Restore<'a> {
    tables: Vec<TableInput<'a>>,
}

/// A table's changes in the order that iptables-restore requires. Declaring a chain flushes it,
/// which must happen before it can be deleted.
#[derive(Default)]
struct TableInput<'a> {
    name: &'static str,
    declared: Vec<&'a str>,
    removed: Vec<(&'a str, &'a Rule)>,
    prepended: Vec<(&'a str, &'a Rule)>,
    filled: Vec<(&'a str, &'a [Rule])>,
    deleted: Vec<&'a str>,
}

impl<'a> TableInput<'a> {
    fn new(table: &TableChanges<'a>) -> Self {
        let mut restored = Self { name: table.table.name(), ..Self::default() };
        for change in &table.changes {
            match *change {
                Change::Fill { chain, rules } => {
                    restored.declared.push(chain.as_str());
                    restored.filled.push((chain.as_str(), rules));
                }
                Change::Prepend { chain, rule } => restored.prepended.push((chain.as_str(), rule)),
                Change::Remove { chain, rule } => restored.removed.push((chain.as_str(), rule)),
                Change::Delete { chain } => {
                    restored.declared.push(chain.as_str());
                    restored.deleted.push(chain.as_str());
                }
            }
        }
        // iptables-legacy keeps chains in a sorted list and searches the position of a new one from
        // the start of its section. From last to first each position is found at once; in order,
        // 60,000 chains took half as long again.
        restored.declared.sort_unstable_by(|a, b| b.cmp(a));
        restored
    }
}
