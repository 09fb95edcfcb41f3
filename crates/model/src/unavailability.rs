//! Why traffic to a service port has nowhere to go.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::availability::{Availability, LocalPolicyScope};
use crate::endpoint_slice::Slice;
use crate::objects::Objects;
use crate::service_port::ServicePort;
use crate::snapshot::{Snapshot, checked_slice};
use rulegen_net::{IpFamily, Protocol, ServicePortName};

/// A service port that lacks endpoints, in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailability {
    /// `namespace/name:port` and the protocol.
    pub port: ServicePortName,
    /// The family of the cluster IP.
    pub family: IpFamily,
    /// What is lacking.
    pub why: UnavailableReason,
}

/// What a service port lacks. It is printed as what can be said of the service port:
/// `has no EndpointSlice`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum UnavailableReason {
    /// No EndpointSlice of the family is of its Service.
    NoSlice,
    /// There are EndpointSlices, and no endpoint in them.
    EmptySlices,
    /// There are endpoints, but none of them has the port.
    NoSuchPort {
        /// The port's name and protocol: `http over TCP`.
        wanted: String,
        /// Those that the endpoints have, ordered.
        there: Vec<String>,
    },
    /// There are endpoints, but none that traffic may go to.
    NoneReady {
        /// So many are not ready.
        not_ready: usize,
        /// So many are shutting down, and do not serve any more.
        terminating: usize,
    },
    /// Only terminating endpoints are left, and traffic goes to them.
    Draining {
        /// So many.
        terminating: usize,
    },
    /// There are endpoints, but none on this node, where a policy keeps the traffic.
    NoneLocal {
        /// The number of endpoints on other nodes: ready ones, or draining ones if none is ready.
        elsewhere: usize,
        /// What the policy is for.
        kept: LocalPolicyScope,
    },
}

/// The service ports of a snapshot that lack endpoints, those of IPv4 first, each family ordered
/// by name. The objects are those that the snapshot was made of.
pub fn unavailable_ports(snapshot: &Snapshot, objects: &Objects) -> Vec<Unavailability> {
    let ports = || IpFamily::BOTH.into_iter().flat_map(|family| snapshot.service_ports(family));
    // Only for those that have no endpoint do slices tell more than the service port does.
    let bare: HashSet<(&str, &str)> =
        ports().filter(|port| port.endpoints.is_empty()).map(service_of).collect();
    let slices = slices_of(objects, &bare);
    let unavailability = |port: &ServicePort| {
        let slices = slices.get(&service_of(port)).map(Vec::as_slice).unwrap_or_default();
        let why = unavailability_of(port, slices.iter())?;
        Some(Unavailability { port: port.name.clone(), family: IpFamily::of(port.cluster_ip), why })
    };
    ports().filter_map(unavailability).collect()
}

/// What one service port of a snapshot lacks, if anything.
pub fn unavailability(port: &ServicePort, objects: &Objects) -> Option<UnavailableReason> {
    let service = service_of(port);
    let slices = match port.endpoints.as_slice() {
        [] => slices_of(objects, &HashSet::from([service])),
        _ => HashMap::new(),
    };
    unavailability_of(port, slices.get(&service).map(Vec::as_slice).unwrap_or_default().iter())
}

/// What a service port lacks, by its endpoints, or for want of these by its Service's slices of
/// any family.
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
        Availability::NoneLocal { elsewhere, scope } => {
            Some(UnavailableReason::NoneLocal { elsewhere, kept: scope })
        }
        Availability::Draining { terminating } => Some(UnavailableReason::Draining { terminating }),
        Availability::Ready => None,
    }
}

/// Why slices of its family give a service port nothing at all.
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
    let named = |(name, protocol)| port_words(name, protocol);
    let there: BTreeSet<String> = filled.flat_map(Slice::ports).map(named).collect();
    let wanted = port_words(&port.name.port, port.name.protocol);
    UnavailableReason::NoSuchPort { wanted, there: there.into_iter().collect() }
}

/// The checked slices of some Services. What is wrong with them was told with the snapshot.
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

fn port_words(name: &str, protocol: Protocol) -> String {
    let name = if name.is_empty() { "one without a name" } else { name };
    format!("{name} over {}", protocol.api_name())
}

impl UnavailableReason {
    /// Whether nothing at all can be reached. Otherwise only some traffic has nowhere to go, or
    /// only for now.
    pub fn is_whole(&self) -> bool {
        !matches!(self, UnavailableReason::Draining { .. } | UnavailableReason::NoneLocal { .. })
    }

    /// What a person can do about it.
    pub fn remedy(&self, port: &ServicePortName) -> String {
        let (namespace, service) = (&port.namespace, &port.service);
        match self {
            UnavailableReason::NoSlice => format!(
                "see whether its selector meets any pod (`kubectl -n {namespace} describe service \
                 {service}`); a Service without a selector needs an EndpointSlice with the label \
                 kubernetes.io/service-name: {service}"
            ),
            UnavailableReason::EmptySlices => format!(
                "start pods with the labels of its selector (`kubectl -n {namespace} describe \
                 service {service}` shows it), or correct the selector"
            ),
            UnavailableReason::NoSuchPort { .. } => {
                "let spec.ports[].targetPort name a port that the pods' containers have \
                 (containerPort with that name); in EndpointSlices made by hand, ports[].name must \
                 be that of the Service's port"
                    .to_owned()
            }
            UnavailableReason::NoneReady { .. } => format!(
                "see why the pods are not ready (`kubectl -n {namespace} get pods`, then `kubectl \
                 describe pod`): mostly a readiness probe that fails"
            ),
            UnavailableReason::Draining { .. } => {
                format!("see why no new pods start (`kubectl -n {namespace} get pods`)")
            }
            UnavailableReason::NoneLocal { kept, .. } => {
                let field = match kept {
                    LocalPolicyScope::Internal => "spec.internalTrafficPolicy",
                    LocalPolicyScope::External => "spec.externalTrafficPolicy",
                    LocalPolicyScope::Both => {
                        "spec.internalTrafficPolicy and spec.externalTrafficPolicy"
                    }
                };
                format!("let a pod run on this node, or set {field} to Cluster")
            }
        }
    }
}

