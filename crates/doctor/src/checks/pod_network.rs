//! Checks whether the pods of this node are in the network by which rulegen detects pod traffic
//! (clusterCIDR, or the Node's podCIDR). Traffic from other sources counts as external: it is
//! masqueraded, and traffic policy Local applies to it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::FactResult;
use ipnet::IpNet;
use rulegen_config::{DetectLocalMode, ProxyConfig};
use rulegen_model::{ServicePort, Snapshot, TrafficPolicy};
use rulegen_net::{IpFamily, ServicePortName};
use rulegen_os::host;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

/// Number of pods that a finding names.
const NAMED: usize = 3;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_services(|cluster| {
        let config = node.config();
        let mode = config.detect_local_mode;
        if matches!(mode, DetectLocalMode::BridgeInterface | DetectLocalMode::InterfaceNamePrefix) {
            return Ok(CheckResult::NotChecked("pod traffic is detected by interface".to_owned()));
        }
        let host_addresses = host::addresses()?;
        let families = node.families().iter();
        let facts: Vec<PodNetworkFacts> = families
            .map(|family| facts(&cluster.snapshot, config, *family, &host_addresses))
            .collect();
        Ok(outcome(&facts))
    })
}

/// The facts of one IP family.
struct PodNetworkFacts {
    family: IpFamily,
    /// The field that has the network.
    field: &'static str,
    /// The network that rulegen uses; `None` if there is none.
    network: Option<IpNet>,
    /// The Node's podCIDR.
    pod_cidr: Option<IpNet>,
    /// Endpoints on this node, except in its host network.
    pods: BTreeSet<IpAddr>,
    /// A service port with external traffic policy Local that is reachable from outside. Pods reach
    /// all of its endpoints only if they are detected.
    local: Option<ServicePortName>,
}

fn facts(
    snapshot: &Snapshot,
    config: &ProxyConfig,
    family: IpFamily,
    host_addresses: &[IpAddr],
) -> PodNetworkFacts {
    let pod_cidr = snapshot.node.addresses(family).pod_cidr;
    let (field, network) = match config.detect_local_mode {
        DetectLocalMode::NodeCidr => ("spec.podCIDRs of the Node", pod_cidr),
        _ => {
            let mut networks = config.cluster_cidrs.iter().copied();
            ("clusterCIDR", networks.find(|network| IpFamily::of_network(*network) == family))
        }
    };
    let ports = snapshot.service_ports(family);
    let endpoints = ports.iter().flat_map(|port| &port.endpoints).filter(|it| it.local);
    let is_pod = |ip: &IpAddr| !snapshot.node.has_address(*ip) && !host_addresses.contains(ip);
    let has_local_policy = |port: &&ServicePort| {
        port.external_policy == TrafficPolicy::Local && port.externally_accessible()
    };
    PodNetworkFacts {
        family,
        field,
        network,
        pod_cidr,
        pods: endpoints.map(|endpoint| endpoint.address.ip()).filter(is_pod).collect(),
        local: ports.iter().find(has_local_policy).map(|port| port.name.clone()),
    }
}

/// Not checked if there is nothing to compare in any family.
fn outcome(facts: &[PodNetworkFacts]) -> CheckResult {
    let findings: Vec<Finding> = facts.iter().filter_map(check).collect();
    let Some(first) = facts.first().filter(|_| findings.is_empty()) else {
        return CheckResult::Found(findings);
    };
    if facts.iter().all(|facts| facts.network.is_none()) {
        return CheckResult::NotChecked(format!("no {} is configured", first.field));
    }
    let is_compared = |facts: &PodNetworkFacts| {
        facts.network.is_some() && (facts.pod_cidr.is_some() || !facts.pods.is_empty())
    };
    if !facts.iter().any(is_compared) {
        let reason = "the input has neither an endpoint on this node nor the Node's spec.podCIDRs";
        return CheckResult::NotChecked(reason.to_owned());
    }
    CheckResult::Found(findings)
}

fn check(facts: &PodNetworkFacts) -> Option<Finding> {
    match facts.network {
        None => unset(facts),
        Some(network) => outside(facts, network),
    }
}

fn unset(
    PodNetworkFacts { family, field, pod_cidr, local, .. }: &PodNetworkFacts,
) -> Option<Finding> {
    let local = local.as_ref()?;
    let cidr = pod_cidr.map_or_else(String::new, |cidr| format!(", which contains {cidr}"));
    Some(Finding::note(
        FindingCode::PodNetworkUnset,
        format!(
            "no {} {field} is configured: pod traffic to external addresses of Services with \
             externalTrafficPolicy Local, such as {local}, is treated as external and only reaches \
             endpoints on this node",
            family.api_name()
        ),
        format!(
            "set --detect-local-mode ClusterCIDR and --cluster-cidr (clusterCIDR) to the pod network \
             of the cluster{cidr}"
        ),
    ))
}

