//! The parts of a table that a change replaces, as they were and as they shall be.

use std::collections::BTreeMap;

use rulegen_ruleset::nftables::{Chain, Element, Key, Name, Set, Table};

use super::claims::SetKey;
use super::contribution::{Contribution, SetElement};

/// Collects what goes and what comes. A key that goes and comes again is replaced.
#[derive(Debug, Default)]
pub(super) struct Edit {
    before: Part,
    after: Part,
}

#[derive(Debug, Default)]
struct Part {
    elements: BTreeMap<&'static str, BTreeMap<Key, Element>>,
    sets: BTreeMap<Name, Set>,
    chains: BTreeMap<Name, Chain>,
}

impl Edit {
    /// Replaces elements; those that stay where they are in the list cost nothing.
    pub(super) fn replace(&mut self, before: &[SetElement], after: &[SetElement]) {
        let same = before.iter().zip(after).map(|(old, new)| old == new);
        let same: Vec<bool> = same.collect();
        let changed = |turn: usize| !same.get(turn).copied().unwrap_or_default();
        for (part, elements) in [(&mut self.before, before), (&mut self.after, after)] {
            let elements = elements.iter().enumerate().filter(|(turn, _)| changed(*turn));
            elements.for_each(|(_, element)| part.put(element.clone()));
        }
    }

    pub(super) fn add_shared(&mut self, key: &SetKey) {
        self.after.put(SetElement::without_data(key));
    }

    pub(super) fn remove_shared(&mut self, key: &SetKey) {
        self.before.put(SetElement::without_data(key));
    }

    pub(super) fn add_chain(&mut self, name: Name, chain: Chain, elements: &[SetElement]) {
        self.after.chains.insert(name, chain);
        self.replace(&[], elements);
    }

    pub(super) fn remove_chain(&mut self, name: Name, chain: Chain, elements: &[SetElement]) {
        self.before.chains.insert(name, chain);
        self.replace(elements, &[]);
    }

    /// Replaces what belongs to one service port alone. All chains of one with affinity are there
    /// where one of them changes: which clients a set may have is what all its rules ask for.
    pub(super) fn own(&mut self, before: Contribution, after: Contribution) {
        self.replace(&before.own_elements, &after.own_elements);
        if before.own_chains == after.own_chains && before.own_sets == after.own_sets {
            return;
        }
        for (part, of) in [(&mut self.before, before), (&mut self.after, after)] {
            part.sets.extend(of.own_sets);
            part.chains.extend(of.own_chains);
        }
    }

    /// Both parts as tables, with no more of the shared sets than the elements that differ.
    pub(super) fn finish(mut self, whole: &Table) -> (Table, Table) {
        drop_equal(&mut self.before.elements, &mut self.after.elements);
        let sets: Vec<&'static str> =
            self.before.elements.keys().chain(self.after.elements.keys()).copied().collect();
        for name in sets {
            let Some((full_name, set)) = whole.sets.get_key_value(name) else { continue };
            for part in [&mut self.before, &mut self.after] {
                if let Some(elements) = part.elements.remove(name) {
                    let set = Set { elements, ..set.without_elements() };
                    part.sets.insert(full_name.clone(), set);
                } else {
                    let empty = || set.without_elements();
                    part.sets.entry(full_name.clone()).or_insert_with(empty);
                }
            }
        }
        let table =
            |part: Part| Table { sets: part.sets, chains: part.chains, ..whole.without_content() };
        (table(self.before), table(self.after))
    }
}

impl Part {
    fn put(&mut self, SetElement { set, key, element }: SetElement) {
        self.elements.entry(set).or_default().insert(key, element);
    }
}

type Elements = BTreeMap<&'static str, BTreeMap<Key, Element>>;

fn drop_equal(before: &mut Elements, after: &mut Elements) {
    for (set, old) in before {
        let Some(new) = after.get_mut(set) else { continue };
        old.retain(|key, element| {
            let is_equal = new.get(key) == Some(element);
            if is_equal {
                new.remove(key);
            }
            !is_equal
        });
    }
}
