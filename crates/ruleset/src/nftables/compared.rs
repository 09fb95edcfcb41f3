//! Tables read to compare them with desired ones.
//!
//! A large cluster has hundreds of thousands of elements, and nearly all of them are as desired. So
//! elements are compared while they are read, and only those that differ are kept.

use std::collections::BTreeMap;

use super::{Actual, Element, Key, Name, Set, Table};

/// A table as read from the kernel to compare it with a desired table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComparedTable {
    /// The table. Sets in `differences` have no elements here.
    pub actual: Actual,
    /// Elements that differ from the desired ones, by set. Other sets are in `actual` with all their
    /// elements.
    pub differences: BTreeMap<Name, Differences>,
}

/// Elements that differ between the kernel and the desired set: those that the kernel has, and `None`
/// for those that it lacks.
pub type Differences = BTreeMap<Key, Option<Element>>;

impl ComparedTable {
    /// Compares the sets of a table that was read with all elements.
    pub fn new(mut actual: Actual, desired: &Table) -> Self {
        let mut differences = BTreeMap::new();
        for (name, set) in &mut actual.sets {
            let Some((set, desired)) = set.as_mut().zip(desired.sets.get(name)) else { continue };
            if !ElementComparison::is_possible(set, desired) {
                continue;
            }
            let mut comparison = ElementComparison::new(desired);
            let elements = std::mem::take(&mut set.elements);
            elements.into_iter().for_each(|(key, element)| comparison.found(key, element));
            differences.insert(name.clone(), comparison.finish());
        }
        Self { actual, differences }
    }
}

/// Compares the elements of a set with the desired ones, in any order.
pub struct ElementComparison<'a> {
    desired: Vec<(&'a Key, &'a Element)>,
    /// Which of the desired elements the kernel has.
    found: Vec<bool>,
    /// Number of keys found: desired ones, including those with other data or another comment, and
    /// others.
    keys: usize,
    /// Position after the last one found: elements requested by key come in order.
    next: usize,
    differences: Differences,
}

impl<'a> ElementComparison<'a> {
    /// True if the elements of a set can be compared one by one: the set stays, packets do not fill
    /// it, and its elements do not depend on each other.
    pub fn is_possible(actual: &Set, desired: &Set) -> bool {
        actual.shape() == desired.shape() && !desired.dynamic && !desired.needs_full_rewrite()
    }

    /// Starts with no element found.
    pub fn new(desired: &'a Set) -> Self {
        let desired: Vec<_> = desired.elements.iter().collect();
        let found = vec![false; desired.len()];
        Self { desired, found, keys: 0, next: 0, differences: Differences::new() }
    }

    /// Records an element that the kernel has. A dump can contain an element twice.
    pub fn found(&mut self, key: Key, element: Element) {
        let desired = self.find(&key);
        if desired == Some(&element) {
            return;
        }
        let is_first = self.differences.insert(key, Some(element)).is_none();
        self.keys += usize::from(desired.is_none() && is_first);
    }

    /// Records that the kernel has the desired element of this key.
    pub fn found_as_wanted(&mut self, key: &Key) {
        self.find(key);
    }

    /// Marks a key as found. Returns its desired element.
    fn find(&mut self, key: &Key) -> Option<&'a Element> {
        let is_next = self.desired.get(self.next).is_some_and(|(desired, _)| *desired == key);
        let at = match is_next {
            true => self.next,
            false => self.desired.binary_search_by(|(desired, _)| (*desired).cmp(key)).ok()?,
        };
        self.next = at + 1;
        let found = self.found.get_mut(at)?;
        self.keys += usize::from(!std::mem::replace(found, true));
        self.desired.get(at).map(|(_, element)| *element)
    }

    /// Number of different keys that were found, desired or not.
    pub fn keys_found(&self) -> usize {
        self.keys
    }

    /// The differences, once all elements of the kernel were recorded.
    pub fn finish(mut self) -> Differences {
        let missing = self.desired.iter().zip(&self.found).filter(|(_, found)| !**found);
        self.differences.extend(missing.map(|((key, _), _)| ((*key).clone(), None)));
        self.differences
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Comment, Field, Value};
    use super::*;

    fn key(port: u16) -> Key {
        Key::from([Value::Port(port)])
    }

    fn element(comment: &str) -> Element {
        Element { data: None, comment: Some(Comment::from(comment)) }
    }

    fn set(ports: &[u16]) -> Set {
        let elements = ports.iter().map(|port| (key(*port), element("a"))).collect();
        Set { elements, ..Set::new(&[Field::Port], "test") }
    }

    #[test]
    fn element_comparison_keeps_only_missing_changed_and_additional_elements() {
        let desired = set(&[1, 2, 3, 4, 5]);
        let mut comparison = ElementComparison::new(&desired);
        // In no order, and one twice, as after the kernel resized a set during a dump.
        for (port, comment) in [(4, "a"), (1, "a"), (9, "a"), (2, "b"), (4, "a")] {
            comparison.found(key(port), element(comment));
        }
        assert_eq!(comparison.keys_found(), 4);
        let expected = [
            (key(2), Some(element("b"))),
            (key(3), None),
            (key(5), None),
            (key(9), Some(element("a"))),
        ];
        assert_eq!(comparison.finish(), Differences::from(expected));
    }

    #[test]
    fn compared_table_keeps_no_element_that_is_as_wanted() {
        let table = |sets: &[(&str, Set)]| Table {
            family: rulegen_net::IpFamily::Ipv4,
            name: "t".into(),
            comment: "".into(),
            sets: sets.iter().map(|(name, set)| ((*name).into(), set.clone())).collect(),
            chains: BTreeMap::new(),
        };
        let dynamic = Set { dynamic: true, ..set(&[7]) };
        let actual = Actual::from(table(&[("same", set(&[1, 2])), ("filled", dynamic.clone())]));
        let desired = table(&[
            ("same", set(&[1, 2, 3])),
            ("filled", Set { elements: BTreeMap::new(), ..dynamic }),
        ]);
        let compared = ComparedTable::new(actual, &desired);
        let elements = |name: &str| {
            compared.actual.sets.get(&Name::from(name)).unwrap().as_ref().unwrap().elements.len()
        };
        assert_eq!((elements("same"), elements("filled")), (0, 1));
        let expected = [(Name::from("same"), Differences::from([(key(3), None)]))];
        assert_eq!(compared.differences, BTreeMap::from(expected));
    }
}
