//! Affinity entries of removed endpoints, called stale clients.
//!
//! Packets fill the affinity sets, so only the kernel knows their contents, and it needs 0.8 s to
//! dump a full set. Therefore a change is committed without reading the set. Afterwards a thread
//! reads it and sends the stale clients through the queue, and they are deleted in batches.
//!
//! Until then they do no harm. An entry consists of the client's address and the number of an
//! endpoint, and after the commit no rule looks up the number of a removed endpoint. If the endpoint
//! returns before its entries are deleted, rules look up its number again, and its clients return to
//! it. It is an endpoint of the same service port, so no packet goes to a wrong one. The same is true
//! if another endpoint gets the same number (one of 2³²).

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use rulegen_compiler::nftables::ClientSetChange;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Key, Name, Set, Value};

use crate::affinity_clients::{Clients, ReadClients};

/// The numbers of removed endpoints, by set. At most one read per set runs at a time; endpoints that
/// are removed meanwhile wait for the next.
#[derive(Debug, Default)]
pub(super) struct StaleClients {
    sets: BTreeMap<(IpFamily, Name), Stale>,
}

#[derive(Debug)]
struct Stale {
    /// The set's definition, without elements.
    set: Set,
    /// Numbers to search for in the next read.
    waiting: BTreeSet<u32>,
    /// Numbers that the running read searches for.
    reading: Option<BTreeSet<u32>>,
}

impl StaleClients {
    /// Records a committed change.
    pub(super) fn follow(&mut self, family: IpFamily, change: &ClientSetChange) {
        let of = (family, change.name.clone());
        let Some(set) = &change.kept else { return self.forget(&of) };
        if let Some(stale) = self.sets.get_mut(&of) {
            let is_gained = |number: &u32| change.gained.contains(number);
            stale.waiting.retain(|number| !is_gained(number));
            stale.reading.iter_mut().for_each(|of| of.retain(|number| !is_gained(number)));
        }
        if !change.lost.is_empty() {
            let new = || Stale { set: set.clone(), waiting: BTreeSet::new(), reading: None };
            let stale = self.sets.entry(of).or_insert_with(new);
            stale.waiting.extend(&change.lost);
        }
    }

    /// True if no entries are left to delete.
    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Forgets everything, because a full resync also compares these sets.
    pub(super) fn forget_all(&mut self) {
        let all: Vec<(IpFamily, Name)> = self.sets.keys().cloned().collect();
        all.iter().for_each(|of| self.forget(of));
    }

    /// Starts the reads that are needed now.
    pub(super) fn reads(&mut self) -> Vec<ReadClients> {
        let mut reads = Vec::new();
        for ((family, name), stale) in &mut self.sets {
            if stale.reading.is_none() && !stale.waiting.is_empty() {
                let numbers = mem::take(&mut stale.waiting);
                stale.reading = Some(numbers.clone());
                let (name, set) = (name.clone(), stale.set.clone());
                reads.push(ReadClients { family: *family, name, set, numbers });
            }
        }
        reads
    }

    /// The clients of a batch that are still stale, with their set.
    pub(super) fn stale(&mut self, clients: Clients) -> Option<(Set, Vec<Key>)> {
        let of = (clients.family, clients.name);
        let stale = self.sets.get_mut(&of)?;
        let is_stale = |value: Value| match value {
            Value::Number(number) => {
                let mut numbers = stale.reading.iter().chain([&stale.waiting]);
                numbers.any(|numbers| numbers.contains(&number))
            }
            _ => false,
        };
        let keys: Vec<Key> =
            clients.keys.into_iter().filter(|key| key.values().any(is_stale)).collect();
        let set = stale.set.clone();
        if clients.is_last {
            stale.reading = None;
            if stale.waiting.is_empty() {
                self.sets.remove(&of);
            }
        }
        (!keys.is_empty()).then_some((set, keys))
    }

    /// A running read has to end before the next one starts, so its entry stays.
    fn forget(&mut self, of: &(IpFamily, Name)) {
        let Some(stale) = self.sets.get_mut(of) else { return };
        stale.waiting.clear();
        match &mut stale.reading {
            Some(numbers) => numbers.clear(),
            None => drop(self.sets.remove(of)),
        }
    }
}
