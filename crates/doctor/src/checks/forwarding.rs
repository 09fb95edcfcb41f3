//! Checks whether the node forwards packets.

use std::net::IpAddr;

use crate::error::FactResult;
use rulegen_net::IpFamily;
use rulegen_os::host::{self, HostInterface, has_ipv6};
use rulegen_os::sysctl::{InterfaceSetting, Sysctl};

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding, FindingSeverity};
use crate::node_facts::NodeFacts;

pub(crate) fn run_ipv4(node: &NodeFacts) -> FactResult<CheckResult> {
    if node.is_excluded(IpFamily::Ipv4) {
        return Ok(CheckResult::NotChecked("--ip-family excludes IPv4".to_owned()));
    }
    Ok(CheckResult::Found(check_ipv4(&Ipv4 {
        forwarding: Sysctl::IP_FORWARD.read()?,
        of_interfaces: InterfaceSetting::Forwarding.of_interfaces()?,
        interfaces: host::interfaces()?,
        node_ip: node.cluster().map(|cluster| cluster.snapshot.node.ipv4.primary),
    })))
}

pub(crate) fn run_ipv6(node: &NodeFacts) -> FactResult<CheckResult> {
    if node.is_excluded(IpFamily::Ipv6) {
        return Ok(CheckResult::NotChecked("--ip-family excludes IPv6".to_owned()));
    }
    let is_used = node.cluster().map(|cluster| !cluster.snapshot.ipv6.is_empty());
    let forwarding = if has_ipv6() { Sysctl::IPV6_FORWARDING.read_if_there()? } else { None };
    Ok(check_ipv6(&Ipv6 { forwarding, is_used }))
}

struct Ipv4 {
    /// Value of net.ipv4.ip_forward.
    forwarding: u64,
    /// Forwarding of each interface.
    of_interfaces: Vec<(String, u64)>,
    interfaces: Vec<HostInterface>,
    /// The node's primary address, if objects were given.
    node_ip: Option<IpAddr>,
}

fn check_ipv4(facts: &Ipv4) -> Vec<Finding> {
    if facts.forwarding == 0 {
        return vec![Finding::error(
            FindingCode::Ipv4ForwardingOff,
            format!("{} is 0: this node does not forward traffic to pods", Sysctl::IP_FORWARD),
            remedy(Sysctl::IP_FORWARD),
        )];
    }
    let is_off = |interface: &&HostInterface| {
        let off = facts.of_interfaces.iter().any(|(name, on)| *name == interface.name && *on == 0);
        off && interface.is_up
    };
    let off = facts.interfaces.iter().filter(is_off);
    off.map(|interface| interface_finding(interface, facts.node_ip)).collect()
}

/// An error if clients use the interface for sure, because it has an address of the node.
fn interface_finding(interface: &HostInterface, node_ip: Option<IpAddr>) -> Finding {
    let name = &interface.name;
    // sysctl(8) takes a slash for a dot in a name, as in eth0.100.
    let key = name.replace('.', "/");
    let (severity, of_node) = match node_ip.filter(|ip| interface.addresses.contains(ip)) {
        Some(ip) => (FindingSeverity::Error, format!(", which has this node's address {ip},")),
        None => (FindingSeverity::Warning, String::new()),
    };
    Finding::new(
        FindingCode::InterfaceForwardingOff,
        severity,
        format!(
            "net.ipv4.conf.{key}.forwarding is 0: traffic to Services that arrives on \
             {name}{of_node} is not forwarded to pods"
        ),
        format!(
            "sysctl -w net.ipv4.conf.{key}.forwarding=1, and persist it in /etc/sysctl.d; with \
             systemd-networkd, set IPv4Forwarding=yes (IPForward=ipv4 before version 256) for the \
             interface"
        ),
    )
}

struct Ipv6 {
    /// `None` if IPv6 is unavailable or disabled.
    forwarding: Option<u64>,
    /// Whether a Service has an IPv6 address, if that is known.
    is_used: Option<bool>,
}

fn check_ipv6(facts: &Ipv6) -> CheckResult {
    let sysctl = Sysctl::IPV6_FORWARDING;
    CheckResult::Found(match facts {
        Ipv6 { is_used: Some(false), .. } => {
            return CheckResult::NotChecked("no Service has an IPv6 address".to_owned());
        }
        Ipv6 { forwarding: None, is_used: None } => {
            return CheckResult::NotChecked("IPv6 is unavailable or disabled".to_owned());
        }
        Ipv6 { forwarding: None, is_used: Some(true) } => vec![Finding::error(
            FindingCode::Ipv6Unavailable,
            "Services have IPv6 addresses, but IPv6 is unavailable or disabled on this node",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0, and remove ipv6.disable=1 from the kernel \
             command line; or run rulegen doctor with --ip-family ipv4 if this node does not need IPv6",
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

    fn ipv4(forwarding: u64, of_eth0: u64, is_up: bool) -> Ipv4 {
        let eth0 = HostInterface {
            name: "eth0".to_owned(),
            is_up,
            addresses: vec![IpAddr::from([192, 0, 2, 10])],
        };
        let of_interfaces = vec![("eth0".to_owned(), of_eth0)];
        Ipv4 { forwarding, of_interfaces, interfaces: vec![eth0], node_ip: None }
    }

    #[test]
    fn forwarding_of_ipv4_must_be_on() {
        assert_eq!(check_ipv4(&ipv4(1, 1, true)), []);
        let [finding] = &check_ipv4(&ipv4(0, 0, true))[..] else { panic!("one thing is wrong") };
        assert!(finding.what.starts_with("net.ipv4.ip_forward is 0"), "{finding:?}");
        assert!(finding.remedy.starts_with("sysctl -w net.ipv4.ip_forward=1"), "{finding:?}");
    }

    #[test]
    fn forwarding_off_on_an_interface_is_an_error_if_it_has_the_node_address() {
        assert_eq!(check_ipv4(&ipv4(1, 0, false)), [], "it is down");
        let facts = ipv4(1, 0, true);
        let [finding] = &check_ipv4(&facts)[..] else { panic!("one thing is wrong") };
        assert_eq!(finding.severity, FindingSeverity::Warning);
        let what = "net.ipv4.conf.eth0.forwarding is 0: ";
        assert!(finding.what.starts_with(what), "{finding:?}");
        let facts = Ipv4 { node_ip: Some(IpAddr::from([192, 0, 2, 10])), ..facts };
        assert_eq!(check_ipv4(&facts)[0].severity, FindingSeverity::Error);
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
