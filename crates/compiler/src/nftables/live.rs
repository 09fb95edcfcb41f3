//! A table that follows its plan service port by service port: a change costs what it changes,
//! not what there is.
//!
//! The elements of one service port do not hang on others, but for those that more than one
//! asks for (a pod behind two Services is one hairpin). Who asks for what is remembered, so
//! that with a service port those are spelled anew that share an element with it, those that
//! share one with those, and nobody else.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use rulegen_model::ServicePortName;
use rulegen_ruleset::nftables::{
    Chain, Held, HeldChain, HeldRule, Name, Rule, Table, Transaction, diff, lower,
};

use super::draft::{Draft, Record};
use super::{layout, service};
use crate::plan::{Plan, ServicePlan};

/// A plan, the table that carries it out, and who asked for what.
pub struct LiveTable {
    plan: Plan,
    services: BTreeMap<ServicePortName, ServicePlan>,
    table: Table,
    /// Who asked for each element.
    elements: HashMap<u64, Claim>,
    /// How often each chain was asked for.
    chains: HashMap<Name, usize>,
    /// What each service port asked for, by its number.
    records: HashMap<u32, Record>,
    numbers: Numbers,
}

/// The part of a table that a change is about, as it was and as it shall be. Clients that
/// packets put into sets of service ports with affinity are in neither: those of an endpoint that
/// goes stay until their time is over, unless who commits it reads and diffs the whole table.
pub struct Patch {
    held: Held,
    wanted: Table,
}

impl Patch {
    /// What makes the one of the other, in a kernel that holds the table as it was.
    pub fn transaction(&self) -> Transaction<'_> {
        diff(Some(&self.held), &self.wanted)
    }
}

impl LiveTable {
    /// The table of a plan.
    pub fn new(mut plan: Plan, name: &Name) -> Self {
        let services = std::mem::take(&mut plan.services);
        let mut live = Self {
            table: super::empty(&plan, name),
            plan,
            services: BTreeMap::new(),
            elements: HashMap::new(),
            chains: HashMap::new(),
            records: HashMap::new(),
            numbers: Numbers::default(),
        };
        let mut draft = Draft::recording(live.table.clone());
        for service in services {
            service::spell(&live.plan, &service, &mut draft);
            live.claim(&service.name, draft.take_record());
            live.services.insert(service.name.clone(), service);
        }
        live.table = draft.table;
        live
    }

    /// The whole table as it shall be.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Takes service ports in, or away where there is `None`, and says what that changes.
    pub fn update(
        &mut self,
        changes: impl IntoIterator<Item = (ServicePortName, Option<ServicePlan>)>,
    ) -> Patch {
        let changes: BTreeMap<ServicePortName, Option<ServicePlan>> = changes.into_iter().collect();
        let touched = self.touched_by(&changes);
        let (mut before, _) = self.spell(touched.iter().filter_map(|name| self.services.get(name)));
        let later = touched.iter().filter_map(|name| match changes.get(name) {
            Some(service) => service.as_ref(),
            None => self.services.get(name),
        });
        let (mut after, records) = self.spell(later);

        let chains = after.chains.keys().filter(|name| self.chains.contains_key(*name));
        let there_before: BTreeSet<Name> = chains.cloned().collect();
        touched.iter().for_each(|name| self.release(name));
        records.into_iter().for_each(|(name, record)| self.claim(&name, record));
        for (name, service) in changes {
            match service {
                Some(service) => self.services.insert(name, service),
                None => {
                    self.numbers.free(&name);
                    self.services.remove(&name)
                }
            };
        }
        keep_shared(&mut before.chains, &after.chains, |name| there_before.contains(name));
        keep_shared(&mut after.chains, &before.chains, |name| self.chains.contains_key(name));
        self.table.replace(&before, &after);
        Patch { held: held(before), wanted: after }
    }

    /// The service ports that change, all that share an element with one of them, all that share
    /// one with those, and so on: spelled alone they get what they get in the whole.
    fn touched_by(
        &self,
        changes: &BTreeMap<ServicePortName, Option<ServicePlan>>,
    ) -> BTreeSet<ServicePortName> {
        let mut touched: BTreeSet<ServicePortName> = changes.keys().cloned().collect();
        let (_, records) = self.spell(changes.values().flatten());
        let mut asked: Vec<u64> =
            records.into_iter().flat_map(|(_, record)| record.elements).collect();
        let old = changes.keys().filter_map(|name| self.numbers.known(name));
        asked.extend(old.flat_map(|number| self.elements_of(number)));
        while let Some(element) = asked.pop() {
            for number in self.elements.get(&element).into_iter().flat_map(Claim::numbers) {
                if let Some(name) = self.numbers.name(number)
                    && !touched.contains(name)
                {
                    touched.insert(name.clone());
                    asked.extend(self.elements_of(number));
                }
            }
        }
        touched
    }

