//! The parts of our tables that other programs changed since the last sync, as their commit events
//! name them.

use std::collections::{BTreeMap, BTreeSet};

use rulegen_kernel::nftables::{Commit, RawKey, TouchedChains, TouchedElements};
use rulegen_net::{IpFamily, PerFamily};
use rulegen_ruleset::nftables::{Key, Name, Table, TablePart};

/// Parts to compare with the kernel, by family.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    families: PerFamily<Suspect>,
    /// Number of keys.
    keys: usize,
}

#[derive(Debug, Default)]
struct Suspect {
    /// Whether a chain or rule was changed.
    has_chains: bool,
    /// Keys of changed elements, by set.
    keys: BTreeMap<String, BTreeSet<RawKey>>,
}

impl Suspects {
    pub(super) fn is_empty(&self) -> bool {
        self.families.is_empty()
    }

    /// Adds what a commit changed. Returns false if that may be anything.
    pub(super) fn add(&mut self, commit: &Commit) -> bool {
        let TouchedChains::These(chains) = &commit.chains else { return false };
        let TouchedElements::These(elements) = &commit.elements else { return false };
        if chains.is_empty() && elements.is_empty() {
            return false;
        }
        for (family, _, _) in chains {
            self.families.get_or_default(*family).has_chains = true;
        }
        for ((family, _, set), keys) in elements {
            let suspect = self.families.get_or_default(*family);
            let known = suspect.keys.entry(set.clone()).or_default();
            let before = known.len();
            known.extend(keys.iter().cloned());
            self.keys += known.len() - before;
        }
        self.keys <= Commit::MAX_ELEMENTS
    }

    /// The parts of the desired tables; `None` if they have to be compared as a whole.
    pub(super) fn parts<'a>(
        self,
        table: impl Fn(IpFamily) -> Option<&'a Table>,
    ) -> Option<Vec<TablePart>> {
        let part = |(family, suspect): (IpFamily, Suspect)| {
            let table = table(family)?;
            let mut keys: BTreeMap<Name, BTreeSet<Key>> = BTreeMap::new();
            for (name, raw) in suspect.keys {
                let (name, set) = table.sets.get_key_value(&Name::from_kernel(&name))?;
                let decoded = raw.iter().map(|key| key.decode(family, set));
                keys.insert(name.clone(), decoded.collect::<Option<_>>()?);
            }
            TablePart::new(table, suspect.has_chains, keys)
        };
        self.families.into_iter().map(part).collect()
    }
}
