//! A table in the making, and a record of who put what into it.

use std::collections::btree_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use rulegen_ruleset::nftables::{Chain, Element, Key, Name, Set, Table};

/// A table that service ports are spelled into, one after the other.
pub(super) struct Draft {
    pub(super) table: Table,
    /// What the service port that is being spelled asked for, if that is recorded.
    record: Option<Record>,
}

/// What one service port asked for, whether it got it or another had it first.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    /// Elements, by a hash of set and key.
    pub(super) elements: Vec<u64>,
    /// Chains.
    pub(super) chains: Vec<Name>,
}

impl Draft {
    pub(super) fn new(table: Table) -> Self {
        Self { table, record: None }
    }

    pub(super) fn recording(table: Table) -> Self {
        Self { table, record: Some(Record::default()) }
    }

    /// What was recorded since the last time.
    pub(super) fn take_record(&mut self) -> Record {
        let mut record = self.record.as_mut().map(std::mem::take).unwrap_or_default();
        // It is kept.
        record.elements.shrink_to_fit();
        record.chains.shrink_to_fit();
        record
    }

    /// Puts an element in unless one with the key is there: of two Services with one address and
    /// port the first by name has it, as in iptables. Says whether it was put in.
    pub(super) fn put(&mut self, set: &str, key: Key, element: Element) -> bool {
        if let Some(record) = &mut self.record {
            record.elements.push(hash(set, &key));
        }
        let Some(set) = self.table.sets.get_mut(&Name::from(set)) else { return false };
        let Entry::Vacant(free) = set.elements.entry(key) else { return false };
        free.insert(element);
        true
    }

    /// Sees to it that a chain is there.
    pub(super) fn chain(&mut self, name: Name, make: impl FnOnce() -> Chain) {
        let entry = self.table.chains.entry(name);
        if let Some(record) = &mut self.record {
            // The name that the table has: one for all that ask for the chain.
            record.chains.push(match &entry {
                Entry::Occupied(there) => there.key().clone(),
                Entry::Vacant(free) => free.key().clone(),
            });
        }
        entry.or_insert_with(make);
    }

    /// Adds a set that no other service port has.
    pub(super) fn set(&mut self, name: Name, set: Set) {
        self.table.sets.insert(name, set);
    }
}

/// Two that are equal by chance make their service ports look as if they had something in
/// common, which costs a little time.
fn hash(set: &str, key: &Key) -> u64 {
    let mut hasher = DefaultHasher::new();
    set.hash(&mut hasher);
    key.hash(&mut hasher);
    hasher.finish()
}
