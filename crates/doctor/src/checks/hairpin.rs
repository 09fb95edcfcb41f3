//! Checks the hairpin mode of bridge ports with endpoints. If bridged packets pass the rules, the
//! bridge forwards a packet that a Service sends back to the pod it comes from. With hairpin mode
//! off it drops it.

use std::net::IpAddr;

use crate::error::FactResult;
use rulegen_model::Snapshot;
use rulegen_net::ServicePortName;
use rulegen_os::bridges::{PortWithoutHairpin, ports_without_hairpin};

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_services(|cluster| {
        // The neighbours of a port are known for IPv4 only.
        let ports = ports_without_hairpin(false)?;
        let findings = ports.iter().filter_map(|port| check(port, &cluster.snapshot)).collect();
        Ok(result(findings, &ports))
    })
}

/// Behind a port without known neighbours may be an endpoint.
fn result(findings: Vec<Finding>, ports: &[PortWithoutHairpin]) -> CheckResult {
    match ports.iter().find(|port| port.neighbours.is_empty()) {
        Some(PortWithoutHairpin { bridge, port, .. }) if findings.is_empty() => {
            CheckResult::NotChecked(format!(
                "hairpin mode is off on port {port} of bridge {bridge}, and the kernel does not know \
                 which pod is behind it: check again after the node has sent packets to the pod"
            ))
        }
        _ => CheckResult::Found(findings),
    }
}

fn check(port: &PortWithoutHairpin, snapshot: &Snapshot) -> Option<Finding> {
    let PortWithoutHairpin { bridge, port, neighbours } = port;
    let (ip, service) = neighbours.iter().find_map(|ip| {
        let service = service_of(snapshot, IpAddr::V4(*ip))?;
        Some((ip, service))
    })?;
    Some(Finding::warning(
        FindingCode::HairpinOff,
        format!(
            "hairpin mode is off on port {port} of bridge {bridge}: its endpoint {ip} of Service \
             {service} does not reach itself through the Service"
        ),
        format!(
            "bridge link set dev {port} hairpin on; for new pods, set hairpinMode in the CNI \
             configuration of the bridge plugin"
        ),
    ))
}

/// The first service port with this endpoint.
fn service_of(snapshot: &Snapshot, ip: IpAddr) -> Option<&ServicePortName> {
    let mut ports = snapshot.ipv4.iter();
    let port = ports.find(|port| port.endpoints.iter().any(|end| end.address.ip() == ip))?;
    Some(&port.name)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rulegen_model::{Host, Objects, SnapshotOptions, read_manifest, snapshot};

    use super::*;

    #[test]
    fn hairpin_off_matters_on_ports_with_endpoints_only() {
        let manifest = r#"{"kind": "List", "apiVersion": "v1", "items": [
            {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"},
            "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}},
            {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata":
            {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"port": 8080}],
            "endpoints": [{"addresses": ["10.244.1.5"]}]}]}"#;
        let mut objects = Objects::default();
        assert_eq!(read_manifest("test", manifest.as_bytes(), &mut objects), []);
        let (snapshot, _) = snapshot(&objects, &SnapshotOptions::default(), &Host::default());
        let found = |last| {
            let neighbours = vec![Ipv4Addr::new(10, 244, 1, last)];
            let (bridge, port) = ("cbr0".to_owned(), "pod1".to_owned());
            check(&PortWithoutHairpin { bridge, port, neighbours }, &snapshot)
        };
        assert_eq!(found(6), None);
        let finding = found(5).unwrap();
        let start = "hairpin mode is off on port pod1 of bridge cbr0: its endpoint 10.244.1.5 of \
                     Service default/web does";
        assert!(finding.what.starts_with(start), "{finding:?}");
        assert!(finding.remedy.starts_with("bridge link set dev pod1 hairpin on"), "{finding:?}");
    }

    #[test]
    fn hairpin_is_not_checked_if_a_pod_behind_a_port_is_not_known() {
        let port = |neighbours| PortWithoutHairpin {
            bridge: "cbr0".to_owned(),
            port: "pod1".to_owned(),
            neighbours,
        };
        let known = port(vec![Ipv4Addr::new(10, 244, 1, 6)]);
        let of_known = result(Vec::new(), std::slice::from_ref(&known));
        assert_eq!(of_known, CheckResult::Found(Vec::new()));
        let CheckResult::NotChecked(why) = result(Vec::new(), &[known, port(Vec::new())]) else {
            panic!("checked")
        };
        assert!(why.starts_with("hairpin mode is off on port pod1 of bridge cbr0, and"), "{why}");
    }
}
