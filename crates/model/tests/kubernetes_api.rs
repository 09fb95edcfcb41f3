//! Compares our types for API objects with those of k8s-openapi, which are generated from the API's
//! definition. A misspelt field of our types keeps its default and fails here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]
#![allow(clippy::panic, clippy::cast_possible_truncation, reason = "the encoder is for tests")]

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::api::core::v1::{
    ClientIPConfig, EndpointAddress, EndpointSubset, Endpoints, LoadBalancerIngress,
    LoadBalancerStatus, Node, NodeAddress, NodeSpec, NodeStatus, ObjectReference, Service,
    ServicePort, ServiceSpec, ServiceStatus, SessionAffinityConfig, Taint,
};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rulegen_model::{IfEmpty, Kind, Metadata, Objects, protobuf, read_manifest, read_object};
use serde::Serialize;

#[path = "../../../tests/agent/api_server/protobuf.rs"]
#[allow(dead_code, reason = "watches are not tested here")]
mod encoder;

const DELETED_AT: &str = "2026-11-27T12:00:00Z";
const TRIGGERED_AT: &str = "2026-11-27T11:59:58.5Z";

#[test]
fn service_fields_are_those_of_the_kubernetes_api() {
    let objects = read(&service());
    let service = &objects.services[0].object;
    assert_all_fields_filled(service);
    assert_metadata(&service.metadata, "web");

    let spec = &service.spec;
    assert_eq!(spec.kind.as_deref(), Some("LoadBalancer"));
    assert_eq!(spec.cluster_ip.as_deref(), Some("10.96.0.10"));
    assert_eq!(spec.cluster_ips, ["10.96.0.10", "fd00::10"]);
    assert_eq!(spec.ip_families, ["IPv4", "IPv6"]);
    assert_eq!(spec.external_ips, ["192.0.2.1"]);
    assert_eq!(spec.load_balancer_source_ranges, ["198.51.100.0/24"]);
    assert_eq!(spec.external_traffic_policy.as_deref(), Some("Local"));
    assert!(spec.publish_not_ready_addresses);
    assert_eq!(spec.internal_traffic_policy.as_deref(), Some("Cluster"));
    assert_eq!(spec.health_check_node_port, Some(31000));
    assert_eq!(spec.session_affinity.as_deref(), Some("ClientIP"));
    assert_eq!(spec.session_affinity_config.client_ip.timeout_seconds, Some(600));
    assert!(spec.has_selector);

    assert_eq!(spec.ports.len(), 1);
    let port = &spec.ports[0];
    assert_eq!((port.name.as_str(), port.protocol.as_deref()), ("http", Some("TCP")));
    assert_eq!((port.port, port.node_port), (Some(80), Some(30080)));

    let ingress = &service.status.load_balancer.ingress;
    assert_eq!(ingress.len(), 1);
    assert_eq!(
        (ingress[0].ip.as_str(), ingress[0].ip_mode.as_deref()),
        ("203.0.113.1", Some("VIP"))
    );
}

#[test]
fn endpoint_slice_fields_are_those_of_the_kubernetes_api() {
    let objects = read(&endpoint_slice());
    let slice = &objects.slices[0].object;
    assert_all_fields_filled(slice);
    assert_metadata(&slice.metadata, "web-1");
    assert_eq!(slice.address_type, "IPv4");

    assert_eq!(slice.endpoints.len(), 1);
    let endpoint = &slice.endpoints[0];
    assert_eq!(endpoint.addresses, ["10.244.1.5"]);
    assert_eq!(endpoint.node_name.as_deref(), Some("node-1"));
    let conditions = &endpoint.conditions;
    let states = [conditions.ready, conditions.serving, conditions.terminating];
    assert_eq!(states, [Some(true); 3]);
    assert_eq!(endpoint.hints.for_zones[0].name, "zone-a");
    assert_eq!(endpoint.hints.for_nodes[0].name, "node-1");

    assert_eq!(slice.ports.len(), 1);
    let port = &slice.ports[0];
    assert_eq!((port.name.as_str(), port.protocol.as_deref()), ("http", Some("TCP")));
    assert_eq!(port.port, Some(8080));
}

/// All three conditions are true in the test above, so it does not detect exchanged fields.
#[test]
fn endpoint_conditions_are_not_exchanged() {
    for (ready, serving, terminating) in
        [(true, false, false), (false, true, false), (false, false, true)]
    {
        let mut slice = endpoint_slice();
        slice.endpoints.as_mut().unwrap()[0].conditions = Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        });
        let objects = read(&slice);
        let conditions = &objects.slices[0].object.endpoints[0].conditions;
        assert_eq!(
            (conditions.ready, conditions.serving, conditions.terminating),
            (Some(ready), Some(serving), Some(terminating))
        );
    }
}

