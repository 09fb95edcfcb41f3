//! The role of a rule in terms of Services, for rules of either backend.

mod iptables;
mod nftables;

use rulegen_compiler::Refusal;
use rulegen_model::TrafficPolicy;
use rulegen_net::{FrontendKind, ServicePortName};
use rulegen_ruleset::nftables::NumgenMode;

use crate::words::MasqueradeReason;

pub(crate) use iptables::role as of_iptables;
pub(crate) use nftables::{reason as masquerade_reason, role as of_nftables};

/// What a rule means, in terms of Services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RuleRole {
    /// It knows the packet's destination as a Service's.
    Frontend(RuleServicePort),
    /// It lets a source use a load balancer.
    SourceRange,
    /// It keeps the traffic to the endpoints that a policy sees.
    Policy(TrafficPolicy),
    /// It sends what never was outside to all endpoints, though the policy is Local.
    ShortCircuit {
        /// A process of this node sent it, else a pod.
        from_node: bool,
    },
    /// It asks for masquerading.
    Mark(MasqueradeReason),
    /// It remembers the client.
    Remembers,
    /// It knows the client, who keeps its endpoint.
    Kept,
    /// It chooses an endpoint in this way.
    Choice(NumgenMode),
    /// It does so and translates the destination.
    ChosenTranslation(NumgenMode),
    /// It translates the destination.
    Translation,
    /// It masquerades.
    Masquerade,
    /// It refuses what a Service has no endpoint for.
    Refused(RuleServicePort, Refusal),
    /// It drops what comes from outside of the source ranges.
    Firewalled(RuleServicePort),
    /// It rejects what goes to a cluster IP at a port that its Service does not have.
    ClosedPort(RuleServicePort),
    /// It drops what goes to a cluster IP that no Service has.
    NoSuchClusterIp,
    /// It drops what goes to loopback addresses from elsewhere.
    LoopbackGuard,
}

/// A service port as a rule tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleServicePort {
    /// The name that the rule's comment has, with the packet's protocol.
    pub(crate) service: ServicePortName,
    /// What the address is to it.
    pub(crate) kind: FrontendKind,
}

impl RuleRole {
    /// What is worth a word beside the rule.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            RuleRole::Frontend(_) => "the Service is found by address and port",
            RuleRole::SourceRange => "the source may use the load balancer",
            RuleRole::Policy(TrafficPolicy::Local) => "policy Local: endpoints of this node only",
            RuleRole::Policy(TrafficPolicy::Cluster) => "policy Cluster: all endpoints",
            RuleRole::ShortCircuit { from_node: true } => "from this node: as with policy Cluster",
            RuleRole::ShortCircuit { from_node: false } => "from a pod: as with policy Cluster",
            RuleRole::Mark(_) => "marked, to be masqueraded",
            RuleRole::Remembers => "the client is remembered",
            RuleRole::Kept => "the client is known, and keeps its endpoint",
            RuleRole::Choice(_) => "an endpoint is chosen",
            RuleRole::ChosenTranslation(_) => {
                "an endpoint is chosen, and the destination translated"
            }
            RuleRole::Translation => "the destination is translated",
            RuleRole::Masquerade => "the source becomes the node's address",
            RuleRole::Refused(_, Refusal::NoEndpoints) => "no endpoint: rejected",
            RuleRole::Refused(_, Refusal::NoLocalEndpoints) => "no endpoint on this node: dropped",
            RuleRole::Firewalled(_) => "from outside of the source ranges: dropped",
            RuleRole::ClosedPort(_) => "the Service does not have this port: rejected",
            RuleRole::NoSuchClusterIp => "no Service has this cluster IP: dropped",
            RuleRole::LoopbackGuard => "from elsewhere to loopback: dropped",
        }
    }
}
