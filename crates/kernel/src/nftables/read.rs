//! Reads tables at one generation of the ruleset.

use std::collections::{BTreeMap, BTreeSet};

use nftnl::nftnl_sys::libc;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{
    Actual, ActualRule, ComparedTable, Differences, ElementComparison, ElementsInQuestion, Key,
    KeyOrigin, LikelyKeys, Name, Rule, Set, Statement, Table, TablePart, likely_keys, run,
};

use super::by_key::{ElementRequest, KeyAnswer, Requested};
use super::raw::{Aligned, Owned};
use super::rule::RawRule;
use super::set::{RawSet, SetKind};
use super::socket::NfTablesSocket;
use super::table::RawTable;
use super::{
    Counted, DataplaneError, Generation, attribute, chain, element, family, rule, set, table,
};
use crate::netlink::Dumped;

/// Every object has its table in its first attribute (NFTA_*_TABLE).
const TABLE: u16 = 1;
/// Every object except a rule has its name in this attribute (NFTA_OBJ_NAME, NFTA_FLOWTABLE_NAME).
const NAME: u16 = 2;

/// NFT_MSG_GETFLOWTABLE of linux/netfilter/nf_tables.h.
const GET_FLOWTABLE: i32 = 23;

/// Reads the generation of the ruleset, which every commit increases.
pub(super) fn generation(socket: &mut NfTablesSocket) -> Result<Generation, DataplaneError> {
    // NFTA_GEN_ID.
    const ID: u16 = 1;
    let mut generation = None;
    socket.ask(
        libc::NFT_MSG_GETGEN,
        0,
        false,
        |_| {},
        |message| {
            generation = attribute::be32(message, ID);
        },
    )?;
    generation
        .map(Generation)
        .ok_or_else(|| DataplaneError::Malformed("no generation ID in the answer".to_owned()))
}

/// True if the table exists.
pub(super) fn exists(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    name: &Name,
) -> Result<bool, DataplaneError> {
    Ok(find(socket, of, name)?.is_some())
}

/// True if the table exists and is dormant.
pub(super) fn is_dormant(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    name: &Name,
) -> Result<bool, DataplaneError> {
    Ok(find(socket, of, name)?.is_some_and(|table| table::is_dormant(&table)))
}

/// The kernel's handle of a table; `None` if it does not exist.
pub(super) fn table_handle(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    name: &Name,
) -> Result<Option<u64>, DataplaneError> {
    Ok(find(socket, of, name)?.and_then(|table| table::handle(&table)))
}

fn find(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    name: &Name,
) -> Result<Option<RawTable>, DataplaneError> {
    let mut found = None;
    let named = table::named(of, name);
    let number = family::number(of);
    socket.ask(
        libc::NFT_MSG_GETTABLE,
        number,
        false,
        |header| named.build(header),
        |message| {
            found = Aligned::new(message).and_then(|message| Owned::parse(&message));
        },
    )?;
    Ok(found)
}

/// Whose table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableOwner {
    /// Rulegen's: sets that it does not make are not decoded, and those of rules are left out.
    Rulegen,
    /// Another program's: all sets are decoded, also those of rules (`{ 0 : goto … }`).
    Other,
}

/// Reads a table. `Ok(None)` if it does not exist; an error if the ruleset changed during the read.
pub(super) fn table(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    name: &Name,
    owner: TableOwner,
) -> Result<Option<Actual>, Interrupted> {
    let Some(mut reader) = TableReader::of(socket, of, name)? else { return Ok(None) };
    reader.sets(owner)?;
    Ok(Some(reader.actual))
}

/// Reads a table to compare it with a desired one. `Ok(None)` if it does not exist; an error if the
/// ruleset changed during the read.
pub(super) fn compared(
    socket: &mut NfTablesSocket,
    desired: &Table,
    reads_counts: bool,
) -> Result<Option<ComparedTable>, Interrupted> {
    let reader = TableReader::of(socket, desired.family, &desired.name)?;
    let Some(mut reader) = reader else { return Ok(None) };
    let differences = reader.differences(desired, reads_counts)?;
    Ok(Some(ComparedTable { actual: reader.actual, differences }))
}

