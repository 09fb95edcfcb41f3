//! Addresses and ports that several Services claim.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::select::select;
use crate::service::{ServicePort, TrafficPolicy};
use crate::snapshot::Snapshot;
use rulegen_net::{IpFamily, Protocol, ServicePortName};

/// A place that two Services or more claim. Only one can have it, and nobody tells the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    /// What is claimed.
    pub place: Place,
    /// For which protocol.
    pub protocol: Protocol,
    /// Whose packets it is about: a node port may be contested in both families.
    pub families: Vec<IpFamily>,
    /// Who claims it, at least two: those that forward, then the others, each ordered by name.
    /// The first gets the traffic if it forwards: a Service without endpoints takes none from one
    /// that has some, for what is refused is refused where it was not translated.
    pub claimants: Vec<Claimant>,
}

/// Where traffic of a Service arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// An address and a port there.
    Address(SocketAddr),
    /// A port at the node's own addresses.
    NodePort(u16),
}

/// A Service that claims a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claimant {
    /// The service port, or with an empty port name the Service, where all its ports share the
    /// claim.
    pub port: ServicePortName,
    /// As what it claims it.
    pub role: Role,
    /// Whether it has endpoints that traffic there may go to.
    pub forwards: bool,
}

/// What a place is to a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Its address inside the cluster.
    ClusterIp,
    /// One of its external IPs.
    ExternalIp,
    /// An address of its load balancer.
    LoadBalancerIp,
    /// Its node port.
    NodePort,
    /// The port at which load balancers ask for this node's endpoints.
    HealthCheckNodePort,
}

impl Role {
    /// The field of a Service that claims it.
    pub fn field(self) -> &'static str {
        match self {
            Role::ClusterIp => "spec.clusterIP",
            Role::ExternalIp => "spec.externalIPs",
            Role::LoadBalancerIp => "status.loadBalancer.ingress",
            Role::NodePort => "spec.ports[].nodePort",
            Role::HealthCheckNodePort => "spec.healthCheckNodePort",
        }
    }
}

/// All places of a snapshot that several Services claim, ordered.
pub fn contests(snapshot: &Snapshot) -> Vec<Contest> {
    // A node port is contested in both families mostly, which is one contest.
    let mut contests: BTreeMap<Contested, Vec<IpFamily>> = BTreeMap::new();
    for family in IpFamily::BOTH {
        for contested in contests_among(snapshot.service_ports(family)) {
            contests.entry(contested).or_default().push(family);
        }
    }
    let contest =
        |((place, protocol, claimants), families)| Contest { place, protocol, families, claimants };
    contests.into_iter().map(contest).collect()
}

/// What is claimed, and by whom.
type Contested = (Place, Protocol, Vec<Claimant>);

fn contests_among(ports: &[ServicePort]) -> Vec<Contested> {
    type Claims<'a> = BTreeMap<ServicePortName, (Role, &'a ServicePort)>;
    let mut claims: BTreeMap<(Place, Protocol), Claims<'_>> = BTreeMap::new();
    for port in ports {
        for (place, protocol, claimant, role) in claims_of(port) {
            // An address may be an external IP and the load balancer's of one Service.
            let claimants = claims.entry((place, protocol)).or_default();
            claimants.entry(claimant).or_insert((role, port));
        }
    }
    let contested = claims.into_iter().filter(|(_, claimants)| claimants.len() > 1);
    contested
        .map(|((place, protocol), claimants)| {
            let claimant = |(name, (role, port))| Claimant {
                port: name,
                role,
                forwards: forwards(port, role),
            };
            let mut claimants: Vec<Claimant> = claimants.into_iter().map(claimant).collect();
            claimants.sort_by_key(|claimant| !claimant.forwards);
            (place, protocol, claimants)
        })
        .collect()
}

/// Whether traffic to a service port, as far as it comes there by this role, is translated. What
/// comes from outside always is if there are endpoints anywhere: under policy Local that is for
/// the traffic of this node and its pods.
fn forwards(port: &ServicePort, role: Role) -> bool {
    let selection = select(port);
    match (role, port.internal_policy) {
        (Role::HealthCheckNodePort, _) => false,
        (Role::ClusterIp, TrafficPolicy::Local) => !selection.local.is_empty(),
        _ => selection.any,
    }
}

