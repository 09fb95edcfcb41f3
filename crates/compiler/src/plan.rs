//! The plan: all decisions about the traffic of one IP family, in terms of Services.

mod conflicts;
mod owners;
mod service_plan;
mod slots;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use rulegen_config::{DetectLocalMode, NodePortAddresses, ProxyConfig, ProxyMode};
use rulegen_model::{
    Endpoint, LoadBalancing, Node, ServicePort, Snapshot, TrafficPolicy, UnusedEndpoints, select,
};
use rulegen_net::{IpFamily, ServicePortName};

pub use conflicts::{Contender, FrontendConflict, conflicts};
pub use owners::FrontendOwners;
pub use slots::Slots;

/// Above this number of endpoints, kube-proxy omits the comments of endpoint rules, which are
/// nearly half of the text (largeClusterEndpointsThreshold of pkg/proxy/iptables/proxier.go).
const MANY_ENDPOINTS: usize = 1000;

/// How this node treats the Service traffic of one IP family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The IP family.
    pub family: IpFamily,
    /// The bit of a packet's mark that requests masquerading, as a mask: 0x4000 by default.
    pub masquerade_mark: u32,
    /// How traffic of this node's pods is recognised; `None` if it is not.
    pub pod_traffic: Option<PodTraffic>,
    /// The addresses at which node ports are open.
    pub node_ports_at: NodePortsAt,
    /// Whether packets from other hosts to loopback addresses are dropped. Node ports at loopback
    /// addresses need the sysctl route_localnet, which opens these addresses to neighbours
    /// (CVE-2020-8558).
    pub guards_loopback: bool,
    /// Networks of cluster IPs, ordered and without overlaps.
    pub service_cidrs: Vec<IpNet>,
    /// Whether packets that conntrack considers INVALID are dropped. If they pass, they can reset a
    /// connection (kubernetes#74839).
    pub drops_invalid: bool,
    /// Whether connections are counted per endpoint; nftables mode only.
    pub counts_connections: bool,
    /// Whether rules of endpoints have the service port as a comment.
    pub names_endpoints: bool,
    /// Service ports, ordered by name.
    pub services: Vec<ServicePlan>,
}

impl Plan {
    /// The plan of a service port.
    pub fn service(&self, name: &ServicePortName) -> Option<&ServicePlan> {
        let found = self.services.binary_search_by(|service| service.name.cmp(name));
        self.services.get(found.ok()?)
    }

    /// The plan without its Services.
    pub fn without_services(&self) -> Self {
        Self {
            pod_traffic: self.pod_traffic.clone(),
            node_ports_at: self.node_ports_at.clone(),
            service_cidrs: self.service_cidrs.clone(),
            services: Vec::new(),
            ..*self
        }
    }
}

/// How traffic of this node's pods is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodTraffic {
    /// By a source in this network.
    From(IpNet),
    /// By this input interface, a bridge.
    Through(String),
    /// By an input interface whose name starts with this.
    ThroughPrefix(String),
}

/// Addresses of the node at which node ports are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortsAt {
    /// All addresses that the kernel considers local when the packet arrives.
    AnyLocal {
        /// Whether loopback addresses count.
        loopback: bool,
    },
    /// These addresses, ordered.
    These(Vec<IpAddr>),
}

impl NodePortsAt {
    /// True if node ports are open at an address of the family. `is_local` tells whether the kernel
    /// calls an address local; it is not asked for loopback addresses.
    pub fn is_open_at(&self, ip: IpAddr, is_local: impl FnOnce(IpAddr) -> bool) -> bool {
        match self {
            Self::AnyLocal { loopback } if ip.is_loopback() => *loopback,
            Self::AnyLocal { .. } => is_local(ip),
            Self::These(addresses) => addresses.binary_search(&ip).is_ok(),
        }
    }

    /// True if node ports are open at any address.
    pub fn is_open_anywhere(&self) -> bool {
        match self {
            Self::AnyLocal { .. } => true,
            Self::These(addresses) => !addresses.is_empty(),
        }
    }
}

/// How the traffic of one service port is treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePlan {
    /// `namespace/name:port` and the protocol.
    pub name: ServicePortName,
    /// The port at all addresses except node addresses (`spec.ports[].port`).
    pub port: u16,
    /// Timeout of session affinity (ClientIP) in seconds; `None` without affinity.
    pub affinity_seconds: Option<u32>,
    /// How an endpoint is chosen; nftables mode only.
    pub load_balancing: LoadBalancing,
    /// Number of endpoints, including those that no policy selects.
    pub endpoints: usize,
    /// The endpoints that policy Cluster does not select.
    pub unused: UnusedEndpoints,
    /// Endpoints that policy Cluster selects. Empty if no traffic can use it.
    pub cluster_endpoints: Vec<Endpoint>,
    /// The slots of `cluster_endpoints`; one per endpoint in iptables mode.
    pub cluster_slots: Slots,
    /// Endpoints that policy Local selects. Empty if neither traffic policy is Local.
    pub local_endpoints: Vec<Endpoint>,
    /// The slots of `local_endpoints`; one per endpoint in iptables mode.
    pub local_slots: Slots,
    /// Endpoints that either policy selects. Traffic of an endpoint to itself (hairpin) is always
    /// masqueraded: otherwise its reply would bypass the reverse translation.
    pub reachable_endpoints: Vec<Endpoint>,
    /// Traffic to the cluster IP.
    pub internal: Internal,
    /// Traffic to all other addresses; `None` if there are none.
    pub external: Option<External>,
    /// The port for the load balancer's health checks, which must stay open
    /// (spec.healthCheckNodePort).
    pub health_check_node_port: Option<NonZeroU16>,
}

