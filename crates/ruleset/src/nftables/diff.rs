//! The smallest transaction from the kernel's table to the desired one.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};

use super::linearize::linearize;
use super::merge::merge;
use super::{
    Actual, ActualChain, ActualRule, Chain, ComparedTable, Condition, Differences, Element, Key,
    Name, Number, Operation, Rule, Selector, Set, Statement, Table, Transaction, Value,
};

/// The transaction after which the kernel has the desired table and nothing else under its name. A
/// table with a part that can only be removed with the whole is replaced; packets never see a state
/// in between.
pub fn diff<'a>(actual: Option<&'a Actual>, desired: &'a Table) -> Transaction<'a> {
    let operations = match actual {
        None => fresh(desired),
        Some(actual) if actual.foreign.is_empty() => {
            Differ::new(actual, &NOTHING.differences, desired).operations()
        }
        Some(_) => return replacement(desired),
    };
    Transaction { family: desired.family, table: &desired.name, operations }
}

/// Like [`diff`], with a table whose elements are compared already.
pub fn diff_compared<'a>(
    compared: Option<&'a ComparedTable>,
    desired: &'a Table,
) -> Transaction<'a> {
    match compared {
        Some(ComparedTable { actual, differences }) if actual.foreign.is_empty() => Transaction {
            family: desired.family,
            table: &desired.name,
            operations: Differ::new(actual, differences, desired).operations(),
        },
        compared => diff(compared.map(|compared| &compared.actual), desired),
    }
}

/// An empty table.
static NOTHING: ComparedTable = ComparedTable {
    actual: Actual { foreign: Vec::new(), sets: BTreeMap::new(), chains: BTreeMap::new() },
    differences: BTreeMap::new(),
};

/// Replaces an existing table, whatever it contains.
pub fn replacement(desired: &Table) -> Transaction<'_> {
    let operations = [Operation::DeleteTable].into_iter().chain(fresh(desired)).collect();
    Transaction { family: desired.family, table: &desired.name, operations }
}

fn fresh(desired: &Table) -> Vec<Operation<'_>> {
    let all = Differ::new(&NOTHING.actual, &NOTHING.differences, desired).operations();
    [Operation::AddTable(desired)].into_iter().chain(all).collect()
}

struct Differ<'a> {
    actual: &'a Actual,
    differences: &'a BTreeMap<Name, Differences>,
    desired: &'a Table,
    /// Constants that rules look up in sets, computed on first use.
    looked_up: OnceCell<HashSet<(&'a Name, u32)>>,
    /// Deletions that must come before additions.
    removals: Removals<'a>,
    added_sets: Vec<Operation<'a>>,
    added_chains: Vec<Operation<'a>>,
    added_rules: Vec<Operation<'a>>,
    added_elements: Vec<Operation<'a>>,
}

/// Deletions in their order: an object goes before the objects that it refers to.
#[derive(Default)]
struct Removals<'a> {
    rules: Vec<Operation<'a>>,
    elements: Vec<Operation<'a>>,
    chains: Vec<Operation<'a>>,
    sets: Vec<Operation<'a>>,
}

impl<'a> Differ<'a> {
    fn new(
        actual: &'a Actual,
        differences: &'a BTreeMap<Name, Differences>,
        desired: &'a Table,
    ) -> Self {
        Self {
            actual,
            differences,
            desired,
            looked_up: OnceCell::new(),
            removals: Removals::default(),
            added_sets: Vec::new(),
            added_chains: Vec::new(),
            added_rules: Vec::new(),
            added_elements: Vec::new(),
        }
    }

