//! Changes to a table.

use std::collections::BTreeMap;

use super::{ActualRule, BaseChain, Element, Key, Name, Rule, Set, Table};
use rulegen_net::IpFamily;

/// Operations on one table, in an order that the kernel accepts. They take effect together or not
/// at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction<'a> {
    /// Family of the table.
    pub family: IpFamily,
    /// Name of the table.
    pub table: &'a Name,
    /// Operations in order.
    pub operations: Vec<Operation<'a>>,
}

impl Transaction<'_> {
    /// True if there are no operations.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Number of added and deleted elements.
    pub fn elements(&self) -> usize {
        let count = |operation: &Operation<'_>| match operation {
            Operation::AddElements(_, _, elements) | Operation::DeleteElements(_, _, elements) => {
                elements.len()
            }
            _ => 0,
        };
        self.operations.iter().map(count).sum()
    }

    /// Number of added, deleted and flushed objects by change and kind, such as
    /// `("added", "element")`. A set that is flushed to be deleted counts as deleted.
    pub fn counts(&self) -> BTreeMap<(&'static str, &'static str), usize> {
        let is_deleted = |name: &Name| {
            let mut operations = self.operations.iter();
            operations.any(|of| matches!(of, Operation::DeleteSet(deleted) if *deleted == name))
        };
        let mut counts = BTreeMap::new();
        for operation in &self.operations {
            let (change, kind, count) = match operation {
                Operation::AddTable(_) => ("added", "table", 1),
                Operation::DeleteTable => ("deleted", "table", 1),
                Operation::AddSet(..) => ("added", "set", 1),
                Operation::DeleteSet(_) => ("deleted", "set", 1),
                Operation::AddChain(..) => ("added", "chain", 1),
                Operation::DeleteChain(_) => ("deleted", "chain", 1),
                Operation::AddRule(..) => ("added", "rule", 1),
                Operation::DeleteRule(..) => ("deleted", "rule", 1),
                Operation::AddElements(_, _, elements) => ("added", "element", elements.len()),
                Operation::DeleteElements(_, _, elements) => ("deleted", "element", elements.len()),
                Operation::FlushSet(name) if !is_deleted(name) => ("flushed", "set", 1),
                // Part of an operation on the whole set or chain.
                Operation::FlushChain(_) | Operation::FlushSet(_) => continue,
            };
            *counts.entry((change, kind)).or_default() += count;
        }
        counts
    }

    /// The counts as text.
    pub fn summary(&self) -> String {
        let part = |((done, kind), count): ((&str, &str), usize)| {
            format!("{count} {kind}{} {done}", if count == 1 { "" } else { "s" })
        };
        let said: Vec<String> = self.counts().into_iter().map(part).collect();
        if said.is_empty() { "nothing to do".to_owned() } else { said.join(", ") }
    }
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Creates the table, empty.
    AddTable(&'a Table),
    /// Deletes the table and all its content.
    DeleteTable,
    /// Creates a set, empty.
    AddSet(&'a Name, &'a Set),
    /// Deletes a set, which must be unused.
    DeleteSet(&'a Name),
    /// Creates a chain, empty.
    AddChain(&'a Name, Option<BaseChain>),
    /// Deletes a chain, which must be unused.
    DeleteChain(&'a Name),
    /// Appends a rule to a chain.
    AddRule(&'a Name, &'a Rule),
    /// Deletes a rule of a chain.
    DeleteRule(&'a Name, &'a ActualRule),
    /// Deletes all rules of a chain.
    FlushChain(&'a Name),
    /// Adds elements to a set.
    AddElements(&'a Name, &'a Set, Vec<(&'a Key, &'a Element)>),
    /// Deletes elements of a set.
    DeleteElements(&'a Name, &'a Set, Vec<(&'a Key, &'a Element)>),
    /// Deletes all elements of a set.
    FlushSet(&'a Name),
}