#[test]
fn node_fields_are_those_of_the_kubernetes_api() {
    let objects = read(&node());
    let node = &objects.nodes[0].object;
    assert_all_fields_filled(node);
    assert_metadata(&node.metadata, "node-1");
    assert_eq!(node.spec.pod_cidr.as_deref(), Some("10.244.1.0/24"));
    assert_eq!(node.spec.pod_cidrs, ["10.244.1.0/24", "fd00:244:1::/64"]);
    assert_eq!(node.spec.taints[0].key, "ToBeDeletedByClusterAutoscaler");
    let address = &node.status.addresses[0];
    assert_eq!((address.kind.as_str(), address.address.as_str()), ("InternalIP", "192.168.1.10"));
}

#[test]
fn service_cidr_fields_are_those_of_the_kubernetes_api() {
    let objects = read(&service_cidr());
    let cidr = &objects.service_cidrs[0].object;
    assert_all_fields_filled(cidr);
    assert_metadata(&cidr.metadata, "kubernetes");
    assert_eq!(cidr.spec.cidrs, ["10.96.0.0/12"]);
}

/// Endpoints are mirrored, so their fields appear in the resulting slice.
#[test]
fn endpoints_fields_are_those_of_the_kubernetes_api() {
    let mut without_selector = service();
    without_selector.spec.as_mut().unwrap().selector = None;
    let mut objects = read(&without_selector);
    read_into(&endpoints(), &mut objects);
    let problems = objects.complete(IfEmpty::Refuse);
    assert!(problems.is_empty(), "{problems:?}");

    let slice = &objects.slices[0].object;
    assert_eq!(slice.metadata.namespace, "shop");
    assert_eq!(slice.metadata.labels.service_name.as_deref(), Some("web"));
    assert_eq!(slice.address_type, "IPv4");
    let of_slice = slice.endpoints.iter().map(|endpoint| {
        (endpoint.addresses[0].as_str(), endpoint.conditions.ready, endpoint.node_name.as_deref())
    });
    assert_eq!(
        of_slice.collect::<Vec<_>>(),
        [("10.244.1.5", Some(true), Some("node-1")), ("10.244.2.6", Some(false), Some("node-2"))]
    );
    let port = &slice.ports[0];
    assert_eq!((port.name.as_str(), port.protocol.as_deref()), ("http", Some("TCP")));
    assert_eq!(port.port, Some(8080));
}

/// The tests above check that all fields are set.
#[test]
fn kubernetes_api_objects_are_the_same_in_protobuf() {
    assert_same_in_protobuf(Kind::Service, &service());
    assert_same_in_protobuf(Kind::EndpointSlice, &endpoint_slice());
    assert_same_in_protobuf(Kind::Node, &node());
    assert_same_in_protobuf(Kind::ServiceCidr, &service_cidr());
}

fn assert_same_in_protobuf(kind: Kind, object: &impl Serialize) {
    let json = serde_json::to_value(object).unwrap();
    let bytes = protobuf::typed(&encoder::object(&json).into()).unwrap();
    let read = protobuf::object(kind, &bytes.raw).object;
    assert_eq!(read, read_object(kind, &json.to_string()));
}

/// A field with its default value was not read: it is misspelt, or the test object does not set it.
fn assert_all_fields_filled(object: &impl Debug) {
    let shown = format!("{object:#?}");
    let unfilled = |line: &&str| {
        let value = line.split_once(": ").map_or(*line, |(_, value)| value);
        ["None,", "\"\",", "[],", "false,", "0,"].contains(&value.trim())
    };
    let unfilled: Vec<&str> = shown.lines().filter(unfilled).collect();
    assert!(unfilled.is_empty(), "fields not read: {unfilled:#?}\nin {shown}");
}

fn assert_metadata(metadata: &Metadata, name: &str) {
    assert_eq!(metadata.name, name);
    assert_eq!(metadata.namespace, "shop");
    assert_eq!(metadata.deletion_timestamp.as_deref(), Some(DELETED_AT));
    assert_eq!(metadata.labels.service_name.as_deref(), Some("web"));
    assert_eq!(metadata.labels.headless.as_deref(), Some("yes"));
    assert_eq!(metadata.labels.service_proxy_name.as_deref(), Some("other-proxy"));
    assert_eq!(metadata.labels.zone.as_deref(), Some("zone-a"));
    assert_eq!(metadata.annotations.load_balancing.as_deref(), Some("source-hash"));
    assert_eq!(metadata.annotations.last_change_trigger_time.as_deref(), Some(TRIGGERED_AT));
}

fn read(object: &impl Serialize) -> Objects {
    let mut objects = Objects::default();
    read_into(object, &mut objects);
    objects
}

fn read_into(object: &impl Serialize, objects: &mut Objects) {
    let json = serde_json::to_vec(object).unwrap();
    let problems = read_manifest("object.json", json.as_slice(), objects);
    assert!(problems.is_empty(), "{problems:?}");
}

