//! Why traffic to a service port has no endpoint.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::availability::{Availability, LocalPolicyScope};
use crate::endpoint_slice::Slice;
use crate::objects::Objects;
use crate::problem_code::ProblemCode;
use crate::service_port::ServicePort;
use crate::snapshot::{Snapshot, checked_slice};
use rulegen_net::{IpFamily, Protocol, ServicePortName};

/// A service port without usable endpoints, in one IP family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailability {
    /// `namespace/name:port` and the protocol.
    pub port: ServicePortName,
    /// IP family of the cluster IP.
    pub family: IpFamily,
    /// The reason.
    pub why: UnavailableReason,
}

/// Why a service port has no endpoints for some or all of its traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnavailableReason {
    /// The Service has no EndpointSlice of the family.
    NoSlice,
    /// There are EndpointSlices, but they have no endpoints.
    EmptySlices,
    /// There are endpoints, but none has the port.
    NoSuchPort {
        /// The Service's port.
        port: EndpointPortName,
        /// The ports of the endpoints, ordered.
        found: Vec<EndpointPortName>,
    },
    /// There are endpoints, but none is usable.
    NoneReady {
        /// Number of endpoints that are not ready.
        not_ready: usize,
        /// Number of endpoints that are terminating and no longer serving.
        terminating: usize,
    },
    /// Only terminating endpoints are left, and they get the traffic.
    OnlyTerminating {
        /// Number of these endpoints.
        terminating: usize,
        /// Number of all other endpoints. They get no traffic.
        unusable: usize,
    },
    /// There are usable endpoints, but none usable on this node, and a traffic policy is Local.
    NoneLocal {
        /// Number of endpoints on other nodes: ready ones, or terminating ones if none is ready.
        elsewhere: usize,
        /// Number of such endpoints on no known node: `nodeName` is missing in their slices.
        without_node: usize,
        /// Number of endpoints on this node, none of which is usable.
        unusable_here: usize,
        /// The traffic to which the policy applies.
        scope: LocalPolicyScope,
    },
}

/// The port of endpoints, by which an EndpointSlice and a Service agree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointPortName {
    /// The name; empty for an unnamed port.
    pub name: Arc<str>,
    /// TCP if the object names none.
    pub protocol: Protocol,
}

/// The service ports of a snapshot without usable endpoints: IPv4 first, each family ordered by
/// name. `objects` are the objects from which the snapshot was built.
pub fn unavailable_ports(snapshot: &Snapshot, objects: &Objects) -> Vec<Unavailability> {
    let ports = || IpFamily::BOTH.into_iter().flat_map(|family| snapshot.service_ports(family));
    // Slices add information only about service ports without endpoints.
    let without_endpoints: HashSet<(&str, &str)> =
        ports().filter(|port| port.endpoints.is_empty()).map(service_of).collect();
    let slices = slices_of(objects, &without_endpoints);
    let unavailability = |port: &ServicePort| {
        let slices = slices.get(&service_of(port)).map(Vec::as_slice).unwrap_or_default();
        let why = unavailability_of(port, slices.iter())?;
        Some(Unavailability { port: port.name.clone(), family: IpFamily::of(port.cluster_ip), why })
    };
    ports().filter_map(unavailability).collect()
}

/// Why one service port of a snapshot has no usable endpoints; `None` if it has some.
pub fn unavailability(port: &ServicePort, objects: &Objects) -> Option<UnavailableReason> {
    let service = service_of(port);
    let slices = match port.endpoints.as_slice() {
        [] => slices_of(objects, &HashSet::from([service])),
        _ => HashMap::new(),
    };
    unavailability_of(port, slices.get(&service).map(Vec::as_slice).unwrap_or_default().iter())
}

/// Decides from the service port's endpoints. If it has none, decides from the slices of its
/// Service, of any family.
pub(crate) fn unavailability_of<'a>(
    port: &ServicePort,
    slices: impl Iterator<Item = &'a Slice> + Clone,
) -> Option<UnavailableReason> {
    match Availability::of(port) {
        Availability::NoEndpoints => {
            let family = port.family();
            Some(without_any_endpoint(port, slices.filter(|slice| slice.family() == family)))
        }
        Availability::NoneUsable { not_ready, terminating } => {
            Some(UnavailableReason::NoneReady { not_ready, terminating })
        }
        Availability::NoneLocal { elsewhere, without_node, unusable_here, scope } => {
            Some(UnavailableReason::NoneLocal { elsewhere, without_node, unusable_here, scope })
        }
        Availability::OnlyTerminating { terminating, unusable } => {
            Some(UnavailableReason::OnlyTerminating { terminating, unusable })
        }
        Availability::Ready => None,
    }
}

