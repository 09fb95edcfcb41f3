//! Codes of findings.

use rulegen_model::ProblemCode;
use serde::Serialize;

/// The kind of a finding. In JSON it is the name in kebab-case (`node-port-in-use`), which is stable
/// across versions, while sentences may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingCode {
    /// The kernel has no nf_tables.
    NfTablesUnsupported,
    /// The kernel does not support a kind of rule.
    KernelFeatureMissing,
    /// iptables is not installed.
    IptablesNotInstalled,
    /// ip6tables is not installed.
    Ip6tablesNotInstalled,
    /// IPv4 packets are not forwarded.
    Ipv4ForwardingOff,
    /// IPv4 packets that arrive on one interface are not forwarded.
    InterfaceForwardingOff,
    /// IPv6 packets are not forwarded.
    Ipv6ForwardingOff,
    /// Services use IPv6, and the node has none.
    Ipv6Unavailable,
    /// This node has no route to the cluster IPs.
    NoRouteToClusterIps,
    /// Bridged packets do not pass the rules.
    BridgeNetfilterOff,
    /// br_netfilter is not loaded.
    BridgeNetfilterNotLoaded,
    /// A pod on a bridge does not reach itself through a Service.
    HairpinOff,
    /// A pod on a bridge does not reach itself, because its port is isolated.
    BridgePortIsolated,
    /// A pod on a bridge gets no packets.
    BridgePortNotForwarding,
    /// The strict reverse-path filter dropped packets.
    ReversePathDrops,
    /// 127.0.0.0/8 is reachable from the network.
    RouteLocalnetUnguarded,
    /// Node ports are not reachable at 127.0.0.1.
    RouteLocalnetOff,
    /// tcpBeLiberal is configured, and the sysctl is off.
    TcpBeLiberalNotApplied,
    /// No rule and no sysctl handles INVALID packets.
    TcpBeLiberalOff,
    /// New connections are dropped.
    ConntrackTableFull,
    /// At least 90 % of the table is used.
    ConntrackTableNearlyFull,
    /// Packets were dropped since boot.
    ConntrackTableWasFull,
    /// kube-proxy runs in our network namespace.
    KubeProxyRunning,
    /// kube-proxy runs in an unknown network namespace.
    KubeProxyNamespaceUnknown,
    /// kube-proxy's nftables table exists.
    KubeProxyTable,
    /// Chains of iptables mode exist in nftables mode.
    IptablesRulesLeft,
    /// A table of nftables mode exists in iptables mode.
    NftablesTableLeft,
    /// Both iptables variants have rules for Services.
    BothVariantsInUse,
    /// kubelet uses the other iptables variant.
    KubeletUsesOtherVariant,
    /// A foreign nftables chain runs before rulegen's.
    NatChainFirst,
    /// A foreign nftables chain has the priority of rulegen's.
    NatChainSamePriority,
    /// A foreign iptables rule runs before those of Services.
    NatRuleFirst,
    /// A rule of another iptables variant or mode has the same priority.
    NatRuleSamePriority,
    /// A foreign chain drops all that Services forward.
    ForwardDropped,
    /// A foreign chain drops what its rules do not accept.
    ForwardDroppedByDefault,
    /// A foreign chain may drop packets, depending on its rules.
    MayBeDropped,
    /// There are no rules for Services.
    NoRules,
    /// The rules differ from the objects.
    OutOfSync,
    /// The agent left out a Service.
    ServiceLeftOut,
    /// The agent left out more Services than it lists.
    MoreServicesLeftOut,
    /// A session affinity set is at least 95 % full.
    AffinitySetNearlyFull,
    /// A list of clients for session affinity in iptables mode is at least 95 % full.
    AffinityListNearlyFull,
    /// No Node has the name that rulegen uses for this node.
    NodeNotFound,
    /// No pod network is known, which Services with policy Local need.
    PodNetworkUnset,
    /// Pods are outside the configured pod network.
    PodsOutsidePodNetwork,
    /// A process listens on a node address that a Service uses.
    NodeAddressInUse,
    /// A process listens on a node port.
    NodePortInUse,
    /// A process listens on a healthCheckNodePort.
    HealthCheckNodePortInUse,
    /// A problem with the cluster's objects, which `rulegen lint` finds in manifests too.
    #[serde(untagged)]
    Object(ProblemCode),
}