fn outside(facts: &PodNetworkFacts, network: IpNet) -> Option<Finding> {
    let PodNetworkFacts { field, pod_cidr, pods, .. } = facts;
    let outside: Vec<&IpAddr> = pods.iter().filter(|ip| !network.contains(*ip)).collect();
    // A podCIDR that no pod is in may be unused: some network plugins have their own pools.
    let is_unused = outside.len() < pods.len();
    let pod_cidr = pod_cidr.filter(|cidr| !is_unused && !network.contains(cidr));
    let mut named: Vec<String> = pod_cidr.iter().map(|cidr| format!("podCIDR {cidr}")).collect();
    named.extend(outside.iter().take(NAMED).map(ToString::to_string));
    let more = outside.len().saturating_sub(NAMED);
    if more > 0 {
        named.push(format!("{more} more endpoints"));
    }
    if named.is_empty() {
        return None;
    }
    let is = if named.len() == 1 { "is" } else { "are" };
    Some(Finding::warning(
        FindingCode::PodsOutsidePodNetwork,
        format!(
            "{} of this node {is} outside {field} {network}: traffic of these pods to Services \
             counts as external, so it is masqueraded and endpoints see this node's address",
            named.join(", ")
        ),
        "set --cluster-cidr (clusterCIDR) to the network of all pods, or choose another \
         --detect-local-mode",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingSeverity;

    fn facts(network: Option<&str>, pod_cidr: Option<&str>, pods: &[[u8; 4]]) -> PodNetworkFacts {
        PodNetworkFacts {
            family: IpFamily::Ipv4,
            field: "clusterCIDR",
            network: network.map(|network| network.parse().unwrap()),
            pod_cidr: pod_cidr.map(|cidr| cidr.parse().unwrap()),
            pods: pods.iter().copied().map(IpAddr::from).collect(),
            local: None,
        }
    }

    #[test]
    fn pods_outside_cluster_cidr_are_named() {
        let cluster = Some("10.244.0.0/16");
        let (inside, outside) = ([10, 244, 1, 5], [192, 168, 1, 5]);
        assert_eq!(check(&facts(cluster, Some("10.244.1.0/24"), &[inside])), None);
        assert_eq!(check(&facts(cluster, None, &[])), None);
        let unused = facts(cluster, Some("192.168.1.0/24"), &[inside]);
        assert_eq!(check(&unused), None, "pods have other addresses");
        let finding = check(&facts(cluster, Some("192.168.1.0/24"), &[outside])).unwrap();
        let start = "podCIDR 192.168.1.0/24, 192.168.1.5 of this node are outside clusterCIDR \
                     10.244.0.0/16";
        assert!(finding.what.starts_with(start), "{finding:?}");
        let finding = check(&facts(cluster, Some("10.244.1.0/24"), &[inside, outside])).unwrap();
        assert!(finding.what.starts_with("192.168.1.5 of this node is outside"), "{finding:?}");
    }

    #[test]
    fn pod_network_without_cidr_or_pods_is_not_checked() {
        let reason = |facts| match outcome(&[facts]) {
            CheckResult::NotChecked(reason) => reason,
            other => panic!("{other:?}"),
        };
        let (cluster, pod) = (Some("10.244.0.0/16"), [10, 244, 1, 5]);
        assert_eq!(reason(facts(None, None, &[pod])), "no clusterCIDR is configured");
        assert!(reason(facts(cluster, None, &[])).starts_with("the input has neither"));
        let compared = [facts(None, None, &[]), facts(cluster, None, &[pod])];
        assert_eq!(outcome(&compared), CheckResult::Found(Vec::new()), "one family is compared");
    }

    #[test]
    fn cluster_cidr_is_needed_for_external_traffic_policy_local() {
        let unset = facts(None, Some("10.244.1.0/24"), &[[10, 244, 1, 5]]);
        assert_eq!(check(&unset), None);
        let local = Some(ServicePortName {
            namespace: "default".into(),
            service: "front".into(),
            port: "".into(),
            protocol: rulegen_net::Protocol::Tcp,
        });
        let finding = check(&PodNetworkFacts { local, ..unset }).unwrap();
        assert_eq!(finding.severity, FindingSeverity::Note);
        assert!(finding.what.starts_with("no IPv4 clusterCIDR is configured"), "{finding:?}");
        assert!(finding.remedy.ends_with("which contains 10.244.1.0/24"), "{finding:?}");
    }
}
