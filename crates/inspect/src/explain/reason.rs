//! The reasons of an explanation as data. Each has a stable code, which follows from its name.

use std::net::{IpAddr, SocketAddr};

use rulegen_compiler::PodTraffic;
use rulegen_model::{MisnamedNode, UnavailableReason, UnusedEndpoints};
use rulegen_net::{FrontendKind, Protocol, ServicePortName, ServiceRef};
use rulegen_ruleset::firewall::Hit;
use serde::Serialize;
use strum::IntoStaticStr;

use super::network::{PathObstacle, RouteFailure};
use super::no_address::{NoPort, UnresolvedService};
use super::outcome::Outcome;
use super::packet::Sender;
use crate::masquerade_reason::MasqueradeReason;

/// Why something happens to a packet, or what may change it.
#[derive(Debug, Clone, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Reason {
    /// Policy Cluster: endpoints of all nodes.
    PolicyCluster {
        /// The field that sets the policy.
        field: PolicyField,
        /// Which endpoints it uses.
        uses: UsedEndpoints,
        /// The endpoints that it does not use.
        unused: UnusedEndpoints,
    },
    /// Policy Local: endpoints of this node.
    PolicyLocal {
        /// The field that sets the policy.
        field: PolicyField,
        /// Which endpoints it uses.
        uses: UsedEndpoints,
    },
    /// Policy Local, but the sender is on this node: endpoints of all nodes.
    PolicyLocalFromNode {
        /// The field that sets the policy.
        field: PolicyField,
        /// The sender.
        client: InnerClient,
        /// Which endpoints it uses.
        uses: UsedEndpoints,
    },
    /// Session affinity has an endpoint for the client.
    AffinityHit,
    /// A hash of the client's address chooses.
    Maglev(Option<Affinity>),
    /// A hash of the client's address and source port chooses.
    #[strum(serialize = "maglev-5tuple")]
    Maglev5Tuple(Option<Affinity>),
    /// Endpoints take turns.
    RoundRobin(Option<Affinity>),
    /// An endpoint is chosen at random.
    Random(Option<Affinity>),
    /// The packet is masqueraded. The code is that of the reason.
    Masquerade {
        /// Why.
        reason: MasqueradeReason,
        /// How pods are recognised, if that is known.
        pods: Option<PodTraffic>,
        /// The sender, as far as the plan tells.
        client: Client,
    },
    /// A rule of another program masquerades it.
    MasqueradedByOthers,
    /// It is marked for masquerading, but no rule masquerades it.
    NotMasqueraded {
        /// The source that the endpoint sees.
        source: IpAddr,
    },
    /// The source address is preserved.
    SourceKept {
        /// Source address that the endpoint sees.
        source: IpAddr,
        /// Why no rule masquerades it.
        why: SourceKept,
    },
    /// No endpoint is usable.
    NoEndpoints {
        /// The service port.
        service: ServicePortName,
        /// What it lacks, if objects are known.
        why: Option<UnavailableReason>,
    },
    /// No usable endpoint is on this node, and the policy is Local.
    NoLocalEndpoints {
        /// The service port.
        service: ServicePortName,
        /// The field that sets the policy.
        field: PolicyField,
        /// Whether the destination is known to be the cluster IP. Then no other node can be asked.
        is_cluster_ip: bool,
        /// What it lacks, if endpoints have no node.
        why: Option<UnavailableReason>,
        /// The node of endpoints whose name is like that of this node.
        like: Option<String>,
    },
    /// No Node has the name of this node, so no endpoint counts as local, and the policy is Local.
    NodeNotFound {
        /// The service port.
        service: ServicePortName,
        /// The field that sets the policy.
        field: PolicyField,
        /// The name, and the Node that is probably meant.
        node: MisnamedNode,
    },
    /// The policy is Local, and no slice names the node of an endpoint.
    EndpointsWithoutNode {
        /// The service port.
        service: ServicePortName,
        /// What it lacks.
        why: UnavailableReason,
    },
    /// Endpoints of the Service have several addresses, of which the first is used.
    UnusedAddresses {
        /// The service port.
        service: ServicePortName,
        /// The other addresses.
        addresses: Vec<IpAddr>,
    },
    /// The packet goes to an address of an endpoint that is not its first.
    UnusedAddress {
        /// The Service of the endpoint.
        service: ServiceRef,
        /// The second or a later address of the endpoint.
        address: IpAddr,
        /// The first address of the endpoint.
        first: String,
    },
    /// A Service's name has no address and port. The code is that of the reason.
    Unresolved(UnresolvedService),
    /// The packet has no port. The code is that of the reason.
    WithoutPort {
        /// Why.
        no_port: NoPort,
        /// Whether the rules reject it.
        is_rejected: bool,
        /// The ports at the address, if a Service has it.
        ports: Option<PortsThere>,
    },
    /// Another table may change the end.
    OtherTable {
        /// The table with its family.
        table: String,
        /// What it may do.
        effects: Vec<TableEffect>,
        /// The chains with such rules.
        chains: Vec<String>,
    },
    /// A rule of another program that could not be evaluated may change the end.
    OtherRule {
        /// Its table and chain.
        place: String,
        /// The rule, as `iptables-save` or `nft` writes it.
        rule: String,
    },
    /// The packet is excluded from connection tracking.
    NotTracked(TableRule),
    /// The host does not route the packet. The code is that of the failure.
    NotRouted {
        /// Why.
        failure: RouteFailure,
        /// The destination.
        to: IpAddr,
        /// Where the packet comes from.
        input: Sender,
    },
    /// A bridge does not return a packet through the port that it came from, or may not.
    HairpinOff {
        /// Interface name of the bridge.
        bridge: String,
        /// The port, if it is known.
        port: Option<String>,
    },
    /// The ports of a bridge are isolated from each other.
    PortsIsolated {
        /// Interface name of the bridge.
        bridge: String,
        /// The port of the sender.
        from: String,
        /// The port of the receiver.
        to: String,
    },
    /// Routes and settings of the host may change the end.
    HostNetwork,
    /// Something on the way may stop or change the packet. The code is that of the obstacle.
    Obstacle {
        /// What it is.
        obstacle: PathObstacle,
        /// What meets it.
        packet: Obstructed,
    },
    /// An ICMP error has no route to the client.
    #[strum(serialize = "no-route")]
    NoWayBack {
        /// Source address of the packet, to which replies go.
        client: IpAddr,
    },
    /// The reply leaves through another interface than the packet came in through.
    AsymmetricRoute {
        /// Source address of the packet, to which replies go.
        client: IpAddr,
        /// The input interface of the packet.
        interface: String,
        /// The output interfaces of the reply.
        back: Vec<String>,
    },
    /// An ICMP error leaves through another interface than the packet came in through.
    #[strum(serialize = "asymmetric-route")]
    AsymmetricErrorRoute {
        /// Source address of the packet, to which replies go.
        client: IpAddr,
        /// The input interface of the packet.
        interface: String,
        /// The output interfaces of the error.
        back: Vec<String>,
    },
    /// The reply has no route.
    #[strum(serialize = "asymmetric-route")]
    NoReply {
        /// Source address of the packet, to which replies go.
        client: IpAddr,
    },
    /// The input interface is not known, and routes or settings may depend on it.
    UnknownInterface,
    /// Pods are recognised by this input interface, and that of the packet is not known.
    #[strum(serialize = "unknown-interface")]
    InterfaceOfPods(String),
    /// Rules ask for these input interfaces, and that of the packet is not known.
    #[strum(serialize = "unknown-interface")]
    InterfaceOfRules(Vec<String>),
    /// The named input interface is a port of a bridge or bond, which packets come in through.
    PortOfMaster {
        /// The named interface.
        port: String,
        /// The bridge or bond.
        master: String,
    },
    /// Nothing is known about the host, which may change the end.
    UnknownHost,
    /// The client is in none of the source ranges.
    SourceRange {
        /// The service port.
        service: ServicePortName,
        /// The client.
        source: IpAddr,
    },
    /// A rule rejects packets to ports that the Service does not have at its cluster IP.
    #[strum(serialize = "no-such-port")]
    ClosedPort {
        /// The Service, as a port of it.
        service: ServicePortName,
        /// The destination.
        to: (u16, Protocol),
        /// The ports that there are.
        ports: PortsThere,
    },
    /// The Service does not have the port at its address, and no rule rejects that.
    NoSuchPort {
        /// `namespace/name` of the Service.
        service: String,
        /// The kind of the address.
        kind: FrontendKind,
        /// The destination.
        to: SocketAddr,
        /// Protocol of the packet.
        protocol: Protocol,
        /// The ports that there are.
        ports: PortsThere,
    },
    /// No Service has the cluster IP.
    NoSuchClusterIp(IpAddr),
    /// Traffic from other hosts to loopback addresses is dropped.
    LoopbackGuard,
    /// The kernel drops translated packets from loopback addresses: route_localnet is off.
    RouteLocalnet,
    /// A rule or policy of another program refuses the packet.
    #[strum(serialize = "refused-by-others")]
    RefusedByTable {
        /// The rule or policy.
        by: TableRule,
        /// Rejected or dropped.
        outcome: Outcome,
    },
    /// A rule or policy that is not a Service's refuses the packet, in a followed table.
    RefusedByOthers {
        /// The last rule that the packet passes, with its place.
        last: Option<String>,
    },
    /// The address is not this node's, or node ports are not open at it.
    NodePortElsewhere {
        /// The service port with this node port.
        service: ServicePortName,
        /// The destination.
        to: SocketAddr,
        /// Whether the address is this node's.
        is_here: bool,
    },
    /// The address is that of the Node that is probably meant by the name of this node, which no Node
    /// has, so it does not count as this node's.
    NodePortOfMisnamedNode {
        /// The service port with this node port.
        service: ServicePortName,
        /// The destination.
        to: SocketAddr,
        /// The name, and the Node that is probably meant.
        node: MisnamedNode,
    },
    /// The packet goes to an endpoint directly.
    DirectToEndpoint {
        /// The service port of the endpoint.
        service: ServicePortName,
        /// The endpoint.
        to: SocketAddr,
    },
    /// No Service has the address and port.
    NoService {
        /// The destination.
        to: SocketAddr,
        /// Protocol of the packet.
        protocol: Protocol,
    },
    /// Rules are missing: a Service has the address, but no rule matches the packet.
    MissingRules {
        /// The service port, if it is known.
        service: Option<ServicePortName>,
    },
    /// Rules are missing: some paths lead to no endpoint.
    #[strum(serialize = "missing-rules")]
    MissingPaths,
    /// Traffic of this node to the address goes to the load balancer.
    LeftToLoadBalancer {
        /// The service port, if it is known.
        service: Option<ServicePortName>,
    },
}

