//! The effect of a foreign commit on rulegen's chains.

use std::collections::BTreeSet;

use rulegen_compiler::iptables::OURS;
use rulegen_kernel::nftables::TouchedChains;
use rulegen_net::{IpFamily, PerFamily};
use rulegen_ruleset::iptables::{ChainName, Table};

use super::family::FamilyRules;

/// The chains to repair.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// Only chains that other programs also fill were changed. Whether there is drift needs a resync.
    None,
    /// These chains. At least one of them is filled by rulegen only.
    Chains(PerFamily<BTreeSet<(Table, ChainName)>>),
    /// Any chain may be affected.
    Any,
}

impl Damage {
    /// The damage of a commit that touched these chains.
    pub(super) fn of(touched: &TouchedChains) -> Self {
        let TouchedChains::These(touched) = touched else { return Self::Any };
        let mut chains: PerFamily<BTreeSet<(Table, ChainName)>> = PerFamily::new();
        for (family, table, chain) in touched {
            if let Some(table) = Table::ALL.into_iter().find(|known| known.name() == table) {
                chains.get_or_default(*family).insert((table, chain.as_str().into()));
            }
        }
        let is_ours = |(table, chain): &(Table, ChainName)| OURS.owns(*table, chain);
        if !chains.values().flatten().any(is_ours) {
            return Self::None;
        }
        // A shared chain may have been deleted. Then it cannot be read on its own.
        let is_readable = |of: &(Table, ChainName)| is_ours(of) || of.1.is_built_in();
        let is_complete = chains.values().flatten().all(is_readable);
        if is_complete { Self::Chains(chains) } else { Self::Any }
    }

    /// Records the damage in the state of a family.
    pub(super) fn apply(&self, name: IpFamily, family: &mut FamilyRules) {
        match self {
            Self::None => {}
            Self::Chains(chains) => {
                if let Some(chains) = chains.get(name) {
                    family.damage(Some(chains.clone()));
                }
            }
            Self::Any => family.damage(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(chains: &[(&str, &str)]) -> TouchedChains {
        let chains = chains.iter();
        let chain = |(table, chain): &(&str, &str)| {
            (IpFamily::Ipv4, (*table).to_owned(), (*chain).to_owned())
        };
        TouchedChains::These(chains.map(chain).collect())
    }

    #[test]
    fn damage_needs_a_chain_that_only_rulegen_fills() {
        assert_eq!(Damage::of(&touched(&[])), Damage::None);
        assert_eq!(Damage::of(&touched(&[("nat", "PREROUTING")])), Damage::None);
        assert_eq!(Damage::of(&touched(&[("filter", "KUBE-FIREWALL")])), Damage::None);
        // rulegen owns a chain of this name only in the table nat.
        assert_eq!(Damage::of(&touched(&[("filter", "KUBE-SEP-X")])), Damage::None);
        assert_eq!(Damage::of(&TouchedChains::Any), Damage::Any);
    }

    #[test]
    fn damage_includes_all_chains_of_a_commit() {
        let chains = [("nat", "KUBE-SEP-X"), ("nat", "PREROUTING")];
        let Damage::Chains(damaged) = Damage::of(&touched(&chains)) else { panic!() };
        let expected = chains.map(|(_, chain)| (Table::Nat, ChainName::from(chain)));
        assert_eq!(damaged, PerFamily::from_iter([(IpFamily::Ipv4, BTreeSet::from(expected))]));
        let with_shared = touched(&[("nat", "KUBE-SEP-X"), ("filter", "KUBE-FIREWALL")]);
        assert_eq!(Damage::of(&with_shared), Damage::Any);
    }
}
