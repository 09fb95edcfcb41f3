//! Why traffic to a service port has no endpoint.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::{self, Display, Formatter};

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

/// Why a service port has no endpoints for some or all of its traffic. Its text continues a
/// sentence about the service port: `has no EndpointSlice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnavailableReason {
    /// The Service has no EndpointSlice of the family.
    NoSlice,
    /// There are EndpointSlices, but they have no endpoints.
    EmptySlices,
    /// There are endpoints, but none has the port.
    NoSuchPort {
        /// Name and protocol of the Service's port: `http over TCP`.
        port: String,
        /// The ports of the endpoints, ordered.
        found: Vec<String>,
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
    let named = |(name, protocol)| port_text(name, protocol);
    let found: BTreeSet<String> = filled.flat_map(Slice::ports).map(named).collect();
    let port = port_text(&port.name.port, port.name.protocol);
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

fn port_text(name: &str, protocol: Protocol) -> String {
    let name = if name.is_empty() { "unnamed port" } else { name };
    format!("{name} over {}", protocol.api_name())
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

    /// How the user can fix it.
    pub fn remedy(&self, port: &ServicePortName) -> String {
        let (namespace, service) = (&port.namespace, &port.service);
        match self {
            UnavailableReason::NoSlice => format!(
                "check that its selector matches a pod (`kubectl -n {namespace} describe service \
                 {service}`); a Service without a selector needs an EndpointSlice with the label \
                 kubernetes.io/service-name: {service}"
            ),
            UnavailableReason::EmptySlices => format!(
                "start pods that its selector matches (`kubectl -n {namespace} describe service \
                 {service}` shows it), or correct the selector"
            ),
            UnavailableReason::NoSuchPort { .. } => {
                "set spec.ports[].targetPort to the name of a port of the pods' containers; in \
                 hand-written EndpointSlices, ports[].name must be the name of the Service's port"
                    .to_owned()
            }
            UnavailableReason::NoneReady { .. } => format!(
                "check why the pods are not ready (`kubectl -n {namespace} get pods`, then `kubectl \
                 describe pod`): usually a failing readiness probe"
            ),
            UnavailableReason::OnlyTerminating { .. } => {
                format!("check why no new pods start (`kubectl -n {namespace} get pods`)")
            }
            UnavailableReason::NoneLocal { elsewhere, unusable_here, scope, .. } => {
                let field = match scope {
                    LocalPolicyScope::Internal => "spec.internalTrafficPolicy",
                    LocalPolicyScope::External => "spec.externalTrafficPolicy",
                    LocalPolicyScope::Both => {
                        "spec.internalTrafficPolicy and spec.externalTrafficPolicy"
                    }
                };
                match (elsewhere, unusable_here) {
                    (_, 1..) => format!(
                        "check why no pod on this node is ready (`kubectl -n {namespace} get pods \
                         -o wide`), or set {field} to Cluster"
                    ),
                    (0, 0) => format!(
                        "set endpoints[].nodeName in the EndpointSlices, or set {field} to Cluster"
                    ),
                    _ => format!("run a pod on this node, or set {field} to Cluster"),
                }
            }
        }
    }
}

impl Display for UnavailableReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            UnavailableReason::NoSlice => f.write_str("has no EndpointSlice"),
            UnavailableReason::EmptySlices => {
                f.write_str("has only EndpointSlices without endpoints")
            }
            UnavailableReason::NoSuchPort { port, found } if found.is_empty() => {
                write!(f, "has endpoints, but none with its port ({port}): they have no ports")
            }
            UnavailableReason::NoSuchPort { port, found } => {
                let found = found.join(", ");
                write!(f, "has endpoints, but none with its port ({port}): they have {found}")
            }
            UnavailableReason::NoneReady { not_ready, terminating } => {
                f.write_str("has no ready endpoint: ")?;
                match (not_ready, terminating) {
                    (not_ready, 0) => write!(f, "{not_ready} not ready"),
                    (0, terminating) => write!(f, "{terminating} terminating"),
                    _ => write!(f, "{not_ready} not ready, {terminating} terminating"),
                }
            }
            UnavailableReason::OnlyTerminating { terminating, unusable } => {
                write!(
                    f,
                    "has no ready endpoint: {terminating} terminating still get its traffic"
                )?;
                match unusable {
                    0 => Ok(()),
                    _ => write!(f, ", {unusable} not ready"),
                }
            }
            UnavailableReason::NoneLocal { elsewhere, without_node, unusable_here, scope } => {
                write!(
                    f,
                    "has no usable endpoint on this node for {}: {} ({})",
                    scope.traffic(),
                    scope.policy_is_local(),
                    locations(*elsewhere, *without_node, *unusable_here)
                )
            }
        }
    }
}