/// Reads a part of a table to compare it. `Ok(None)` if the part cannot be compared alone: the table
/// or a set is missing, is another, or has a foreign element.
pub(super) fn part(
    socket: &mut NfTablesSocket,
    part: &TablePart,
) -> Result<Option<ComparedTable>, Interrupted> {
    let TablePart { desired, has_chains, elements } = part;
    let Some(found) = find(socket, desired.family, &desired.name)? else { return Ok(None) };
    let actual = Actual { foreign: table::foreign(&found), ..Actual::default() };
    let mut reader = TableReader { socket, family: desired.family, table: &desired.name, actual };
    if *has_chains {
        reader.chains()?;
        reader.rules()?;
    }
    let EmptySets { mut sets, .. } = reader.empty_sets(TableOwner::Rulegen)?;
    let mut differences = BTreeMap::new();
    for (name, desired) in &desired.sets {
        let Some(Some(mut set)) = sets.remove(name) else { return Ok(None) };
        if set.shape() != desired.shape() {
            return Ok(None);
        }
        match elements.get(name) {
            None => drop(differences.insert(name.clone(), Differences::new())),
            Some(ElementsInQuestion::All) => {
                if !reader.elements(name, &mut set)? {
                    return Ok(None);
                }
            }
            Some(ElementsInQuestion::Keys(keys)) => {
                let Some(found) = reader.compare_keys((name, desired), keys)? else {
                    return Ok(None);
                };
                differences.insert(name.clone(), found);
            }
        }
        reader.actual.sets.insert(name.clone(), Some(set));
    }
    let is_ours = reader.actual.foreign.is_empty();
    Ok(is_ours.then_some(ComparedTable { actual: reader.actual, differences }))
}

/// Reads one set of a table. `Ok(None)` if it does not exist, or rulegen does not make such sets.
pub(super) fn set(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    table: &Name,
    name: &Name,
) -> Result<Option<Set>, Interrupted> {
    if !exists(socket, of, table)? {
        return Ok(None);
    }
    let mut reader = TableReader { socket, family: of, table, actual: Actual::default() };
    let EmptySets { mut sets, .. } = reader.empty_sets(TableOwner::Rulegen)?;
    let Some(Some(mut set)) = sets.remove(name) else { return Ok(None) };
    Ok(reader.elements(name, &mut set)?.then_some(set))
}

/// Reads the counters of the elements and rules of a table.
pub(super) fn counted(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    table: &Name,
    each: &mut impl FnMut(Counted),
) -> Result<(), Interrupted> {
    let mut reader = TableReader { socket, family: of, table, actual: Actual::default() };
    let mut sets: Vec<(Name, Set)> = Vec::new();
    let of_table = set::of_table(of, table);
    reader.dump(
        libc::NFT_MSG_GETSET,
        |header| of_table.build(header),
        |message| {
            let read = Owned::parse(message).and_then(|raw| set::decode(of, &raw));
            sets.extend(read.and_then(|(name, set)| Some((name, set?))));
        },
    )?;
    for (name, set) in sets.into_iter().filter(|(_, set)| set.counter) {
        let elements = element::ElementDecoder::new(of, &set);
        let of_set = set::named(of, table, &name);
        reader.dump(
            libc::NFT_MSG_GETSETELEM,
            |header| of_set.build(header),
            |message| {
                let read = RawSet::elements(message, |raw| elements.counted(&raw));
                for (key, endpoint, comment, packets) in read.into_iter().flatten().flatten() {
                    let set = name.clone();
                    each(Counted::Element { set, key, endpoint, comment, packets });
                }
            },
        )?;
    }
    reader.counted_rules(&rule::of_table(of, table), each)
}

