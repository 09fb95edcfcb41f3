//! The parts of the table that one service port contributes.

use rulegen_ruleset::nftables::{Chain, Key, Name, Set, Table};

use super::claims::SetKey;
use super::set_element::SetElement;
use super::shared_chain::SharedChain;
use crate::plan::Plan;

/// All parts that one service port needs, computed from its own plan alone.
#[derive(Debug, Default)]
pub(super) struct Contribution {
    /// Elements that only one service port can have. Each key is claimed once.
    pub(super) claims: Vec<Claim>,
    /// Elements without data that several service ports may need.
    pub(super) shared_elements: Vec<SetKey>,
    /// Chains that several service ports may need.
    pub(super) shared_chains: Vec<SharedChain>,
    /// Elements that only this service port needs.
    pub(super) own_elements: Vec<SetElement>,
    /// Sets that only this service port needs.
    pub(super) own_sets: Vec<(Name, Set)>,
    /// Chains that only this service port needs.
    pub(super) own_chains: Vec<(Name, Chain)>,
}

/// A key in a set that only one service port can have. If several claim it, the first by name gets
/// it, as in iptables, where its rule comes first.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) set: &'static str,
    pub(super) key: Key,
    /// Elements for the table if the claim is granted: the element with the key, and others that
    /// depend on it.
    pub(super) elements: Vec<SetElement>,
}

impl Claim {
    pub(super) fn set_key(&self) -> SetKey {
        (self.set, self.key.clone())
    }
}

impl Contribution {
    /// Number of elements, chains and sets.
    pub(super) fn len(&self) -> usize {
        let claimed: usize = self.claims.iter().map(|claim| claim.elements.len()).sum();
        let shared = self.shared_elements.len() + self.shared_chains.len();
        let own = self.own_elements.len() + self.own_sets.len() + self.own_chains.len();
        claimed + shared + own
    }

    /// Adds it to a table that has the contributions of all preceding service ports.
    pub(super) fn add_to(self, table: &mut Table, plan: &Plan) {
        for claim in self.claims {
            let set = table.sets.get(claim.set);
            if set.is_some_and(|set| !set.elements.contains_key(&claim.key)) {
                put(table, claim.elements);
            }
        }
        put(table, self.shared_elements.iter().map(SetElement::without_data));
        for chain in self.shared_chains {
            let name = chain.name();
            if !table.chains.contains_key(&name) {
                put(table, chain.elements());
                table.chains.insert(name, chain.chain(plan));
            }
        }
        put(table, self.own_elements);
        table.sets.extend(self.own_sets);
        table.chains.extend(self.own_chains);
    }
}

/// Adds elements to the sets of a table.
fn put(table: &mut Table, elements: impl IntoIterator<Item = SetElement>) {
    for SetElement { set, key, element } in elements {
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.insert(key, element);
        }
    }
}