/// The location of endpoints that policy Local does not use.
fn locations(elsewhere: usize, without_node: usize, unusable_here: usize) -> String {
    let here = (unusable_here > 0).then(|| format!("{unusable_here} on this node not ready"));
    let elsewhere = (elsewhere > 0).then(|| format!("{elsewhere} on other nodes"));
    let unknown = (without_node > 0)
        .then(|| format!("{without_node} on no known node: endpoints[].nodeName is missing"));
    here.into_iter().chain(elsewhere).chain(unknown).collect::<Vec<_>>().join(", ")
}

impl Display for Unavailability {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Service {} ({}) {}", self.port, self.family.api_name(), self.why)
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

    /// The text about the service port. Checks that the objects and a store give the same reason.
    fn reason_text(policy: &str, slices: &[String]) -> Option<String> {
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
        found.first().map(ToString::to_string)
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
    fn unavailability_text_has_reason_per_case_ready_terminating_policy_local() {
        let http = |endpoints: &[&str]| vec![slice(1, HTTP, &endpoints.join(","))];
        let starts = "Service default/web:http (IPv4) ";
        for (policy, slices, expected) in [
            ("", vec![], "has no EndpointSlice"),
            ("", http(&[]), "has only EndpointSlices without endpoints"),
            (
                "",
                vec![slice(1, HTTPS, HERE), slice(2, HTTP, "")],
                "has endpoints, but none with its port (http over TCP): they have https over TCP",
            ),
            (
                "",
                vec![slice(1, "", HERE)],
                "has endpoints, but none with its port (http over TCP): they have no ports",
            ),
            ("", http(&[NOT_READY, ENDING]), "has no ready endpoint: 1 not ready, 1 terminating"),
            ("", http(&[NOT_READY]), "has no ready endpoint: 1 not ready"),
            (
                "",
                http(&[NOT_READY, TERMINATING]),
                "has no ready endpoint: 1 terminating still get its traffic, 1 not ready",
            ),
            (
                LOCAL,
                http(&[ELSEWHERE, NOT_READY]),
                "has no usable endpoint on this node for traffic from outside: externalTrafficPolicy is \
                 Local (1 on other nodes)",
            ),
            (
                LOCAL,
                http(&[NOWHERE, ELSEWHERE]),
                "has no usable endpoint on this node for traffic from outside: externalTrafficPolicy is \
                 Local (1 on other nodes, 1 on no known node: endpoints[].nodeName is missing)",
            ),
            // Policy Local does not use the terminating endpoint, because it is on another node.
            (
                LOCAL,
                http(&[TERMINATING, NOT_READY]),
                "has no usable endpoint on this node for traffic from outside: externalTrafficPolicy is \
                 Local (1 on other nodes)",
            ),
            (
                LOCAL,
                http(&[TERMINATING_HERE, NOT_READY]),
                "has no ready endpoint: 1 terminating still get its traffic, 1 not ready",
            ),
            (
                LOCAL,
                http(&[ELSEWHERE, NOT_READY_HERE]),
                "has no usable endpoint on this node for traffic from outside: \
                 externalTrafficPolicy is Local (1 on this node not ready, 1 on other nodes)",
            ),
            (
                LOCAL_INSIDE,
                http(&[ELSEWHERE]),
                "has no usable endpoint on this node for traffic to its cluster IP: internalTrafficPolicy is \
                 Local (1 on other nodes)",
            ),
        ] {
            assert_eq!(reason_text(policy, &slices), Some(format!("{starts}{expected}")));
        }
    }

    #[test]
    fn unavailability_is_none_for_usable_endpoints() {
        let terminating_here = format!("{ELSEWHERE},{TERMINATING_HERE}");
        for (policy, endpoints) in
            [("", ELSEWHERE), (LOCAL, HERE), (LOCAL_INSIDE, HERE), (LOCAL, &terminating_here)]
        {
            let slices = [slice(1, HTTP, &format!("{endpoints},{NOT_READY}"))];
            assert_eq!(reason_text(policy, &slices), None);
        }
    }
}
