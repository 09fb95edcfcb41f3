//! The role of a rule in terms of Services, for rules of either backend.

mod iptables;
mod kube_proxy;
mod nftables;
mod statements;

use rulegen_compiler::Refusal;
use rulegen_model::TrafficPolicy;
use rulegen_net::{FrontendKind, ServicePortName};
use rulegen_ruleset::nftables::NumgenMode;
use strum::IntoStaticStr;

use crate::masquerade_reason::MasqueradeReason;

pub(crate) use iptables::role as of_iptables;
pub(crate) use nftables::{reason as masquerade_reason, role as of_nftables};

/// The role of a rule in terms of Services.
#[derive(Debug, Clone, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum RuleRole {
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
    /// Masquerades packets that have the mark.
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
pub struct RuleServicePort {
    /// The name in the rule's comment, with the protocol of the packet.
    pub service: ServicePortName,
    /// The kind of address.
    pub kind: FrontendKind,
}

impl RuleRole {
    /// The code in JSON.
    pub fn code(&self) -> &'static str {
        self.into()
    }
}
