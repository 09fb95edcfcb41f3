//! A packet's way, as far as it was seen.

use std::net::SocketAddr;

use rulegen_compiler::Refusal;
use rulegen_ruleset::nftables::{
    ChainId, Comment, PacketHeader, TraceVerdict, TracedRule, Verdict,
};

use super::TracedElement;
use crate::words::{MasqueradeReason, refusal_code, refusal_reason};

/// A packet from where it was met first in this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedPacket {
    /// Its turn among all packets, from 1.
    pub number: u64,
    /// The number that the kernel told it by when it came, and tells later ones by too.
    pub id: u32,
    /// As it came.
    pub header: PacketHeader,
    /// As it was seen last: its destination may have been replaced.
    pub last: PacketHeader,
    /// The service port that it was for.
    pub service: Option<Comment>,
    /// What its destination was replaced by: an endpoint of its service, unless somebody else's
    /// rules did it.
    pub endpoint: Option<SocketAddr>,
    /// Whether a rule of ours had its source replaced by an address of this host.
    pub masqueraded: bool,
    /// Why that was, or is to be.
    pub(super) reason: Option<MasqueradeReason>,
    /// Whether it began a connection: chains of type nat saw it.
    pub is_new: bool,
    /// Whether steps of it may be missing, for more was told than there was room for.
    pub is_incomplete: bool,
    /// Rules that it met, and policies that counted.
    pub steps: Vec<TracedStep>,
}

/// A step of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedStep {
    /// The hook that it is at, by nft's name, if that is known.
    pub hook: Option<&'static str>,
    /// The chain.
    pub at: ChainId,
    /// Whether that is of our table.
    pub is_ours: bool,
    /// What happened.
    pub kind: StepKind,
}

/// What happened to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// A rule held.
    Rule {
        /// The kernel's number for it.
        handle: u64,
        /// The rule, unless it was gone before it could be read.
        rule: Option<TracedRule>,
        /// What follows.
        verdict: TraceVerdict,
        /// The element of our maps that decided.
        found: Option<TracedElement>,
    },
    /// The policy of a base chain counted.
    Policy(TraceVerdict),
}

/// Where a packet's way ended in this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TracedEnd {
    /// It left through an interface.
    Left(Option<String>),
    /// It was for this host.
    Delivered,
    /// The sender was told that it ends here.
    Rejected,
    /// The sender was not told.
    Dropped,
    /// A program has it (NFQUEUE).
    Queued,
    /// Something else in the kernel has it.
    Stolen,
    /// It was not seen after this hook, where something else should have seen it.
    Lost(&'static str),
}

impl TracedEnd {
    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            TracedEnd::Left(_) => "left",
            TracedEnd::Delivered => "delivered",
            TracedEnd::Rejected => "rejected",
            TracedEnd::Dropped => "dropped",
            TracedEnd::Queued => "queued",
            TracedEnd::Stolen => "stolen",
            TracedEnd::Lost(_) => "lost",
        }
    }
}

impl TracedStep {
    /// What follows.
    pub fn verdict(&self) -> &TraceVerdict {
        match &self.kind {
            StepKind::Rule { verdict, .. } | StepKind::Policy(verdict) => verdict,
        }
    }

    fn rejects(&self) -> bool {
        matches!(&self.kind, StepKind::Rule { rule: Some(rule), .. } if rule.rejects)
    }
}

impl TracedPacket {
    /// Where it ended.
    pub fn end(&self) -> TracedEnd {
        let Some(step) = self.steps.last() else { return TracedEnd::Lost("nowhere") };
        match step.verdict() {
            TraceVerdict::Drop if step.rejects() => return TracedEnd::Rejected,
            TraceVerdict::Drop => return TracedEnd::Dropped,
            TraceVerdict::Queue => return TracedEnd::Queued,
            TraceVerdict::Stolen => return TracedEnd::Stolen,
            _ => {}
        }
        match step.hook {
            Some("input") => TracedEnd::Delivered,
            Some("postrouting") => TracedEnd::Left(self.last.out_interface.clone()),
            // Of a known connection chains of type nat do not see the packets, and ours is the
            // last there.
            Some("forward" | "output") if !self.is_new => {
                TracedEnd::Left(self.last.out_interface.clone())
            }
            Some(hook) => TracedEnd::Lost(hook),
            None => TracedEnd::Lost("an unknown hook"),
        }
    }