/// Reads the counters of the elements and rules in a part of a table. Each element is requested by
/// key, which costs about 10 µs; dumping a set of 100,000 elements takes half a second.
pub(super) fn counted_of(
    socket: &mut NfTablesSocket,
    part: &Table,
    each: &mut impl FnMut(Counted),
) -> Result<(), Interrupted> {
    let (of, table) = (part.family, &part.name);
    for (name, set) in part.sets.iter().filter(|(_, set)| set.counter) {
        let elements = element::ElementDecoder::new(of, set);
        for key in set.elements.keys() {
            let mut named = set::named(of, table, name);
            element::encode(set, key, None).into_iter().for_each(|one| named.add(one));
            let mut counters = Vec::new();
            let mut dumped = Ok(Dumped::Nothing);
            named.write_elements(|body| {
                dumped = socket.ask(
                    libc::NFT_MSG_GETSETELEM,
                    family::number(of),
                    false,
                    body,
                    |message| {
                        let message = Aligned::new(message);
                        let read = message.and_then(|message| {
                            RawSet::elements(&message, |raw| elements.counted(&raw))
                        });
                        counters.extend(read.into_iter().flatten().flatten());
                    },
                );
            });
            dumped?;
            for (key, endpoint, comment, packets) in counters {
                each(Counted::Element { set: name.clone(), key, endpoint, comment, packets });
            }
        }
    }
    let mut reader = TableReader { socket, family: of, table, actual: Actual::default() };
    let counts = |rule: &Rule| rule.statements.contains(&Statement::Counter);
    for (name, _) in part.chains.iter().filter(|(_, chain)| chain.rules.iter().any(counts)) {
        reader.counted_rules(&rule::of_chain(of, table, name), each)?;
    }
    Ok(())
}

/// Completeness of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// No commit happened during the dump.
    Complete,
    /// The ruleset changed during the dump, so elements may be missing.
    Partial,
}

/// Reads the keys of a set with a single dump: dumping a large set takes longer than the ruleset
/// usually stays unchanged.
pub(super) fn keys(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    table: &Name,
    (name, set): (&Name, &Set),
    mut each: impl FnMut(Key),
) -> Result<Reading, DataplaneError> {
    let reader = element::ElementDecoder::new(of, set);
    elements(socket, &set::named(of, table, name), of, |message| {
        let read = RawSet::elements(message, |raw| reader.key_of(&raw));
        read.into_iter().flatten().flatten().for_each(&mut each);
    })
}

/// Passes on the messages of one dump of a set's elements.
pub(super) fn elements(
    socket: &mut NfTablesSocket,
    named: &RawSet,
    of: IpFamily,
    mut each: impl FnMut(&Aligned<'_>),
) -> Result<Reading, DataplaneError> {
    let dumped = socket.ask(
        libc::NFT_MSG_GETSETELEM,
        family::number(of),
        true,
        |header| named.build(header),
        |message| {
            if let Some(message) = Aligned::new(message) {
                each(&message);
            }
        },
    )?;
    Ok(match dumped {
        // A deleted set has no elements.
        Dumped::Whole | Dumped::Nothing => Reading::Complete,
        Dumped::Interrupted => Reading::Partial,
    })
}

/// Reason that a table was not read.
pub(super) enum Interrupted {
    /// The ruleset changed; read again.
    Changed,
    /// The read failed.
    Failed(DataplaneError),
}

impl From<DataplaneError> for Interrupted {
    fn from(error: DataplaneError) -> Self {
        match error {
            DataplaneError::Lost => Self::Changed,
            error => Self::Failed(error),
        }
    }
}

/// Sets with at most this many desired elements are dumped: that takes few pieces, and finds
/// additional elements too.
const DUMPED: usize = 1000;

/// Result of a comparison by key.
enum ByKey<'a> {
    /// The differences, complete.
    Complete(Differences),
    /// The kernel has elements with other keys too.
    Additional(Unfinished<'a>),
    /// Too many elements are missing to go on.
    Missing,
    /// An element is foreign.
    Foreign,
}

/// A comparison of a set of which the kernel has elements with keys that are not desired.
struct Unfinished<'a> {
    desired: &'a Set,
    comparison: ElementComparison<'a>,
    /// The number of elements in the kernel.
    count: usize,
}

