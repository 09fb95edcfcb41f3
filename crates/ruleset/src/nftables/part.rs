//! A part of a table that another program may have changed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Element, Key, Name, Set, Table};

/// The part of a desired table to compare with the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePart {
    /// The part as desired: all chains with the sets that they may use, or no chains; and the
    /// elements in question.
    pub desired: Table,
    /// Whether to compare the chains.
    pub has_chains: bool,
    /// The elements in question, by set.
    pub elements: BTreeMap<Name, ElementsInQuestion>,
}

/// Elements of a set to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementsInQuestion {
    /// Those with these keys, desired or not.
    Keys(BTreeSet<Key>),
    /// All: they depend on each other.
    All,
}

impl TablePart {
    /// A part of a table. `None` if it has to be compared as a whole: it has no such set, or packets
    /// fill the set.
    pub fn new(
        table: &Table,
        has_chains: bool,
        keys: BTreeMap<Name, BTreeSet<Key>>,
    ) -> Option<Self> {
        let mut desired = table.without_content();
        if has_chains {
            desired.chains = table.chains.clone();
            let sets = table.sets.iter();
            desired.sets = sets.map(|(name, set)| (name.clone(), set.without_elements())).collect();
        }
        let mut elements = BTreeMap::new();
        for (name, keys) in keys {
            let set = table.sets.get(&name).filter(|set| !set.dynamic)?;
            let (set, in_question) = match set.interval {
                true => (set.clone(), ElementsInQuestion::All),
                false => (only(set, &keys), ElementsInQuestion::Keys(keys)),
            };
            desired.sets.insert(name.clone(), set);
            elements.insert(name, in_question);
        }
        Some(Self { desired, has_chains, elements })
    }
}

/// A set with only the elements of these keys.
fn only(set: &Set, keys: &BTreeSet<Key>) -> Set {
    let element = |key: &Key| {
        let (key, element): (&Key, &Element) = set.elements.get_key_value(key)?;
        Some((key.clone(), element.clone()))
    };
    Set { elements: keys.iter().filter_map(element).collect(), ..set.without_elements() }
}
