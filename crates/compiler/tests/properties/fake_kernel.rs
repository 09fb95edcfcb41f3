//! An in-memory fake of nf_tables. It accepts and refuses what the kernel accepts and refuses, and
//! can inject faults.

use std::collections::{BTreeMap, BTreeSet};

use rulegen_net::IpFamily;
use rulegen_ruleset::dataplane::{
    Dataplane, DataplaneError, Generation, RefusalReason, RefusedOperation,
};
use rulegen_ruleset::nftables::{
    Actual, ActualChain, ActualRule, ComparedTable, Data, Element, ElementsInQuestion, Expression,
    Key, Name, Operation, Set, Table, TablePart, Transaction, Verdict, linearize,
};

type KernelTables = BTreeMap<(IpFamily, Name), Actual>;

#[derive(Debug, Default)]
pub(crate) struct FakeKernel {
    pub(crate) tables: KernelTables,
    pub(crate) generation: u32,
    /// Whether a chain stays in use until the end of the transaction that deletes the last element
    /// with a jump to it, as before Linux 6.2.
    pub(crate) is_old: bool,
    /// Faults to inject, one per call, in reverse order.
    pub(crate) faults: Vec<Option<Fault>>,
    /// Sets of Services. A transaction is refused if all Services of a set would be present.
    pub(crate) refuses: Vec<BTreeSet<String>>,
    /// The reason to refuse every change, if any.
    pub(crate) refuses_all: Option<RefusalReason>,
    /// The number of reads of tables with their elements.
    pub(crate) reads: usize,
    /// The number of reads of parts of tables.
    pub(crate) partial_reads: usize,
    /// The numbers of commits and of validations (dry runs).
    pub(crate) commits: usize,
    pub(crate) rehearsals: usize,
    /// The handle of the tables.
    pub(crate) table_handle: u64,
    handle: u64,
}

/// A fault in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A dump is interrupted repeatedly. No effect on a commit.
    Interrupted,
    /// This operation of a commit fails because memory is short. No effect on a dump.
    Operation(usize),
    /// All operations of a commit fail, because the kernel does not support the change.
    Unchangeable,
    /// The request is executed, but the response is lost.
    AnswerLost,
    /// The request is lost.
    QuestionLost,
    /// Another program commits to another table before the call.
    Overtaken,
    /// Another program deletes our tables before the call.
    Flushed,
}