impl Reason {
    /// The code in JSON, which is stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Masquerade { reason, .. } => reason.code(),
            Self::Unresolved(unresolved) => unresolved.code(),
            Self::WithoutPort { no_port, .. } => no_port.into(),
            Self::NotRouted { failure, .. } => failure.into(),
            Self::Obstacle { obstacle, .. } => obstacle.into(),
            other => other.into(),
        }
    }

    /// The rule or policy of another program that it is about.
    pub(crate) fn table_rule(&self) -> Option<&TableRule> {
        match self {
            Self::NotTracked(by) | Self::RefusedByTable { by, .. } => Some(by),
            _ => None,
        }
    }

    /// Whether another input interface than is assumed may change the end.
    pub(super) fn is_about_input(&self) -> bool {
        use Reason::{InterfaceOfPods, InterfaceOfRules, UnknownInterface};
        matches!(self, UnknownInterface | InterfaceOfPods(_) | InterfaceOfRules(_))
    }
}

/// What a remark explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RemarkSubject {
    /// Which interface the packet comes in through.
    Input,
    /// Which endpoints the policy selects.
    Policy,
    /// How one of them is chosen.
    Choice,
    /// Which source address the endpoint sees.
    Source,
    /// Why the packet is rejected or dropped: there is no usable endpoint.
    NoEndpoints,
    /// Why it is rejected or dropped although there may be endpoints.
    Refusal,
    /// Why no Service matches.
    NoService,
}

