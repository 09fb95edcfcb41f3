//! Where a packet enters, as far as objects and configuration tell.

use std::net::IpAddr;

use rulegen_compiler::PodTraffic;
use rulegen_model::Node;
use rulegen_net::IpFamily;
use rulegen_ruleset::Origin;

use super::cluster::ObjectFacts;

/// The origin of a packet from an address. The configuration names the input interface of this
/// node's pods only if they are detected by it; a name prefix stands as `cali*`.
pub fn origin_by_input(
    from: IpAddr,
    facts: &ObjectFacts,
    node: &Node,
    pods: Option<&PodTraffic>,
) -> Origin {
    let is_own = from.is_loopback() || node.addresses(IpFamily::of(from)).local.contains(&from);
    match pods {
        _ if is_own => Origin::Host,
        Some(PodTraffic::Through(bridge)) if facts.is_pod_of_node(from, node) => {
            Origin::Interface(bridge.clone())
        }
        Some(PodTraffic::ThroughPrefix(start)) if facts.is_pod_of_node(from, node) => {
            Origin::Interface(format!("{start}*"))
        }
        _ => Origin::UnknownInterface,
    }
}

#[cfg(test)]
mod tests {
    use rulegen_model::{Host, KnownNodes, Objects, SnapshotOptions, read_manifest, snapshot};

    use super::*;

    const MANIFEST: &str = r#"
kind: Node
apiVersion: v1
metadata: {name: node-1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.50.1}]}
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 80}]
endpoints:
- {addresses: [10.99.0.5, 10.99.0.6], nodeName: node-1}
- {addresses: [10.99.0.7], nodeName: node-2}
"#;

    /// The configuration names the interface of pods only if it detects them by it.
    #[test]
    fn explain_origin_offline_is_interface_of_local_pods_only() {
        let mut objects = Objects::default();
        assert_eq!(read_manifest("test", MANIFEST.as_bytes(), &mut objects), []);
        let options = SnapshotOptions {
            hostname_override: Some("node-1".to_owned()),
            ..SnapshotOptions::default()
        };
        let (snapshot, _) = snapshot(&objects, &options, &Host::default());
        let origin = |from: &str, pods: Option<PodTraffic>| {
            let facts = ObjectFacts::of(&objects, &snapshot, KnownNodes::OfInput, &[]);
            origin_by_input(from.parse().unwrap(), &facts, &snapshot.node, pods.as_ref())
        };
        let bridge = || Some(PodTraffic::Through("cni0".to_owned()));
        let prefix = || Some(PodTraffic::ThroughPrefix("cali".to_owned()));
        let cidr = || Some(PodTraffic::From("10.244.0.0/16".parse().unwrap()));
        for pod in ["10.244.1.9", "10.99.0.5", "10.99.0.6"] {
            assert_eq!(origin(pod, bridge()), Origin::Interface("cni0".to_owned()), "{pod}");
            assert_eq!(origin(pod, prefix()), Origin::Interface("cali*".to_owned()), "{pod}");
            assert_eq!(origin(pod, cidr()), Origin::UnknownInterface, "{pod}");
            assert_eq!(origin(pod, None), Origin::UnknownInterface, "{pod}");
        }
        for other in ["10.244.2.9", "10.99.0.7", "203.0.113.9"] {
            assert_eq!(origin(other, bridge()), Origin::UnknownInterface, "{other}");
        }
        for own in ["192.168.50.1", "127.0.0.1"] {
            assert_eq!(origin(own, bridge()), Origin::Host, "{own}");
        }
    }
}
