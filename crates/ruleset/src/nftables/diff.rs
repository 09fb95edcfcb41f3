//! The smallest transaction from the kernel's table to the wanted one.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};

use super::linearize::linearize;
use super::merge::merge;
use super::{
    Actual, ActualChain, ActualRule, Chain, ComparedTable, Condition, Differences, Element, Key,
    Name, Number, Operation, Rule, Selector, Set, Statement, Table, Transaction, Value,
};

/// The transaction after which the kernel has the wanted table and nothing else under its name. A
/// table with a part that can only be removed with the whole is replaced; packets never see a state
/// in between.
pub fn diff<'a>(actual: Option<&'a Actual>, wanted: &'a Table) -> Transaction<'a> {
    let operations = match actual {
        None => fresh(wanted),
        Some(actual) if actual.foreign.is_empty() => {
            Differ::new(actual, &NOTHING.differences, wanted).operations()
        }
        Some(_) => return replacement(wanted),
    };
    Transaction { family: wanted.family, table: &wanted.name, operations }
}

/// Like [`diff`], with a table whose elements are compared already.
pub fn diff_compared<'a>(
    compared: Option<&'a ComparedTable>,
    wanted: &'a Table,
) -> Transaction<'a> {
    match compared {
        Some(ComparedTable { actual, differences }) if actual.foreign.is_empty() => Transaction {
            family: wanted.family,
            table: &wanted.name,
            operations: Differ::new(actual, differences, wanted).operations(),
        },
        compared => diff(compared.map(|compared| &compared.actual), wanted),
    }
}

/// An empty table.
static NOTHING: ComparedTable = ComparedTable {
    actual: Actual { foreign: Vec::new(), sets: BTreeMap::new(), chains: BTreeMap::new() },
    differences: BTreeMap::new(),
};

/// Replaces an existing table, whatever it contains.
pub fn replacement(wanted: &Table) -> Transaction<'_> {
    let operations = [Operation::DeleteTable].into_iter().chain(fresh(wanted)).collect();
    Transaction { family: wanted.family, table: &wanted.name, operations }
}

fn fresh(wanted: &Table) -> Vec<Operation<'_>> {
    let all = Differ::new(&NOTHING.actual, &NOTHING.differences, wanted).operations();
    [Operation::AddTable(wanted)].into_iter().chain(all).collect()
}

