//! The parts of a table that a change replaces, before and after.

use std::collections::{BTreeMap, BTreeSet};

use rulegen_ruleset::nftables::{Chain, Element, Key, Name, Set, Table};

use super::claims::SetKey;
use super::contribution::Contribution;
use super::set_element::SetElement;

/// Collects removed and added parts. A key that is removed and added is replaced.
#[derive(Debug, Default)]
pub(super) struct TableEdit {
    before: Part,
    after: Part,
}

#[derive(Debug, Default)]
struct Part {
    /// Elements by set, in the order of addition: a change may have hundreds of thousands.
    elements: Vec<(&'static str, Vec<(Key, Element)>)>,
    sets: BTreeMap<Name, Set>,
    chains: BTreeMap<Name, Chain>,
}

impl TableEdit {
    /// Replaces elements. Those that keep their place in the list cost nothing.
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

    /// Replaces the objects of one service port. If one chain of a service port with affinity
    /// changes, all of them are included, because all its rules together define which clients its set
    /// may contain.
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

    /// Both parts as tables. Shared sets have only the elements that differ.
    pub(super) fn finish(mut self, whole: &Table) -> (Table, Table) {
        let mut before = take_sorted(&mut self.before.elements);
        let mut after = take_sorted(&mut self.after.elements);
        let names: BTreeSet<&'static str> = before.keys().chain(after.keys()).copied().collect();
        for name in names {
            let Some((full_name, set)) = whole.sets.get_key_value(name) else { continue };
            let mut old = before.remove(name).unwrap_or_default();
            let mut new = after.remove(name).unwrap_or_default();
            drop_equal(&mut old, &mut new);
            for (part, elements) in [(&mut self.before, old), (&mut self.after, new)] {
                let set = Set { elements, ..set.without_elements() };
                part.sets.insert(full_name.clone(), set);
            }
        }
        let table =
            |part: Part| Table { sets: part.sets, chains: part.chains, ..whole.without_content() };
        (table(self.before), table(self.after))
    }
}

impl Part {
    fn put(&mut self, SetElement { set, key, element }: SetElement) {
        let of_set = match self.elements.last_mut() {
            Some((last, elements)) if *last == set => elements,
            _ => {
                self.elements.push((set, Vec::new()));
                match self.elements.last_mut() {
                    Some((_, elements)) => elements,
                    None => return,
                }
            }
        };
        of_set.push((key, element));
    }
}

type SortedElements = BTreeMap<Key, Element>;

/// The elements of each set, ordered. They are added nearly in order, which makes this cheap.
fn take_sorted(
    parts: &mut Vec<(&'static str, Vec<(Key, Element)>)>,
) -> BTreeMap<&'static str, SortedElements> {
    let mut lists: BTreeMap<&'static str, Vec<(Key, Element)>> = BTreeMap::new();
    for (set, elements) in parts.drain(..) {
        let list = lists.entry(set).or_default();
        if list.is_empty() {
            *list = elements;
        } else {
            list.extend(elements);
        }
    }
    lists.into_iter().map(|(set, list)| (set, list.into_iter().collect())).collect()
}

/// Omits an element that is removed and added unchanged.
fn drop_equal(before: &mut SortedElements, after: &mut SortedElements) {
    let is_equal = |(key, old): &(&Key, &Element)| after.get(key) == Some(old);
    let equal: Vec<Key> = before.iter().filter(is_equal).map(|(key, _)| key.clone()).collect();
    for key in equal {
        before.remove(&key);
        after.remove(&key);
    }
}
