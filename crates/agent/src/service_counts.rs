//! Counts of Services, ports and endpoints, updated with each change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rulegen_model::{Availability, LocalPolicyScope, ServiceChange, ServicePort};
use rulegen_net::{IpFamily, PerFamily};

use crate::report::NoLocalEndpoints;
use crate::service_health::ServiceCheck;

/// The counts of one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FamilyCounts {
    pub(crate) services: usize,
    /// A Service may have several ports.
    pub(crate) service_ports: usize,
    pub(crate) endpoints: usize,
    pub(crate) no_local_endpoints: NoLocalEndpoints,
}

/// The counts, and the Services with health-check node ports.
#[derive(Debug, Default)]
pub(crate) struct ServiceCounts {
    counts: PerFamily<FamilyCounts>,
    checks: BTreeMap<(String, String), ServiceCheck>,
}

impl ServiceCounts {
    pub(crate) fn follow(&mut self, change: &ServiceChange) {
        for family in IpFamily::BOTH {
            let is_in = |ports: &[ServicePort]| {
                usize::from(ports.iter().any(|port| IpFamily::of(port.cluster_ip) == family))
            };
            let (before, after) = (is_in(&change.before), is_in(&change.after));
            if before != after {
                let counts = self.counts.get_or_default(family);
                counts.services = counts.services.saturating_sub(before) + after;
            }
        }
        for port in change.before.iter() {
            let counts = self.counts.get_or_default(IpFamily::of(port.cluster_ip));
            let of_port = count(port);
            counts.service_ports = counts.service_ports.saturating_sub(1);
            counts.endpoints = counts.endpoints.saturating_sub(of_port.endpoints);
            let (sum, less) = (&mut counts.no_local_endpoints, of_port.no_local_endpoints);
            sum.internal = sum.internal.saturating_sub(less.internal);
            sum.external = sum.external.saturating_sub(less.external);
        }
        for port in change.after.iter() {
            let counts = self.counts.get_or_default(IpFamily::of(port.cluster_ip));
            let of_port = count(port);
            counts.service_ports += 1;
            counts.endpoints += of_port.endpoints;
            counts.no_local_endpoints.internal += of_port.no_local_endpoints.internal;
            counts.no_local_endpoints.external += of_port.no_local_endpoints.external;
        }
        if let Some(port) = change.before.first().or(change.after.first()) {
            let name = (port.name.namespace.to_string(), port.name.service.to_string());
            match check(&change.after) {
                Some(check) => self.checks.insert(name, check),
                None => self.checks.remove(&name),
            };
        }
    }

    pub(crate) fn of(&self, family: IpFamily) -> FamilyCounts {
        self.counts.get(family).copied().unwrap_or_default()
    }

    /// Services with health-check node ports.
    pub(crate) fn checks(&self) -> Vec<ServiceCheck> {
        self.checks.values().cloned().collect()
    }
}

struct OfPort {
    endpoints: usize,
    no_local_endpoints: NoLocalEndpoints,
}

fn count(port: &ServicePort) -> OfPort {
    let scope = Availability::of(port).lacks_local();
    let lacks = |is_in: fn(LocalPolicyScope) -> bool| usize::from(scope.is_some_and(is_in));
    OfPort {
        endpoints: port.endpoints.len(),
        no_local_endpoints: NoLocalEndpoints {
            internal: lacks(LocalPolicyScope::is_internal),
            external: lacks(LocalPolicyScope::is_external),
        },
    }
}

fn check(ports: &[ServicePort]) -> Option<ServiceCheck> {
    let (port, number) = ports.iter().find_map(|p| Some((p, p.health_check_node_port?)))?;
    let mut ready_here: PerFamily<BTreeSet<IpAddr>> = PerFamily::new();
    for port in ports {
        let here = port.endpoints.iter().filter(|endpoint| endpoint.local && endpoint.ready);
        let of_family = ready_here.get_or_default(IpFamily::of(port.cluster_ip));
        of_family.extend(here.map(|endpoint| endpoint.address.ip()));
    }
    let count = |(family, endpoints): (IpFamily, BTreeSet<IpAddr>)| (family, endpoints.len());
    Some(ServiceCheck {
        namespace: port.name.namespace.to_string(),
        name: port.name.service.to_string(),
        port: number,
        local_ready_endpoints: ready_here.into_iter().map(count).collect(),
    })
}

#[cfg(test)]
mod tests {
    use rulegen_model::{Host, Object, SnapshotOptions, Store, StoreEvent};
    use serde_json::json;

    use super::*;

    #[test]
    fn service_counts_count_service_with_several_ports_once() {
        let host = Host { name: "node-1".into(), addresses: Vec::new() };
        let (mut store, mut counts) =
            (Store::new(SnapshotOptions::default(), host), ServiceCounts::default());
        let mut put = |name: &str, ip: &str, ports: u16| {
            let ports: Vec<_> =
                (0..ports).map(|n| json!({"name": format!("p{n}"), "port": 80 + n})).collect();
            let spec = json!({"clusterIP": ip, "clusterIPs": [ip], "ports": ports});
            let service = json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec});
            let service = Object::Service(serde_json::from_value(service).unwrap());
            store.take_in(StoreEvent::Put(Box::new(service)));
            store.changes().services.iter().for_each(|change| counts.follow(change));
            let of = |family| {
                let counts = counts.of(family);
                (counts.services, counts.service_ports)
            };
            (of(IpFamily::Ipv4), of(IpFamily::Ipv6))
        };
        assert_eq!(put("web", "10.96.0.1", 3), ((1, 3), (0, 0)));
        assert_eq!(put("web", "10.96.0.1", 2), ((1, 2), (0, 0)));
        assert_eq!(put("six", "fd00::1", 5), ((1, 2), (1, 5)));
        assert_eq!(put("api", "10.96.0.2", 1), ((2, 3), (1, 5)));
        assert_eq!(put("web", "10.96.0.1", 0), ((1, 1), (1, 5)));
    }
    /// A dual-stack Service whose IPv4 endpoint terminates while its IPv6 endpoint is ready.
    #[test]
    fn health_checks_count_ready_local_endpoints_of_each_family() {
        let host = Host { name: "node-1".into(), addresses: Vec::new() };
        let mut store = Store::new(SnapshotOptions::default(), host);
        let spec = json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
            "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"],
            "ports": [{"port": 80}],
        });
        let service = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec});
        let slice = |name: &str, ip: &str, terminating: bool| {
            let conditions =
                json!({"ready": !terminating, "serving": true, "terminating": terminating});
            let slice = json!({
                "metadata": {"namespace": "shop", "name": name,
                             "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": if ip.contains(':') { "IPv6" } else { "IPv4" },
                "ports": [{"port": 8080}],
                "endpoints": [{"addresses": [ip], "nodeName": "node-1", "conditions": conditions}],
            });
            Object::EndpointSlice(serde_json::from_value(slice).unwrap())
        };
        let objects = [
            Object::Service(serde_json::from_value(service).unwrap()),
            slice("four", "10.244.0.1", true),
            slice("six", "fd01::1", false),
        ];
        for object in objects {
            store.take_in(StoreEvent::Put(Box::new(object)));
        }
        let mut counts = ServiceCounts::default();
        store.changes().services.iter().for_each(|change| counts.follow(change));
        let expected = PerFamily::from_iter([(IpFamily::Ipv4, 0), (IpFamily::Ipv6, 1)]);
        assert_eq!(counts.checks()[0].local_ready_endpoints, expected);
    }
}
