//! Splits a transaction that is too large for one commit.
//!
//! The kernel accepts no other change to its rules during a commit, and programs that wait for it
//! are blocked for that long. An element takes one to two microseconds.
//!
//! Three kinds of operations need not be in the commit that changes the treatment of packets:
//!
//! - a new table without elements: its rules look up empty maps;
//! - new elements that rules reach only through other elements: endpoints are looked up only after
//!   a frontend's map leads to them, and numbers of new endpoints are not generated yet;
//! - old elements of these sets, once no rule can reach them.
//!
//! The rest is the change of the frontends. If it is still too large, it is split by frontend: each
//! frontend changes atomically, but not all at the same time.

use std::collections::{BTreeMap, HashSet};

use super::set::{DataType, Set};
use super::{Element, Key, Name, Operation, Transaction};

/// Splits transactions, one per table, into commits of at most `most` elements. Each commit has a
/// transaction for each table. A change that must be atomic stays in one commit, even if it is
/// larger.
pub fn stages<'a>(transactions: &[Transaction<'a>], most: usize) -> Vec<Vec<Transaction<'a>>> {
    let most = (most / transactions.len().max(1)).max(1);
    let mut of_tables: Vec<_> =
        transactions.iter().map(|of| stages_of(of, most).into_iter()).collect();
    let count = of_tables.iter().map(ExactSizeIterator::len).max().unwrap_or_default();
    let empty = |of: &Transaction<'a>| Transaction { operations: Vec::new(), ..*of };
    let mut stage = || {
        let next = of_tables.iter_mut().zip(transactions);
        next.map(|(stages, of)| stages.next().unwrap_or_else(|| empty(of))).collect()
    };
    (0..count).map(|_| stage()).collect()
}

fn stages_of<'a>(transaction: &Transaction<'a>, most: usize) -> Vec<Transaction<'a>> {
    if transaction.elements() <= most || replaces_objects(transaction) {
        return vec![transaction.clone()];
    }
    let mut splitter = Splitter::new(transaction);
    transaction.operations.iter().for_each(|operation| splitter.take(operation));
    let stages = splitter.stages(most);
    stages.into_iter().map(|operations| Transaction { operations, ..*transaction }).collect()
}

/// True if a table or set is replaced by another of the same name, which must be atomic.
fn replaces_objects(transaction: &Transaction<'_>) -> bool {
    let replaces = |operation: &Operation<'_>| match operation {
        Operation::DeleteTable => true,
        Operation::DeleteSet(name) => transaction
            .operations
            .iter()
            .any(|other| matches!(other, Operation::AddSet(added, _) if added == name)),
        _ => false,
    };
    transaction.operations.iter().any(replaces)
}

/// Elements of a set that are deleted or added.
type ElementChanges<'a> = BTreeMap<&'a Key, ElementChange<'a>>;

#[derive(Default)]
struct ElementChange<'a> {
    gone: Option<&'a Element>,
    come: Option<&'a Element>,
}

#[derive(Default)]
struct SetChanges<'a> {
    actual: Option<&'a Set>,
    desired: Option<&'a Set>,
    elements: ElementChanges<'a>,
}

struct Splitter<'a> {
    makes_table: bool,
    /// Sets and chains created by the transaction.
    new_sets: HashSet<&'a Name>,
    new_chains: HashSet<&'a Name>,
    /// New sets, and new chains with their rules.
    made: Vec<Operation<'a>>,
    /// Element changes that may be split.
    sets: BTreeMap<&'a Name, SetChanges<'a>>,
    /// Everything else, in order.
    rest: Vec<Operation<'a>>,
}

