//! Records which service ports claim which parts of a table.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use rulegen_net::ServicePortName;
use rulegen_ruleset::nftables::Key;

/// A key in one of the shared sets.
pub(super) type SetKey = (&'static str, Key);

/// The service ports that claim each key. The first by name owns it.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<SetKey, Claimants>);

/// Nearly always one. A tenant may create many, so finding the next must not take time proportional
/// to their number.
#[derive(Debug)]
enum Claimants {
    One(ServicePortName),
    Several(BTreeSet<ServicePortName>),
}

impl Claims {
    /// The service port whose elements are in the table.
    pub(super) fn owner(&self, key: &SetKey) -> Option<&ServicePortName> {
        match self.0.get(key)? {
            Claimants::One(name) => Some(name),
            Claimants::Several(names) => names.first(),
        }
    }

    /// Adds a claim. Returns whether there was none.
    pub(super) fn add(&mut self, key: SetKey, name: &ServicePortName) -> bool {
        match self.0.entry(key) {
            Entry::Vacant(free) => {
                free.insert(Claimants::One(name.clone()));
                return true;
            }
            Entry::Occupied(mut taken) => match taken.get_mut() {
                Claimants::One(first) => {
                    let names = BTreeSet::from([first.clone(), name.clone()]);
                    taken.insert(Claimants::Several(names));
                }
                Claimants::Several(names) => {
                    names.insert(name.clone());
                }
            },
        }
        false
    }

    pub(super) fn remove(&mut self, key: SetKey, name: &ServicePortName) {
        let Entry::Occupied(mut taken) = self.0.entry(key) else { return };
        let is_free = match taken.get_mut() {
            Claimants::One(only) => only == name,
            Claimants::Several(names) => {
                names.remove(name);
                names.is_empty()
            }
        };
        if is_free {
            taken.remove();
        }
    }
}

/// Reference counts of parts for which the owner does not matter. The table has each part with a
/// count above zero, so only counts above one are stored: nearly all parts have one user, and counts
/// of all took a tenth of the agent's memory.
#[derive(Debug)]
pub(super) struct ReferenceCounts<K>(HashMap<K, usize>);

impl<K> Default for ReferenceCounts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// Of counts above one.
impl<K: Eq + Hash> FromIterator<(K, usize)> for ReferenceCounts<K> {
    fn from_iter<I: IntoIterator<Item = (K, usize)>>(counts: I) -> Self {
        Self(counts.into_iter().collect())
    }
}

/// The effect of a changed reference count on the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Appears,
    Disappears,
    Stays,
}

impl<K: Eq + Hash> ReferenceCounts<K> {
    /// Changes a count. `is_present` is whether the table has the part.
    pub(super) fn change(&mut self, key: K, by: isize, is_present: bool) -> Presence {
        let count = self.0.get(&key).copied().unwrap_or(usize::from(is_present));
        let left = count.saturating_add_signed(by);
        if left > 1 {
            self.0.insert(key, left);
        } else if count > 1 {
            self.0.remove(&key);
        }
        match (count, left) {
            (0, 1..) => Presence::Appears,
            (1.., 0) => Presence::Disappears,
            _ => Presence::Stays,
        }
    }
}
