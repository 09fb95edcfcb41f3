//! Checks whether this node has a route to the cluster IPs. Packets of its own processes (kubelet,
//! pods of the host network) are routed before the rules see them, so without a route they fail.
//! Packets of other pods are translated first.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::FactResult;
use ipnet::IpNet;
use rulegen_model::{Cluster, Snapshot};
use rulegen_net::IpFamily;
use rulegen_os::routes::route_error;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

/// Number of addresses that a finding names.
const NAMED: usize = 3;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_services(|Cluster { snapshot, .. }| {
        let mut findings = Vec::new();
        for family in node.families() {
            findings.extend(check(&unreachable(snapshot, *family)?, &snapshot.service_cidrs));
        }
        Ok(CheckResult::Found(findings))
    })
}

/// The cluster IPs of a family without a route.
struct Unreachable {
    family: IpFamily,
    /// In order, with the kernel's error for each.
    cluster_ips: Vec<(IpAddr, String)>,
}

fn unreachable(snapshot: &Snapshot, family: IpFamily) -> FactResult<Unreachable> {
    let ports = snapshot.service_ports(family).iter();
    let cluster_ips: BTreeSet<IpAddr> = ports.map(|port| port.cluster_ip).collect();
    let mut without_route = Vec::new();
    for ip in cluster_ips {
        without_route.extend(route_error(ip)?.map(|error| (ip, error.to_string())));
    }
    Ok(Unreachable { family, cluster_ips: without_route })
}

fn check(unreachable: &Unreachable, service_cidrs: &[IpNet]) -> Option<Finding> {
    let Unreachable { family, cluster_ips } = unreachable;
    let (_, error) = cluster_ips.first()?;
    let mut named: Vec<String> =
        cluster_ips.iter().take(NAMED).map(|(ip, _)| ip.to_string()).collect();
    let more = cluster_ips.len().saturating_sub(NAMED);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    let cidr = service_cidrs.iter().find(|cidr| IpFamily::of_network(**cidr) == *family);
    let (cidr, hint) = match cidr {
        Some(cidr) => (cidr.to_string(), ""),
        None => (
            "SERVICE-CIDR".to_owned(),
            ". SERVICE-CIDR is the value of kube-apiserver's --service-cluster-ip-range",
        ),
    };
    let flag = match family {
        IpFamily::Ipv4 => "",
        IpFamily::Ipv6 => "-6 ",
    };
    Some(Finding::error(
        FindingCode::NoRouteToClusterIps,
        format!(
            "no route to the cluster IPs {}: connections of this node's own processes to them fail \
             before the rules see them ({error})",
            named.join(", ")
        ),
        format!(
            "ip {flag}route add {cidr} dev INTERFACE with the interface that has this node's address, \
             or add a default route; persist it in the network configuration{hint}"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(family: IpFamily, ips: &[&str], service_cidrs: &[IpNet]) -> Option<Finding> {
        let cluster_ip = |ip: &&str| (ip.parse().unwrap(), "Network is unreachable".to_owned());
        let cluster_ips = ips.iter().map(cluster_ip).collect();
        check(&Unreachable { family, cluster_ips }, service_cidrs)
    }

    #[test]
    fn cluster_ips_without_route_are_named_with_the_service_cidr() {
        let cidrs = ["10.96.0.0/16", "fd00:96::/108"].map(|cidr| cidr.parse().unwrap());
        assert_eq!(found(IpFamily::Ipv4, &[], &cidrs), None);
        let ips = ["10.96.0.1", "10.96.0.2", "10.96.0.3", "10.96.0.4"];
        let finding = found(IpFamily::Ipv4, &ips, &cidrs).unwrap();
        let start = "no route to the cluster IPs 10.96.0.1, 10.96.0.2, 10.96.0.3, and 1 more: ";
        assert!(finding.what.starts_with(start), "{finding:?}");
        assert!(finding.remedy.contains("ip route add 10.96.0.0/16 dev"), "{finding:?}");
        let finding = found(IpFamily::Ipv6, &["fd00:96::1"], &cidrs).unwrap();
        assert!(finding.remedy.contains("ip -6 route add fd00:96::/108 dev"), "{finding:?}");
        let finding = found(IpFamily::Ipv4, &["10.96.0.1"], &[]).unwrap();
        assert!(finding.remedy.contains("ip route add SERVICE-CIDR dev"), "{finding:?}");
        assert!(finding.remedy.ends_with("--service-cluster-ip-range"), "{finding:?}");
    }
}