/// All labels and annotations that rulegen reads, for any kind of object.
fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("shop".to_owned()),
        labels: Some(map(&[
            ("kubernetes.io/service-name", "web"),
            ("service.kubernetes.io/headless", "yes"),
            ("service.kubernetes.io/service-proxy-name", "other-proxy"),
            ("topology.kubernetes.io/zone", "zone-a"),
        ])),
        annotations: Some(map(&[
            ("rulegen/load-balancing", "source-hash"),
            ("endpoints.kubernetes.io/last-change-trigger-time", TRIGGERED_AT),
        ])),
        deletion_timestamp: Some(Time(DELETED_AT.parse().unwrap())),
        ..ObjectMeta::default()
    }
}

fn service() -> Service {
    let port = ServicePort {
        name: text("http"),
        protocol: text("TCP"),
        port: 80,
        node_port: Some(30080),
        target_port: Some(IntOrString::Int(8080)),
        ..ServicePort::default()
    };
    let client_ip = ClientIPConfig { timeout_seconds: Some(600) };
    let spec = ServiceSpec {
        type_: text("LoadBalancer"),
        ports: Some(vec![port]),
        cluster_ip: text("10.96.0.10"),
        cluster_ips: texts(&["10.96.0.10", "fd00::10"]),
        ip_families: texts(&["IPv4", "IPv6"]),
        external_ips: texts(&["192.0.2.1"]),
        load_balancer_source_ranges: texts(&["198.51.100.0/24"]),
        external_traffic_policy: text("Local"),
        publish_not_ready_addresses: Some(true),
        internal_traffic_policy: text("Cluster"),
        health_check_node_port: Some(31000),
        session_affinity: text("ClientIP"),
        session_affinity_config: Some(SessionAffinityConfig { client_ip: Some(client_ip) }),
        selector: Some(map(&[("app", "web")])),
        ..ServiceSpec::default()
    };
    let ingress = LoadBalancerIngress {
        ip: text("203.0.113.1"),
        ip_mode: text("VIP"),
        ..LoadBalancerIngress::default()
    };
    let status = ServiceStatus {
        load_balancer: Some(LoadBalancerStatus { ingress: Some(vec![ingress]) }),
        ..ServiceStatus::default()
    };
    Service { metadata: metadata("web"), spec: Some(spec), status: Some(status) }
}

fn endpoint_slice() -> EndpointSlice {
    let conditions =
        EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(true) };
    let hints = EndpointHints {
        for_zones: Some(vec![ForZone { name: "zone-a".to_owned() }]),
        for_nodes: Some(vec![ForNode { name: "node-1".to_owned() }]),
    };
    let endpoint = Endpoint {
        addresses: vec!["10.244.1.5".to_owned()],
        conditions: Some(conditions),
        node_name: text("node-1"),
        hints: Some(hints),
        target_ref: Some(ObjectReference {
            kind: text("Pod"),
            namespace: text("shop"),
            name: text("web-a"),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    };
    let port = EndpointPort {
        name: text("http"),
        protocol: text("TCP"),
        port: Some(8080),
        ..EndpointPort::default()
    };
    EndpointSlice {
        metadata: metadata("web-1"),
        address_type: "IPv4".to_owned(),
        endpoints: Some(vec![endpoint]),
        ports: Some(vec![port]),
    }
}

fn node() -> Node {
    let taint = Taint {
        key: "ToBeDeletedByClusterAutoscaler".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    let spec = NodeSpec {
        pod_cidr: text("10.244.1.0/24"),
        pod_cidrs: texts(&["10.244.1.0/24", "fd00:244:1::/64"]),
        taints: Some(vec![taint]),
        ..NodeSpec::default()
    };
    let address =
        NodeAddress { type_: "InternalIP".to_owned(), address: "192.168.1.10".to_owned() };
    let status = NodeStatus { addresses: Some(vec![address]), ..NodeStatus::default() };
    Node { metadata: metadata("node-1"), spec: Some(spec), status: Some(status) }
}

fn service_cidr() -> ServiceCIDR {
    ServiceCIDR {
        metadata: metadata("kubernetes"),
        spec: Some(ServiceCIDRSpec { cidrs: texts(&["10.96.0.0/12"]) }),
        status: None,
    }
}

fn endpoints() -> Endpoints {
    let address = |ip: &str, node: &str| EndpointAddress {
        ip: ip.to_owned(),
        node_name: text(node),
        ..EndpointAddress::default()
    };
    let port = k8s_openapi::api::core::v1::EndpointPort {
        name: text("http"),
        protocol: text("TCP"),
        port: 8080,
        ..Default::default()
    };
    let subset = EndpointSubset {
        addresses: Some(vec![address("10.244.1.5", "node-1")]),
        not_ready_addresses: Some(vec![address("10.244.2.6", "node-2")]),
        ports: Some(vec![port]),
    };
    Endpoints { metadata: metadata("web"), subsets: Some(vec![subset]) }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn texts(texts: &[&str]) -> Option<Vec<String>> {
    Some(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
