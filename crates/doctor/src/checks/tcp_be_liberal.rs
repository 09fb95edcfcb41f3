//! Checks how INVALID TCP packets are handled. Untranslated they reset the connection
//! (kubernetes#74839), so either a rule must drop them or conntrack must accept them as valid.

use crate::error::FactResult;
use rulegen_config::ProxyMode;
use rulegen_os::sysctl::Sysctl;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    let Some(value) = Sysctl::CONNTRACK_TCP_BE_LIBERAL.read_if_there()? else {
        let reason = "connection tracking is not active (nf_conntrack is not loaded)";
        return Ok(CheckResult::NotChecked(reason.to_owned()));
    };
    let config = node.config();
    Ok(CheckResult::Found(check(config.mode, config.tcp_be_liberal, value == 1)))
}

fn check(mode: ProxyMode, is_wanted: bool, is_liberal: bool) -> Vec<Finding> {
    let sysctl = Sysctl::CONNTRACK_TCP_BE_LIBERAL;
    let remedy =
        format!("sysctl -w {sysctl}=1; the agent sets it with conntrack.tcpBeLiberal: true");
    match (mode, is_wanted, is_liberal) {
        (_, true, false) => vec![Finding::warning(
            FindingCode::TcpBeLiberalNotApplied,
            format!(
                "{sysctl} is 0 although tcpBeLiberal is configured: no rule drops INVALID packets, \
                 which may reset connections"
            ),
            remedy,
        )],
        // Like kube-proxy's, our nftables rules do not handle INVALID packets.
        (ProxyMode::Nftables, false, false) => vec![Finding::note(
            FindingCode::TcpBeLiberalOff,
            format!(
                "{sysctl} is 0: in nftables mode no rule drops INVALID packets, which may reset \
                 long-lived connections"
            ),
            remedy,
        )],
        (ProxyMode::Iptables | ProxyMode::Nftables, _, _) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingSeverity;

    #[test]
    fn tcp_be_liberal_off_needs_a_rule_that_drops_invalid() {
        use ProxyMode::{Iptables, Nftables};
        let worst = |mode, desired, is| check(mode, desired, is).iter().map(|f| f.severity).max();
        assert_eq!(worst(Iptables, false, false), None);
        assert_eq!(worst(Iptables, true, true), None);
        assert_eq!(worst(Iptables, true, false), Some(FindingSeverity::Warning));
        assert_eq!(worst(Nftables, true, false), Some(FindingSeverity::Warning));
        assert_eq!(worst(Nftables, false, false), Some(FindingSeverity::Note));
        assert_eq!(worst(Nftables, false, true), None);
    }
}