impl Display for UnavailableReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            UnavailableReason::NoSlice => f.write_str("has no EndpointSlice"),
            UnavailableReason::EmptySlices => {
                f.write_str("has EndpointSlices without any endpoint")
            }
            UnavailableReason::NoSuchPort { wanted, there } if there.is_empty() => {
                write!(f, "has endpoints, but not its port ({wanted}): they have no port")
            }
            UnavailableReason::NoSuchPort { wanted, there } => {
                let there = there.join(", ");
                write!(f, "has endpoints, but not its port ({wanted}): they have {there}")
            }
            UnavailableReason::NoneReady { not_ready, terminating } => {
                f.write_str("has no endpoint that is ready: ")?;
                match (not_ready, terminating) {
                    (not_ready, 0) => write!(f, "{not_ready} not ready"),
                    (0, terminating) => write!(f, "{terminating} shutting down"),
                    _ => write!(f, "{not_ready} not ready, {terminating} shutting down"),
                }
            }
            UnavailableReason::Draining { terminating } => write!(
                f,
                "has no endpoint but {terminating} shutting down, which get its traffic until they \
                 end"
            ),
            UnavailableReason::NoneLocal { elsewhere, kept } => {
                let (traffic, policy) = match kept {
                    LocalPolicyScope::Internal => ("traffic to its cluster IP", "internal"),
                    LocalPolicyScope::External => ("traffic from outside", "external"),
                    LocalPolicyScope::Both => ("all traffic", "internal and external"),
                };
                write!(
                    f,
                    "has no endpoint on this node, where the {policy} traffic policy Local keeps \
                     {traffic} ({elsewhere} on other nodes)"
                )
            }
        }
    }
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
    const DRAINING: &str = r#"{"addresses": ["10.244.1.7"],
        "conditions": {"ready": false, "serving": true, "terminating": true}}"#;
    const DRAINING_HERE: &str = r#"{"addresses": ["10.244.1.9"], "nodeName": "node-1",
        "conditions": {"ready": false, "serving": true, "terminating": true}}"#;
    const ENDING: &str = r#"{"addresses": ["10.244.1.8"],
        "conditions": {"ready": false, "serving": false, "terminating": true}}"#;

    /// What is told of the service port by the objects, which a store must tell too.
    fn told(policy: &str, slices: &[String]) -> Option<String> {
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
        let [port] = snapshot.service_ports(IpFamily::Ipv4) else { panic!("one port is given") };
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
        for (policy, slices, wanted) in [
            ("", vec![], "has no EndpointSlice"),
            ("", http(&[]), "has EndpointSlices without any endpoint"),
            (
                "",
                vec![slice(1, HTTPS, HERE), slice(2, HTTP, "")],
                "has endpoints, but not its port (http over TCP): they have https over TCP",
            ),
            (
                "",
                vec![slice(1, "", HERE)],
                "has endpoints, but not its port (http over TCP): they have no port",
            ),
            (
                "",
                http(&[NOT_READY, ENDING]),
                "has no endpoint that is ready: 1 not ready, 1 shutting down",
            ),
            ("", http(&[NOT_READY]), "has no endpoint that is ready: 1 not ready"),
            (
                "",
                http(&[NOT_READY, DRAINING]),
                "has no endpoint but 1 shutting down, which get its traffic until they end",
            ),
            (
                LOCAL,
                http(&[ELSEWHERE, NOT_READY]),
                "has no endpoint on this node, where the external traffic policy Local keeps \
                 traffic from outside (1 on other nodes)",
            ),
            // Which drain where this node does not send anything.
            (
                LOCAL,
                http(&[DRAINING, NOT_READY]),
                "has no endpoint on this node, where the external traffic policy Local keeps \
                 traffic from outside (1 on other nodes)",
            ),
            (
                LOCAL,
                http(&[DRAINING_HERE, NOT_READY]),
                "has no endpoint but 1 shutting down, which get its traffic until they end",
            ),
            (
                LOCAL_INSIDE,
                http(&[ELSEWHERE]),
                "has no endpoint on this node, where the internal traffic policy Local keeps \
                 traffic to its cluster IP (1 on other nodes)",
            ),
        ] {
            assert_eq!(told(policy, &slices), Some(format!("{starts}{wanted}")));
        }
    }

    #[test]
    fn unavailability_is_none_for_usable_endpoints() {
        let drains_here = format!("{ELSEWHERE},{DRAINING_HERE}");
        for (policy, endpoints) in
            [("", ELSEWHERE), (LOCAL, HERE), (LOCAL_INSIDE, HERE), (LOCAL, &drains_here)]
        {
            let slices = [slice(1, HTTP, &format!("{endpoints},{NOT_READY}"))];
            assert_eq!(told(policy, &slices), None);
        }
    }
}
