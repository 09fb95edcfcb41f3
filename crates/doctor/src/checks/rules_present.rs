//! Checks whether any rules for Services exist.

use crate::error::FactResult;
use rulegen_config::ProxyMode;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::{ActualIptables, NodeFacts};

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    Ok(CheckResult::Found(check(node.config().mode, are_there(node)?)))
}

/// Whether the kernel has rules of the proxy mode, in any IP family.
pub(crate) fn are_there(node: &NodeFacts) -> FactResult<bool> {
    Ok(match node.config().mode {
        ProxyMode::Nftables => node.tables()?.iter().any(|(_, name)| name == node.table()),
        ProxyMode::Iptables => node.iptables()?.iter().any(ActualIptables::holds_services),
    })
}

fn check(mode: ProxyMode, are_there: bool) -> Vec<Finding> {
    let desired = match mode {
        ProxyMode::Nftables => "rulegen's nftables table does not exist",
        ProxyMode::Iptables => "no iptables variant has KUBE-* chains of Services",
    };
    let missing = || {
        Finding::error(
            FindingCode::NoRules,
            format!("{desired}: no Service is reachable from this node"),
            "start rulegen agent, or apply manifests with rulegen -f; for another mode or table, \
             use --proxy-mode or --nftables-table",
        )
    };
    (!are_there).then(missing).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doctor_missing_rules_are_an_error() {
        assert_eq!(check(ProxyMode::Nftables, true), []);
        assert!(check(ProxyMode::Nftables, false)[0].what.contains("table"));
        assert!(check(ProxyMode::Iptables, false)[0].what.contains("KUBE-*"));
    }
}
