//! Checks whether 127.0.0.0/8 is reachable from the network (CVE-2020-8558), or not reachable although
//! node ports at 127.0.0.1 are configured.

use crate::error::FactResult;
use rulegen_compiler::plan;
use rulegen_inspect::iptables::guards_loopback;
use rulegen_inspect::words::ROUTE_LOCALNET_REMEDY;
use rulegen_net::IpFamily;
use rulegen_os::sysctl::{InterfaceSetting, Sysctl};

use super::rules_present::are_there;
use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    let open = open()?;
    let is_guarded = match open.is_empty() {
        true => false,
        false => node.iptables()?.iter().any(|actual| guards_loopback(&actual.ruleset)),
    };
    let has_node_ports = node.cluster().is_some_and(|cluster| {
        let snapshot = &cluster.snapshot;
        snapshot.ipv4.iter().any(|port| port.node_port.is_some())
            && plan(snapshot, node.config(), IpFamily::Ipv4).guards_loopback
    });
    // Without rules there are no node ports, and nothing guards 127.0.0.0/8.
    let is_wanted = open.is_empty() && has_node_ports && are_there(node)?;
    Ok(CheckResult::Found(check(&RouteLocalnetFacts { open, is_guarded, is_wanted })))
}

/// Interfaces with route_localnet on; the first is `all` if it is on for all interfaces.
fn open() -> FactResult<Vec<String>> {
    let all = (Sysctl::ROUTE_LOCALNET.read()? != 0).then(|| "all".to_owned());
    let interfaces = InterfaceSetting::RouteLocalnet.of_interfaces()?.into_iter();
    let open = interfaces.filter(|(_, value)| *value != 0).map(|(name, _)| name);
    Ok(all.into_iter().chain(open).collect())
}

struct RouteLocalnetFacts {
    open: Vec<String>,
    /// Whether KUBE-FIREWALL drops packets to 127.0.0.0/8 that are not replies.
    is_guarded: bool,
    /// Whether node ports must be reachable at 127.0.0.1.
    is_wanted: bool,
}

fn check(facts: &RouteLocalnetFacts) -> Vec<Finding> {
    let RouteLocalnetFacts { open, is_guarded, is_wanted } = facts;
    if !open.is_empty() && !is_guarded {
        return vec![Finding::warning(
            FindingCode::RouteLocalnetUnguarded,
            format!(
                "route_localnet is 1 ({}) and KUBE-FIREWALL has no rule against it: hosts on the \
                 same network can reach services at 127.0.0.1 (CVE-2020-8558)",
                named(open)
            ),
            format!(
                "sysctl -w {}; if node ports at 127.0.0.1 need it, apply the rules of iptables mode",
                settings(open)
            ),
        )];
    }
    if open.is_empty() && *is_wanted {
        return vec![Finding::note(
            FindingCode::RouteLocalnetOff,
            "net.ipv4.conf.all.route_localnet is 0: node ports are not reachable at 127.0.0.1",
            format!("{ROUTE_LOCALNET_REMEDY}; or set --iptables-localhost-nodeports=false"),
        )];
    }
    Vec::new()
}

/// At most this many interfaces are named.
const MOST_NAMED: usize = 8;

fn named(interfaces: &[String]) -> String {
    let named = interfaces.get(..MOST_NAMED).unwrap_or(interfaces).join(", ");
    match interfaces.len().saturating_sub(MOST_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// In the syntax of sysctl(8), which has `/` for a dot in a name.
fn settings(interfaces: &[String]) -> String {
    let setting =
        |name: &String| format!("net.ipv4.conf.{}.route_localnet=0", name.replace('.', "/"));
    interfaces.iter().take(MOST_NAMED).map(setting).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingSeverity;

    #[test]
    fn route_localnet_on_needs_a_guard_and_off_hides_node_ports() {
        let severity = |open: &[&str], is_guarded, is_wanted| {
            let open = open.iter().map(|name| (*name).to_owned()).collect();
            let found = check(&RouteLocalnetFacts { open, is_guarded, is_wanted });
            found.first().map(|finding| finding.severity)
        };
        assert_eq!(severity(&[], false, false), None);
        assert_eq!(severity(&["eth0"], true, true), None);
        assert_eq!(severity(&["eth0"], false, true), Some(FindingSeverity::Warning));
        assert_eq!(severity(&[], false, true), Some(FindingSeverity::Note));
    }

    #[test]
    fn route_localnet_remedy_names_each_interface_of_some() {
        let open = |names: &[&str]| {
            let open = names.iter().map(|name| (*name).to_owned()).collect();
            check(&RouteLocalnetFacts { open, is_guarded: false, is_wanted: false }).remove(0)
        };
        let command = "sysctl -w net.ipv4.conf.all.route_localnet=0 \
                       net.ipv4.conf.eth0/5.route_localnet=0; if";
        let finding = open(&["all", "eth0.5"]);
        assert!(finding.remedy.starts_with(command), "{finding:?}");
        let finding = open(&["veth"; 100]);
        assert!(finding.what.contains("veth and 92 more)"), "{finding:?}");
        assert_eq!(finding.remedy.matches("route_localnet=0").count(), MOST_NAMED);
    }
}