/// Why the slices of its family have no endpoint for a service port.
fn without_any_endpoint<'a>(
    port: &ServicePort,
    slices: impl Iterator<Item = &'a Slice> + Clone,
) -> UnavailableReason {
    if slices.clone().next().is_none() {
        return UnavailableReason::NoSlice;
    }
    let mut filled = slices.filter(|slice| !slice.is_empty()).peekable();
    if filled.peek().is_none() {
        return UnavailableReason::EmptySlices;
    }
    let named = |(name, protocol): (&str, _)| EndpointPortName { name: Arc::from(name), protocol };
    let found: BTreeSet<EndpointPortName> = filled.flat_map(Slice::ports).map(named).collect();
    let port = EndpointPortName { name: port.name.port.clone(), protocol: port.name.protocol };
    UnavailableReason::NoSuchPort { port, found: found.into_iter().collect() }
}

/// The validated slices of some Services. Their problems were already reported with the snapshot.
fn slices_of<'a>(
    objects: &'a Objects,
    services: &HashSet<(&str, &str)>,
) -> HashMap<(&'a str, &'a str), Vec<Slice>> {
    let mut slices: HashMap<(&str, &str), Vec<Slice>> = HashMap::new();
    for object in objects.slices.iter().map(|slice| &slice.object) {
        let Some(service) = object.service_name() else { continue };
        let key = (object.metadata.namespace(), service);
        if services.contains(&key) {
            let (slice, _) = checked_slice(object, &mut |name| name.into(), None);
            slices.entry(key).or_default().extend(slice);
        }
    }
    slices
}

fn service_of(port: &ServicePort) -> (&str, &str) {
    (&port.name.namespace, &port.name.service)
}

impl UnavailableReason {
    /// The code of the problem.
    pub fn code(&self) -> ProblemCode {
        match self {
            UnavailableReason::NoSlice => ProblemCode::NoEndpointSlice,
            UnavailableReason::EmptySlices => ProblemCode::EmptyEndpointSlices,
            UnavailableReason::NoSuchPort { .. } => ProblemCode::NoSuchEndpointPort,
            UnavailableReason::NoneReady { .. } => ProblemCode::NoReadyEndpoints,
            UnavailableReason::OnlyTerminating { .. } => ProblemCode::OnlyTerminatingEndpoints,
            UnavailableReason::NoneLocal { .. } => ProblemCode::NoLocalEndpoints,
        }
    }