/// The treatment of traffic to which no exception applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Forwarded to an endpoint that the policy selects.
    Forward(TrafficPolicy),
    /// Rejected or dropped.
    Refuse(Refusal),
}

/// How traffic is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The cluster has no usable endpoint: rejected with ICMP port unreachable.
    NoEndpoints,
    /// There are usable endpoints, but none usable on this node, and the policy is Local: dropped, so that
    /// the client retries and may reach another node.
    NoLocalEndpoints,
}

/// Traffic to the cluster IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Internal {
    /// The cluster IP.
    pub address: IpAddr,
    /// `internalTrafficPolicy`.
    pub policy: TrafficPolicy,
    /// How the traffic is treated.
    pub outcome: Treatment,
    /// Which traffic is masqueraded.
    pub masquerade: Masquerade,
}

/// Which traffic is masqueraded: its source becomes an address of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masquerade {
    /// All traffic.
    All,
    /// All traffic except from this node's pods. Replies to other clients must come back through
    /// this node.
    NotFromPods,
    /// No traffic; the endpoint sees the client's address.
    None,
}

/// Traffic to external IPs, load-balancer IPs and node ports.
///
/// With policy Cluster, it is always masqueraded, because the endpoint may be on another node. With
/// policy Local, the source address is kept. Traffic from this node and its pods did not come from
/// outside, so policy Local does not apply: it may go to any endpoint of the cluster, and that of
/// the node itself is masqueraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// The addresses and node ports.
    pub addresses: Vec<ExternalAddress>,
    /// The external traffic policy.
    pub policy: TrafficPolicy,
    /// Whether any traffic is forwarded: the cluster has a usable endpoint.
    pub forwards: bool,
    /// How traffic is treated to which the exceptions above do not apply.
    pub outcome: Treatment,
    /// Restriction of the load-balancer IPs; `None` if all clients may use them.
    pub firewall: Option<Firewall>,
}

/// An address of a service port other than its cluster IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalAddress {
    /// From `spec.externalIPs`.
    ExternalIp(IpAddr),
    /// From `status.loadBalancer.ingress`.
    LoadBalancerIp(IpAddr),
    /// From `spec.ports[].nodePort`: a port at the node's own addresses.
    NodePort(NonZeroU16),
}

/// The clients that may use the load-balancer IPs (`spec.loadBalancerSourceRanges`). Traffic of all
/// others is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// Networks of allowed clients, ordered and merged.
    pub source_ranges: Arc<[IpNet]>,
    /// Whether this node is an allowed client. If a load-balancer IP is one of the node's own
    /// addresses, it is also the source of such packets.
    pub from_node: bool,
}

/// Whether rules of endpoints have the service port as a comment, for this number of endpoints of
/// one family.
pub(crate) fn names_endpoints(endpoints: usize) -> bool {
    endpoints <= MANY_ENDPOINTS
}

/// Makes all decisions for one IP family. The snapshot may have Services of both.
pub fn plan(snapshot: &Snapshot, config: &ProxyConfig, family: IpFamily) -> Plan {
    let ports = snapshot.service_ports(family);
    let node = &snapshot.node;
    let (node_ports_at, localhost) = open_node_ports(node, config, family);
    let pod_traffic = pod_traffic(node, config, family);
    let services: Vec<ServicePlan> =
        ports.iter().map(|port| plan_service(port, node, config, family)).collect();
    Plan {
        family,
        masquerade_mark: 1_u32.checked_shl(config.mark_bit().into()).unwrap_or_default(),
        pod_traffic,
        node_ports_at,
        guards_loopback: localhost && family == IpFamily::Ipv4,
        service_cidrs: snapshot
            .service_cidrs
            .iter()
            .copied()
            .filter(|network| IpFamily::of_network(*network) == family)
            .collect(),
        drops_invalid: !config.tcp_be_liberal,
        counts_connections: config.counts_connections,
        names_endpoints: names_endpoints(services.iter().map(|service| service.endpoints).sum()),
        services,
    }
}

/// The addresses at which node ports of a family are open.
pub fn node_ports_at(node: &Node, config: &ProxyConfig, family: IpFamily) -> NodePortsAt {
    open_node_ports(node, config, family).0
}

