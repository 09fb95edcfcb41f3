//! Explanations of packets in both modes.

use rulegen_compiler::{iptables::ruleset, nftables::table, plan};
use rulegen_config::ProxyConfig;
use rulegen_model::{
    Host, Objects, Snapshot, SnapshotOptions, read_manifest, snapshot, unavailability,
};
use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::Origin;

use super::*;

/// TCP has one endpoint, which is ready. UDP has `UDP_ENDPOINTS`.
const MANIFEST: &str = r#"
kind: Service
apiVersion: v1
metadata: {name: dns}
spec:
  clusterIP: 10.96.0.10
  ports:
  - {name: dns, protocol: TCP, port: 53}
  - {name: dns, protocol: UDP, port: 53}
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: dns-tcp, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, protocol: TCP, port: 5353}]
endpoints: [{addresses: [10.244.1.5]}]
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: dns-udp, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, protocol: UDP, port: 5353}]
endpoints: UDP_ENDPOINTS
"#;

fn cluster(udp_endpoints: &str) -> (Snapshot, Objects) {
    let manifest = MANIFEST.replace("UDP_ENDPOINTS", udp_endpoints);
    let mut objects = Objects::default();
    assert_eq!(read_manifest("test", manifest.as_bytes(), &mut objects), []);
    let (snapshot, problems) = snapshot(&objects, &SnapshotOptions::default(), &Host::default());
    assert_eq!(problems, []);
    (snapshot, objects)
}

/// What a packet over a protocol is explained with, in iptables and in nftables mode.
fn explained(udp_endpoints: &str, protocol: Protocol) -> [Explanation; 2] {
    let (snapshot, objects) = cluster(udp_endpoints);
    let plan = plan(&snapshot, &ProxyConfig::default(), IpFamily::Ipv4);
    let packet = Packet {
        origin: Origin::Interface("eth0".to_owned()),
        source: "10.244.1.9".parse().unwrap(),
        destination: "10.96.0.10:53".parse().unwrap(),
        protocol,
    };
    let explanations = [
        by_ruleset(&ruleset(&plan), &[], &packet, Some(&plan)),
        by_table(&table(&plan, &"rulegen".into()), &[], &packet, Some(&plan)),
    ];
    explanations.map(|mut explanation| {
        explanation.refused_because(|name| {
            let mut ports = snapshot.ipv4.iter();
            unavailability(ports.find(|port| port.name == *name)?, &objects)
        });
        explanation
    })
}

fn texts(explanation: &Explanation, about: About) -> Vec<&str> {
    let remarks = explanation.remarks.iter().filter(|remark| remark.about == about);
    remarks.map(|remark| remark.text.as_str()).collect()
}

#[test]
fn explain_policy_remark_counts_endpoints_of_packet_protocol_only() {
    let some_ready =
        "[{addresses: [10.244.1.6]}, {addresses: [10.244.1.7], conditions: {ready: false}}]";
    for explanation in explained(some_ready, Protocol::Udp) {
        let policy = texts(&explanation, About::Policy);
        assert!(policy[0].contains("1 of 2"), "{policy:?}");
    }
    for explanation in explained(some_ready, Protocol::Tcp) {
        let policy = texts(&explanation, About::Policy);
        assert!(!policy[0].contains("of 2"), "{policy:?}");
    }
}

#[test]
fn explain_no_endpoints_reason_is_that_of_packet_protocol() {
    let not_ready = "[{addresses: [10.244.1.7], conditions: {ready: false}}]";
    for explanation in explained(not_ready, Protocol::Udp) {
        let service = explanation.frontend.as_ref().map(|frontend| &frontend.service);
        assert_eq!(service.map(|service| service.protocol), Some(Protocol::Udp));
        let reasons = texts(&explanation, About::NoEndpoints);
        assert!(reasons.len() == 1 && reasons[0].contains("1 not ready"), "{reasons:?}");
    }
    for explanation in explained(not_ready, Protocol::Tcp) {
        assert!(matches!(explanation.ends[..], [End { outcome: Outcome::Endpoint { .. }, .. }]));
    }
}

/// Half of the packets match the first rule, half of the others the second.
const SAME_ENDPOINT_TWICE: &str = "*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m statistic --mode random --probability 0.5 -j KUBE-SEP-A
-A PREROUTING -m statistic --mode random --probability 0.5 -j KUBE-SEP-B
-A PREROUTING -j KUBE-SEP-C
:KUBE-SEP-A - [0:0]
:KUBE-SEP-B - [0:0]
:KUBE-SEP-C - [0:0]
-A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination 10.244.1.5:80
-A KUBE-SEP-B -p tcp -m tcp -j DNAT --to-destination 10.244.1.5:80
-A KUBE-SEP-C -p tcp -m tcp -j DNAT --to-destination 10.244.1.6:80
COMMIT
";

#[test]
fn explain_adds_probabilities_of_branches_to_same_endpoint() {
    let (rules, errors) = iptables::parse(IpFamily::Ipv4, SAME_ENDPOINT_TWICE);
    assert_eq!(errors, []);
    let packet = Packet {
        origin: Origin::Interface("eth0".to_owned()),
        source: "10.244.1.9".parse().unwrap(),
        destination: "10.96.0.10:80".parse().unwrap(),
        protocol: Protocol::Tcp,
    };
    let explanation = by_ruleset(&rules, &[], &packet, None);
    let exact: Vec<Option<&str>> =
        explanation.ends.iter().map(|end| end.probability.exact.as_deref()).collect();
    assert_eq!(exact, [Some("3/4"), Some("1/4")], "{:?}", explanation.ends);
}