/// Result of the comparison of a set.
enum SetComparison<'a> {
    /// The differences; `None` if an element is foreign.
    Complete(Option<Differences>),
    /// The other keys are to be guessed from the differences of other sets.
    Unfinished(Unfinished<'a>),
}

/// Of a set whose other keys can be guessed, one in this many desired elements may be missing before
/// it is dumped: each costs a request.
const MISSING: usize = 8;

/// Elements per request of a run of numbers.
const RUN: u32 = 32;

/// The sets of a table without their elements.
struct EmptySets {
    sets: BTreeMap<Name, Option<Set>>,
    /// The number of elements of each set, if the kernel reports it.
    counts: BTreeMap<Name, u32>,
}

struct TableReader<'a> {
    socket: &'a mut NfTablesSocket,
    family: IpFamily,
    table: &'a Name,
    actual: Actual,
}

impl<'a> TableReader<'a> {
    /// Reads all of a table but its sets; `None` if it does not exist.
    fn of(
        socket: &'a mut NfTablesSocket,
        family: IpFamily,
        table: &'a Name,
    ) -> Result<Option<Self>, Interrupted> {
        let Some(found) = find(socket, family, table)? else { return Ok(None) };
        let actual = Actual { foreign: table::foreign(&found), ..Actual::default() };
        let mut reader = Self { socket, family, table, actual };
        reader.chains()?;
        reader.rules()?;
        reader.others(libc::NFT_MSG_GETOBJ, "object")?;
        reader.others(GET_FLOWTABLE, "flowtable")?;
        Ok(Some(reader))
    }

    fn chains(&mut self) -> Result<(), Interrupted> {
        let mut chains = Vec::new();
        self.dump(
            libc::NFT_MSG_GETCHAIN,
            |_| {},
            |message| {
                let raw = Owned::parse(message);
                // A chain that belongs to a rule is deleted with that rule.
                if !raw.as_ref().is_some_and(chain::is_of_a_rule) {
                    chains.push(raw.as_ref().and_then(chain::decode));
                }
            },
        )?;
        self.actual.chains = self.named(chains, "chain");
        Ok(())
    }

    fn rules(&mut self) -> Result<(), Interrupted> {
        let mut rules: Vec<Option<(Name, ActualRule)>> = Vec::new();
        let of_table = rule::of_table(self.family, self.table);
        self.dump(
            libc::NFT_MSG_GETRULE,
            |header| of_table.build(header),
            |message| {
                rules.push(Owned::parse(message).as_ref().and_then(rule::decode));
            },
        )?;
        for rule in rules {
            match rule {
                Some((chain, rule)) => {
                    if let Some(Some(chain)) = self.actual.chains.get_mut(&chain) {
                        chain.rules.push(rule);
                    }
                }
                None => self.actual.foreign.push("an unreadable rule".to_owned()),
            }
        }
        Ok(())
    }

    fn sets(&mut self, owner: TableOwner) -> Result<(), Interrupted> {
        let EmptySets { mut sets, .. } = self.empty_sets(owner)?;
        for (name, actual) in &mut sets {
            if let Some(set) = actual
                && !self.elements(name, set)?
            {
                *actual = None;
            }
        }
        self.actual.sets = sets;
        Ok(())
    }

    /// Reads the sets without their elements.
    fn empty_sets(&mut self, owner: TableOwner) -> Result<EmptySets, Interrupted> {
        let (mut sets, mut fixed) = (Vec::new(), Vec::new());
        let mut counts = BTreeMap::new();
        let of = self.family;
        let of_table = set::of_table(of, self.table);
        self.dump_raw(
            libc::NFT_MSG_GETSET,
            |header| of_table.build(header),
            |message| {
                let raw = Aligned::new(message).and_then(|message| Owned::parse(&message));
                let Some(raw) = raw else { return sets.push(None) };
                // Sets that belong to a rule do not matter; constant sets can only be replaced with
                // the table.
                let read = match set::kind(&raw) {
                    _ if owner == TableOwner::Other => set::decode_any(of, &raw),
                    SetKind::Anonymous => return,
                    SetKind::Constant => return fixed.push("a set with flag constant".to_owned()),
                    SetKind::Plain => set::decode(of, &raw),
                };
                let name = read.as_ref().map(|(name, _)| name.clone());
                counts.extend(name.zip(set::count(message)));
                sets.push(read);
            },
        )?;
        let sets = self.named(sets, "set");
        self.actual.foreign.extend(fixed);
        Ok(EmptySets { sets, counts })
    }