    fn elements_of(&self, number: u32) -> impl Iterator<Item = u64> {
        self.records.get(&number).into_iter().flat_map(|record| record.elements.iter().copied())
    }

    /// Service ports alone in a table, with what each asked for.
    fn spell<'a>(
        &self,
        services: impl Iterator<Item = &'a ServicePlan>,
    ) -> (Table, Vec<(ServicePortName, Record)>) {
        let sets = layout::sets(&self.plan);
        let mut draft = Draft::recording(Table { sets, ..self.table.without_content() });
        let records = services.map(|service| {
            service::spell(&self.plan, service, &mut draft);
            (service.name.clone(), draft.take_record())
        });
        let records = records.collect();
        (draft.table, records)
    }

    fn claim(&mut self, name: &ServicePortName, record: Record) {
        let number = self.numbers.of(name);
        for element in &record.elements {
            self.elements.entry(*element).or_default().add(number);
        }
        for chain in &record.chains {
            *self.chains.entry(chain.clone()).or_default() += 1;
        }
        self.records.insert(number, record);
    }

    fn release(&mut self, name: &ServicePortName) {
        let number = self.numbers.of(name);
        let record = self.records.remove(&number).unwrap_or_default();
        for element in record.elements {
            if let Entry::Occupied(mut claim) = self.elements.entry(element) {
                claim.get_mut().remove(number);
                if claim.get().is_empty() {
                    claim.remove();
                }
            }
        }
        for chain in record.chains {
            if let Entry::Occupied(mut count) = self.chains.entry(chain) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

/// Adds the chains that others still ask for, so that they seem neither to come nor to go.
fn keep_shared(
    chains: &mut BTreeMap<Name, Chain>,
    other: &BTreeMap<Name, Chain>,
    is_there: impl Fn(&Name) -> bool,
) {
    for (name, chain) in other {
        if is_there(name) {
            chains.entry(name.clone()).or_insert_with(|| chain.clone());
        }
    }
}

/// What the kernel holds of a table that was committed.
fn held(table: Table) -> Held {
    let rule = |rule: Rule| HeldRule {
        handle: None,
        expressions: Some(lower(table.family, &rule.statements)),
        comment: rule.comment,
    };
    let chain = |chain: Chain| HeldChain {
        base: chain.base,
        rules: chain.rules.into_iter().map(rule).collect(),
    };
    Held {
        foreign: Vec::new(),
        sets: table.sets.into_iter().map(|(name, set)| (name, Some(set))).collect(),
        chains: table.chains.into_iter().map(|(name, held)| (name, Some(chain(held)))).collect(),
    }
}

/// Who asked for an element: one, nearly always.
#[derive(Debug, Default)]
enum Claim {
    #[default]
    None,
    One(u32),
    Many(Vec<u32>),
}

impl Claim {
    fn numbers(&self) -> impl Iterator<Item = u32> {
        let (one, many): (Option<u32>, &[u32]) = match self {
            Claim::None => (None, &[]),
            Claim::One(number) => (Some(*number), &[]),
            Claim::Many(numbers) => (None, numbers),
        };
        one.into_iter().chain(many.iter().copied())
    }

    fn is_empty(&self) -> bool {
        self.numbers().next().is_none()
    }

    /// As often as it is asked for: one with two ports asks twice for its cluster IP.
    fn add(&mut self, number: u32) {
        match self {
            Claim::None => *self = Claim::One(number),
            Claim::One(other) => *self = Claim::Many(vec![*other, number]),
            Claim::Many(numbers) => numbers.push(number),
        }
    }

    fn remove(&mut self, number: u32) {
        match self {
            Claim::One(other) if *other == number => *self = Claim::None,
            Claim::None | Claim::One(_) => {}
            Claim::Many(numbers) => {
                if let Some(at) = numbers.iter().position(|other| *other == number) {
                    numbers.swap_remove(at);
                }
            }
        }
    }
}

/// Short names for service ports.
#[derive(Debug, Default)]
struct Numbers {
    numbers: HashMap<ServicePortName, u32>,
    names: Vec<Option<ServicePortName>>,
    free: Vec<u32>,
}

impl Numbers {
    fn of(&mut self, name: &ServicePortName) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.names.push(None);
            u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX)
        });
        self.numbers.insert(name.clone(), number);
        if let Some(free) = self.slot(number) {
            *free = Some(name.clone());
        }
        number
    }

    fn known(&self, name: &ServicePortName) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// A service port that asks for nothing any more.
    fn free(&mut self, name: &ServicePortName) {
        if let Some(number) = self.numbers.remove(name) {
            self.free.push(number);
            if let Some(slot) = self.slot(number) {
                *slot = None;
            }
        }
    }

    fn name(&self, number: u32) -> Option<&ServicePortName> {
        self.names.get(usize::try_from(number).ok()?)?.as_ref()
    }

    fn slot(&mut self, number: u32) -> Option<&mut Option<ServicePortName>> {
        self.names.get_mut(usize::try_from(number).ok()?)
    }
}