/// The field of a Service that sets a traffic policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyField {
    /// `internalTrafficPolicy`.
    Internal,
    /// `externalTrafficPolicy`.
    External,
}

/// Which endpoints a policy uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsedEndpoints {
    /// Ready endpoints.
    Ready,
    /// Terminating endpoints that still serve, because none is ready.
    Terminating,
}

/// A client to which policy Local does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InnerClient {
    /// A process in the network namespace of this node.
    Node,
    /// A pod, by its source address or input interface.
    Pod,
}

/// The sender of a packet, as far as the plan tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A process in the network namespace of this node.
    Node,
    /// A pod, by its source address or input interface.
    Pod,
    /// Any other.
    Other,
}

/// Session affinity, in a reason for a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affinity {
    /// The timeout, if it is known.
    pub seconds: Option<u32>,
    /// Whether the number of clients that are remembered is limited, as by xt_recent.
    pub is_limited: bool,
}

/// Why a source address is preserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKept {
    /// The client is a pod.
    FromPod,
    /// Pods cannot be recognised, so nothing to cluster IPs is masqueraded.
    PodsUnknown,
    /// externalTrafficPolicy is Local.
    PolicyLocal,
    /// No rule masquerades it.
    NoRule,
}

/// The ports of Services at an address. Empty if they are not known.
pub type PortsThere = Vec<(u16, Protocol)>;

/// A rule or policy in a table of another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRule {
    /// The table with its family.
    pub table: String,
    /// The rule or policy.
    pub hit: Hit,
}

/// What meets an obstacle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstructed {
    /// The packet on its way to the endpoint.
    Packet,
    /// The ICMP error about it.
    Error,
}

/// What a chain of another table may do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableEffect {
    /// Drops the packet: the client gets no answer.
    Drops,
    /// Rejects it with an error.
    Rejects,
    /// Replaces an address or port.
    Changes,
    /// Excludes it from connection tracking.
    DoesNotTrack,
    /// Sets the mark for which the rules of Services masquerade it.
    MarksForMasquerade,
    /// Clears that mark.
    ClearsMasqueradeMark,
    /// Is not understood.
    Unknown,
}