    /// Reads the sets and compares them with those of the desired table. Sets that are deleted or
    /// replaced keep no elements.
    fn differences(
        &mut self,
        table: &Table,
        reads_counts: bool,
    ) -> Result<BTreeMap<Name, Differences>, Interrupted> {
        let (mut differences, mut unfinished) = (BTreeMap::new(), Vec::new());
        let EmptySets { mut sets, counts } = self.empty_sets(TableOwner::Rulegen)?;
        for (name, actual) in &mut sets {
            let Some((set, desired)) = actual.as_mut().zip(table.sets.get(name)) else { continue };
            if set.shape() != desired.shape() {
                continue;
            }
            let is_ours = if ElementComparison::is_possible(set, desired) {
                let count = counts.get(name).filter(|_| reads_counts).copied();
                match self.differences_of_set((name, desired), count)? {
                    SetComparison::Complete(found) => {
                        let is_ours = found.is_some();
                        differences.extend(found.map(|found| (name.clone(), found)));
                        is_ours
                    }
                    SetComparison::Unfinished(of_set) => {
                        unfinished.push((KeyOrigin::of(desired), name.clone(), of_set));
                        true
                    }
                }
            } else {
                self.elements(name, set)?
            };
            if !is_ours {
                *actual = None;
            }
        }
        // Pairs follow from numbered elements.
        unfinished.sort_by_key(|(origin, ..)| *origin);
        for (_, name, of_set) in unfinished {
            match self.finish(table, &name, of_set, &differences)? {
                Some(found) => drop(differences.insert(name, found)),
                None => drop(sets.insert(name, None)),
            }
        }
        self.actual.sets = sets;
        Ok(differences)
    }

    /// Finds the keys that are not desired: those that are likely, or all with a dump. `None` if an
    /// element is foreign.
    fn finish(
        &mut self,
        table: &Table,
        name: &Name,
        Unfinished { desired, mut comparison, count }: Unfinished<'_>,
        differences: &BTreeMap<Name, Differences>,
    ) -> Result<Option<Differences>, Interrupted> {
        let likely = likely_keys(table, desired, differences);
        let elements =
            ElementRequest { family: self.family, table: self.table, name, set: desired };
        let mut is_ours = true;
        let mut request = |keys: &[Key], ends_with_missing| {
            let keys: Vec<Requested<'_>> = keys.iter().map(|key| (key, None)).collect();
            let mut is_missing = false;
            let done = elements.request(self.socket, &keys, |_, answer| {
                match answer {
                    KeyAnswer::Other(key, element) => comparison.found(key, element),
                    KeyAnswer::AsWanted | KeyAnswer::Foreign => is_ours = false,
                    KeyAnswer::Missing => is_missing = true,
                }
                is_ours && !(ends_with_missing && is_missing)
            });
            done.map(|()| !is_missing)
        };
        match likely {
            None => {}
            Some(LikelyKeys::Single(keys)) => drop(request(&keys, false)?),
            Some(LikelyKeys::Runs(firsts)) => {
                for first in firsts {
                    let mut keys = run(&first, RUN);
                    while request(&keys, true)? {
                        let Some(last) = keys.last() else { break };
                        keys = run(last, RUN);
                    }
                }
            }
        }
        if !is_ours {
            return Ok(None);
        }
        if comparison.keys_found() == count {
            return Ok(Some(comparison.finish()));
        }
        tracing::debug!(set = %name, "set has additional elements, dumping it");
        self.dump_differences((name, desired))
    }

