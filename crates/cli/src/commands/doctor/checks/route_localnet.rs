//! Whether loopback addresses are open to neighbours (CVE-2020-8558), or closed though node ports
//! are to be reached there.

use anyhow::Result;
use rulegen_compiler::plan;
use rulegen_inspect::iptables::guards_loopback;
use rulegen_kernel::sysctl::{InterfaceSetting, Sysctl};
use rulegen_net::IpFamily;

use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::Rim;

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    let open = open()?;
    let is_guarded = match open.is_empty() {
        true => false,
        false => rim.iptables()?.iter().any(|held| guards_loopback(&held.ruleset)),
    };
    let is_wanted = rim.cluster().is_some_and(|cluster| {
        let snapshot = &cluster.snapshot;
        let has_node_ports = snapshot.ipv4.iter().any(|port| port.node_port.is_some());
        has_node_ports && plan(snapshot, rim.config(), IpFamily::Ipv4).guards_loopback
    });
    Ok(Outcome::Found(check(&Facts { open, is_guarded, is_wanted })))
}

/// Interfaces from which packets to loopback addresses are routed, `all` where it is all.
fn open() -> Result<Vec<String>> {
    if Sysctl::ROUTE_LOCALNET.read()? != 0 {
        return Ok(vec!["all".to_owned()]);
    }
    let interfaces = InterfaceSetting::RouteLocalnet.of_interfaces()?;
    Ok(interfaces.into_iter().filter(|(_, value)| *value != 0).map(|(name, _)| name).collect())
}

struct Facts {
    open: Vec<String>,
    /// Whether a rule drops those that nobody here asked for.
    is_guarded: bool,
    /// Whether there are node ports that shall be reached at 127.0.0.1.
    is_wanted: bool,
}

fn check(facts: &Facts) -> Vec<Finding> {
    let Facts { open, is_guarded, is_wanted } = facts;
    if !open.is_empty() && !is_guarded {
        return vec![Finding::warning(
            format!(
                "route_localnet is 1 ({}) and no rule of KUBE-FIREWALL guards it: neighbours reach \
                 what listens at 127.0.0.1 (CVE-2020-8558)",
                open.join(", ")
            ),
            "sysctl -w net.ipv4.conf.all.route_localnet=0 and the same for each of the interfaces; \
             where node ports at 127.0.0.1 need it, have the rules of iptables mode applied",
        )];
    }
    if open.is_empty() && *is_wanted {
        return vec![Finding::note(
            "net.ipv4.conf.all.route_localnet is 0: node ports cannot be reached at 127.0.0.1",
            "sysctl -w net.ipv4.conf.all.route_localnet=1 once the rules are in, as the agent does; \
             or --iptables-localhost-nodeports=false if nobody needs it",
        )];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Severity;

    #[test]
    fn open_takes_a_guard_and_closed_hides_node_ports() {
        let severity = |open: &[&str], is_guarded, is_wanted| {
            let open = open.iter().map(|name| (*name).to_owned()).collect();
            let found = check(&Facts { open, is_guarded, is_wanted });
            found.first().map(|finding| finding.severity)
        };
        assert_eq!(severity(&[], false, false), None);
        assert_eq!(severity(&["eth0"], true, true), None);
        assert_eq!(severity(&["eth0"], false, true), Some(Severity::Warning));
        assert_eq!(severity(&[], false, true), Some(Severity::Note));
    }
}
