//! Objects of the test cluster.
//!
//! Service number n has the cluster IP 10.96.a.b with n = 256 a + b. Endpoints 10.244.1.x are on
//! node-1, all others on node-2.

use serde_json::{Value, json};

/// The agent's node.
pub(crate) const NODE: &str = "node-1";
/// Its address.
pub(crate) const NODE_IP: &str = "192.168.50.1";
/// Two endpoints on it.
pub(crate) const HERE: [&str; 2] = ["10.244.1.5", "10.244.1.6"];
/// An endpoint on the other node.
pub(crate) const ELSEWHERE: &str = "10.244.2.6";

/// What each cluster has: the node, another, the networks of cluster IPs and a Service, `web`,
/// number 10.
pub(crate) fn cluster() -> Vec<Value> {
    let mut objects = vec![
        node(),
        json!({
            "kind": "Node", "apiVersion": "v1",
            "metadata": {"name": "node-2", "labels": {"topology.kubernetes.io/zone": "zone-b"}},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.50.2"}]},
        }),
    ];
    objects.extend([cidr("kubernetes", &["10.96.0.0/16", "fd00:96::/112"])]);
    objects.extend([service("web", 10), slice("web", "a", &[HERE[0]])]);
    objects
}

pub(crate) fn node() -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": "zone-a"}},
        "spec": {"podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": NODE_IP}]},
    })
}

pub(crate) fn cidr(name: &str, networks: &[&str]) -> Value {
    json!({
        "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": name}, "spec": {"cidrs": networks},
    })
}

pub(crate) fn service(name: &str, number: usize) -> Value {
    let ip = cluster_ip(number);
    json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        },
    })
}

/// A load balancer of external policy Local, with a health-check node port.
pub(crate) fn local_load_balancer(name: &str, number: usize, health_port: u16) -> Value {
    let mut service = service(name, number);
    let spec = &mut service["spec"];
    spec["type"] = "LoadBalancer".into();
    spec["externalTrafficPolicy"] = "Local".into();
    spec["healthCheckNodePort"] = health_port.into();
    spec["ports"][0]["nodePort"] = 30_080.into();
    service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.10"}]}});
    service
}

pub(crate) fn cluster_ip(number: usize) -> String {
    format!("10.96.{}.{}", number / 256, number % 256)
}

/// An EndpointSlice of a Service. The suffix makes its name unique.
pub(crate) fn slice(service: &str, suffix: &str, endpoints: &[&str]) -> Value {
    let endpoints = endpoints.iter().map(|ip| {
        let node = if ip.starts_with("10.244.1.") { NODE } else { "node-2" };
        json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": true}})
    });
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": format!("{service}-{suffix}"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": endpoints.collect::<Vec<Value>>(),
    })
}

/// This number of Services with one endpoint each, numbered from 1000.
pub(crate) fn many(count: usize) -> Vec<Value> {
    let numbers = 1000..1000 + count;
    let pair = |number| {
        let name = format!("many-{number}");
        [service(&name, number), slice(&name, "a", &[HERE[number % 2]])]
    };
    numbers.flat_map(pair).collect()
}