    /// Compares the elements of a set. `count` is the number of elements in the kernel, if it reports
    /// it.
    fn differences_of_set<'w>(
        &mut self,
        (name, desired): (&Name, &'w Set),
        count: Option<u32>,
    ) -> Result<SetComparison<'w>, Interrupted> {
        let count = count.and_then(|count| usize::try_from(count).ok());
        let can_guess = KeyOrigin::of(desired).is_some();
        let is_by_key = |count: &usize| {
            desired.elements.len() > DUMPED && (can_guess || *count <= desired.elements.len())
        };
        if let Some(count) = count.filter(is_by_key) {
            match self.compare_by_key((name, desired), count, can_guess)? {
                ByKey::Complete(differences) => {
                    return Ok(SetComparison::Complete(Some(differences)));
                }
                ByKey::Foreign => return Ok(SetComparison::Complete(None)),
                ByKey::Additional(of_set) if can_guess => {
                    return Ok(SetComparison::Unfinished(of_set));
                }
                ByKey::Additional(_) | ByKey::Missing => {
                    tracing::debug!(set = %name, "set has additional elements, dumping it");
                }
            }
        }
        self.dump_differences((name, desired)).map(SetComparison::Complete)
    }

    /// Compares the elements of a set by a dump; `None` if one is foreign.
    fn dump_differences(
        &mut self,
        (name, desired): (&Name, &Set),
    ) -> Result<Option<Differences>, Interrupted> {
        let mut comparison = ElementComparison::new(desired);
        let reader = element::ElementDecoder::new(self.family, desired);
        let mut is_ours = true;
        let of_set = set::named(self.family, self.table, name);
        self.dump(
            libc::NFT_MSG_GETSETELEM,
            |header| of_set.build(header),
            |message| {
                let read = RawSet::elements(message, |raw| {
                    let (key, element) = reader.decode(&raw).ok()?;
                    comparison.found(key, element);
                    Some(())
                });
                is_ours &= read.is_some_and(|read| read.iter().all(Option::is_some));
            },
        )?;
        Ok(is_ours.then(|| comparison.finish()))
    }

    /// Compares the elements of these keys with the desired ones; `None` if one is foreign.
    fn compare_keys(
        &mut self,
        (name, desired): (&Name, &Set),
        keys: &BTreeSet<Key>,
    ) -> Result<Option<Differences>, Interrupted> {
        let keys: Vec<Requested<'_>> =
            keys.iter().map(|key| (key, desired.elements.get(key))).collect();
        let elements =
            ElementRequest { family: self.family, table: self.table, name, set: desired };
        let mut comparison = ElementComparison::new(desired);
        let mut is_ours = true;
        elements.request(self.socket, &keys, |key, answer| {
            match answer {
                KeyAnswer::AsWanted => comparison.found_as_wanted(key),
                KeyAnswer::Other(key, element) => comparison.found(key, element),
                KeyAnswer::Foreign => is_ours = false,
                KeyAnswer::Missing => {}
            }
            is_ours
        })?;
        Ok(is_ours.then(|| comparison.finish()))
    }

    /// Requests the desired elements by key. The set has no others if `count`, the number of elements
    /// in the kernel, is the number found. It is never too small: the kernel counts an element from
    /// before it is added until after it is deleted.
    fn compare_by_key<'w>(
        &mut self,
        (name, desired): (&Name, &'w Set),
        count: usize,
        can_guess: bool,
    ) -> Result<ByKey<'w>, Interrupted> {
        let elements =
            ElementRequest { family: self.family, table: self.table, name, set: desired };
        let keys: Vec<Requested<'_>> =
            desired.elements.iter().map(|(key, element)| (key, Some(element))).collect();
        let mut comparison = ElementComparison::new(desired);
        // More are missing only if the set has additional elements.
        let mut may_be_missing = keys.len().saturating_sub(count);
        if can_guess {
            may_be_missing += keys.len() / MISSING;
        }
        let mut outcome = None;
        elements.request(self.socket, &keys, |key, answer| {
            match answer {
                KeyAnswer::AsWanted => comparison.found_as_wanted(key),
                KeyAnswer::Other(key, element) => comparison.found(key, element),
                KeyAnswer::Foreign => outcome = Some(ByKey::Foreign),
                KeyAnswer::Missing => match may_be_missing.checked_sub(1) {
                    Some(left) => may_be_missing = left,
                    None => outcome = Some(ByKey::Missing),
                },
            }
            outcome.is_none()
        })?;
        if let Some(outcome) = outcome {
            return Ok(outcome);
        }
        if elements.has_catchall(self.socket)? {
            return Ok(ByKey::Foreign);
        }
        Ok(match comparison.keys_found() == count {
            true => ByKey::Complete(comparison.finish()),
            false => ByKey::Additional(Unfinished { desired, comparison, count }),
        })
    }

    /// Reads the elements of a set. Returns false if one is foreign.
    fn elements(&mut self, name: &Name, set: &mut Set) -> Result<bool, Interrupted> {
        let mut reader = element::ElementDecoder::new(self.family, set);
        let mut is_ours = true;
        let of_set = set::named(self.family, self.table, name);
        self.dump(
            libc::NFT_MSG_GETSETELEM,
            |header| of_set.build(header),
            |message| {
                let read = RawSet::elements(message, |raw| reader.read(&raw).is_ok());
                is_ours &= read.is_some_and(|read| read.into_iter().all(|read| read));
            },
        )?;
        match reader.finish() {
            Ok(elements) if is_ours => {
                set.elements = elements;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Reads the counters of rules, of a table or of one of its chains.
    fn counted_rules(
        &mut self,
        of: &RawRule,
        each: &mut impl FnMut(Counted),
    ) -> Result<(), Interrupted> {
        self.dump(
            libc::NFT_MSG_GETRULE,
            |header| of.build(header),
            |message| {
                let read = Owned::parse(message).as_ref().and_then(rule::counted);
                if let Some((chain, packets)) = read {
                    each(Counted::Rule { chain, packets });
                }
            },
        )
    }

    /// Records objects of a kind that rulegen does not make.
    fn others(&mut self, kind: i32, what: &str) -> Result<(), Interrupted> {
        let table = self.table.as_str();
        let mut found = Vec::new();
        self.dump_raw(
            kind,
            |header| header.text(TABLE, table),
            |message| {
                let name = attribute::text(message, NAME).unwrap_or_default();
                found.push(format!("the {what} {name}"));
            },
        )?;
        self.actual.foreign.extend(found);
        Ok(())
    }

    fn named<T>(&mut self, read: Vec<Option<(Name, T)>>, what: &str) -> BTreeMap<Name, T> {
        if read.iter().any(Option::is_none) {
            self.actual.foreign.push(format!("an unreadable {what}"));
        }
        read.into_iter().flatten().collect()
    }

    fn dump(
        &mut self,
        kind: i32,
        body: impl FnOnce(&mut super::raw::MessageHeader<'_>),
        mut each: impl FnMut(&Aligned<'_>),
    ) -> Result<(), Interrupted> {
        self.dump_raw(kind, body, |message| {
            if let Some(message) = Aligned::new(message) {
                each(&message);
            }
        })
    }

    /// Dumps all objects of a kind in our table. The kernel dumps chains of all tables whatever the
    /// request says; for those, only the table's name is decoded.
    fn dump_raw(
        &mut self,
        kind: i32,
        body: impl FnOnce(&mut super::raw::MessageHeader<'_>),
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Interrupted> {
        let table = self.table.as_str().as_bytes();
        let number = family::number(self.family);
        let dumped = self.socket.ask(kind, number, true, body, |message| {
            let of = attribute::find(message, TABLE).and_then(|name| name.strip_suffix(&[0]));
            if of == Some(table) {
                each(message);
            }
        })?;
        match dumped {
            Dumped::Whole => Ok(()),
            Dumped::Interrupted | Dumped::Nothing => Err(Interrupted::Changed),
        }
    }
}