fn pod_traffic(node: &Node, config: &ProxyConfig, family: IpFamily) -> Option<PodTraffic> {
    match config.detect_local_mode {
        DetectLocalMode::ClusterCidr => {
            let mut networks = config.cluster_cidrs.iter().copied();
            networks.find(|net| IpFamily::of_network(*net) == family).map(PodTraffic::From)
        }
        DetectLocalMode::NodeCidr => node.addresses(family).pod_cidr.map(PodTraffic::From),
        DetectLocalMode::BridgeInterface => {
            config.bridge_interface.clone().map(PodTraffic::Through)
        }
        DetectLocalMode::InterfaceNamePrefix => {
            config.interface_name_prefix.clone().map(PodTraffic::ThroughPrefix)
        }
    }
}

/// The addresses at which node ports are open, and whether that includes loopback. It never does
/// for IPv6, which has no route_localnet, nor in nftables mode, which does not set it.
fn open_node_ports(node: &Node, config: &ProxyConfig, family: IpFamily) -> (NodePortsAt, bool) {
    let addresses = node.addresses(family);
    let networks: Vec<IpNet> = match &config.node_port_addresses {
        NodePortAddresses::Unset if config.mode == ProxyMode::Iptables => Vec::new(),
        NodePortAddresses::Unset | NodePortAddresses::Primary
            if addresses.primary.is_loopback() =>
        {
            Vec::new()
        }
        NodePortAddresses::Unset | NodePortAddresses::Primary => {
            vec![IpNet::from(addresses.primary)]
        }
        NodePortAddresses::Networks(networks) => {
            networks.iter().copied().filter(|net| IpFamily::of_network(*net) == family).collect()
        }
    };
    let any = networks.is_empty() || networks.iter().any(|network| network.prefix_len() == 0);
    let covers_loopback =
        |net: &IpNet| net.addr().is_loopback() || net.contains(&IpAddr::from([127, 0, 0, 0]));
    let localhost = config.mode == ProxyMode::Iptables
        && config.localhost_node_ports
        && family == IpFamily::Ipv4
        && (any || networks.iter().any(covers_loopback));
    if any {
        return (NodePortsAt::AnyLocal { loopback: localhost }, localhost);
    }
    let open = |ip: &IpAddr| {
        networks.iter().any(|network| network.contains(ip)) && (localhost || !ip.is_loopback())
    };
    (NodePortsAt::These(addresses.local.iter().copied().filter(open).collect()), localhost)
}

/// Makes all decisions for one service port, independent of the others.
pub fn plan_service(
    port: &ServicePort,
    node: &Node,
    config: &ProxyConfig,
    family: IpFamily,
) -> ServicePlan {
    let masquerade = match (config.masquerades_all(), pod_traffic(node, config, family)) {
        (true, _) => Masquerade::All,
        (false, Some(_)) => Masquerade::NotFromPods,
        (false, None) => Masquerade::None,
    };
    let selection = select(port);
    let outcome = |policy| match policy {
        _ if !selection.any => Treatment::Refuse(Refusal::NoEndpoints),
        TrafficPolicy::Local if selection.local.is_empty() => {
            Treatment::Refuse(Refusal::NoLocalEndpoints)
        }
        policy => Treatment::Forward(policy),
    };
    let external = port.externally_accessible().then(|| External {
        addresses: external_addresses(port),
        policy: port.external_policy,
        forwards: selection.any,
        outcome: outcome(port.external_policy),
        firewall: firewall(port, node.addresses(family).primary),
    });
    let load_balancing = port.load_balancing.unwrap_or(config.load_balancing);
    let slots = |endpoints: &[Endpoint]| match config.mode {
        ProxyMode::Iptables => Slots::OnePerEndpoint,
        ProxyMode::Nftables => Slots::new(load_balancing, endpoints, port.ports_of_service),
    };
    ServicePlan {
        name: port.name.clone(),
        port: port.port,
        affinity_seconds: port.affinity_seconds,
        load_balancing,
        endpoints: port.endpoints.len(),
        unused: UnusedEndpoints::of(port, &selection),
        internal: Internal {
            address: port.cluster_ip,
            policy: port.internal_policy,
            outcome: outcome(port.internal_policy),
            masquerade,
        },
        external,
        health_check_node_port: port.health_check_node_port,
        cluster_slots: slots(&selection.cluster),
        cluster_endpoints: selection.cluster,
        local_slots: slots(&selection.local),
        local_endpoints: selection.local,
        reachable_endpoints: selection.reachable,
    }
}

fn external_addresses(port: &ServicePort) -> Vec<ExternalAddress> {
    let external = port.external_ips.iter().copied().map(ExternalAddress::ExternalIp);
    let load_balancer = port.load_balancer_ips.iter().copied().map(ExternalAddress::LoadBalancerIp);
    let node_port = port.node_port.map(ExternalAddress::NodePort);
    external.chain(load_balancer).chain(node_port).collect()
}

fn firewall(port: &ServicePort, node_ip: IpAddr) -> Option<Firewall> {
    let ranges = &port.source_ranges;
    let needed = !port.load_balancer_ips.is_empty() && !ranges.is_empty();
    needed.then(|| Firewall {
        source_ranges: ranges.clone(),
        from_node: ranges.iter().any(|range| range.contains(&node_ip)),
    })
}
