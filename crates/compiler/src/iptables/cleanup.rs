//! What a cleanup removes: rulegen's chains and the jumps to them, kube-proxy's canary chains, and
//! the shared firewall chain unless another program uses it.

use rulegen_ruleset::iptables::{
    ChainName, ConntrackState, Match, Negatable, Ownership, Rule, RuleSpec, Ruleset, Table,
    Transaction, removal,
};

use super::layout::{CANARY, JUMP_COMMENTS, KUBELET_CHAINS, OURS, SHARED_FIREWALL, loopback_guard};

/// Removes everything that rulegen or kube-proxy made. Also returns the chains that must be kept
/// because a rule of another program jumps to them.
pub fn removal_of_everything(actual: &Ruleset) -> (Transaction<'_>, Vec<(Table, &ChainName)>) {
    let mut chains = OURS.chains.to_vec();
    chains.extend([(Table::Mangle, CANARY), (Table::Filter, CANARY), (Table::Nat, CANARY)]);
    if !is_kubelets_firewall(actual) {
        chains.push((Table::Filter, SHARED_FIREWALL));
    }
    let ours = Ownership { chains: &chains, prefixes: OURS.prefixes };
    let is_our_jump = |table: Table, rule: &Rule| {
        is_jump(rule) && rule.target_chain().is_some_and(|chain| ours.owns(table, chain))
    };
    let transaction = removal(actual, &ours, is_our_jump);
    let kept = kept(actual, &ours, &transaction);
    (transaction, kept)
}

fn kept<'a>(
    actual: &'a Ruleset,
    ours: &Ownership<'_>,
    transaction: &Transaction<'_>,
) -> Vec<(Table, &'a ChainName)> {
    let chains = actual
        .tables
        .iter()
        .flat_map(|(table, chains)| chains.keys().map(move |chain| (*table, chain)));
    let stays = |(table, chain): &(Table, &ChainName)| {
        ours.owns(*table, chain) && !transaction.deletes(*table, chain)
    };
    chains.filter(stays).collect()
}

/// A jump made by this or an older version of kube-proxy: it matches nothing but a known comment and
/// possibly the state NEW. The jump to the firewall chain has no matches.
fn is_jump(rule: &Rule) -> bool {
    let Rule::Known(RuleSpec {
        source: None,
        destination: None,
        in_interface: None,
        protocol: None,
        matches,
        target: Some(_),
    }) = rule
    else {
        return false;
    };
    let of_jumps = |m: &Match| match m {
        Match::Comment(comment) => JUMP_COMMENTS.contains(&&**comment),
        Match::Conntrack(Negatable { negated: false, value }) => *value == [ConntrackState::New],
        _ => false,
    };
    let is_firewall = rule.target_chain().is_some_and(|chain| chain.as_str() == SHARED_FIREWALL);
    matches.iter().all(of_jumps) && matches.is_empty() == is_firewall
}

/// kubelet makes the same chain with the same rule, without a marker. The chain counts as kubelet's
/// if chains of its own exist, or if the chain has rules that we did not make.
fn is_kubelets_firewall(actual: &Ruleset) -> bool {
    let kubelet_is_here = actual
        .tables
        .values()
        .flat_map(|chains| chains.keys())
        .any(|name| KUBELET_CHAINS.contains(&name.as_str()));
    let firewall = actual.chain(Table::Filter, &SHARED_FIREWALL.into());
    let guard = loopback_guard();
    kubelet_is_here || firewall.is_some_and(|chain| chain.rules.iter().any(|rule| *rule != guard))
}