    /// Why its source was replaced, if it was.
    pub fn why_masqueraded(&self) -> Option<MasqueradeReason> {
        self.reason.filter(|_| self.masqueraded)
    }

    /// The code for why a Service of ours refused it.
    pub fn why_code(&self) -> Option<&'static str> {
        let is_refused = matches!(self.end(), TracedEnd::Rejected | TracedEnd::Dropped);
        self.service_refusal().filter(|_| is_refused).map(|(_, refusal)| refusal_code(refusal))
    }

    /// Why it ended as it did, in words, if that is not what it came for.
    pub fn why(&self) -> Option<String> {
        let step = self.steps.last()?;
        match self.end() {
            TracedEnd::Left(_) | TracedEnd::Delivered => None,
            TracedEnd::Rejected | TracedEnd::Dropped | TracedEnd::Queued | TracedEnd::Stolen => {
                Some(self.refusal().unwrap_or_else(|| by(step)))
            }
            TracedEnd::Lost(_) if self.is_incomplete => {
                Some("steps of it were not told, for want of room".to_owned())
            }
            TracedEnd::Lost("prerouting") => Some(
                "no hook saw it after prerouting: there is no route to it, or rp_filter or \
                 rules of iptables-legacy took it"
                    .to_owned(),
            ),
            TracedEnd::Lost(hook) => Some(format!(
                "no hook saw it after {hook}: rules of iptables-legacy or another part of the \
                 kernel took it"
            )),
        }
    }

    /// What our own rules mean by it.
    fn refusal(&self) -> Option<String> {
        let last = self.steps.last().filter(|step| step.is_ours)?;
        if let StepKind::Rule { rule: Some(rule), .. } = &last.kind
            && let Some(comment) = &rule.comment
        {
            return Some(comment.as_str().to_owned());
        }
        let (service, refusal) = self.service_refusal()?;
        Some(format!("{} {}", service.as_str(), refusal_reason(refusal)))
    }

    /// The service port without a usable endpoint that refused the packet.
    fn service_refusal(&self) -> Option<(&Comment, Refusal)> {
        let last = self.steps.last().filter(|step| step.is_ours)?;
        if matches!(
            &last.kind,
            StepKind::Rule { rule: Some(TracedRule { comment: Some(_), .. }), .. }
        ) {
            return None;
        }
        // The element leads to the chain that rejects, if it does not drop itself.
        let found = self.steps.iter().rev().take(2).find_map(|step| match &step.kind {
            StepKind::Rule { found, .. } => found.as_ref(),
            StepKind::Policy(_) => None,
        })?;
        let refusal = match found.verdict {
            Some(Verdict::Drop) => Refusal::NoLocalEndpoints,
            _ => Refusal::NoEndpoints,
        };
        Some((&found.service, refusal))
    }
}

/// Whose rule or policy it was.
fn by(step: &TracedStep) -> String {
    match &step.kind {
        StepKind::Rule { handle, rule, .. } => {
            let comment = rule.as_ref().and_then(|rule| rule.comment.as_ref());
            let comment = comment.map(|comment| format!(", {comment}")).unwrap_or_default();
            let ChainId { family, table, chain } = &step.at;
            let listing = format!("nft -a list chain {} {table} {chain}", family.word());
            format!("by rule {handle} of {}{comment} (`{listing}` shows it)", step.at)
        }
        StepKind::Policy(_) => format!("by the policy of {}", step.at),
    }
}
