//! The role of a rule in terms of Services, for rules of either backend.

mod iptables;
mod kube_proxy;
mod nftables;
mod statements;

use rulegen_compiler::Refusal;
use rulegen_model::TrafficPolicy;
use rulegen_net::{FrontendKind, ServicePortName};
use rulegen_ruleset::nftables::NumgenMode;

use crate::words::{MasqueradeReason, refusal_words};

pub(crate) use iptables::role as of_iptables;
pub(crate) use nftables::{reason as masquerade_reason, role as of_nftables};

/// The role of a rule in terms of Services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RuleRole {
    /// Matches the frontend of a Service.
    Frontend(RuleServicePort),
    /// Accepts a source of a load balancer.
    SourceRange,
    /// Selects the endpoints of a policy.
    Policy(TrafficPolicy),
    /// Selects all endpoints for traffic that did not come from outside, although the policy is
    /// Local.
    ShortCircuit {
        /// True for a process of this node, false for a pod.
        from_node: bool,
    },
    /// Marks for masquerading.
    Mark(MasqueradeReason),
    /// Records the client (session affinity).
    RecordsClient,
    /// Matches a recorded client, which gets the same endpoint (session affinity).
    KnownClient,
    /// Chooses an endpoint with this method.
    Choice(NumgenMode),
    /// Chooses an endpoint and translates the destination.
    ChosenTranslation(NumgenMode),
    /// Translates the destination.
    Translation,
    /// Masquerades.
    Masquerade,
    /// Masquerades an endpoint that reaches itself.
    MasqueradeHairpin,
    /// Rejects or drops traffic to a Service without endpoints.
    Refused(RuleServicePort, Refusal),
    /// Drops traffic from outside the source ranges.
    Firewalled(RuleServicePort),
    /// Rejects traffic to a cluster IP at a port that its Service does not have.
    ClosedPort(RuleServicePort),
    /// Drops traffic to a cluster IP without a Service.
    NoSuchClusterIp,
    /// Drops traffic from other hosts to loopback addresses.
    LoopbackGuard,
}

/// A service port according to a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleServicePort {
    /// The name in the rule's comment, with the protocol of the packet.
    pub(crate) service: ServicePortName,
    /// The kind of address.
    pub(crate) kind: FrontendKind,
}

impl RuleRole {
    /// A remark for the rule in output.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            RuleRole::Frontend(_) => "the Service is found by address and port",
            RuleRole::SourceRange => "the source may use the load balancer",
            RuleRole::Policy(TrafficPolicy::Local) => "policy Local: endpoints of this node only",
            RuleRole::Policy(TrafficPolicy::Cluster) => "policy Cluster: all endpoints",
            RuleRole::ShortCircuit { from_node: true } => "from this node: as with policy Cluster",
            RuleRole::ShortCircuit { from_node: false } => "from a pod: as with policy Cluster",
            RuleRole::Mark(_) => "marked for masquerading",
            RuleRole::RecordsClient => "the client is recorded (session affinity)",
            RuleRole::KnownClient => {
                "the client is known (session affinity): it gets the same endpoint"
            }
            RuleRole::Choice(_) => "an endpoint is chosen",
            RuleRole::ChosenTranslation(_) => {
                "an endpoint is chosen, and the destination translated"
            }
            RuleRole::Translation => "the destination is translated",
            RuleRole::Masquerade => "the source becomes the node's address",
            RuleRole::MasqueradeHairpin => "hairpin: the source becomes the node's address",
            RuleRole::Refused(_, refusal) => refusal_words(*refusal),
            RuleRole::Firewalled(_) => "only sources in the source ranges pass",
            RuleRole::ClosedPort(_) => "the Service does not have this port: rejected",
            RuleRole::NoSuchClusterIp => "no Service has this cluster IP: dropped",
            RuleRole::LoopbackGuard => "to loopback from another host: dropped",
        }
    }
}
