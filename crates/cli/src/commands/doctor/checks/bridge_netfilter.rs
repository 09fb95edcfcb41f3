//! Whether rules see what a bridge takes from port to port. If not, the answer of a pod to another
//! on its bridge goes past the translation, and the client gets it from an address that it never
//! asked.

use anyhow::Result;
use rulegen_kernel::bridges::{Bridge, bridges};
use rulegen_kernel::sysctl::Sysctl;
use rulegen_net::IpFamily;

use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::Rim;

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    let calls = |family: &IpFamily| {
        let sysctl = match family {
            IpFamily::Ipv4 => Sysctl::BRIDGE_NF_CALL_IPTABLES,
            IpFamily::Ipv6 => Sysctl::BRIDGE_NF_CALL_IP6TABLES,
        };
        Ok((sysctl, sysctl.read_if_there()?))
    };
    let calls: Result<Vec<(Sysctl, Option<u64>)>> = rim.families().iter().map(calls).collect();
    Ok(Outcome::Found(check(&bridges()?, &calls?)))
}

/// Of each family the sysctl and its value, `None` where the module is not there.
fn check(bridges: &[Bridge], calls: &[(Sysctl, Option<u64>)]) -> Vec<Finding> {
    // One port has nobody to talk to past the rules.
    let used: Vec<&str> =
        bridges.iter().filter(|bridge| bridge.ports > 1).map(|b| b.name.as_str()).collect();
    if used.is_empty() {
        return Vec::new();
    }
    let bridges = used.join(", ");
    let off = |sysctl: &Sysctl| {
        Finding::warning(
            format!(
                "{sysctl} is 0: a pod that asks a Service for another pod on the same bridge \
                 ({bridges}) gets no answer"
            ),
            format!("sysctl -w {sysctl}=1, and the same in /etc/sysctl.d so that it stays"),
        )
    };
    let is_missing = calls.iter().all(|(_, value)| value.is_none());
    let missing = is_missing.then(|| {
        Finding::note(
            format!(
                "the module br_netfilter is not loaded: if pods are on the bridge ({bridges}), one \
                 that asks a Service for another on the same bridge gets no answer"
            ),
            "modprobe br_netfilter, and the name in /etc/modules-load.d so that it stays",
        )
    });
    let off = calls.iter().filter(|(_, value)| *value == Some(0)).map(|(sysctl, _)| off(sysctl));
    off.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Severity;

    fn bridge(ports: usize) -> Vec<Bridge> {
        vec![Bridge { name: "cni0".to_owned(), ports }]
    }

    #[test]
    fn a_bridge_with_pods_needs_the_rules() {
        let call = |value| [(Sysctl::BRIDGE_NF_CALL_IPTABLES, value)];
        assert_eq!(check(&bridge(2), &call(Some(1))), []);
        assert_eq!(check(&bridge(1), &call(Some(0))), []);
        assert_eq!(check(&[], &call(None)), []);
        let [off] = &check(&bridge(2), &call(Some(0)))[..] else { panic!("one is wrong") };
        assert_eq!(off.severity, Severity::Warning);
        assert!(off.what.contains("cni0"), "{off:?}");
        let [missing] = &check(&bridge(2), &call(None))[..] else { panic!("one is wrong") };
        assert_eq!(missing.severity, Severity::Note);
        assert!(missing.remedy.starts_with("modprobe br_netfilter"), "{missing:?}");
    }
}
