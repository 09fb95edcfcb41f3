//! Frontends that several Services claim.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use rulegen_config::ProxyConfig;
use rulegen_model::{ServicePort, Snapshot};
use rulegen_net::{Frontend, FrontendAddress, FrontendKind, IpFamily, Protocol, ServicePortName};

use super::plan_service;
use super::service_plan::Precedence;

/// A frontend that at least two Services claim. Only one of them gets its traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontendConflict {
    /// The frontend. A node port that has the same contenders in both families is one conflict,
    /// with the frontend of IPv4.
    pub frontend: Frontend,
    /// The IP families in which it is contested.
    pub families: Vec<IpFamily>,
    /// At least two, in the order of their precedence. The first gets the traffic if it forwards.
    pub contenders: Vec<Contender>,
}

/// A Service that claims a frontend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contender {
    /// The service port. Its port name is empty if the Service claims the frontend for all its
    /// ports.
    pub port: ServicePortName,
    /// The kind of the frontend for this Service.
    pub kind: FrontendKind,
    /// Whether the Service has usable endpoints for traffic to the frontend.
    pub forwards: bool,
}

/// All frontends of a snapshot that several Services claim, ordered by address and port.
pub fn conflicts(snapshot: &Snapshot, config: &ProxyConfig) -> Vec<FrontendConflict> {
    let mut conflicts = conflicts_of_family(snapshot, config, IpFamily::Ipv4);
    let at_node = conflicts.iter().enumerate().filter_map(|(n, of)| Some((node_port(of)?, n)));
    let at_node: BTreeMap<(u16, Protocol), usize> = at_node.collect();
    for conflict in conflicts_of_family(snapshot, config, IpFamily::Ipv6) {
        let same_port = node_port(&conflict).and_then(|port| at_node.get(&port));
        match same_port.and_then(|n| conflicts.get_mut(*n)) {
            // They differ only in the family.
            Some(other) if other.contenders == conflict.contenders => {
                other.families.extend(conflict.families);
            }
            _ => conflicts.push(conflict),
        }
    }
    conflicts.sort_by(|a, b| {
        let place = |of: &FrontendConflict| {
            let Frontend { port, protocol, .. } = of.frontend;
            (of.frontend.ip().is_none(), of.frontend.ip(), port, protocol)
        };
        (place(a), &a.contenders).cmp(&(place(b), &b.contenders))
    });
    conflicts
}

/// The node port that a conflict is about.
fn node_port(conflict: &FrontendConflict) -> Option<(u16, Protocol)> {
    match conflict.frontend.address {
        FrontendAddress::Ip(_) => None,
        FrontendAddress::Node(_) => Some((conflict.frontend.port, conflict.frontend.protocol)),
    }
}

fn conflicts_of_family(
    snapshot: &Snapshot,
    config: &ProxyConfig,
    family: IpFamily,
) -> Vec<FrontendConflict> {
    type ClaimsOfFrontend<'a> = BTreeMap<ServicePortName, (FrontendKind, &'a ServicePort)>;
    let mut claims: BTreeMap<Frontend, ClaimsOfFrontend<'_>> = BTreeMap::new();
    for port in snapshot.service_ports(family) {
        for (frontend, kind, name) in claims_of(port) {
            // An address may be an external and a load-balancer IP of one Service.
            claims.entry(frontend).or_default().entry(name).or_insert((kind, port));
        }
    }
    let contested = claims.into_iter().filter(|(_, contenders)| contenders.len() > 1);
    let conflict = |(frontend, contenders): (Frontend, ClaimsOfFrontend<'_>)| {
        let contender = |(port, (kind, of)): (ServicePortName, (FrontendKind, &ServicePort))| {
            let plan = plan_service(of, &snapshot.node, config, family);
            let forwards = plan.forwards(kind);
            (plan.precedence(kind), Contender { port, kind, forwards })
        };
        let mut contenders: Vec<(Precedence, Contender)> =
            contenders.into_iter().map(contender).collect();
        contenders.sort();
        let contenders = contenders.into_iter().map(|(_, contender)| contender).collect();
        FrontendConflict { frontend, families: vec![frontend.family()], contenders }
    };
    contested.map(conflict).collect()
}

