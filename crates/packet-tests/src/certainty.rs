//! How certain an explanation of rules in a kernel is.

use rulegen_compiler::iptables::OURS;
use rulegen_inspect::explain::{EndCondition, Explanation, PassedRule};
use rulegen_ruleset::iptables::{ChainName, Table};

use crate::check::Mismatch;

/// Rules in chains of Services that are not understood. The packet was followed as if they were not
/// there, so nothing that the explanation says is certain. No proxy makes such rules.
pub(crate) fn unknown_rules(explanation: &Explanation) -> Vec<Mismatch> {
    let unknown = explanation.unknown.iter().filter(|rule| is_of_services(rule));
    let mismatch = |rule: &PassedRule| Mismatch {
        field: "rules",
        expected: "only rules that rulegen or kube-proxy makes, in their chains".to_owned(),
        actual: match rule.table {
            Some(table) => format!("{table} {}: {}", rule.chain, rule.rule),
            None => format!("{}: {}", rule.chain, rule.rule),
        },
    };
    unknown.map(mismatch).collect()
}

/// Rules that are not understood are of a table of iptables, or else of the followed table of
/// nftables, which belongs to a proxy.
fn is_of_services(rule: &PassedRule) -> bool {
    let table = Table::ALL.into_iter().find(|table| rule.table == Some(table.name()));
    table.is_none_or(|table| OURS.owns(table, &ChainName::from(&*rule.chain)))
}

/// The conditions of all ends, each once.
pub(crate) fn conditions(explanation: &Explanation) -> Vec<EndCondition> {
    let mut all = Vec::new();
    for condition in explanation.ends.iter().flat_map(|end| &end.conditions) {
        if !all.contains(condition) {
            all.push(condition.clone());
        }
    }
    all
}

/// The mismatch of a packet with conditions, if there must be none.
pub(crate) fn conditions_refused(conditions: &[EndCondition]) -> Option<Mismatch> {
    let texts: Vec<String> = conditions.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| Mismatch {
        field: "conditions",
        expected: "none".to_owned(),
        actual: texts.join("; "),
    })
}
