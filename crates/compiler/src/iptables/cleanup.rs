//! What a clean-up takes away: our chains, kube-proxy's canaries, and the shared firewall chain
//! where nobody shares it.

use rulegen_ruleset::iptables::{Ownership, Ruleset, Table, Transaction, removal};

use super::layout::{CANARY, KUBELET_CHAINS, OURS, SHARED_FIREWALL, loopback_guard};

/// Everything that rulegen or kube-proxy put into the tables.
pub fn removal_of_everything(held: &Ruleset) -> Transaction<'_> {
    let mut chains = OURS.chains.to_vec();
    chains.extend([(Table::Mangle, CANARY), (Table::Filter, CANARY), (Table::Nat, CANARY)]);
    if !is_kubelets_firewall(held) {
        chains.push((Table::Filter, SHARED_FIREWALL));
    }
    removal(held, &Ownership { chains: &chains, prefixes: OURS.prefixes })
}

/// kubelet makes the same chain with the same rule in it and does not sign it. It is taken for
/// kubelet's where kubelet shows itself by chains of its own, or where it holds anything that
/// we did not put there.
fn is_kubelets_firewall(held: &Ruleset) -> bool {
    let kubelet_is_here = held
        .tables
        .values()
        .flat_map(|chains| chains.keys())
        .any(|name| KUBELET_CHAINS.contains(&name.as_str()));
    let firewall = held.chain(Table::Filter, &SHARED_FIREWALL.into());
    let guard = loopback_guard();
    kubelet_is_here || firewall.is_some_and(|chain| chain.rules.iter().any(|rule| *rule != guard))
}
