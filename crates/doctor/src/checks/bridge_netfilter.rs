//! Checks whether bridged traffic passes the rules. If not, replies between pods on one bridge are
//! not translated back, and the client drops them because they come from an unknown address.

use crate::error::FactResult;
use rulegen_net::IpFamily;
use rulegen_os::bridges::{Bridge, bridges};
use rulegen_os::sysctl::Sysctl;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    let calls = |family: &IpFamily| {
        let sysctl = match family {
            IpFamily::Ipv4 => Sysctl::BRIDGE_NF_CALL_IPTABLES,
            IpFamily::Ipv6 => Sysctl::BRIDGE_NF_CALL_IP6TABLES,
        };
        Ok((sysctl, sysctl.read_if_there()?))
    };
    let calls: FactResult<Vec<(Sysctl, Option<u64>)>> = node.families().iter().map(calls).collect();
    Ok(CheckResult::Found(check(&bridges()?, &calls?)))
}

/// `calls` holds the sysctl of each family and its value; `None` if the module is not loaded.
fn check(bridges: &[Bridge], calls: &[(Sysctl, Option<u64>)]) -> Vec<Finding> {
    // A bridge with one port forwards nothing between ports.
    let used: Vec<&str> =
        bridges.iter().filter(|bridge| bridge.ports > 1).map(|b| b.name.as_str()).collect();
    if used.is_empty() {
        return Vec::new();
    }
    let bridges = used.join(", ");
    let off = |sysctl: &Sysctl| {
        Finding::warning(
            FindingCode::BridgeNetfilterOff,
            format!(
                "{sysctl} is 0: connections through a Service between pods on the same bridge \
                 ({bridges}) fail"
            ),
            format!("sysctl -w {sysctl}=1, and persist it in /etc/sysctl.d"),
        )
    };
    let is_missing = calls.iter().all(|(_, value)| value.is_none());
    let missing = is_missing.then(|| {
        Finding::note(
            FindingCode::BridgeNetfilterNotLoaded,
            format!(
                "the kernel module br_netfilter is not loaded: if pods are on the bridge \
                 ({bridges}), connections through a Service between them fail"
            ),
            "modprobe br_netfilter, and persist it in /etc/modules-load.d",
        )
    });
    let off = calls.iter().filter(|(_, value)| *value == Some(0)).map(|(sysctl, _)| off(sysctl));
    off.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingSeverity;

    fn bridge(ports: usize) -> Vec<Bridge> {
        vec![Bridge { name: "cni0".to_owned(), ports }]
    }

    #[test]
    fn doctor_bridge_with_pods_needs_bridge_netfilter() {
        let call = |value| [(Sysctl::BRIDGE_NF_CALL_IPTABLES, value)];
        assert_eq!(check(&bridge(2), &call(Some(1))), []);
        assert_eq!(check(&bridge(1), &call(Some(0))), []);
        assert_eq!(check(&[], &call(None)), []);
        let [off] = &check(&bridge(2), &call(Some(0)))[..] else { panic!("one is wrong") };
        assert_eq!(off.severity, FindingSeverity::Warning);
        assert!(off.what.contains("cni0"), "{off:?}");
        let [missing] = &check(&bridge(2), &call(None))[..] else { panic!("one is wrong") };
        assert_eq!(missing.severity, FindingSeverity::Note);
        assert!(missing.remedy.starts_with("modprobe br_netfilter"), "{missing:?}");
    }
}