struct Differ<'a> {
    actual: &'a Actual,
    differences: &'a BTreeMap<Name, Differences>,
    wanted: &'a Table,
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
        wanted: &'a Table,
    ) -> Self {
        Self {
            actual,
            differences,
            wanted,
            looked_up: OnceCell::new(),
            removals: Removals::default(),
            added_sets: Vec::new(),
            added_chains: Vec::new(),
            added_rules: Vec::new(),
            added_elements: Vec::new(),
        }
    }

    fn operations(mut self) -> Vec<Operation<'a>> {
        for (name, actual, wanted) in merge(&self.actual.sets, &self.wanted.sets) {
            self.set(name, actual, wanted);
        }
        for (name, actual, wanted) in merge(&self.actual.chains, &self.wanted.chains) {
            self.chain(name, actual, wanted);
        }
        let Removals { rules, elements, chains, sets } = self.removals;
        let gone = [rules, elements, chains, sets];
        let come = [self.added_sets, self.added_chains, self.added_rules, self.added_elements];
        gone.into_iter().chain(come).flatten().collect()
    }

    fn set(&mut self, name: &'a Name, actual: Option<&'a Option<Set>>, wanted: Option<&'a Set>) {
        match (actual, wanted) {
            (Some(Some(actual)), Some(wanted)) if actual.shape() == wanted.shape() => {
                self.elements(name, actual, wanted);
            }
            _ => {
                if actual.is_some() {
                    self.removals.elements.push(Operation::FlushSet(name));
                    self.removals.sets.push(Operation::DeleteSet(name));
                }
                if let Some(wanted) = wanted {
                    self.added_sets.push(Operation::AddSet(name, wanted));
                    self.add_elements(name, wanted, wanted.elements.iter().collect());
                }
            }
        }
    }

    fn elements(&mut self, name: &'a Name, actual: &'a Set, wanted: &'a Set) {
        if let Some(differences) = self.differences.get(name) {
            return self.differing_elements(name, actual, wanted, differences);
        }
        if wanted.dynamic {
            return self.forget_clients(name, actual);
        }
        if wanted.needs_full_rewrite() && actual.elements != wanted.elements {
            self.removals.elements.push(Operation::FlushSet(name));
            return self.add_elements(name, wanted, wanted.elements.iter().collect());
        }
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (key, actual, wanted) in merge(&actual.elements, &wanted.elements) {
            if actual != wanted {
                gone.extend(actual.map(|element| (key, element)));
                come.extend(wanted.map(|element| (key, element)));
            }
        }
        self.replace_elements((name, actual, wanted), gone, come);
    }

    fn differing_elements(
        &mut self,
        name: &'a Name,
        actual: &'a Set,
        wanted: &'a Set,
        differences: &'a Differences,
    ) {
        let gone = differences.iter().filter_map(|(key, element)| Some((key, element.as_ref()?)));
        let come = differences.keys().filter_map(|key| wanted.elements.get_key_value(key));
        self.replace_elements((name, actual, wanted), gone.collect(), come.collect());
    }

    fn replace_elements(
        &mut self,
        (name, actual, wanted): (&'a Name, &'a Set, &'a Set),
        gone: Vec<(&'a Key, &'a Element)>,
        come: Vec<(&'a Key, &'a Element)>,
    ) {
        if !gone.is_empty() {
            self.removals.elements.push(Operation::DeleteElements(name, actual, gone));
        }
        self.add_elements(name, wanted, come);
    }

    /// Packets fill a dynamic set. Clients with a number that no rule looks up any more are
    /// deleted: otherwise an endpoint that returns with its rule would get back clients that it had
    /// lost.
    fn forget_clients(&mut self, name: &'a Name, actual: &'a Set) {
        if actual.elements.is_empty() {
            return;
        }
        let looked_up = self.looked_up.get_or_init(|| numbers_looked_up(self.wanted));
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
        wanted: Option<&'a Chain>,
    ) {
        match (actual, wanted) {
            (Some(Some(actual)), Some(wanted)) if actual.base == wanted.base => {
                self.rules(name, &actual.rules, &wanted.rules);
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
                if let Some(wanted) = wanted {
                    self.added_chains.push(Operation::AddChain(name, wanted.base));
                    self.rules(name, &[], &wanted.rules);
                }
            }
        }
    }

    /// Keeps the leading rules that are right and writes the rest again, which keeps the order
    /// without using positions.
    fn rules(&mut self, name: &'a Name, actual: &'a [ActualRule], wanted: &'a [Rule]) {
        let same = actual.iter().zip(wanted).take_while(|(actual, rule)| self.stays(actual, rule));
        let mut same = same.count();
        if actual.iter().skip(same).all(|rule| rule.handle.is_some()) {
            let gone = actual.iter().skip(same);
            self.removals.rules.extend(gone.map(|rule| Operation::DeleteRule(name, rule)));
        } else {
            // Without handles only the whole chain can be flushed.
            self.removals.rules.push(Operation::FlushChain(name));
            same = 0;
        }
        let come = wanted.iter().skip(same).map(|rule| Operation::AddRule(name, rule));
        self.added_rules.extend(come);
    }

    /// True if a rule is right and nothing it refers to is created again.
    fn stays(&self, actual: &ActualRule, wanted: &Rule) -> bool {
        let linearized = linearize(self.wanted.family, &wanted.statements);
        actual.comment == wanted.comment
            && actual.expressions.as_ref() == Some(&linearized)
            && wanted.statements.iter().filter_map(Statement::set).all(|set| self.set_stays(set))
    }

    fn set_stays(&self, name: &Name) -> bool {
        match (self.actual.sets.get(name), self.wanted.sets.get(name)) {
            (Some(Some(actual)), Some(wanted)) => actual.shape() == wanted.shape(),
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
