//! The part of the configuration that affects rules.

use std::net::IpAddr;

use ipnet::IpNet;
use rulegen_model::{
    ExternalIps, IPTABLES_SERVICE_SIZE, LoadBalancing, NFTABLES_SERVICE_SIZE, NodePortScope,
    SnapshotOptions,
};

use crate::detect_local::DetectLocalMode;
use crate::node_port_addresses::NodePortAddresses;
use crate::proxy_mode::ProxyMode;
use crate::schema::KubeProxyConfiguration;

/// The part of the configuration that affects rules.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are kube-proxy's own; its reference documents them")]
pub struct ProxyConfig {
    pub mode: ProxyMode,
    pub hostname_override: Option<String>,
    pub bind_address: Option<IpAddr>,
    pub detect_local_mode: DetectLocalMode,
    pub cluster_cidrs: Vec<IpNet>,
    pub bridge_interface: Option<String>,
    pub interface_name_prefix: Option<String>,
    pub masquerade_all: bool,
    pub masquerade_bit: u8,
    pub nftables_masquerade_all: bool,
    pub nftables_masquerade_bit: u8,
    pub localhost_node_ports: bool,
    pub node_port_addresses: NodePortAddresses,
    pub tcp_be_liberal: bool,
    /// Which external IPs of Services are used.
    pub external_ips: ExternalIps,
    /// Whether this node's addresses are excluded as external and load-balancer IPs.
    pub refuse_node_addresses: bool,
    /// How endpoints are chosen in nftables mode.
    pub load_balancing: LoadBalancing,
    /// Whether connections are counted per endpoint in nftables mode.
    pub counts_connections: bool,
    /// Maximum size of a Service, see [`ServiceSize`]; `None` for the default.
    ///
    /// [`ServiceSize`]: rulegen_model::ServiceSize
    pub max_service_size: Option<usize>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            mode: ProxyMode::Iptables,
            hostname_override: None,
            bind_address: None,
            detect_local_mode: DetectLocalMode::ClusterCidr,
            cluster_cidrs: Vec::new(),
            bridge_interface: None,
            interface_name_prefix: None,
            masquerade_all: false,
            masquerade_bit: 14,
            nftables_masquerade_all: false,
            nftables_masquerade_bit: 14,
            localhost_node_ports: true,
            node_port_addresses: NodePortAddresses::Unset,
            tcp_be_liberal: false,
            external_ips: ExternalIps::All,
            refuse_node_addresses: false,
            load_balancing: LoadBalancing::Random,
            counts_connections: false,
            max_service_size: None,
        }
    }
}

impl ProxyConfig {
    /// Whether all traffic to cluster IPs is masqueraded, in the configured mode.
    pub fn masquerades_all(&self) -> bool {
        match self.mode {
            ProxyMode::Iptables => self.masquerade_all,
            ProxyMode::Nftables => self.nftables_masquerade_all,
        }
    }

    /// The bit of the packet mark that requests masquerading, in the configured mode.
    pub fn mark_bit(&self) -> u8 {
        match self.mode {
            ProxyMode::Iptables => self.masquerade_bit,
            ProxyMode::Nftables => self.nftables_masquerade_bit,
        }
    }

    /// The part that affects snapshots.
    pub fn snapshot_options(&self) -> SnapshotOptions {
        let is_iptables = self.mode == ProxyMode::Iptables;
        let default_size = if is_iptables { IPTABLES_SERVICE_SIZE } else { NFTABLES_SERVICE_SIZE };
        SnapshotOptions {
            hostname_override: self.hostname_override.clone(),
            bind_address: self.bind_address,
            external_ips: self.external_ips.clone(),
            refuse_node_addresses: self.refuse_node_addresses,
            max_service_size: self.max_service_size.unwrap_or(default_size),
            source_ranges_per_port: is_iptables,
            node_ports: match &self.node_port_addresses {
                NodePortAddresses::Unset if is_iptables => NodePortScope::All,
                NodePortAddresses::Unset | NodePortAddresses::Primary => NodePortScope::Primary,
                NodePortAddresses::Networks(networks) => NodePortScope::Within(networks.clone()),
            },
            loopback_node_ports: is_iptables && self.localhost_node_ports,
        }
    }
}

impl From<&KubeProxyConfiguration> for ProxyConfig {
    fn from(config: &KubeProxyConfiguration) -> Self {
        let KubeProxyConfiguration { iptables, nftables, detect_local, rulegen, .. } = config;
        Self {
            mode: config.mode.unwrap_or_default(),
            hostname_override: Some(config.hostname_override.clone()).filter(|n| !n.is_empty()),
            bind_address: config.bind_address.filter(|address| !address.is_unspecified()),
            detect_local_mode: config.detect_local_mode,
            cluster_cidrs: config.cluster_cidrs.clone(),
            bridge_interface: detect_local.bridge_interface.clone(),
            interface_name_prefix: detect_local.interface_name_prefix.clone(),
            masquerade_all: iptables.masquerade_all,
            masquerade_bit: iptables.masquerade_bit,
            nftables_masquerade_all: nftables.masquerade_all,
            nftables_masquerade_bit: nftables.masquerade_bit,
            localhost_node_ports: iptables.localhost_node_ports,
            node_port_addresses: config.node_port_addresses.clone(),
            tcp_be_liberal: config.conntrack.tcp_be_liberal,
            external_ips: rulegen.external_ips.clone().unwrap_or_default(),
            refuse_node_addresses: rulegen.refuse_node_addresses,
            load_balancing: nftables.load_balancing,
            counts_connections: nftables.counters,
            max_service_size: rulegen.max_service_size,
        }
    }
}