fn claims_of(
    port: &ServicePort,
) -> impl Iterator<Item = (Frontend, FrontendKind, ServicePortName)> + '_ {
    let frontends = port.frontends().map(|(frontend, kind)| (frontend, kind, port.name.clone()));
    let health_check = port.health_check_node_port.map(|number| {
        let name =
            ServicePortName { port: Arc::from(""), protocol: Protocol::Tcp, ..port.name.clone() };
        let frontend = Frontend::node_port(port.family(), Protocol::Tcp, number.get());
        (frontend, FrontendKind::HealthCheckNodePort, name)
    });
    frontends.chain(health_check)
}

impl Display for Contender {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Service {} ({})", self.port, self.kind.field())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rulegen_model::{Host, Objects, SnapshotOptions, read_manifest, snapshot};

    fn service(name: &str, spec: &str, ingress: &str) -> String {
        format!(
            r#"{{"kind": "Service", "apiVersion": "v1", "metadata": {{"name": "{name}"}},
            "spec": {{{spec}}}, "status": {{"loadBalancer": {{"ingress": [{ingress}]}}}}}}"#
        )
    }

    fn conflict_lines(services: &[String]) -> Vec<String> {
        let mut objects = Objects::default();
        let problems = read_manifest("test", services.join("\n---\n").as_bytes(), &mut objects);
        assert_eq!(problems, []);
        let (snapshot, _) = snapshot(&objects, &SnapshotOptions::default(), &Host::default());
        let line = |conflict: &FrontendConflict| {
            let names: Vec<String> = conflict.contenders.iter().map(Contender::to_string).collect();
            let FrontendConflict { frontend, families, .. } = conflict;
            let family = match (frontend.address, families.as_slice()) {
                (FrontendAddress::Node(_), [family]) => format!(" {}", family.api_name()),
                _ => String::new(),
            };
            format!("{frontend}{family}: {}", names.join(", "))
        };
        conflicts(&snapshot, &ProxyConfig::default()).iter().map(line).collect()
    }

    #[test]
    fn address_conflict_of_two_services_is_reported_per_address_and_node_port() {
        let services = [
            service(
                "b",
                r#""clusterIP": "10.96.0.2", "externalIPs": ["192.0.2.1"],
                "ports": [{"port": 80}]"#,
                "",
            ),
            service(
                "a",
                r#""type": "LoadBalancer", "clusterIPs": ["10.96.0.1", "fd00::1"],
                "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001,
                "ports": [{"name": "x", "port": 80, "nodePort": 30000},
                {"name": "y", "port": 81, "nodePort": 30002}]"#,
                r#"{"ip": "192.0.2.1"}"#,
            ),
            service(
                "c",
                r#""type": "NodePort", "clusterIPs": ["10.96.0.2", "fd00::2"],
                "ports": [{"name": "one", "port": 80, "nodePort": 30000},
                {"name": "two", "port": 81, "nodePort": 30001}]"#,
                "",
            ),
        ];
        assert_eq!(
            conflict_lines(&services),
            [
                "10.96.0.2:80/TCP: Service default/b (spec.clusterIP), \
                 Service default/c:one (spec.clusterIP)",
                "192.0.2.1:80/TCP: Service default/a:x (status.loadBalancer.ingress), \
                 Service default/b (spec.externalIPs)",
                "node port 30000/TCP: Service default/a:x (spec.ports[].nodePort), \
                 Service default/c:one (spec.ports[].nodePort)",
                "node port 30001/TCP: Service default/a (spec.healthCheckNodePort), \
                 Service default/c:two (spec.ports[].nodePort)",
            ]
        );
    }

    fn slice(service: &str, family: &str, address: &str, node: &str) -> String {
        format!(
            r#"{{"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata":
            {{"name": "{service}-{family}", "labels": {{"kubernetes.io/service-name": "{service}"}}}},
            "addressType": "{family}", "ports": [{{"port": 8080}}],
            "endpoints": [{{"addresses": ["{address}"], "nodeName": "{node}"}}]}}"#
        )
    }

    #[test]
    fn address_conflict_is_won_by_service_with_endpoints() {
        let spec = |cluster_ip: &str, also: &str| {
            format!(
                r#""clusterIP": "{cluster_ip}", "externalIPs": ["192.0.2.1"], {also}
                "ports": [{{"port": 80}}]"#
            )
        };
        let empty = service("a-empty", &spec("10.96.0.1", ""), "");
        let full = service("b-full", &spec("10.96.0.2", ""), "");
        let third = service("c-full", &spec("10.96.0.3", ""), "");
        let [a, b, c] = ["a-empty", "b-full", "c-full"]
            .map(|name| format!("Service default/{name} (spec.externalIPs)"));
        let slices = ["b-full", "c-full"].map(|name| slice(name, "IPv4", "10.244.2.5", "node-2"));
        let all = [&[empty.clone(), full.clone(), third], slices.as_slice()].concat();
        assert_eq!(conflict_lines(&all), [format!("192.0.2.1:80/TCP: {b}, {c}, {a}")]);
        assert_eq!(conflict_lines(&[empty, full]), [format!("192.0.2.1:80/TCP: {a}, {b}")]);
        // Internal policy Local has no endpoint here, but traffic from outside this node is
        // forwarded.
        let local = spec("10.96.0.2", r#""internalTrafficPolicy": "Local","#);
        let local = service("a", &local, "");
        let other = service("b", &spec("10.96.0.2", ""), "");
        let slices = ["a", "b"].map(|name| slice(name, "IPv4", "10.244.2.5", "node-2"));
        assert_eq!(
            conflict_lines(&[&[local, other], slices.as_slice()].concat()),
            [
                "10.96.0.2:80/TCP: Service default/b (spec.clusterIP), \
                 Service default/a (spec.clusterIP)",
                "192.0.2.1:80/TCP: Service default/a (spec.externalIPs), \
                 Service default/b (spec.externalIPs)",
            ]
        );
    }

    #[test]
    fn address_conflict_of_node_port_may_have_another_winner_per_ip_family() {
        let of = |name: &str, number: u8| {
            let spec = format!(
                r#""type": "NodePort", "clusterIPs": ["10.96.0.{number}", "fd00::{number}"],
                "ports": [{{"port": 80, "nodePort": 30000}}]"#
            );
            service(name, &spec, "")
        };
        let mut services = vec![of("a", 1), of("b", 2)];
        let port = |name: &str| format!("Service default/{name} (spec.ports[].nodePort)");
        assert_eq!(
            conflict_lines(&services),
            [format!("node port 30000/TCP: {}, {}", port("a"), port("b"))]
        );
        services.push(slice("b", "IPv6", "fd00:10::5", "node-1"));
        let in_one = |family: &str, first: &str, second: &str| {
            format!("node port 30000/TCP {family}: {}, {}", port(first), port(second))
        };
        assert_eq!(conflict_lines(&services), [in_one("IPv4", "a", "b"), in_one("IPv6", "b", "a")]);
    }

    #[test]
    fn address_conflict_needs_different_services_and_same_protocol_and_port() {
        let services = [
            service(
                "a",
                r#""type": "LoadBalancer", "clusterIP": "10.96.0.1", "externalIPs": ["192.0.2.1"],
                "ports": [{"name": "t", "port": 80, "nodePort": 30000},
                {"name": "u", "protocol": "UDP", "port": 80, "nodePort": 30000}]"#,
                r#"{"ip": "192.0.2.1"}"#,
            ),
            service(
                "b",
                r#""clusterIP": "10.96.0.2", "externalIPs": ["192.0.2.1"],
                "ports": [{"port": 81}]"#,
                "",
            ),
        ];
        assert_eq!(conflict_lines(&services), Vec::<String>::new());
    }
}
