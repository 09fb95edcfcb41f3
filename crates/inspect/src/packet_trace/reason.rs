//! Why a traced packet was not delivered.

use rulegen_compiler::Refusal;
use rulegen_ruleset::nftables::{ChainId, Comment};
use strum::IntoStaticStr;

/// Why a traced packet was not delivered or forwarded.
#[derive(Debug, Clone, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum TraceReason {
    /// Its service port refuses it. The code is that of the refusal.
    Refused(Comment, Refusal),
    /// The client is in none of the source ranges. Holds the rule's comment.
    SourceRange(Comment),
    /// The Service does not have the port. Holds the rule's comment.
    NoSuchPort(Comment),
    /// No Service has the cluster IP. Holds the rule's comment.
    NoSuchClusterIp(Comment),
    /// A rule of ours that is not known, for example because it was deleted.
    UnknownRule(StepRule),
    /// A rule or policy of another program.
    RefusedByOthers(StepRule),
    /// Trace events were dropped.
    EventsDropped,
    /// There is no event after this hook: another part of the kernel dropped the packet or took it
    /// over.
    NoFurtherEvent(&'static str),
}

/// A rule or policy that a packet met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRule {
    /// The chain.
    pub at: ChainId,
    /// The kernel's handle of the rule; `None` for the policy.
    pub handle: Option<u64>,
    /// The rule's comment.
    pub comment: Option<Comment>,
}

impl TraceReason {
    /// The code in JSON, which is stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_, Refusal::NoEndpoints) => "no-endpoints",
            Self::Refused(_, Refusal::NoLocalEndpoints) => "no-local-endpoints",
            other => other.into(),
        }
    }
}
