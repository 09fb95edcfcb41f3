//! Whether there are any rules for Services.

use anyhow::Result;
use rulegen_config::ProxyMode;

use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::{HeldIptables, Rim};

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    Ok(Outcome::Found(check(rim.config().mode, are_there(rim)?)))
}

/// Whether the kernel holds rules of the mode, in any family.
pub(super) fn are_there(rim: &Rim<'_>) -> Result<bool> {
    Ok(match rim.config().mode {
        ProxyMode::Nftables => rim.tables()?.iter().any(|(_, name)| name == rim.table()),
        ProxyMode::Iptables => rim.iptables()?.iter().any(HeldIptables::holds_services),
    })
}

fn check(mode: ProxyMode, are_there: bool) -> Vec<Finding> {
    let wanted = match mode {
        ProxyMode::Nftables => "the kernel has no table of rulegen's",
        ProxyMode::Iptables => "no variant of iptables has a KUBE-* chain of Services",
    };
    let missing = || {
        Finding::error(
            format!("{wanted}: no Service can be reached from this node"),
            "start rulegen agent, or apply manifests with rulegen -f; if the rules are of another \
             mode or table, say so with --proxy-mode or --nftables-table",
        )
    };
    (!are_there).then(missing).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_rules_nothing_works() {
        assert_eq!(check(ProxyMode::Nftables, true), []);
        assert!(check(ProxyMode::Nftables, false)[0].what.contains("table"));
        assert!(check(ProxyMode::Iptables, false)[0].what.contains("KUBE-*"));
    }
}
