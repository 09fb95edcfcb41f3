//! The smallest transaction from the kernel's table to the wanted one.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};

use super::linearize::linearize;
use super::merge::merge;
use super::{
    Actual, ActualChain, ActualRule, Chain, Condition, Element, Key, Name, Number, Operation, Rule,
    Selector, Set, Statement, Table, Transaction, Value,
};

/// The transaction after which the kernel has the wanted table and nothing else under its name. A
/// table with a part that can only be removed with the whole is replaced; packets never see a state
/// in between.
pub fn diff<'a>(held: Option<&'a Actual>, wanted: &'a Table) -> Transaction<'a> {
    let operations = match held {
        None => fresh(wanted),
        Some(held) if held.foreign.is_empty() => Differ::new(held, wanted).operations(),
        Some(_) => return replacement(wanted),
    };
    Transaction { family: wanted.family, table: &wanted.name, operations }
}

/// Replaces an existing table, whatever it contains.
pub fn replacement(wanted: &Table) -> Transaction<'_> {
    let operations = [Operation::DeleteTable].into_iter().chain(fresh(wanted)).collect();
    Transaction { family: wanted.family, table: &wanted.name, operations }
}

fn fresh(wanted: &Table) -> Vec<Operation<'_>> {
    static NOTHING: Actual =
        Actual { foreign: Vec::new(), sets: BTreeMap::new(), chains: BTreeMap::new() };
    let all = Differ::new(&NOTHING, wanted).operations();
    [Operation::AddTable(wanted)].into_iter().chain(all).collect()
}

struct Differ<'a> {
    held: &'a Actual,
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
    fn new(held: &'a Actual, wanted: &'a Table) -> Self {
        Self {
            held,
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
        for (name, held, wanted) in merge(&self.held.sets, &self.wanted.sets) {
            self.set(name, held, wanted);
        }
        for (name, held, wanted) in merge(&self.held.chains, &self.wanted.chains) {
            self.chain(name, held, wanted);
        }
        let Removals { rules, elements, chains, sets } = self.removals;
        let gone = [rules, elements, chains, sets];
        let come = [self.added_sets, self.added_chains, self.added_rules, self.added_elements];
        gone.into_iter().chain(come).flatten().collect()
    }

    fn set(&mut self, name: &'a Name, held: Option<&'a Option<Set>>, wanted: Option<&'a Set>) {
        match (held, wanted) {
            (Some(Some(held)), Some(wanted)) if held.shape() == wanted.shape() => {
                self.elements(name, held, wanted);
            }
            _ => {
                if held.is_some() {
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

    fn elements(&mut self, name: &'a Name, held: &'a Set, wanted: &'a Set) {
        if wanted.dynamic {
            return self.forget_clients(name, held);
        }
        if wanted.needs_full_rewrite() && held.elements != wanted.elements {
            self.removals.elements.push(Operation::FlushSet(name));
            return self.add_elements(name, wanted, wanted.elements.iter().collect());
        }
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (key, held, wanted) in merge(&held.elements, &wanted.elements) {
            if held != wanted {
                gone.extend(held.map(|element| (key, element)));
                come.extend(wanted.map(|element| (key, element)));
            }
        }
        if !gone.is_empty() {
            self.removals.elements.push(Operation::DeleteElements(name, held, gone));
        }
        self.add_elements(name, wanted, come);
    }

    /// Packets fill a dynamic set. Clients with a number that no rule looks up any more are
    /// deleted: otherwise an endpoint that returns with its rule would get back clients that it had
    /// lost.
    fn forget_clients(&mut self, name: &'a Name, held: &'a Set) {
        if held.elements.is_empty() {
            return;
        }
        let looked_up = self.looked_up.get_or_init(|| numbers_looked_up(self.wanted));
        let is_looked_up = |value: Value| match value {
            Value::Number(number) => looked_up.contains(&(name, number)),
            _ => true,
        };
        let gone: Vec<(&Key, &Element)> =
            held.elements.iter().filter(|(key, _)| !key.values().all(is_looked_up)).collect();
        if !gone.is_empty() {
            self.removals.elements.push(Operation::DeleteElements(name, held, gone));
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
        held: Option<&'a Option<ActualChain>>,
        wanted: Option<&'a Chain>,
    ) {
        match (held, wanted) {
            (Some(Some(held)), Some(wanted)) if held.base == wanted.base => {
                self.rules(name, &held.rules, &wanted.rules);
            }
            _ => {
                match held {
                    None => {}
                    Some(Some(held)) => self.rules(name, &held.rules, &[]),
                    Some(None) => self.removals.rules.push(Operation::FlushChain(name)),
                }
                if held.is_some() {
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
    fn rules(&mut self, name: &'a Name, held: &'a [ActualRule], wanted: &'a [Rule]) {
        let same = held.iter().zip(wanted).take_while(|(held, rule)| self.stays(held, rule));
        let mut same = same.count();
        if held.iter().skip(same).all(|rule| rule.handle.is_some()) {
            let gone = held.iter().skip(same);
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
    fn stays(&self, held: &ActualRule, wanted: &Rule) -> bool {
        let linearized = linearize(self.wanted.family, &wanted.statements);
        held.comment == wanted.comment
            && held.expressions.as_ref() == Some(&linearized)
            && wanted.statements.iter().filter_map(set_of).all(|set| self.set_stays(set))
    }

    fn set_stays(&self, name: &Name) -> bool {
        match (self.held.sets.get(name), self.wanted.sets.get(name)) {
            (Some(Some(held)), Some(wanted)) => held.shape() == wanted.shape(),
            _ => false,
        }
    }
}

fn set_of(statement: &Statement) -> Option<&Name> {
    match statement {
        Statement::Match(Condition::SetLookup { set, .. }) => Some(&set.value),
        Statement::Update { set, .. } => Some(set),
        Statement::VerdictMap { map, .. } | Statement::DnatMap { map, .. } => Some(map),
        _ => None,
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
