//! Checks whether any rules for Services exist.

use anyhow::Result;
use rulegen_config::ProxyMode;

use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::{ActualIptables, Rim};

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    Ok(Outcome::Inputs(check(rim.config().mode, are_there(rim)?)))
}

/// Whether the kernel has rules of the proxy mode, in any IP family.
pub(super) fn are_there(rim: &Rim<'_>) -> Result<bool> {
    Ok(match rim.config().mode {
        ProxyMode::Nftables => rim.tables()?.iter().any(|(_, name)| name == rim.table()),
        ProxyMode::Iptables => rim.iptables()?.iter().any(ActualIptables::holds_services),
    })
}

fn check(mode: ProxyMode, are_there: bool) -> Vec<Finding> {
    let wanted = match mode {
        ProxyMode::Nftables => "rulegen's nftables table does not exist",
        ProxyMode::Iptables => "no iptables variant has KUBE-* chains of Services",
    };
    let missing = || {
        Finding::error(
            format!("{wanted}: no Service is reachable from this node"),
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
    fn missing_rules_are_an_error() {
        assert_eq!(check(ProxyMode::Nftables, true), []);
        assert!(check(ProxyMode::Nftables, false)[0].what.contains("table"));
        assert!(check(ProxyMode::Iptables, false)[0].what.contains("KUBE-*"));
    }
}