fn claims_of(port: &ServicePort) -> Vec<(Place, Protocol, ServicePortName, Role)> {
    let protocol = port.name.protocol;
    let claim = |place, role| (place, protocol, port.name.clone(), role);
    let at = |ip| Place::Address(SocketAddr::new(ip, port.port));
    let mut claims = vec![claim(at(port.cluster_ip), Role::ClusterIp)];
    claims.extend(port.external_ips.iter().map(|ip| claim(at(*ip), Role::ExternalIp)));
    claims.extend(port.load_balancer_ips.iter().map(|ip| claim(at(*ip), Role::LoadBalancerIp)));
    claims.extend(port.node_port.map(|port| claim(Place::NodePort(port.get()), Role::NodePort)));
    claims.extend(port.health_check_node_port.map(|number| {
        let name =
            ServicePortName { port: Arc::from(""), protocol: Protocol::Tcp, ..port.name.clone() };
        (Place::NodePort(number.get()), Protocol::Tcp, name, Role::HealthCheckNodePort)
    }));
    claims
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(address) => write!(f, "{address}"),
            Place::NodePort(port) => write!(f, "node port {port}"),
        }
    }
}

impl Display for Claimant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Service {} ({})", self.port, self.role.field())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Host, Objects, SnapshotOptions, read_manifest, snapshot};

    fn service(name: &str, spec: &str, ingress: &str) -> String {
        format!(
            r#"{{"kind": "Service", "apiVersion": "v1", "metadata": {{"name": "{name}"}},
            "spec": {{{spec}}}, "status": {{"loadBalancer": {{"ingress": [{ingress}]}}}}}}"#
        )
    }

    fn told(services: &[String]) -> Vec<String> {
        let mut objects = Objects::default();
        let problems = read_manifest("test", services.join("\n---\n").as_bytes(), &mut objects);
        assert_eq!(problems, []);
        let (snapshot, _) = snapshot(&objects, &SnapshotOptions::default(), &Host::default());
        let tell = |contest: &Contest| {
            let who: Vec<String> = contest.claimants.iter().map(Claimant::to_string).collect();
            let Contest { place, protocol, families, .. } = contest;
            let family = match (place, families.as_slice()) {
                (Place::NodePort(_), [family]) => format!(" {}", family.api_name()),
                _ => String::new(),
            };
            format!("{place} {}{family}: {}", protocol.name(), who.join(", "))
        };
        contests(&snapshot).iter().map(tell).collect()
    }

    #[test]
    fn one_place_of_two_services_is_a_contest() {
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
            told(&services),
            [
                "10.96.0.2:80 tcp: Service default/b (spec.clusterIP), \
                 Service default/c:one (spec.clusterIP)",
                "192.0.2.1:80 tcp: Service default/a:x (status.loadBalancer.ingress), \
                 Service default/b (spec.externalIPs)",
                "node port 30000 tcp: Service default/a:x (spec.ports[].nodePort), \
                 Service default/c:one (spec.ports[].nodePort)",
                "node port 30001 tcp: Service default/a (spec.healthCheckNodePort), \
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
    fn a_service_without_endpoints_stands_behind_one_that_has_some() {
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
        assert_eq!(told(&all), [format!("192.0.2.1:80 tcp: {b}, {c}, {a}")]);
        assert_eq!(told(&[empty, full]), [format!("192.0.2.1:80 tcp: {a}, {b}")]);
        // Policy Local inside has nothing here; from outside this node still gets there.
        let local = spec("10.96.0.2", r#""internalTrafficPolicy": "Local","#);
        let local = service("a", &local, "");
        let other = service("b", &spec("10.96.0.2", ""), "");
        let slices = ["a", "b"].map(|name| slice(name, "IPv4", "10.244.2.5", "node-2"));
        assert_eq!(
            told(&[&[local, other], slices.as_slice()].concat()),
            [
                "10.96.0.2:80 tcp: Service default/b (spec.clusterIP), \
                 Service default/a (spec.clusterIP)",
                "192.0.2.1:80 tcp: Service default/a (spec.externalIPs), \
                 Service default/b (spec.externalIPs)",
            ]
        );
    }

    #[test]
    fn a_node_port_may_be_another_service_in_each_family() {
        let of = |name: &str, number: u8| {
            let spec = format!(
                r#""type": "NodePort", "clusterIPs": ["10.96.0.{number}", "fd00::{number}"],
                "ports": [{{"port": 80, "nodePort": 30000}}]"#
            );
            service(name, &spec, "")
        };
        let mut services = vec![of("a", 1), of("b", 2)];
        let port = |name: &str| format!("Service default/{name} (spec.ports[].nodePort)");
        assert_eq!(told(&services), [format!("node port 30000 tcp: {}, {}", port("a"), port("b"))]);
        services.push(slice("b", "IPv6", "fd00:10::5", "node-1"));
        let in_one = |family: &str, first: &str, second: &str| {
            format!("node port 30000 tcp {family}: {}, {}", port(first), port(second))
        };
        assert_eq!(told(&services), [in_one("IPv4", "a", "b"), in_one("IPv6", "b", "a")]);
    }

    #[test]
    fn a_service_does_not_contest_with_itself_nor_across_protocols() {
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
        assert_eq!(told(&services), Vec::<String>::new());
    }
}