impl<'a> Splitter<'a> {
    fn new(transaction: &Transaction<'a>) -> Self {
        let operations = || transaction.operations.iter();
        let new_set = |operation: &Operation<'a>| match operation {
            Operation::AddSet(name, _) => Some(*name),
            _ => None,
        };
        let new_chain = |operation: &Operation<'a>| match operation {
            Operation::AddChain(name, _) => Some(*name),
            _ => None,
        };
        let deleted: HashSet<&Name> = operations()
            .filter_map(|operation| match operation {
                Operation::DeleteChain(name) | Operation::DeleteSet(name) => Some(*name),
                _ => None,
            })
            .collect();
        let is_new = |name: &&Name| !deleted.contains(*name);
        Self {
            makes_table: operations().any(|of| matches!(of, Operation::AddTable(_))),
            new_sets: operations().filter_map(new_set).filter(is_new).collect(),
            new_chains: operations().filter_map(new_chain).filter(is_new).collect(),
            made: Vec::new(),
            sets: BTreeMap::new(),
            rest: Vec::new(),
        }
    }

    fn take(&mut self, operation: &Operation<'a>) {
        match operation {
            Operation::AddElements(name, set, elements) if self.may_split(name, set) => {
                let of_set = self.sets.entry(name).or_default();
                of_set.desired = Some(set);
                for (key, element) in elements {
                    of_set.elements.entry(key).or_default().come = Some(element);
                }
            }
            Operation::DeleteElements(name, set, elements) if self.may_split(name, set) => {
                let of_set = self.sets.entry(name).or_default();
                of_set.actual = Some(set);
                for (key, element) in elements {
                    of_set.elements.entry(key).or_default().gone = Some(element);
                }
            }
            Operation::AddTable(_) => self.made.push(operation.clone()),
            Operation::AddSet(name, _) if self.new_sets.contains(name) => {
                self.made.push(operation.clone());
            }
            Operation::AddChain(name, _) | Operation::AddRule(name, _)
                if self.new_chains.contains(name) =>
            {
                self.made.push(operation.clone());
            }
            _ => self.rest.push(operation.clone()),
        }
    }

    /// Intervals depend on each other. Elements of a set that is flushed or deleted stay with that
    /// operation.
    fn may_split(&self, name: &Name, set: &Set) -> bool {
        let flushed = self.rest.iter().any(|operation| match operation {
            Operation::FlushSet(of) | Operation::DeleteSet(of) => *of == name,
            _ => false,
        });
        !set.interval && !flushed
    }

    fn stages(mut self, most: usize) -> Vec<Vec<Operation<'a>>> {
        let mut stages = Vec::new();
        // A new set or chain exists before its elements, which may then come in pieces.
        if self.makes_table || !self.made.is_empty() {
            stages.push(std::mem::take(&mut self.made));
        }
        let (mut before, mut frontends, mut after) =
            (Pieces::new(most), Pieces::new(most), Pieces::new(most));
        for (name, SetChanges { actual, desired, elements }) in self.sets {
            let found_by_others = is_found_by_others(actual.or(desired));
            for (key, ElementChange { gone, come }) in elements {
                let gone = gone.and_then(|element| Some((actual?, element)));
                let come = come.and_then(|element| Some((desired?, element)));
                let pieces = match (found_by_others, gone, come) {
                    (true, None, Some(_)) => &mut before,
                    (true, Some(_), None) => &mut after,
                    _ => &mut frontends,
                };
                pieces.push(name, key, gone, come);
            }
        }
        stages.extend(before.done);
        let mut frontends = frontends.done;
        // Rules and chains go with the frontends, if these fit into one commit.
        let last = frontends.pop().unwrap_or_default();
        stages.extend(frontends);
        stages.push(in_order(last, self.rest));
        stages.extend(after.done);
        stages.retain(|stage| !stage.is_empty());
        stages
    }
}

/// True if packets reach the elements of a set only through another set, so that adding or deleting
/// a single element has no effect by itself.
fn is_found_by_others(set: Option<&Set>) -> bool {
    set.is_some_and(|set| set.data != Some(DataType::Verdict))
}

/// Deletions of rules, then elements, then deletions of chains and sets, then additions.
fn in_order<'a>(elements: Vec<Operation<'a>>, rest: Vec<Operation<'a>>) -> Vec<Operation<'a>> {
    let turn = |operation: &Operation<'a>| match operation {
        Operation::DeleteTable => 0,
        Operation::DeleteRule(..) | Operation::FlushChain(_) => 1,
        Operation::DeleteElements(..) | Operation::FlushSet(_) => 2,
        Operation::DeleteChain(_) => 3,
        Operation::DeleteSet(_) => 4,
        Operation::AddTable(_) => 5,
        Operation::AddSet(..) => 6,
        Operation::AddChain(..) => 7,
        Operation::AddRule(..) => 8,
        Operation::AddElements(..) => 9,
    };
    let mut all: Vec<Operation<'a>> = rest.into_iter().chain(elements).collect();
    all.sort_by_key(turn);
    all
}

/// Element changes as commits of at most `most` elements.
struct Pieces<'a> {
    most: usize,
    count: usize,
    done: Vec<Vec<Operation<'a>>>,
}

impl<'a> Pieces<'a> {
    fn new(most: usize) -> Self {
        Self { most, count: 0, done: Vec::new() }
    }

    /// Adds a deletion, an addition, or a replacement, which must be in one commit.
    fn push(
        &mut self,
        name: &'a Name,
        key: &'a Key,
        gone: Option<(&'a Set, &'a Element)>,
        come: Option<(&'a Set, &'a Element)>,
    ) {
        if self.done.is_empty() || self.count >= self.most {
            self.done.push(Vec::new());
            self.count = 0;
        }
        self.count += usize::from(gone.is_some()) + usize::from(come.is_some());
        let Some(piece) = self.done.last_mut() else { return };
        if let Some((set, element)) = gone {
            match piece.iter_mut().find_map(|operation| match operation {
                Operation::DeleteElements(of, _, elements) if *of == name => Some(elements),
                _ => None,
            }) {
                Some(elements) => elements.push((key, element)),
                // Deletions come first, so that the key of a replacement is free.
                None => {
                    piece.insert(0, Operation::DeleteElements(name, set, vec![(key, element)]));
                }
            }
        }
        if let Some((set, element)) = come {
            match piece.iter_mut().find_map(|operation| match operation {
                Operation::AddElements(of, _, elements) if *of == name => Some(elements),
                _ => None,
            }) {
                Some(elements) => elements.push((key, element)),
                None => piece.push(Operation::AddElements(name, set, vec![(key, element)])),
            }
        }
    }
}
