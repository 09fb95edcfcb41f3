//! The inputs of a [`Snapshot`](crate::Snapshot) other than the objects and the host.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::external_ips::ExternalIps;

/// The configuration of a snapshot and a [`Store`](crate::Store).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// The node's name, if it is not the host name.
    pub hostname_override: Option<String>,
    /// The node's primary address of its family; overrides the Node object.
    pub bind_address: Option<IpAddr>,
    /// Which external IPs of Services are used.
    pub external_ips: ExternalIps,
    /// Whether this node's addresses are excluded as external and load-balancer IPs.
    pub refuse_node_addresses: bool,
    /// The largest [`ServiceSize::total`](crate::ServiceSize::total) of a Service that is used.
    pub max_service_size: usize,
    /// Whether source ranges count per port: in iptables mode each port has its own rules.
    pub source_ranges_per_port: bool,
    /// The addresses at which node ports are open.
    pub node_ports: NodePortScope,
    /// Whether node ports are open at IPv4 loopback addresses too.
    pub loopback_node_ports: bool,
}

/// Addresses of the node at which node ports are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortScope {
    /// All addresses.
    All,
    /// The primary address of each family; all addresses of a family whose primary address is
    /// loopback.
    Primary,
    /// The addresses in these networks; all addresses of a family without a network.
    Within(Vec<IpNet>),
}

/// Maximum size of a Service in iptables mode, which is kube-proxy's default mode. docs/limits.md
/// has measurements.
pub const IPTABLES_SERVICE_SIZE: usize = 100_000;
/// Maximum size of a Service in nftables mode.
pub const NFTABLES_SERVICE_SIZE: usize = 300_000;

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self {
            hostname_override: None,
            bind_address: None,
            external_ips: ExternalIps::All,
            refuse_node_addresses: false,
            max_service_size: IPTABLES_SERVICE_SIZE,
            source_ranges_per_port: true,
            node_ports: NodePortScope::All,
            loopback_node_ports: true,
        }
    }
}
