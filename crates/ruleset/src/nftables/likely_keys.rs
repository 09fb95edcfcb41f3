//! Keys that a set in the kernel may have besides the desired ones, guessed from the differences of
//! other sets.
//!
//! After Services changed, the kernel has elements that are no longer desired. To dump a large set for
//! them costs the square of its size. But endpoints are numbered for each frontend, and a frontend
//! whose endpoints changed in number differs in a smaller map; and pairs repeat the addresses of
//! endpoints. A guess may be wrong: the number of elements tells whether all were found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Data, Differences, Field, Key, Name, Set, Table, Value};

/// Keys to request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LikelyKeys {
    /// The first keys of runs of numbers. A run ends with the first number that the kernel lacks.
    Runs(Vec<Key>),
    /// Single keys.
    Single(Vec<Key>),
}

/// What the keys of a set follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyOrigin {
    /// Another set's key, with a number.
    Numbered,
    /// An address in the data of a map, twice.
    Pair,
}

impl KeyOrigin {
    /// The origin of a set's keys; `None` if they do not follow from other sets.
    pub fn of(set: &Set) -> Option<Self> {
        match set.key.as_slice() {
            _ if set.interval || set.dynamic => None,
            [Field::Address, Field::Address] => Some(Self::Pair),
            [Field::Address | Field::Protocol, .., Field::Number] => Some(Self::Numbered),
            _ => None,
        }
    }
}

/// Keys that the kernel's set may have besides the desired ones, given the differences of other sets of
/// the table. None if its keys do not follow from them.
pub fn likely_keys(
    table: &Table,
    set: &Set,
    differences: &BTreeMap<Name, Differences>,
) -> Option<LikelyKeys> {
    let sets = || {
        let of = |(name, found)| Some((table.sets.get(name)?, found));
        differences.iter().filter_map(of)
    };
    Some(match KeyOrigin::of(set)? {
        KeyOrigin::Numbered => {
            let (_, frontend) = set.key.split_last()?;
            let frontends: BTreeSet<&Key> = sets()
                .filter(|(of, _)| of.key == frontend)
                .flat_map(|(_, found): (&Set, &Differences)| found.keys())
                .collect();
            LikelyKeys::Runs(frontends.into_iter().map(|key| first_unwanted(set, key)).collect())
        }
        KeyOrigin::Pair => {
            let found = sets().flat_map(|(_, found)| found.values().flatten());
            let address = |data: &Data| match data {
                Data::AddrPort(to) => Some(to.ip()),
                Data::Verdict(_) => None,
            };
            let addresses: BTreeSet<IpAddr> =
                found.filter_map(|element| element.data.as_ref().and_then(address)).collect();
            let pairs = addresses.into_iter().map(|ip| Key::from([Value::Address(ip); 2]));
            LikelyKeys::Single(pairs.filter(|pair| !set.elements.contains_key(pair)).collect())
        }
    })
}

/// The key with the number after the desired ones.
fn first_unwanted(set: &Set, key: &Key) -> Key {
    let [first, last] = [0, u32::MAX].map(|number| key.with(Value::Number(number)));
    let desired = set.elements.range(first..=last).count();
    key.with(Value::Number(u32::try_from(desired).unwrap_or(u32::MAX)))
}

/// This many keys that begin with the first of a run.
pub fn run(first: &Key, length: u32) -> Vec<Key> {
    let mut values: Vec<Value> = first.values().collect();
    let Some(Value::Number(number)) = values.pop() else { return Vec::new() };
    let prefix: Key = values.into_iter().collect();
    let numbers = number..number.saturating_add(length);
    numbers.map(|number| prefix.with(Value::Number(number))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{DataType, Element, Verdict};
    use super::*;

    fn frontend(port: u16) -> Key {
        Key::from([Value::Address([10, 96, 0, 1].into()), Value::Port(port)])
    }

    fn numbered(port: u16, number: u32) -> Key {
        frontend(port).with(Value::Number(number))
    }

    fn pair(last: u8) -> Key {
        Key::from([Value::Address([10, 0, 0, last].into()); 2])
    }

    fn to(last: u8) -> Element {
        let data = Data::AddrPort(([10, 0, 0, last], 80).into());
        Element { data: Some(data), comment: None }
    }

    /// Frontend 80 has two desired endpoints.
    fn table() -> Table {
        let services = Set::map(&[Field::Address, Field::Port], DataType::Verdict, "frontends");
        let of_endpoints = [Field::Address, Field::Port, Field::Number];
        let endpoints = Set {
            elements: [(numbered(80, 0), to(1)), (numbered(80, 1), to(2))].into(),
            ..Set::map(&of_endpoints, DataType::AddrPort, "endpoints")
        };
        let hairpins = Set {
            elements: [1, 2].map(|last| (pair(last), Element::default())).into(),
            ..Set::new(&[Field::Address, Field::Address], "pairs")
        };
        let sets = [("services", services), ("endpoints", endpoints), ("hairpins", hairpins)];
        Table {
            family: rulegen_net::IpFamily::Ipv4,
            name: "t".into(),
            comment: "".into(),
            sets: sets.into_iter().map(|(name, set)| (name.into(), set)).collect(),
            chains: BTreeMap::new(),
        }
    }

    fn likely(name: &str, differences: &[(&str, Differences)]) -> Option<LikelyKeys> {
        let table = table();
        let differences = differences.iter().map(|(name, of)| ((*name).into(), of.clone()));
        likely_keys(&table, &table.sets[&Name::from(name)], &differences.collect())
    }

    #[test]
    fn likely_keys_are_numbers_after_wanted_ones_of_frontends_that_differ() {
        let verdict = Element { data: Some(Data::Verdict(Verdict::Drop)), comment: None };
        let services = Differences::from([
            (frontend(80), Some(verdict.clone())),
            (frontend(81), Some(verdict)),
        ]);
        let runs = vec![numbered(80, 2), numbered(81, 0)];
        assert_eq!(
            likely("endpoints", &[("services", services.clone())]),
            Some(LikelyKeys::Runs(runs))
        );
        assert_eq!(run(&numbered(80, 2), 2), [numbered(80, 2), numbered(80, 3)]);
        assert_eq!(likely("services", &[("services", services)]), None);
    }

    #[test]
    fn likely_keys_are_pairs_of_addresses_that_other_maps_have() {
        let endpoints = Differences::from([
            (numbered(80, 0), Some(to(2))),
            (numbered(80, 1), None),
            (numbered(80, 2), Some(to(9))),
        ]);
        assert_eq!(
            likely("hairpins", &[("endpoints", endpoints)]),
            Some(LikelyKeys::Single(vec![pair(9)]))
        );
    }
}
