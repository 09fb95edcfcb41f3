//! Transactions in numbers, for a person to read and for metrics.

use super::ruleset::Table;
use super::transaction::{Change, Transaction};

/// How much a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Chains that get all their rules.
    pub filled: usize,
    /// Chains that go.
    pub deleted: usize,
    /// Rules that are put into shared chains.
    pub prepended: usize,
    /// Rules that are taken out of shared chains.
    pub removed: usize,
    /// Rules that are written, in whatever chain.
    pub rules: usize,
}

impl Counts {
    /// Changes of any kind.
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
    /// What is done to all tables.
    pub fn counts(&self) -> Counts {
        self.count(|_| true)
    }

    /// What is done to one table.
    pub fn counts_of(&self, table: Table) -> Counts {
        self.count(|of| of == table)
    }

    fn count(&self, is_counted: impl Fn(Table) -> bool) -> Counts {
        let mut counts = Counts::default();
        let tables = self.tables.iter().filter(|changes| is_counted(changes.table));
        tables.flat_map(|table| &table.changes).for_each(|change| counts.add(change));
        counts
    }

    /// What is done, in words.
    pub fn summary(&self) -> String {
        let counts = self.counts();
        let counts = [
            (counts.filled, "chain", "written"),
            (counts.prepended, "rule", "put into shared chains"),
            (counts.removed, "rule", "taken out of shared chains"),
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
