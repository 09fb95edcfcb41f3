//! What is to be done to a table.

use std::collections::BTreeMap;

use super::{ActualRule, BaseChain, Element, Key, Name, Rule, Set, Table};
use rulegen_net::IpFamily;

/// Operations on one table, in an order that the kernel takes. They count all at once or not at
/// all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction<'a> {
    /// The table's family.
    pub family: IpFamily,
    /// Its name.
    pub table: &'a Name,
    /// What is done, from first to last.
    pub operations: Vec<Operation<'a>>,
}

impl Transaction<'_> {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// How many elements come or go.
    pub fn elements(&self) -> usize {
        let count = |operation: &Operation<'_>| match operation {
            Operation::AddElements(_, _, elements) | Operation::DeleteElements(_, _, elements) => {
                elements.len()
            }
            _ => 0,
        };
        self.operations.iter().map(count).sum()
    }

    /// How many of which kind of thing come or go: `("added", "element")` and the like.
    pub fn counts(&self) -> BTreeMap<(&'static str, &'static str), usize> {
        let mut counts = BTreeMap::new();
        for operation in &self.operations {
            let (turn, what, count) = match operation {
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
                // Of what goes with its set or chain, or is made anew.
                Operation::FlushChain(_) | Operation::FlushSet(_) => continue,
            };
            *counts.entry((turn, what)).or_default() += count;
        }
        counts
    }

    /// What is done, in numbers.
    pub fn summary(&self) -> String {
        let say = |((done, what), count): ((&str, &str), usize)| {
            format!("{count} {what}{} {done}", if count == 1 { "" } else { "s" })
        };
        let said: Vec<String> = self.counts().into_iter().map(say).collect();
        if said.is_empty() { "nothing to do".to_owned() } else { said.join(", ") }
    }
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Makes the table, empty.
    AddTable(&'a Table),
    /// Takes the table away with all that is in it.
    DeleteTable,
    /// Makes a set, empty.
    AddSet(&'a Name, &'a Set),
    /// Takes a set away, which nothing may use any more.
    DeleteSet(&'a Name),
    /// Makes a chain, empty.
    AddChain(&'a Name, Option<BaseChain>),
    /// Takes a chain away, to which nothing may lead any more.
    DeleteChain(&'a Name),
    /// Puts a rule behind the others of a chain.
    AddRule(&'a Name, &'a Rule),
    /// Takes a rule out of a chain.
    DeleteRule(&'a Name, &'a ActualRule),
    /// Takes all rules out of a chain.
    FlushChain(&'a Name),
    /// Puts elements into a set.
    AddElements(&'a Name, &'a Set, Vec<(&'a Key, &'a Element)>),
    /// Takes elements out of a set.
    DeleteElements(&'a Name, &'a Set, Vec<(&'a Key, &'a Element)>),
    /// Takes all elements out of a set.
    FlushSet(&'a Name),
}
