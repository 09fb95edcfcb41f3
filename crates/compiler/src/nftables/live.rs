//! A table that follows its plan service port by service port: a change costs what it changes,
//! not what there is.
//!
//! The elements of one service port do not hang on others, but for those that more than one
//! asks for (a pod behind two Services is one hairpin). Who asks for what is remembered, so
//! that with a service port those are spelled anew that share an element with it, those that
//! share one with those, and nobody else.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use rulegen_model::ServicePortName;
use rulegen_ruleset::Family;
use rulegen_ruleset::nftables::{
    Chain, Held, HeldChain, HeldRule, Name, Rule, Set, Table, Transaction, diff, lower,
};

use super::draft::{Draft, Record};
use super::{layout, service};
use crate::plan::{Plan, ServicePlan};

/// A table, and who asked for what in it. The plans of service ports are not kept: they take as
/// much memory as what is made of them, and who tells of changes has them.
pub struct LiveTable {
    /// All that is not of one service port.
    plan: Plan,
    table: Table,
    /// Who asked for each element.
    elements: Claims,
    /// How often each chain was asked for.
    chains: HashMap<Name, usize>,
    /// What each service port asked for, by its number.
    records: HashMap<u32, Record>,
    numbers: Numbers,
}

/// What becomes of a service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUpdate {
    /// Which.
    pub name: ServicePortName,
    /// Its plan as the table has it; none if it is new.
    pub before: Option<ServicePlan>,
    /// Its plan from now on; none if it is gone.
    pub after: Option<ServicePlan>,
}

/// The part of a table that a change is about, as it was and as it shall be. Clients that
/// packets put into sets of service ports with affinity are in neither, and so stay: where an
/// endpoint goes, they are to be put into [`Patch::client_sets`] first.
pub struct Patch {
    held: Held,
    wanted: Table,
}

impl Patch {
    /// Whose table it is.
    pub fn family(&self) -> Family {
        self.wanted.family
    }

    /// Sets of the service ports that change which packets fill, as they are held but for the
    /// clients in them. Those that an endpoint loses are deleted if they are put in.
    pub fn client_sets(&mut self) -> impl Iterator<Item = (&Name, &mut Set)> {
        let sets = self.held.sets.iter_mut();
        let sets = sets.filter_map(|(name, set)| Some((name, set.as_mut()?)));
        sets.filter(|(_, set)| set.timeout.is_some())
    }

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
            elements: Claims::default(),
            chains: HashMap::new(),
            records: HashMap::new(),
            numbers: Numbers::default(),
        };
        let mut draft = Draft::recording(live.table.clone());
        for service in services {
            service::spell(&live.plan, &service, &mut draft);
            live.claim(&service.name, draft.take_record());
        }
        live.table = draft.table;
        live
    }

    /// The whole table as it shall be.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Takes changes of service ports in, and says what they change in the table. The plans of
    /// other service ports are asked for where they share an element with one that changes.
    pub fn update(
        &mut self,
        changes: impl IntoIterator<Item = ServiceUpdate>,
        others: impl Fn(&ServicePortName) -> Option<ServicePlan>,
    ) -> Patch {
        let changes = changes.into_iter().map(|change| (change.name.clone(), change));
        let changes: BTreeMap<ServicePortName, ServiceUpdate> = changes.collect();
        let with_plan = |name: ServicePortName| {
            let plan = if changes.contains_key(&name) { None } else { others(&name) };
            (name, plan)
        };
        let touched: BTreeMap<ServicePortName, Option<ServicePlan>> =
            self.touched_by(&changes).into_iter().map(with_plan).collect();
        let plans = |of: fn(&ServiceUpdate) -> &Option<ServicePlan>| {
            let plan = |(name, other)| changes.get(name).map_or(other, of).as_ref();
            touched.iter().filter_map(plan).collect::<Vec<&ServicePlan>>()
        };
        let (mut before, _) = self.spell(plans(|change| &change.before).into_iter());
        let (mut after, records) = self.spell(plans(|change| &change.after).into_iter());

        let chains = after.chains.keys().filter(|name| self.chains.contains_key(*name));
        let there_before: BTreeSet<Name> = chains.cloned().collect();
        touched.keys().for_each(|name| self.release(name));
        records.into_iter().for_each(|(name, record)| self.claim(&name, record));
        for change in changes.values().filter(|change| change.after.is_none()) {
            self.numbers.free(&change.name);
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
        changes: &BTreeMap<ServicePortName, ServiceUpdate>,
    ) -> BTreeSet<ServicePortName> {
        let mut touched: BTreeSet<ServicePortName> = changes.keys().cloned().collect();
        let (_, records) = self.spell(changes.values().filter_map(|change| change.after.as_ref()));
        let mut asked: Vec<u64> =
            records.into_iter().flat_map(|(_, record)| record.elements).collect();
        let old = changes.keys().filter_map(|name| self.numbers.known(name));
        asked.extend(old.flat_map(|number| self.elements_of(number)));
        while let Some(element) = asked.pop() {
            for number in self.elements.of(element) {
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
        record.elements.iter().for_each(|element| self.elements.add(*element, number));
        for chain in &record.chains {
            *self.chains.entry(chain.clone()).or_default() += 1;
        }
        self.records.insert(number, record);
    }

    fn release(&mut self, name: &ServicePortName) {
        let number = self.numbers.of(name);
        let record = self.records.remove(&number).unwrap_or_default();
        record.elements.iter().for_each(|element| self.elements.remove(*element, number));
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

/// Who asked for each element, as often as he did: one with two ports asks twice for his cluster
/// IP. It is one, nearly always.
#[derive(Debug, Default)]
struct Claims {
    first: HashMap<u64, u32, Hashed>,
    others: HashMap<u64, Vec<u32>, Hashed>,
}

/// The keys are hashes already.
type Hashed = BuildHasherDefault<AsItIs>;

#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Claims {
    fn of(&self, element: u64) -> impl Iterator<Item = u32> {
        let others = self.others.get(&element).into_iter().flatten();
        self.first.get(&element).into_iter().chain(others).copied()
    }

    fn add(&mut self, element: u64, number: u32) {
        match self.first.entry(element) {
            Entry::Vacant(free) => {
                free.insert(number);
            }
            Entry::Occupied(_) => self.others.entry(element).or_default().push(number),
        }
    }

    fn remove(&mut self, element: u64, number: u32) {
        let mut others = self.others.remove(&element).unwrap_or_default();
        if self.first.get(&element) != Some(&number) {
            if let Some(at) = others.iter().position(|other| *other == number) {
                others.swap_remove(at);
            }
        } else if let Some(next) = others.pop() {
            self.first.insert(element, next);
        } else {
            self.first.remove(&element);
        }
        if !others.is_empty() {
            self.others.insert(element, others);
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
