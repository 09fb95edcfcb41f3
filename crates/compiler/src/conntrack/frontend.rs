//! Where Services are reached.

use std::net::SocketAddr;

use rulegen_model::ServicePort;
use rulegen_net::Protocol;

/// Where a service port is reached, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frontend {
    /// At its cluster IP, an external IP or a load balancer's.
    Address(Protocol, SocketAddr),
    /// At the addresses of the node at which node ports are open.
    NodePort(Protocol, u16),
}

impl Frontend {
    /// The protocol.
    pub fn protocol(self) -> Protocol {
        match self {
            Frontend::Address(protocol, _) | Frontend::NodePort(protocol, _) => protocol,
        }
    }
}

/// All frontends of a service port, some perhaps twice.
pub fn frontends(port: &ServicePort) -> impl Iterator<Item = Frontend> + '_ {
    let protocol = port.name.protocol;
    let node_port = port.node_port.map(|number| Frontend::NodePort(protocol, number.get()));
    std::iter::once(&port.cluster_ip)
        .chain(&port.external_ips)
        .chain(&port.load_balancer_ips)
        .map(move |ip| Frontend::Address(protocol, SocketAddr::new(*ip, port.port)))
        .chain(node_port)
}
