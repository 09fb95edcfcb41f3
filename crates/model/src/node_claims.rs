//! External and load-balancer IPs that are addresses of this node.
//!
//! kube-proxy allows this, and bare-metal clusters and k3s depend on it. But a process that listens
//! on such an address, such as an API server, kubelet or sshd, gets no more connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::service_port::ServicePort;
use rulegen_net::{FrontendKind, IpFamily, Protocol, ServicePortName};

/// Addresses and ports of the node that Services use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeClaims(BTreeMap<(Protocol, u16), Vec<NodeClaim>>);

/// Addresses of the node. All ports of a Service share them to save memory.
type Addresses = Arc<[(IpAddr, FrontendKind)]>;

/// A service port and the node's addresses that it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NodeClaim {
    name: ServicePortName,
    addresses: Addresses,
}

/// An address and port of the node that a Service takes from a listening process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TakenAddress {
    /// The service port.
    pub port: ServicePortName,
    /// The address and port; the first one if the process listens on all addresses.
    pub at: SocketAddr,
    /// Kind of the frontend.
    pub kind: FrontendKind,
    /// Number of other addresses that the Service takes from the same process.
    pub others: usize,
}

impl NodeClaims {
    /// Collects the claims of service ports. Ports of the same Service and family must be adjacent.
    pub fn of<'a>(
        ports: impl IntoIterator<Item = &'a ServicePort>,
        is_node_address: impl Fn(IpAddr) -> bool,
    ) -> Self {
        let mut claims = Self::default();
        let mut last: Option<(&ServicePort, Addresses)> = None;
        for port in ports {
            let addresses = match &last {
                Some((other, addresses)) if have_same_addresses(other, port) => addresses.clone(),
                _ => addresses_at(port, &is_node_address),
            };
            last = Some((port, addresses.clone()));
            if !addresses.is_empty() {
                let claim = NodeClaim { name: port.name.clone(), addresses };
                claims.0.entry((port.name.protocol, port.port)).or_default().push(claim);
            }
        }
        claims
    }

    /// The port numbers.
    pub fn ports(&self) -> BTreeSet<u16> {
        self.0.keys().map(|(_, number)| *number).collect()
    }

    /// The addresses that Services take from a process that listens on `listener`.
    pub fn taken_from(
        &self,
        protocol: Protocol,
        listener: SocketAddr,
    ) -> impl Iterator<Item = TakenAddress> {
        let ip = listener.ip().to_canonical();
        let claims = self.0.get(&(protocol, listener.port())).into_iter().flatten();
        claims.filter_map(move |claim| {
            let mut matching = claim.addresses.iter().filter(|(of, _)| gets_connections(ip, *of));
            let (first, kind) = *matching.next()?;
            Some(TakenAddress {
                port: claim.name.clone(),
                at: SocketAddr::new(first, listener.port()),
                kind,
                others: matching.count(),
            })
        })
    }
}

/// Whether a process that listens on one address gets connections to another. An IPv6 socket for
/// all addresses also gets IPv4 connections, unless it has IPV6_V6ONLY, which /proc/net does not
/// show.
fn gets_connections(listens_at: IpAddr, address: IpAddr) -> bool {
    let accepts_all = listens_at.is_unspecified() && (listens_at.is_ipv6() || address.is_ipv4());
    accepts_all || listens_at == address
}

fn have_same_addresses(one: &ServicePort, other: &ServicePort) -> bool {
    one.name.service == other.name.service
        && one.name.namespace == other.name.namespace
        && IpFamily::of(one.cluster_ip) == IpFamily::of(other.cluster_ip)
}

fn addresses_at(port: &ServicePort, is_node_address: &impl Fn(IpAddr) -> bool) -> Addresses {
    let external = port.external_ips.iter().map(|ip| (*ip, FrontendKind::ExternalIP));
    let load_balancer = port.load_balancer_ips.iter().map(|ip| (*ip, FrontendKind::LoadBalancerIP));
    let mut seen = BTreeSet::new();
    let all = external.chain(load_balancer);
    all.filter(|(ip, _)| is_node_address(*ip) && seen.insert(*ip)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Host, Objects, SnapshotOptions, read_manifest, snapshot};

    fn claims(nodes: &[&str]) -> NodeClaims {
        let service = r#"{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "ssh"},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1", "fd00::1"],
            "externalIPs": ["192.0.2.10", "192.0.2.11", "192.0.2.99", "2001:db8::10"],
            "ports": [{"name": "a", "port": 22}, {"name": "b", "port": 53, "protocol": "UDP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.12"}, {"ip": "192.0.2.10"}]}}}"#;
        let mut objects = Objects::default();
        assert_eq!(read_manifest("test", service.as_bytes(), &mut objects), []);
        let (snapshot, _) = snapshot(&objects, &SnapshotOptions::default(), &Host::default());
        let nodes: Vec<IpAddr> = nodes.iter().map(|ip| ip.parse().unwrap()).collect();
        NodeClaims::of(snapshot.ipv4.iter().chain(&snapshot.ipv6), |ip| nodes.contains(&ip))
    }

    fn taken(claims: &NodeClaims, protocol: Protocol, listener: &str) -> Vec<String> {
        let taken = claims.taken_from(protocol, listener.parse().unwrap());
        let words = |TakenAddress { port, at, kind, others }| {
            format!("{at} of {port} ({}) and {others}", kind.field())
        };
        taken.map(words).collect()
    }

    #[test]
    fn node_claims_take_address_from_exact_and_wildcard_listeners() {
        let claims = claims(&["192.0.2.10", "192.0.2.11", "192.0.2.12", "2001:db8::10"]);
        assert_eq!(claims.ports(), BTreeSet::from([22, 53]));
        let external = "192.0.2.10:22 of default/ssh:a (spec.externalIPs)";
        let tcp = |listener: &str| taken(&claims, Protocol::Tcp, listener);
        assert_eq!(tcp("0.0.0.0:22"), [format!("{external} and 2")]);
        assert_eq!(tcp("192.0.2.10:22"), [format!("{external} and 0")]);
        assert_eq!(tcp("[::ffff:192.0.2.10]:22"), [format!("{external} and 0")]);
        let ingress = "192.0.2.12:22 of default/ssh:a (status.loadBalancer.ingress) and 0";
        assert_eq!(tcp("192.0.2.12:22"), [ingress]);
        let v6 = "[2001:db8::10]:22 of default/ssh:a (spec.externalIPs) and 0";
        assert_eq!(tcp("[::]:22"), [&format!("{external} and 2"), v6]);
        for other in ["127.0.0.1:22", "[::1]:22", "192.0.2.99:22", "0.0.0.0:23", "0.0.0.0:53"] {
            assert_eq!(tcp(other), Vec::<String>::new(), "{other}");
        }
        assert_eq!(taken(&claims, Protocol::Udp, "0.0.0.0:53").len(), 1);
    }

    #[test]
    fn node_claims_ignore_addresses_of_other_nodes() {
        assert_eq!(claims(&["10.96.0.1", "192.0.2.1"]), NodeClaims::default());
    }
}
