//! Random changes of a cluster.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api_server::{ApiServer, Kind};

/// A Service that always has a ready endpoint.
pub(crate) const PROBE: &str = "10.96.255.1:80";

pub(crate) struct Churn {
    /// Maximum number of Services besides the probe.
    services: u64,
    objects: BTreeMap<String, Value>,
    random: u64,
    pub(crate) changes: usize,
}

impl Churn {
    pub(crate) fn begin(server: &ApiServer, services: u64) -> Self {
        let mut churn = Self {
            services,
            objects: BTreeMap::new(),
            random: RandomState::new().hash_one(0) | 1,
            changes: 0,
        };
        churn.put(server, node("zone-a"));
        churn.put(server, service("probe", "10.96.255.1", json!({"type": "ClusterIP"})));
        churn.put(
            server,
            slice("probe", &[endpoint("10.200.0.1", true), endpoint("10.200.0.2", true)]),
        );
        for n in 0..services / 2 {
            churn.service(server, n);
        }
        churn
    }

    /// All objects, as a list.
    pub(crate) fn objects(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "List", "items": self.objects.values().collect::<Vec<_>>()})
    }

    /// One change, and a pause of up to 50 ms.
    pub(crate) fn change(&mut self, server: &ApiServer) {
        self.changes += 1;
        let n = self.below(self.services);
        match self.below(20) {
            0 | 1 => self.service(server, n),
            2 => self.remove(server, n),
            3 => {
                let ready = self.below(2) == 0;
                let endpoints = [endpoint("10.200.0.1", true), endpoint("10.200.0.2", ready)];
                self.put(server, slice("probe", &endpoints));
            }
            4 if self.below(20) == 0 => {
                let zone = ["zone-a", "zone-b"][self.below(2) as usize];
                self.put(server, node(zone));
            }
            _ => self.endpoints(server, n),
        }
        thread::sleep(Duration::from_millis(self.below(50)));
    }

    fn service(&mut self, server: &ApiServer, n: u64) {
        let kinds = [
            json!({"type": "ClusterIP"}),
            json!({"type": "ClusterIP", "sessionAffinity": "ClientIP"}),
            json!({"type": "ClusterIP", "internalTrafficPolicy": "Local"}),
            json!({"type": "ClusterIP", "externalIPs": [format!("203.0.113.{}", n % 250)]}),
        ];
        let kind = kinds[self.below(4) as usize].clone();
        let ip = format!("10.96.{}.{}", n / 250, n % 250 + 1);
        self.put(server, service(&format!("svc-{n}"), &ip, kind));
        self.endpoints(server, n);
    }

    fn endpoints(&mut self, server: &ApiServer, n: u64) {
        let count = self.below(6);
        let endpoints: Vec<Value> = (0..count)
            .map(|_| {
                let ip = format!("10.244.{}.{}", self.below(4), self.below(250) + 1);
                let ready = self.below(4) > 0;
                endpoint(&ip, ready)
            })
            .collect();
        self.put(server, slice(&format!("svc-{n}"), &endpoints));
    }

    fn remove(&mut self, server: &ApiServer, n: u64) {
        let name = format!("svc-{n}");
        for (kind, word) in [(Kind::Service, "Service"), (Kind::EndpointSlice, "EndpointSlice")] {
            if self.objects.remove(&format!("{word}/{name}")).is_some() {
                server.delete(kind, "default", &name);
            }
        }
    }

    fn put(&mut self, server: &ApiServer, object: Value) {
        let name = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let key = format!("{}/{}", name(&object["kind"]), name(&object["metadata"]["name"]));
        self.objects.insert(key, object.clone());
        server.apply(object);
    }

    /// Marsaglia's xorshift: the numbers need not be good, only different.
    fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % end
    }
}

fn node(zone: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.200.0.1"}]},
    })
}

fn service(name: &str, ip: &str, more: Value) -> Value {
    let mut spec = json!({
        "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    })
}

fn slice(service: &str, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": service, "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

fn endpoint(ip: &str, ready: bool) -> Value {
    json!({
        "addresses": [ip], "nodeName": if ip.starts_with("10.244.1.") { "node-1" } else { "node-2" },
        "conditions": {"ready": ready, "serving": ready, "terminating": false},
    })
}
