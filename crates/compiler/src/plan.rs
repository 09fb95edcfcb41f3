//! The plan: everything that is decided about one family's traffic, in terms of Services.

mod conflicts;
mod service_plan;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use rulegen_config::{DetectLocalMode, NodePortAddresses, ProxyConfig, ProxyMode};
use rulegen_model::{Endpoint, LoadBalancing, Node, ServicePort, Snapshot, TrafficPolicy, select};
use rulegen_net::{IpFamily, ServicePortName};

pub use conflicts::{Contender, FrontendConflict, conflicts};
pub use service_plan::Precedence;

/// Above so many endpoints kube-proxy leaves the comments of endpoint rules out: they are
/// nearly half of the text.
const MANY_ENDPOINTS: usize = 1000;

/// What shall become of one family's Service traffic on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whose traffic it is.
    pub family: IpFamily,
    /// The bit of a packet's mark that asks for masquerading.
    pub masquerade_mark: u32,
    /// How traffic of this node's pods is told from other traffic, if it is at all.
    pub pod_traffic: Option<PodTraffic>,
    /// At which addresses node ports are open.
    pub node_ports_at: NodePortsAt,
    /// Whether packets from elsewhere to loopback addresses are dropped. Node ports at
    /// loopback need route_localnet, which opens these addresses to neighbours
    /// (CVE-2020-8558).
    pub guards_loopback: bool,
    /// Networks that cluster IPs are taken from; none overlaps another.
    pub service_cidrs: Vec<IpNet>,
    /// Whether packets that conntrack finds invalid are dropped rather than let through to
    /// reset a connection (kubernetes#74839).
    pub drops_invalid: bool,
    /// Whether connections are counted for each endpoint, in nftables mode.
    pub counts_connections: bool,
    /// Whether rules of endpoints say which service port they are for.
    pub names_endpoints: bool,
    /// Service ports, ordered by name.
    pub services: Vec<ServicePlan>,
}

impl Plan {
    /// The same for a cluster without Services.
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

/// What tells traffic of this node's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodTraffic {
    /// Its source is in this network.
    From(IpNet),
    /// It comes in from this bridge.
    Through(String),
    /// It comes in from an interface whose name starts so.
    ThroughPrefix(String),
}

/// Addresses of the node at which node ports are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortsAt {
    /// Whatever the kernel calls local at the time.
    AnyLocal {
        /// Loopback addresses too.
        loopback: bool,
    },
    /// These, ordered.
    These(Vec<IpAddr>),
}

/// What shall become of the traffic of one service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePlan {
    /// `namespace/name:port` and the protocol.
    pub name: ServicePortName,
    /// The port at every address but the node's own.
    pub port: u16,
    /// How long a client keeps its endpoint, in seconds.
    pub affinity_seconds: Option<u32>,
    /// How an endpoint is chosen, in nftables mode.
    pub load_balancing: LoadBalancing,
    /// How many endpoints it has, also such as no policy chooses.
    pub endpoints: usize,
    /// What policy Cluster chooses from, each as probable as the other.
    pub cluster_endpoints: Vec<Endpoint>,
    /// What policy Local chooses from, each as probable as the other.
    pub local_endpoints: Vec<Endpoint>,
    /// All that either chooses from. An endpoint that reaches itself is always masqueraded,
    /// or it would answer itself past the translation.
    pub reachable_endpoints: Vec<Endpoint>,
    /// Traffic to the cluster IP.
    pub internal: Internal,
    /// Traffic to any other address, if there is one.
    pub external: Option<External>,
    /// A port that must stay open for the load balancer's question.
    pub health_check_node_port: Option<NonZeroU16>,
}

/// What becomes of traffic that nothing special applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It goes to an endpoint that the policy sees.
    Forward(TrafficPolicy),
    /// It goes nowhere.
    Refuse(Refusal),
}

/// How traffic is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no endpoint in the cluster: the sender is told.
    NoEndpoints,
    /// There are endpoints, but none here, where the policy keeps the traffic: it is dropped,
    /// so that the sender tries again and may reach another node.
    NoLocalEndpoints,
}

/// Traffic to the cluster IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Internal {
    /// The cluster IP.
    pub address: IpAddr,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Whose source is replaced by the node's.
    pub masquerade: Masquerade,
}

/// Whose source address is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masquerade {
    /// Everybody's.
    All,
    /// Of those that are not this node's pods: the answer must come back through this node.
    NotFromPods,
    /// Nobody's.
    None,
}

/// Traffic to external IPs, load-balancer IPs and node ports.
///
/// With policy Cluster all of it is masqueraded, since the endpoint may be on another node.
/// With policy Local the client's address is kept; but traffic from this node's pods and from
/// the node itself never was outside, so it is treated as if it had gone out to the load
/// balancer and come in at a node that has endpoints: Cluster, the node's own masqueraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Where it arrives.
    pub addresses: Vec<ExternalAddress>,
    /// The policy.
    pub policy: TrafficPolicy,
    /// Whether anything of it is forwarded: there is an endpoint somewhere.
    pub forwards: bool,
    /// What becomes of it where nothing else is said above.
    pub outcome: Outcome,
    /// Who may use load-balancer IPs, if not everybody.
    pub firewall: Option<Firewall>,
}

/// An address of a service port beside its cluster IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalAddress {
    /// From `spec.externalIPs`.
    ExternalIp(IpAddr),
    /// From the load balancer's status.
    LoadBalancerIp(IpAddr),
    /// A port at the node's own addresses.
    NodePort(NonZeroU16),
}

/// Whose traffic to load-balancer IPs is let through; that of others is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// Sources that are let through.
    pub source_ranges: Arc<[IpNet]>,
    /// Whether this node may use the load balancer: then the packet's source is the
    /// load-balancer IP itself, where that is one of the node's addresses.
    pub from_node: bool,
}

/// Whether rules of endpoints say which service port they are for, when there are so many of one
/// family.
pub(crate) fn names_endpoints(endpoints: usize) -> bool {
    endpoints <= MANY_ENDPOINTS
}

/// Decides everything for one family.
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

/// Where node ports of a family are open.
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

/// Where node ports are open, and whether that includes loopback. IPv6 has no route_localnet,
/// and the nftables mode does not ask for it, so there they never are open at loopback.
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

/// Decides everything for one service port, which hangs on no other.
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
        _ if !selection.any => Outcome::Refuse(Refusal::NoEndpoints),
        TrafficPolicy::Local if selection.local.is_empty() => {
            Outcome::Refuse(Refusal::NoLocalEndpoints)
        }
        policy => Outcome::Forward(policy),
    };
    let external = port.externally_accessible().then(|| External {
        addresses: external_addresses(port),
        policy: port.external_policy,
        forwards: selection.any,
        outcome: outcome(port.external_policy),
        firewall: firewall(port, node.addresses(family).primary),
    });
    ServicePlan {
        name: port.name.clone(),
        port: port.port,
        affinity_seconds: port.affinity_seconds,
        load_balancing: port.load_balancing.unwrap_or(config.load_balancing),
        endpoints: port.endpoints.len(),
        internal: Internal {
            address: port.cluster_ip,
            outcome: outcome(port.internal_policy),
            masquerade,
        },
        external,
        health_check_node_port: port.health_check_node_port,
        cluster_endpoints: selection.cluster,
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