    /// Whether all traffic is affected. Otherwise some traffic still has endpoints, or terminating
    /// endpoints still serve it.
    pub fn is_whole(&self) -> bool {
        !matches!(
            self,
            UnavailableReason::OnlyTerminating { .. } | UnavailableReason::NoneLocal { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Host, Kind, Object, SnapshotOptions, Store, StoreEvent, read_manifest, snapshot};

    const SERVICE: &str = r#"{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"},
        "spec": {POLICY "type": "NodePort", "clusterIP": "10.96.0.10",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}}"#;

    fn slice(number: u8, ports: &str, endpoints: &str) -> String {
        format!(
            r#"{{"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata":
            {{"name": "web-{number}", "labels": {{"kubernetes.io/service-name": "web"}}}},
            "addressType": "IPv4", "ports": [{ports}], "endpoints": [{endpoints}]}}"#
        )
    }

    const HTTP: &str = r#"{"name": "http", "port": 8080}"#;
    const HTTPS: &str = r#"{"name": "https", "port": 8443}"#;
    const HERE: &str = r#"{"addresses": ["10.244.1.5"], "nodeName": "node-1"}"#;
    const ELSEWHERE: &str = r#"{"addresses": ["10.244.2.5"], "nodeName": "node-2"}"#;
    const NOT_READY: &str = r#"{"addresses": ["10.244.1.6"], "conditions": {"ready": false}}"#;
    const NOT_READY_HERE: &str = r#"{"addresses": ["10.244.1.3"], "nodeName": "node-1",
        "conditions": {"ready": false}}"#;
    const NOWHERE: &str = r#"{"addresses": ["10.244.1.4"]}"#;
    const TERMINATING: &str = r#"{"addresses": ["10.244.1.7"], "nodeName": "node-2",
        "conditions": {"ready": false, "serving": true, "terminating": true}}"#;
    const TERMINATING_HERE: &str = r#"{"addresses": ["10.244.1.9"], "nodeName": "node-1",
        "conditions": {"ready": false, "serving": true, "terminating": true}}"#;
    const ENDING: &str = r#"{"addresses": ["10.244.1.8"],
        "conditions": {"ready": false, "serving": false, "terminating": true}}"#;

    /// The reason for the service port. Checks that the objects and a store give the same.
    fn reason(policy: &str, slices: &[String]) -> Option<UnavailableReason> {
        let service = SERVICE.replace("POLICY", policy);
        let documents = [&[service], slices].concat().join("\n---\n");
        let mut objects = Objects::default();
        assert_eq!(read_manifest("test", documents.as_bytes(), &mut objects), []);
        let config = SnapshotOptions {
            hostname_override: Some("node-1".to_owned()),
            ..SnapshotOptions::default()
        };
        let (snapshot, _) = snapshot(&objects, &config, &Host::default());
        let found = unavailable_ports(&snapshot, &objects);
        let [port] = snapshot.service_ports(IpFamily::Ipv4) else { panic!("expected one port") };
        let why = unavailability(port, &objects);
        assert_eq!(found.first().map(|unavailability| &unavailability.why), why.as_ref());
        assert_eq!(of_store(&objects, &config, port), why);
        why
    }

    fn of_store(
        objects: &Objects,
        config: &SnapshotOptions,
        port: &ServicePort,
    ) -> Option<UnavailableReason> {
        let mut store = Store::new(config.clone(), Host::default());
        let services = objects.services.iter().map(|s| Object::Service(s.object.clone()));
        let slices = objects.slices.iter().map(|s| Object::EndpointSlice(s.object.clone()));
        for object in services.chain(slices) {
            store.take_in(StoreEvent::Put(Box::new(object)));
        }
        for kind in Kind::ALL {
            store.take_in(StoreEvent::ListEnded(kind));
        }
        store.changes();
        store.unavailability(&port.name, IpFamily::Ipv4)
    }

    const LOCAL: &str = r#""externalTrafficPolicy": "Local","#;
    const LOCAL_INSIDE: &str = r#""internalTrafficPolicy": "Local","#;

    #[test]
    fn unavailability_has_reason_per_case_ready_terminating_policy_local() {
        use LocalPolicyScope::{External, Internal};
        use UnavailableReason::{
            EmptySlices, NoSlice, NoSuchPort, NoneLocal, NoneReady, OnlyTerminating,
        };
        let http = |endpoints: &[&str]| vec![slice(1, HTTP, &endpoints.join(","))];
        let tcp = |name: &str| EndpointPortName { name: name.into(), protocol: Protocol::Tcp };
        let other_port = |found: &[&str]| NoSuchPort {
            port: tcp("http"),
            found: found.iter().map(|name| tcp(name)).collect(),
        };
        let none_local = |elsewhere, without_node, unusable_here, scope| NoneLocal {
            elsewhere,
            without_node,
            unusable_here,
            scope,
        };
        let one_serves = OnlyTerminating { terminating: 1, unusable: 1 };
        for (policy, slices, expected) in [
            ("", vec![], NoSlice),
            ("", http(&[]), EmptySlices),
            ("", vec![slice(1, HTTPS, HERE), slice(2, HTTP, "")], other_port(&["https"])),
            ("", vec![slice(1, "", HERE)], other_port(&[])),
            ("", http(&[NOT_READY, ENDING]), NoneReady { not_ready: 1, terminating: 1 }),
            ("", http(&[NOT_READY]), NoneReady { not_ready: 1, terminating: 0 }),
            ("", http(&[NOT_READY, TERMINATING]), one_serves.clone()),
            (LOCAL, http(&[ELSEWHERE, NOT_READY]), none_local(1, 0, 0, External)),
            (LOCAL, http(&[NOWHERE, ELSEWHERE]), none_local(1, 1, 0, External)),
            // Policy Local does not use the terminating endpoint, because it is on another node.
            (LOCAL, http(&[TERMINATING, NOT_READY]), none_local(1, 0, 0, External)),
            (LOCAL, http(&[TERMINATING_HERE, NOT_READY]), one_serves),
            (LOCAL, http(&[ELSEWHERE, NOT_READY_HERE]), none_local(1, 0, 1, External)),
            (LOCAL_INSIDE, http(&[ELSEWHERE]), none_local(1, 0, 0, Internal)),
        ] {
            assert_eq!(reason(policy, &slices), Some(expected));
        }
    }

    #[test]
    fn unavailability_is_none_for_usable_endpoints() {
        let terminating_here = format!("{ELSEWHERE},{TERMINATING_HERE}");
        for (policy, endpoints) in
            [("", ELSEWHERE), (LOCAL, HERE), (LOCAL_INSIDE, HERE), (LOCAL, &terminating_here)]
        {
            let slices = [slice(1, HTTP, &format!("{endpoints},{NOT_READY}"))];
            assert_eq!(reason(policy, &slices), None);
        }
    }
}
