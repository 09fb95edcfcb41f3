//! Counts of a transaction, for messages and metrics.

use super::ruleset::Table;
use super::transaction::{Change, Transaction};

/// How many rules and chains a transaction adds and deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionCounts {
    /// Chains that are rewritten.
    pub filled: usize,
    /// Chains that are deleted.
    pub deleted: usize,
    /// Rules added to shared chains.
    pub prepended: usize,
    /// Rules removed from shared chains.
    pub removed: usize,
    /// Rules written to any chain.
    pub rules: usize,
}

impl TransactionCounts {
    /// Number of changes of any kind.
    pub fn changes(&self) -> usize {
        self.filled + self.deleted + self.prepended + self.removed
    }

    fn add(&mut self, change: &Change<'_>) {
        match change {
            Change::Fill { rules, .. } => {
                self.filled += 1;
                self.rules += rules.len();
            }
            Change::Prepend { .. } => {
                self.prepended += 1;
                self.rules += 1;
            }
            Change::Remove { .. } => self.removed += 1,
            Change::Delete { .. } => self.deleted += 1,
        }
    }
}

impl Transaction<'_> {
    /// Counts over all tables.
    pub fn counts(&self) -> TransactionCounts {
        self.count(|_| true)
    }

    /// Counts of one table.
    pub fn counts_of(&self, table: Table) -> TransactionCounts {
        self.count(|of| of == table)
    }

    fn count(&self, is_counted: impl Fn(Table) -> bool) -> TransactionCounts {
        let mut counts = TransactionCounts::default();
        let tables = self.tables.iter().filter(|changes| is_counted(changes.table));
        tables.flat_map(|table| &table.changes).for_each(|change| counts.add(change));
        counts
    }

    /// The counts as text.
    pub fn summary(&self) -> String {
        let counts = self.counts();
        let counts = [
            (counts.filled, "chain", "written"),
            (counts.prepended, "rule", "added to shared chains"),
            (counts.removed, "rule", "removed from shared chains"),
            (counts.deleted, "chain", "deleted"),
        ];
        let say = |(n, noun, done): &(usize, &str, &str)| {
            let plural = if *n == 1 { "" } else { "s" };
            format!("{n} {noun}{plural} {done}")
        };
        let said: Vec<String> = counts.iter().filter(|(n, ..)| *n > 0).map(say).collect();
        if said.is_empty() { "nothing to do".to_owned() } else { said.join(", ") }
    }
}
