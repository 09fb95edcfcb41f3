//! The words for outcomes and reasons that several commands and the status page share, and the
//! codes that JSON has for them. Codes are stable, texts may change.

use rulegen_compiler::Refusal;
use serde::{Serialize, Serializer};

use crate::explain::outcome::Outcome;

/// Why the source of a packet is replaced by an address of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MasqueradeReason {
    /// All traffic to cluster IPs is masqueraded.
    All,
    /// It goes to a cluster IP and does not come from a pod.
    NotFromPods,
    /// It comes to an external address or node port, and its endpoint may be on another node.
    External,
    /// This node sends it to an external address or node port under policy Local.
    FromNode,
    /// It comes from the endpoint that it goes to.
    Hairpin,
}

impl MasqueradeReason {
    /// The code in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::All => "masquerade-all",
            Self::NotFromPods => "masquerade-not-from-pods",
            Self::External => "masquerade-external",
            Self::FromNode => "masquerade-from-node",
            Self::Hairpin => "masquerade-hairpin",
        }
    }

    /// The reason, as it stands after a colon.
    pub fn text(self) -> &'static str {
        match self {
            Self::All => "all traffic to cluster IPs is masqueraded (masqueradeAll)",
            Self::NotFromPods => {
                "it does not come from a pod, so the reply must come back through this node"
            }
            Self::External => {
                "traffic to an external address or node port may go to another node, and the reply \
                 must come back through this one"
            }
            Self::FromNode => "this node sends it, and the reply must come back through the DNAT",
            Self::Hairpin => {
                "the endpoint reaches itself (hairpin): without SNAT the reply would bypass \
                 conntrack"
            }
        }
    }
}

/// The code of a refusal in JSON.
pub fn refusal_code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoEndpoints => Code::NoEndpoints.as_str(),
        Refusal::NoLocalEndpoints => Code::NoLocalEndpoints.as_str(),
    }
}

/// What a Service lacks that refuses traffic, as it stands after the name of the Service.
pub fn refusal_reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoEndpoints => "has no endpoint that is ready",
        Refusal::NoLocalEndpoints => {
            "has endpoints, but none on this node, and its traffic policy is Local"
        }
    }
}

/// What becomes of refused traffic.
pub fn refusal_outcome(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoEndpoints => REJECTED,
        Refusal::NoLocalEndpoints => DROPPED,
    }
}

/// What becomes of a packet that goes to no endpoint.
pub fn outcome(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Endpoint { .. } => None,
        Outcome::Passes { masqueraded: true } => Some("goes on unchanged, masqueraded"),
        Outcome::Passes { masqueraded: false } => Some("goes on unchanged"),
        Outcome::Rejected => Some(REJECTED),
        Outcome::Dropped => Some(DROPPED),
    }
}

/// The end of a sentence that says why there is no endpoint.
pub(crate) const CLIENT_IS_REJECTED: &str = "the client gets an ICMP port-unreachable";

const REJECTED: &str = "rejected: the client gets an ICMP port-unreachable";
const DROPPED: &str = "dropped: the client gets no answer";

/// What a remark of an explanation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Policy Cluster: endpoints of all nodes.
    PolicyCluster,
    /// Policy Local: endpoints of this node.
    PolicyLocal,
    /// Policy Local, but the sender is on this node: endpoints of all nodes.
    PolicyLocalFromNode,
    /// Session affinity has an endpoint for the client.
    AffinityHit,
    /// A hash of the client's address chooses.
    SourceHash,
    /// Endpoints take turns.
    RoundRobin,
    /// An endpoint is chosen at random.
    Random,
    /// The packet is masqueraded, for this reason.
    Masquerade(MasqueradeReason),
    /// A rule that is not a Service's masquerades it.
    MasqueradedByOthers,
    /// It is marked to be masqueraded, and no rule does it.
    NotMasqueraded,
    /// The client's address is kept.
    SourceKept,
    /// No endpoint is usable.
    NoEndpoints,
    /// No endpoint is on this node, and the policy is Local.
    NoLocalEndpoints,
    /// The client is in none of the source ranges.
    SourceRange,
    /// The Service does not have the port at its cluster IP.
    NoSuchPort,
    /// No Service has the cluster IP.
    NoSuchClusterIp,
    /// Traffic from elsewhere to loopback addresses is dropped.
    LoopbackGuard,
    /// The kernel drops what is translated from loopback: route_localnet is off.
    RouteLocalnet,
    /// A rule or policy that is not a Service's refuses the packet.
    RefusedByOthers,
    /// The address is not this node's, or node ports are not open at it.
    NodePortElsewhere,
    /// The packet goes to an endpoint directly.
    DirectToEndpoint,
    /// No Service has the address.
    NoService,
    /// Rules are missing.
    MissingRules,
    /// What this node sends goes to the load balancer.
    LeftToLoadBalancer,
}

impl Code {
    /// The code in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::PolicyCluster => "policy-cluster",
            Code::PolicyLocal => "policy-local",
            Code::PolicyLocalFromNode => "policy-local-from-node",
            Code::AffinityHit => "affinity-hit",
            Code::SourceHash => "source-hash",
            Code::RoundRobin => "round-robin",
            Code::Random => "random",
            Code::Masquerade(reason) => reason.code(),
            Code::MasqueradedByOthers => "masqueraded-by-others",
            Code::NotMasqueraded => "not-masqueraded",
            Code::SourceKept => "source-kept",
            Code::NoEndpoints => "no-endpoints",
            Code::NoLocalEndpoints => "no-local-endpoints",
            Code::SourceRange => "source-range",
            Code::NoSuchPort => "no-such-port",
            Code::NoSuchClusterIp => "no-such-cluster-ip",
            Code::LoopbackGuard => "loopback-guard",
            Code::RouteLocalnet => "route-localnet",
            Code::RefusedByOthers => "refused-by-others",
            Code::NodePortElsewhere => "node-port-elsewhere",
            Code::DirectToEndpoint => "direct-to-endpoint",
            Code::NoService => "no-service",
            Code::MissingRules => "missing-rules",
            Code::LeftToLoadBalancer => "left-to-load-balancer",
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
