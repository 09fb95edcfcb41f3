//! The mark for which rules masquerade a packet.

use rulegen_compiler::iptables::POSTROUTING;
use rulegen_compiler::nftables::MASQUERADE;
use rulegen_ruleset::iptables::{self, ChainName, Match, Ruleset};
use rulegen_ruleset::nftables::{Condition, Name, Statement, Table};

/// The bits in kube-proxy's chain of iptables; 0 without the chain.
pub(super) fn of_ruleset(ruleset: &Ruleset) -> u32 {
    let chain = ruleset.chain(iptables::Table::Nat, &ChainName::from(POSTROUTING));
    let rules = chain.into_iter().flat_map(|chain| &chain.rules);
    let specs = rules.filter_map(|rule| match rule {
        iptables::Rule::Known(spec) => Some(spec),
        iptables::Rule::Foreign { .. } => None,
    });
    let bits = specs.flat_map(|spec| &spec.matches).map(|of| match of {
        Match::Mark(mark) => mark.value.mask,
        _ => 0,
    });
    bits.fold(0, |all, bits| all | bits)
}

/// The bits in the chain of rulegen's or kube-proxy's table; 0 without the chain.
pub(super) fn of_table(table: &Table) -> u32 {
    let chain = table.chains.get(&Name::from(MASQUERADE)).into_iter();
    let statements = chain.flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements);
    let bits = statements.map(|of| match of {
        Statement::Match(Condition::MarkBits(bits) | Condition::NoMarkBits(bits)) => *bits,
        _ => 0,
    });
    bits.fold(0, |all, bits| all | bits)
}