impl Dataplane for FakeKernel {
    fn read(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<(Generation, Vec<Option<Actual>>), DataplaneError> {
        self.reads += 1;
        match self.faults.pop().flatten() {
            Some(Fault::Interrupted) => return Err(DataplaneError::Busy { attempts: 1 }),
            Some(Fault::AnswerLost | Fault::QuestionLost) => {
                return Err(DataplaneError::Malformed("no answer".to_owned()));
            }
            Some(Fault::Flushed) => self.flush(),
            Some(Fault::Operation(_) | Fault::Unchangeable | Fault::Overtaken) | None => {}
        }
        let actual = |(family, name): &(IpFamily, &Name)| {
            self.tables.get(&(*family, (*name).clone())).cloned()
        };
        Ok((Generation(self.generation), tables.iter().map(actual).collect()))
    }

    fn compare(
        &mut self,
        desired: &[&Table],
    ) -> Result<(Generation, Vec<Option<ComparedTable>>), DataplaneError> {
        let names: Vec<(IpFamily, &Name)> =
            desired.iter().map(|table| (table.family, &table.name)).collect();
        let (generation, actual) = self.read(&names)?;
        let compared = actual.into_iter().zip(desired);
        let compared = compared.map(|(actual, desired)| Some(ComparedTable::new(actual?, desired)));
        Ok((generation, compared.collect()))
    }

    fn commit(
        &mut self,
        generation: Option<Generation>,
        transactions: &[Transaction<'_>],
    ) -> Result<(), DataplaneError> {
        self.commits += 1;
        let fault = self.faults.pop().flatten();
        match fault {
            Some(Fault::QuestionLost) => return Err(DataplaneError::Lost),
            Some(Fault::Overtaken) => self.generation += 1,
            Some(Fault::Flushed) => self.flush(),
            _ => {}
        }
        if generation.is_some_and(|known| known != Generation(self.generation)) {
            return Err(DataplaneError::Stale);
        }
        if fault == Some(Fault::Unchangeable) {
            return Err(DataplaneError::Refused(vec![refusal(
                "everything",
                false,
                RefusalReason::Unsupported,
            )]));
        }
        let failing = match fault {
            Some(Fault::Operation(number)) => Some(number),
            _ => None,
        };
        self.carry_out(transactions, failing).map_err(DataplaneError::Refused)?;
        self.generation += u32::from(!transactions.iter().all(Transaction::is_empty));
        if fault == Some(Fault::AnswerLost) { Err(DataplaneError::Lost) } else { Ok(()) }
    }

    fn validate(
        &mut self,
        generation: Generation,
        transactions: &[Transaction<'_>],
    ) -> Result<(), DataplaneError> {
        self.rehearsals += 1;
        if generation != Generation(self.generation) {
            return Err(DataplaneError::Stale);
        }
        let tables = self.tables.clone();
        let done = self.carry_out(transactions, None).map_err(DataplaneError::Refused);
        self.tables = tables;
        done
    }
}

/// The Services whose elements a transaction adds.
fn added_services(transactions: &[Transaction<'_>]) -> BTreeSet<String> {
    let operations = transactions.iter().flat_map(|transaction| &transaction.operations);
    let elements = operations.filter_map(|operation| match operation {
        Operation::AddElements(_, _, elements) => Some(elements),
        _ => None,
    });
    elements.flatten().filter_map(|(_, element)| service(element)).collect()
}

/// The Service of an element, as `namespace/name`.
fn service(element: &Element) -> Option<String> {
    let comment = element.comment.as_ref()?.as_str();
    Some(comment.split(':').next().unwrap_or_default().to_owned())
}

pub(crate) fn services(tables: &KernelTables) -> BTreeSet<String> {
    let sets = tables.values().flat_map(|actual| actual.sets.values()).flatten();
    sets.flat_map(|set| set.elements.values()).filter_map(service).collect()
}

impl FakeKernel {
    /// The part of a table in the kernel; `None` if it cannot be compared alone.
    pub(crate) fn compare_part(&self, part: &TablePart) -> Option<ComparedTable> {
        let TablePart { desired, has_chains, elements } = part;
        let mut actual = self.tables.get(&(desired.family, desired.name.clone()))?.clone();
        if !has_chains {
            actual.chains.clear();
        }
        actual.sets.retain(|name, _| desired.sets.contains_key(name));
        for (name, desired) in &desired.sets {
            let set = actual.sets.get_mut(name)?.as_mut()?;
            if set.shape() != desired.shape() {
                return None;
            }
            match elements.get(name) {
                None => set.elements.clear(),
                Some(ElementsInQuestion::Keys(keys)) => {
                    set.elements.retain(|key, _| keys.contains(key));
                }
                Some(ElementsInQuestion::All) => {}
            }
        }
        actual.foreign.is_empty().then(|| ComparedTable::new(actual, desired))
    }

    fn flush(&mut self) {
        self.tables.clear();
        self.generation += 1;
    }

    fn carry_out(
        &mut self,
        transactions: &[Transaction<'_>],
        failing: Option<usize>,
    ) -> Result<(), Vec<RefusedOperation>> {
        let mut tables = self.tables.clone();
        let mut refusals = Vec::new();
        if let Some(reason) = self.refuses_all {
            return Err(vec![refusal("everything", false, reason)]);
        }
        let all = transactions.iter().flat_map(|transaction| {
            transaction.operations.iter().map(move |operation| (transaction, operation))
        });
        for (number, (transaction, operation)) in all.enumerate() {
            let done = match failing == Some(number) {
                // Memory is short.
                true => Err(RefusalReason::Circumstances),
                false => self.operation(&mut tables, transaction, operation),
            };
            if let Err(reason) = done {
                let of_elements =
                    matches!(operation, Operation::AddElements(..) | Operation::DeleteElements(..));
                refusals.push(refusal(&format!("{operation:?}"), of_elements, reason));
            }
        }
        if !self.refuses.is_empty() {
            let (added_services, present_services) =
                (added_services(transactions), services(&tables));
            let is_refused = |set: &BTreeSet<String>| {
                set.is_subset(&present_services)
                    && set.intersection(&added_services).next().is_some()
            };
            if let Some(set) = self.refuses.iter().find(|set| is_refused(set)) {
                let operation = format!("add elements of {set:?}");
                refusals.push(refusal(&operation, true, RefusalReason::Invalid));
            }
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        self.tables = tables;
        Ok(())
    }

    fn operation(
        &mut self,
        tables: &mut KernelTables,
        transaction: &Transaction<'_>,
        operation: &Operation<'_>,
    ) -> Result<(), RefusalReason> {
        let of = (transaction.family, transaction.table.clone());
        match operation {
            Operation::AddTable(_) => {
                return absent(tables.insert(of, Actual::default()).is_some());
            }
            Operation::DeleteTable => return present(tables.remove(&of)).map(drop),
            _ => {}
        }
        let table = present(tables.get_mut(&of))?;
        match operation {
            Operation::AddTable(_) | Operation::DeleteTable => {}
            Operation::AddSet(name, set) => {
                let empty = Set { elements: BTreeMap::new(), ..(*set).clone() };
                absent(table.sets.insert((*name).clone(), Some(empty)).is_some())?;
            }
            Operation::DeleteSet(name) => {
                unused(rules(table).any(|rule| uses_set(rule, name)))?;
                present(table.sets.remove(*name))?;
            }
            Operation::AddChain(name, base) => {
                let chain = ActualChain { base: *base, rules: Vec::new() };
                absent(table.chains.insert((*name).clone(), Some(chain)).is_some())?;
            }
            Operation::DeleteChain(name) => {
                let before = self.tables.get(&of).filter(|_| self.is_old);
                unused(
                    leads_to(table, name) || before.is_some_and(|actual| maps_to(actual, name)),
                )?;
                present(table.chains.remove(*name))?;
            }
            Operation::AddRule(name, rule) => {
                let expressions = linearize(transaction.family, &rule.statements);
                for expression in &expressions {
                    check(table, expression)?;
                }
                self.handle += 1;
                let rule = ActualRule {
                    handle: Some(self.handle),
                    expressions: Some(expressions),
                    comment: rule.comment.clone(),
                };
                chain(table, name)?.rules.push(rule);
            }
            Operation::DeleteRule(name, rule) => {
                let rules = &mut chain(table, name)?.rules;
                let at = rules.iter().position(|actual| actual.handle == rule.handle);
                rules.remove(present(at)?);
            }
            Operation::FlushChain(name) => {
                present(table.chains.get(*name))?;
                if let Some(Some(chain)) = table.chains.get_mut(*name) {
                    chain.rules.clear();
                }
            }
            Operation::AddElements(name, _, elements) => {
                for (key, element) in elements {
                    if let Some(Data::Verdict(verdict)) = &element.data {
                        check(table, &Expression::Verdict(verdict.clone()))?;
                    }
                    let known = set(table, name)?;
                    absent(known.insert((*key).clone(), (*element).clone()).is_some())?;
                }
            }
            Operation::DeleteElements(name, _, elements) => {
                for (key, _) in elements {
                    present(set(table, name)?.remove(*key))?;
                }
            }
            Operation::FlushSet(name) => {
                present(table.sets.get(*name))?;
                if let Some(Some(set)) = table.sets.get_mut(*name) {
                    set.elements.clear();
                }
            }
        }
        Ok(())
    }
}

fn present<T>(found: Option<T>) -> Result<T, RefusalReason> {
    found.ok_or(RefusalReason::NotFound)
}

fn absent(exists: bool) -> Result<(), RefusalReason> {
    if exists { Err(RefusalReason::Exists) } else { Ok(()) }
}

fn unused(used: bool) -> Result<(), RefusalReason> {
    if used { Err(RefusalReason::Busy) } else { Ok(()) }
}

fn chain<'a>(table: &'a mut Actual, name: &Name) -> Result<&'a mut ActualChain, RefusalReason> {
    table.chains.get_mut(name).and_then(Option::as_mut).ok_or(RefusalReason::NotFound)
}

fn set<'a>(
    table: &'a mut Actual,
    name: &Name,
) -> Result<&'a mut BTreeMap<Key, Element>, RefusalReason> {
    let set = table.sets.get_mut(name).and_then(Option::as_mut).ok_or(RefusalReason::NotFound)?;
    Ok(&mut set.elements)
}

fn refusal(operation: &str, of_elements: bool, reason: RefusalReason) -> RefusedOperation {
    let errno = format!("{reason:?}");
    RefusedOperation { operation: operation.to_owned(), of_elements, reason, errno, message: None }
}

/// The chain or set that an expression refers to must exist.
fn check(table: &Actual, expression: &Expression) -> Result<(), RefusalReason> {
    match expression {
        Expression::Lookup { set, .. } | Expression::Dynset { set, .. } => {
            present(table.sets.get(set)).map(drop)
        }
        Expression::Verdict(verdict) => {
            chain_of(verdict).map_or(Ok(()), |chain| present(table.chains.get(chain)).map(drop))
        }
        _ => Ok(()),
    }
}

fn chain_of(verdict: &Verdict) -> Option<&Name> {
    match verdict {
        Verdict::Drop | Verdict::Return => None,
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
    }
}

fn rules(table: &Actual) -> impl Iterator<Item = &ActualRule> {
    table.chains.values().flatten().flat_map(|chain| &chain.rules)
}

fn uses_set(rule: &ActualRule, name: &Name) -> bool {
    rule.expressions.iter().flatten().any(|expression| match expression {
        Expression::Lookup { set, .. } | Expression::Dynset { set, .. } => set == name,
        _ => false,
    })
}

fn leads_to(table: &Actual, name: &Name) -> bool {
    let by_rule =
        rules(table).flat_map(|rule| rule.expressions.iter().flatten()).any(|expression| {
            match expression {
                Expression::Verdict(verdict) => chain_of(verdict) == Some(name),
                _ => false,
            }
        });
    by_rule || maps_to(table, name)
}

fn maps_to(table: &Actual, name: &Name) -> bool {
    let elements = table.sets.values().flatten().flat_map(|set| set.elements.values());
    let mut verdicts = elements.filter_map(|element| match &element.data {
        Some(Data::Verdict(verdict)) => chain_of(verdict),
        _ => None,
    });
    verdicts.any(|chain| chain == name)
}