    fn operations(mut self) -> Vec<Operation<'a>> {
        for (name, actual, desired) in merge(&self.actual.sets, &self.desired.sets) {
            self.set(name, actual, desired);
        }
        for (name, actual, desired) in merge(&self.actual.chains, &self.desired.chains) {
            self.chain(name, actual, desired);
        }
        let Removals { rules, elements, chains, sets } = self.removals;
        let gone = [rules, elements, chains, sets];
        let come = [self.added_sets, self.added_chains, self.added_rules, self.added_elements];
        gone.into_iter().chain(come).flatten().collect()
    }

    fn set(&mut self, name: &'a Name, actual: Option<&'a Option<Set>>, desired: Option<&'a Set>) {
        match (actual, desired) {
            (Some(Some(actual)), Some(desired)) if actual.shape() == desired.shape() => {
                self.elements(name, actual, desired);
            }
            _ => {
                if actual.is_some() {
                    self.removals.elements.push(Operation::FlushSet(name));
                    self.removals.sets.push(Operation::DeleteSet(name));
                }
                if let Some(desired) = desired {
                    self.added_sets.push(Operation::AddSet(name, desired));
                    self.add_elements(name, desired, desired.elements.iter().collect());
                }
            }
        }
    }

    fn elements(&mut self, name: &'a Name, actual: &'a Set, desired: &'a Set) {
        if let Some(differences) = self.differences.get(name) {
            return self.differing_elements(name, actual, desired, differences);
        }
        if desired.dynamic {
            return self.forget_clients(name, actual);
        }
        if desired.needs_full_rewrite() && actual.elements != desired.elements {
            self.removals.elements.push(Operation::FlushSet(name));
            return self.add_elements(name, desired, desired.elements.iter().collect());
        }
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (key, actual, desired) in merge(&actual.elements, &desired.elements) {
            if actual != desired {
                gone.extend(actual.map(|element| (key, element)));
                come.extend(desired.map(|element| (key, element)));
            }
        }
        self.replace_elements((name, actual, desired), gone, come);
    }

    fn differing_elements(
        &mut self,
        name: &'a Name,
        actual: &'a Set,
        desired: &'a Set,
        differences: &'a Differences,
    ) {
        let gone = differences.iter().filter_map(|(key, element)| Some((key, element.as_ref()?)));
        let come = differences.keys().filter_map(|key| desired.elements.get_key_value(key));
        self.replace_elements((name, actual, desired), gone.collect(), come.collect());
    }

    fn replace_elements(
        &mut self,
        (name, actual, desired): (&'a Name, &'a Set, &'a Set),
        gone: Vec<(&'a Key, &'a Element)>,
        come: Vec<(&'a Key, &'a Element)>,
    ) {
        if !gone.is_empty() {
            self.removals.elements.push(Operation::DeleteElements(name, actual, gone));
        }
        self.add_elements(name, desired, come);
    }

    /// Packets fill a dynamic set. Clients with a number that no rule looks up any more are
    /// deleted: otherwise an endpoint that returns with its rule would get back clients that it had
    /// lost.
    fn forget_clients(&mut self, name: &'a Name, actual: &'a Set) {
        if actual.elements.is_empty() {
            return;
        }
        let looked_up = self.looked_up.get_or_init(|| numbers_looked_up(self.desired));
        let is_looked_up = |value: Value| match value {
            Value::Number(number) => looked_up.contains(&(name, number)),
            _ => true,
        };
        let gone: Vec<(&Key, &Element)> =
            actual.elements.iter().filter(|(key, _)| !key.values().all(is_looked_up)).collect();
        if !gone.is_empty() {
            self.removals.elements.push(Operation::DeleteElements(name, actual, gone));
        }
    }

    fn add_elements(&mut self, name: &'a Name, set: &'a Set, come: Vec<(&'a Key, &'a Element)>) {
        if !come.is_empty() {
            self.added_elements.push(Operation::AddElements(name, set, come));
        }
    }

    fn chain(
        &mut self,
        name: &'a Name,
        actual: Option<&'a Option<ActualChain>>,
        desired: Option<&'a Chain>,
    ) {
        match (actual, desired) {
            (Some(Some(actual)), Some(desired)) if actual.base == desired.base => {
                self.rules(name, &actual.rules, &desired.rules);
            }
            _ => {
                match actual {
                    None => {}
                    Some(Some(actual)) => self.rules(name, &actual.rules, &[]),
                    Some(None) => self.removals.rules.push(Operation::FlushChain(name)),
                }
                if actual.is_some() {
                    self.removals.chains.push(Operation::DeleteChain(name));
                }
                if let Some(desired) = desired {
                    self.added_chains.push(Operation::AddChain(name, desired.base));
                    self.rules(name, &[], &desired.rules);
                }
            }
        }
    }

    /// Keeps the leading rules that are right and writes the rest again, which keeps the order
    /// without using positions.
    fn rules(&mut self, name: &'a Name, actual: &'a [ActualRule], desired: &'a [Rule]) {
        let same = actual.iter().zip(desired).take_while(|(actual, rule)| self.stays(actual, rule));
        let mut same = same.count();
        if actual.iter().skip(same).all(|rule| rule.handle.is_some()) {
            let gone = actual.iter().skip(same);
            self.removals.rules.extend(gone.map(|rule| Operation::DeleteRule(name, rule)));
        } else {
            // Without handles only the whole chain can be flushed.
            self.removals.rules.push(Operation::FlushChain(name));
            same = 0;
        }
        let come = desired.iter().skip(same).map(|rule| Operation::AddRule(name, rule));
        self.added_rules.extend(come);
    }

    /// True if a rule is right and nothing it refers to is created again.
    fn stays(&self, actual: &ActualRule, desired: &Rule) -> bool {
        let linearized = linearize(self.desired.family, &desired.statements);
        actual.comment == desired.comment
            && actual.expressions.as_ref() == Some(&linearized)
            && desired.statements.iter().filter_map(Statement::set).all(|set| self.set_stays(set))
    }

    fn set_stays(&self, name: &Name) -> bool {
        match (self.actual.sets.get(name), self.desired.sets.get(name)) {
            (Some(Some(actual)), Some(desired)) => actual.shape() == desired.shape(),
            _ => false,
        }
    }
}

/// Constant numbers that a table's rules look up in sets, each with its set. Clients of session
/// affinity with any other number are never looked up.
pub fn numbers_looked_up(table: &Table) -> HashSet<(&Name, u32)> {
    let rules = table.chains.values().flat_map(|chain| &chain.rules);
    let looked_up =
        rules.flat_map(|rule| &rule.statements).filter_map(|statement| match statement {
            Statement::Match(Condition::SetLookup { key, set }) => Some((&set.value, key)),
            _ => None,
        });
    let numbers = looked_up.flat_map(|(set, key)| {
        key.iter().filter_map(move |selector| match selector {
            Selector::Number(Number::Constant(number)) => Some((set, *number)),
            _ => None,
        })
    });
    numbers.collect()
}
