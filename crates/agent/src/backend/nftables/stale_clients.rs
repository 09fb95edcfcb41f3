//! Clients of endpoints that are gone, in the sets of session affinity.
//!
//! Packets fill these sets, so only the kernel knows what is in them, and to read a full one takes
//! it 0.8 s. Therefore a change is committed without reading. Afterwards a thread reads the set and
//! sends the stale clients back through the queue, and they are deleted in batches.
//!
//! Until then they do no harm. A client is found by its address and the number of an endpoint, and
//! from the commit on no rule looks for a number whose endpoint is gone. If the endpoint returns
//! before its clients are deleted, rules look for its number again, and it gets these clients back:
//! it is an endpoint of the same service port, so no packet goes to a wrong one. If another
//! endpoint has the same number (one of 2³²), the same holds for it.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use rulegen_compiler::nftables::ClientSetChange;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Key, Name, Set, Value};

use crate::affinity_clients::{Clients, ReadClients};

/// The numbers without an endpoint, by set, and which of them a thread looks for. There is at most
/// one read for each set at a time; what is lost meanwhile waits for the next.
#[derive(Debug, Default)]
pub(super) struct StaleClients {
    sets: BTreeMap<(IpFamily, Name), Stale>,
}

#[derive(Debug)]
struct Stale {
    /// The set without its clients.
    set: Set,
    /// Numbers that no read looks for yet.
    waiting: BTreeSet<u32>,
    /// Numbers that the read under way looks for.
    reading: Option<BTreeSet<u32>>,
}

impl StaleClients {
    /// Takes in a change that was committed.
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

    /// All clients are about to be compared with what is wanted.
    pub(super) fn forget_all(&mut self) {
        let all: Vec<(IpFamily, Name)> = self.sets.keys().cloned().collect();
        all.iter().for_each(|of| self.forget(of));
    }

    /// The sets that are to be read now.
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

    /// Which of the clients that were read are still stale, with their set.
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

    /// A read that is under way ends before the next begins, so it is remembered.
    fn forget(&mut self, of: &(IpFamily, Name)) {
        let Some(stale) = self.sets.get_mut(of) else { return };
        stale.waiting.clear();
        match &mut stale.reading {
            Some(numbers) => numbers.clear(),
            None => drop(self.sets.remove(of)),
        }
    }
}
