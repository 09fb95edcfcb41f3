//! Checks whether the node forwards packets.

use crate::error::Result;
use rulegen_os::host::has_ipv6;
use rulegen_os::sysctl::Sysctl;

use crate::code::FindingCode;
use crate::finding::{Finding, Outcome};
use crate::node_facts::NodeFacts;

pub(crate) fn run_ipv4(_: &NodeFacts) -> Result<Outcome> {
    Ok(Outcome::Found(check_ipv4(Sysctl::IP_FORWARD.read()?)))
}

pub(crate) fn run_ipv6(node: &NodeFacts) -> Result<Outcome> {
    let is_used = node.cluster().map(|cluster| !cluster.snapshot.ipv6.is_empty());
    let forwarding = if has_ipv6() { Sysctl::IPV6_FORWARDING.read_if_there()? } else { None };
    Ok(check_ipv6(&Ipv6 { forwarding, is_used }))
}

fn check_ipv4(forwarding: u64) -> Vec<Finding> {
    let off = || {
        Finding::error(
            FindingCode::Ipv4ForwardingOff,
            format!("{} is 0: this node does not forward traffic to pods", Sysctl::IP_FORWARD),
            remedy(Sysctl::IP_FORWARD),
        )
    };
    (forwarding == 0).then(off).into_iter().collect()
}

struct Ipv6 {
    /// `None` if IPv6 is unavailable or disabled.
    forwarding: Option<u64>,
    /// Whether a Service has an IPv6 address, if that is known.
    is_used: Option<bool>,
}

fn check_ipv6(facts: &Ipv6) -> Outcome {
    let sysctl = Sysctl::IPV6_FORWARDING;
    Outcome::Found(match facts {
        Ipv6 { is_used: Some(false), .. } => {
            return Outcome::NotChecked("no Service has an IPv6 address".to_owned());
        }
        Ipv6 { forwarding: None, is_used: None } => {
            return Outcome::NotChecked("IPv6 is unavailable or disabled".to_owned());
        }
        Ipv6 { forwarding: None, is_used: Some(true) } => vec![Finding::error(
            FindingCode::Ipv6Unavailable,
            "Services have IPv6 addresses, but IPv6 is unavailable or disabled on this node",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0, and remove ipv6.disable=1 from the kernel \
             command line",
        )],
        Ipv6 { forwarding: Some(0), is_used: Some(true) } => vec![Finding::error(
            FindingCode::Ipv6ForwardingOff,
            format!("{sysctl} is 0: this node does not forward IPv6 traffic to pods"),
            remedy(sysctl),
        )],
        Ipv6 { forwarding: Some(0), is_used: None } => vec![Finding::note(
            FindingCode::Ipv6ForwardingOff,
            format!("{sysctl} is 0: if Services have IPv6 addresses, they are not reachable"),
            remedy(sysctl),
        )],
        Ipv6 { forwarding: Some(_), .. } => Vec::new(),
    })
}

fn remedy(sysctl: Sysctl) -> String {
    format!("sysctl -w {sysctl}=1, and persist it in /etc/sysctl.d")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Grade;

    #[test]
    fn forwarding_of_ipv4_must_be_on() {
        assert_eq!(check_ipv4(1), []);
        let [finding] = &check_ipv4(0)[..] else { panic!("one thing is wrong") };
        assert!(finding.what.starts_with("net.ipv4.ip_forward is 0"), "{finding:?}");
        assert!(finding.remedy.starts_with("sysctl -w net.ipv4.ip_forward=1"), "{finding:?}");
    }

    #[test]
    fn forwarding_of_ipv6_must_be_on_if_ipv6_is_used() {
        let grade = |forwarding, is_used| check_ipv6(&Ipv6 { forwarding, is_used }).grade();
        assert_eq!(grade(Some(1), Some(true)), Grade::Ok);
        assert_eq!(grade(Some(0), Some(true)), Grade::Error);
        assert_eq!(grade(Some(0), None), Grade::Note);
        assert_eq!(grade(Some(0), Some(false)), Grade::NotChecked);
        assert_eq!(grade(None, Some(true)), Grade::Error);
        assert_eq!(grade(None, None), Grade::NotChecked);
    }
}
