//! Addresses and ports that several Services claim.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::address::IpFamily;
use crate::port::Protocol;
use crate::service::{ServicePort, ServicePortName};
use crate::snapshot::Snapshot;

/// A place that two Services or more claim. Only one can have it, and nobody tells the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contest {
    /// What is claimed.
    pub place: Place,
    /// For which protocol.
    pub protocol: Protocol,
    /// Who claims it, at least two, ordered by name. The first gets the traffic.
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
    let contests: BTreeSet<Contest> = IpFamily::BOTH
        .into_iter()
        .flat_map(|family| contests_among(snapshot.service_ports(family)))
        .collect();
    contests.into_iter().collect()
}

fn contests_among(ports: &[ServicePort]) -> Vec<Contest> {
    let mut claims: BTreeMap<(Place, Protocol), BTreeMap<ServicePortName, Role>> = BTreeMap::new();
    for port in ports {
        for (place, protocol, claimant) in claims_of(port) {
            // An address may be an external IP and the load balancer's of one Service.
            let claimants = claims.entry((place, protocol)).or_default();
            claimants.entry(claimant.port).or_insert(claimant.role);
        }
    }
    let contested = claims.into_iter().filter(|(_, claimants)| claimants.len() > 1);
    contested
        .map(|((place, protocol), claimants)| {
            let claimant = |(port, role)| Claimant { port, role };
            Contest { place, protocol, claimants: claimants.into_iter().map(claimant).collect() }
        })
        .collect()
}

fn claims_of(port: &ServicePort) -> Vec<(Place, Protocol, Claimant)> {
    let protocol = port.name.protocol;
    let claim = |place, role| (place, protocol, Claimant { port: port.name.clone(), role });
    let at = |ip| Place::Address(SocketAddr::new(ip, port.port));
    let mut claims = vec![claim(at(port.cluster_ip), Role::ClusterIp)];
    claims.extend(port.external_ips.iter().map(|ip| claim(at(*ip), Role::ExternalIp)));
    claims.extend(port.load_balancer_ips.iter().map(|ip| claim(at(*ip), Role::LoadBalancerIp)));
    claims.extend(port.node_port.map(|port| claim(Place::NodePort(port.get()), Role::NodePort)));
    claims.extend(port.health_check_node_port.map(|number| {
        let name =
            ServicePortName { port: Arc::from(""), protocol: Protocol::Tcp, ..port.name.clone() };
        let claimant = Claimant { port: name, role: Role::HealthCheckNodePort };
        (Place::NodePort(number.get()), Protocol::Tcp, claimant)
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
    use crate::{Host, Objects, ProxyConfig, read_manifest, snapshot};

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
        let (snapshot, _) = snapshot(&objects, &ProxyConfig::default(), &Host::default());
        let tell = |contest: &Contest| {
            let who: Vec<String> = contest.claimants.iter().map(Claimant::to_string).collect();
            format!("{} {}: {}", contest.place, contest.protocol.lower_case(), who.join(", "))
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
