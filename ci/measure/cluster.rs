//! Clusters of any size.

use serde_json::{Value, json};

/// The size of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Number of Services.
    pub(crate) services: usize,
    /// Endpoints per Service.
    pub(crate) endpoints: usize,
}

impl Size {
    /// Like `10000`, with five endpoints per Service, or `100000x10`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (services, endpoints) = text.split_once('x').unwrap_or((text, "5"));
        Some(Self { services: services.parse().ok()?, endpoints: endpoints.parse().ok()? })
    }
}

/// A `List` as `kubectl get services,endpointslices -A -o json` prints it, without whitespace.
pub(crate) fn cluster(Size { services, endpoints }: Size) -> String {
    let ip =
        |net: usize, n: usize| format!("10.{}.{}.{}", net + (n >> 16), (n >> 8) & 255, n & 255);
    let service = |n: usize| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("svc-{n}"), "namespace": format!("ns-{}", n % 50)},
            "spec": {
                "type": "ClusterIP", "clusterIP": ip(96, n), "clusterIPs": [ip(96, n)],
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster",
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
            },
            "status": {"loadBalancer": {}},
        })
    };
    let slice = |n: usize| {
        let endpoint = |e: usize| {
            json!({
                "addresses": [ip(128, n * endpoints + e)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node-{}", (n + e) % 100),
            })
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("svc-{n}-abcde"), "namespace": format!("ns-{}", n % 50),
                "labels": {"kubernetes.io/service-name": format!("svc-{n}")},
            },
            "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        })
    };
    let items: Vec<Value> = (0..services).map(service).chain((0..services).map(slice)).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}
