use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::{IpFamily, Protocol};

/// An address, protocol and port at which a Service receives traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The destination address of the traffic.
    pub address: FrontendAddress,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The destination port, from 1 to 65535.
    pub port: u16,
}

/// The destination address of traffic to a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendAddress {
    /// A cluster IP, external IP or load-balancer IP.
    Ip(IpAddr),
    /// The addresses of the node, of one family, at which node ports are open.
    Node(IpFamily),
}

impl Frontend {
    /// A frontend at one address.
    pub fn at_ip(ip: IpAddr, protocol: Protocol, port: u16) -> Self {
        Self { address: FrontendAddress::Ip(ip), protocol, port }
    }

    /// The frontend of a node port, at all addresses where node ports are open.
    pub fn node_port(family: IpFamily, protocol: Protocol, port: u16) -> Self {
        Self { address: FrontendAddress::Node(family), protocol, port }
    }

    /// The address family of its traffic.
    pub fn family(self) -> IpFamily {
        match self.address {
            FrontendAddress::Ip(ip) => IpFamily::of(ip),
            FrontendAddress::Node(family) => family,
        }
    }

    /// The address, unless it is a node port.
    pub fn ip(self) -> Option<IpAddr> {
        match self.address {
            FrontendAddress::Ip(ip) => Some(ip),
            FrontendAddress::Node(_) => None,
        }
    }

    /// Address and port, unless it is a node port.
    pub fn socket(self) -> Option<SocketAddr> {
        self.ip().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// `10.96.0.10:80/TCP` or `node port 30080/TCP`.
impl Display for Frontend {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (port, protocol) = (self.port, self.protocol.api_name());
        match self.socket() {
            Some(socket) => write!(f, "{socket}/{protocol}"),
            None => write!(f, "node port {port}/{protocol}"),
        }
    }
}

/// The kind of address at which a Service receives traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum FrontendKind {
    /// One of `spec.clusterIPs`.
    ClusterIP,
    /// One of `spec.externalIPs`.
    ExternalIP,
    /// One of `status.loadBalancer.ingress`.
    LoadBalancerIP,
    /// A `spec.ports[].nodePort`, at the addresses of each node.
    NodePort,
    /// The node's port at which load balancers probe for local endpoints.
    HealthCheckNodePort,
    /// An external or load-balancer IP: the rules are the same for both.
    External,
}

impl FrontendKind {
    /// The name in JSON and tables.
    pub fn name(self) -> &'static str {
        match self {
            FrontendKind::ClusterIP => "ClusterIP",
            FrontendKind::ExternalIP => "ExternalIP",
            FrontendKind::LoadBalancerIP => "LoadBalancerIP",
            FrontendKind::NodePort => "NodePort",
            FrontendKind::HealthCheckNodePort => "HealthCheckNodePort",
            FrontendKind::External => "External",
        }
    }

    /// The kind within a sentence.
    pub fn words(self) -> &'static str {
        match self {
            FrontendKind::ClusterIP => "cluster IP",
            FrontendKind::ExternalIP => "external IP",
            FrontendKind::LoadBalancerIP => "load-balancer IP",
            FrontendKind::NodePort => "node port",
            FrontendKind::HealthCheckNodePort => "health-check node port",
            FrontendKind::External => "external or load-balancer IP",
        }
    }

    /// The field of a Service that sets it.
    pub fn field(self) -> &'static str {
        match self {
            FrontendKind::ClusterIP => "spec.clusterIP",
            FrontendKind::ExternalIP => "spec.externalIPs",
            FrontendKind::LoadBalancerIP => "status.loadBalancer.ingress",
            FrontendKind::NodePort => "spec.ports[].nodePort",
            FrontendKind::HealthCheckNodePort => "spec.healthCheckNodePort",
            FrontendKind::External => "spec.externalIPs or status.loadBalancer.ingress",
        }
    }
}
