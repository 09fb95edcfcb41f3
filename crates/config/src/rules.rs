//! What of the configuration changes rules.

use std::net::IpAddr;

use ipnet::IpNet;
use rulegen_model::{
    ExternalIps, IPTABLES_SERVICE_SIZE, LoadBalancing, NFTABLES_SERVICE_SIZE, NodePortScope,
    SnapshotOptions,
};
use rulegen_net::{parse_address, parse_network};

use crate::schema::KubeProxyConfiguration;

/// Which kind of rules to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyMode {
    /// iptables chains, rule for rule kube-proxy's.
    #[default]
    Iptables,
    /// An nftables table.
    Nftables,
}

impl ProxyMode {
    /// The name in files and flags.
    pub fn word(self) -> &'static str {
        match self {
            ProxyMode::Iptables => "iptables",
            ProxyMode::Nftables => "nftables",
        }
    }
}

/// How traffic of this node's pods is detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DetectLocalMode {
    /// By a source in the cluster's pod network.
    #[default]
    ClusterCidr,
    /// By a source in the node's pod network.
    NodeCidr,
    /// By the bridge it comes in from.
    BridgeInterface,
    /// By the start of the name of the interface it comes in from.
    InterfaceNamePrefix,
}

/// At which of the node's addresses node ports are open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NodePortAddresses {
    /// Not said: at all of them in iptables mode, at the primary one in nftables mode.
    #[default]
    Unset,
    /// At the node's primary address of each family.
    Primary,
    /// At those in these networks; a family without a network is open at all.
    Networks(Vec<IpNet>),
}

impl NodePortAddresses {
    /// Reads a list of CIDRs or the word `primary`.
    ///
    /// # Errors
    /// Says which entry is neither.
    pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let texts: Vec<&str> = texts.map(str::trim).filter(|text| !text.is_empty()).collect();
        match texts.as_slice() {
            [] => Ok(Self::Unset),
            ["primary"] => Ok(Self::Primary),
            texts => {
                let network = |text: &&str| {
                    parse_network(text)
                        .ok_or_else(|| format!("{text:?} is not a CIDR such as 192.168.0.0/16 (`primary` must stand alone)"))
                };
                texts.iter().map(network).collect::<Result<_, _>>().map(Self::Networks)
            }
        }
    }
}

/// What of the configuration changes rules.
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
    /// Which external IPs of Services get rules.
    pub external_ips: ExternalIps,
    /// Whether this node's addresses are excluded as external and load-balancer IPs.
    pub refuse_node_addresses: bool,
    /// How endpoints are chosen in nftables mode.
    pub load_balancing: LoadBalancing,
    /// Whether connections are counted for each endpoint in nftables mode.
    pub counts_connections: bool,
    /// How large a Service may be, if not as large as by default: see [`ServiceSize`].
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
    /// Whether everything to cluster IPs is masqueraded, in the mode that is set.
    pub fn masquerades_all(&self) -> bool {
        match self.mode {
            ProxyMode::Iptables => self.masquerade_all,
            ProxyMode::Nftables => self.nftables_masquerade_all,
        }
    }

    /// The bit of a packet's mark that asks for masquerading, in the mode that is set.
    pub fn mark_bit(&self) -> u8 {
        match self.mode {
            ProxyMode::Iptables => self.masquerade_bit,
            ProxyMode::Nftables => self.nftables_masquerade_bit,
        }
    }

    /// The part that a snapshot depends on.
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
            mode: config.mode,
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

/// Reads the node's primary address.
///
/// # Errors
/// It is not an IP address.
pub fn parse_bind_address(text: &str) -> Result<IpAddr, String> {
    parse_address(text).ok_or_else(|| format!("invalid IP address {text:?}"))
}

/// Parses the cluster's pod networks: one CIDR, or one per IP family, comma-separated.
///
/// # Errors
/// The text is not such a list.
pub fn parse_cluster_cidrs(text: &str) -> Result<Vec<IpNet>, String> {
    let network = |text: &str| {
        parse_network(text.trim())
            .ok_or_else(|| format!("invalid CIDR {text:?} (for example 10.244.0.0/16)"))
    };
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let networks: Vec<IpNet> = text.split(',').map(network).collect::<Result<_, _>>()?;
    match networks.as_slice() {
        [_] => Ok(networks),
        [a, b] if a.addr().is_ipv4() != b.addr().is_ipv4() => Ok(networks),
        _ => Err(format!("invalid list {text:?} (want one CIDR, or one per IP family)")),
    }
}

/// Checks an interface name, or a prefix of one.
///
/// # Errors
/// The name is invalid or too long.
pub fn parse_interface(name: &str, longest: usize) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !begins_well || name.len() > longest || !name.bytes().all(plain) {
        return Err(format!(
            "invalid interface name {name:?} (want a letter, digit or _, then also . - @; at most {longest} characters)"
        ));
    }
    Ok(name.to_owned())
}

/// Maximum length of an interface name: IFNAMSIZ without the NUL.
pub const LONGEST_INTERFACE: usize = 15;
/// Maximum length of an interface prefix, which iptables needs to be followed by `+`.
pub const LONGEST_INTERFACE_PREFIX: usize = LONGEST_INTERFACE - 1;
