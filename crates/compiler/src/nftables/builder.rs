//! Builds a table from the contributions of all service ports at once.
//!
//! Elements are gathered in lists, which are sorted and become the maps of the table. That takes a
//! third of the time of adding them one by one, and leaves the nodes of the maps full.

use std::collections::HashMap;
use std::mem;

use rayon::prelude::*;
use rulegen_ruleset::nftables::{Element, Key, Name, Set, Table};

use super::claims::{ReferenceCounts, SetKey};
use super::contribution::Contribution;
use super::set_element::SetElement;
use crate::plan::Plan;

/// A table without the elements that are still to be added.
pub(super) struct TableBuilder<'a> {
    plan: &'a Plan,
    table: Table,
    elements: HashMap<&'static str, SetElements>,
}

/// Elements of one set, in any order.
#[derive(Default)]
struct SetElements {
    /// Of equal keys, the last counts.
    elements: Vec<(Key, Element)>,
    /// Keys that several service ports may need, once for each use.
    shared: Vec<Key>,
}

impl<'a> TableBuilder<'a> {
    pub(super) fn new(plan: &'a Plan, name: &Name) -> Self {
        Self { plan, table: super::empty(plan, name), elements: HashMap::new() }
    }

    /// Adds the contribution of the next service port by name. `is_granted` says of each claim whether
    /// no preceding service port has it.
    pub(super) fn add(&mut self, contribution: Contribution, is_granted: &[bool]) {
        for (claim, is_granted) in contribution.claims.into_iter().zip(is_granted) {
            if *is_granted {
                self.put(claim.elements);
            }
        }
        for (set, key) in contribution.shared_elements {
            self.elements.entry(set).or_default().shared.push(key);
        }
        for chain in contribution.shared_chains {
            let name = chain.name();
            if !self.table.chains.contains_key(&name) {
                self.put(chain.elements());
                self.table.chains.insert(name, chain.chain(self.plan));
            }
        }
        self.put(contribution.own_elements);
        self.table.sets.extend(contribution.own_sets);
        self.table.chains.extend(contribution.own_chains);
    }

    pub(super) fn has_chain(&self, name: &Name) -> bool {
        self.table.chains.contains_key(name)
    }

    /// The table, and the reference counts of its shared elements.
    pub(super) fn finish(self) -> (Table, ReferenceCounts<SetKey>) {
        let Self { mut table, mut elements, .. } = self;
        let sets: Vec<(&mut Set, &'static str, SetElements)> = table
            .sets
            .iter_mut()
            .filter_map(|(name, set)| {
                let (name, elements) = elements.remove_entry(name.as_str())?;
                Some((set, name, elements))
            })
            .collect();
        let counts: Vec<(SetKey, usize)> = sets
            .into_par_iter()
            .flat_map_iter(|(set, name, elements)| {
                let counts = elements.add_to(set);
                counts.into_iter().map(move |(key, count)| ((name, key), count))
            })
            .collect();
        (table, counts.into_iter().collect())
    }

    fn put(&mut self, elements: impl IntoIterator<Item = SetElement>) {
        for SetElement { set, key, element } in elements {
            self.elements.entry(set).or_default().elements.push((key, element));
        }
    }
}

impl SetElements {
    /// Adds the elements to a set. Returns the number of uses of shared elements with several.
    fn add_to(self, set: &mut Set) -> Vec<(Key, usize)> {
        let Self { mut elements, mut shared } = self;
        shared.sort_unstable();
        let uses = shared.chunk_by(|one, other| one == other);
        let several = uses.filter(|uses| uses.len() > 1);
        let counts = several.filter_map(|uses| Some((uses.first()?.clone(), uses.len()))).collect();
        shared.dedup();
        elements.extend(shared.into_iter().map(|key| (key, Element::default())));
        let before = mem::take(&mut set.elements);
        // The order of equal keys must stay: the standard library sorts stably, and of equal keys
        // keeps the last.
        set.elements = before.into_iter().chain(elements).collect();
        counts
    }
}
