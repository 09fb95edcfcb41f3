//! The traced path of a packet.

use std::net::SocketAddr;

use rulegen_compiler::Refusal;
use rulegen_compiler::nftables::CLOSED;
use rulegen_ruleset::nftables::{
    ChainId, Comment, PacketHeader, TraceVerdict, TracedRule, Verdict,
};

use super::TracedElement;
use super::reason::{StepRule, TraceReason};
use crate::masquerade_reason::MasqueradeReason;

/// A packet since its first event in this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedPacket {
    /// Its sequence number, from 1.
    pub number: u64,
    /// Its trace ID when it arrived. The kernel uses the ID again for later packets.
    pub id: u32,
    /// Its headers on arrival.
    pub header: PacketHeader,
    /// Its last known headers: the destination may have been translated.
    pub last: PacketHeader,
    /// The service port of its destination.
    pub service: Option<Comment>,
    /// The translated destination: an endpoint of its service port, unless a rule of another
    /// program translated it.
    pub endpoint: Option<SocketAddr>,
    /// True if one of our rules masquerades it.
    pub masqueraded: bool,
    /// The reason for masquerading.
    pub(super) reason: Option<MasqueradeReason>,
    /// True if it is the first packet of a connection: only those pass chains of type nat.
    pub is_new: bool,
    /// True if events may be missing, because the receive buffer overflowed.
    pub is_incomplete: bool,
    /// Rules that matched, and policies that applied.
    pub steps: Vec<TracedStep>,
}

/// A step of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedStep {
    /// The hook in nft's syntax, if known.
    pub hook: Option<&'static str>,
    /// The chain.
    pub at: ChainId,
    /// True for a chain of our table.
    pub is_ours: bool,
    /// What happened.
    pub kind: StepKind,
}

/// What happened to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// A rule matched.
    Rule {
        /// The kernel's handle of the rule.
        handle: u64,
        /// The rule, unless it was deleted before it could be read.
        rule: Option<TracedRule>,
        /// What happens next: a jump, a verdict, or the next rule.
        verdict: TraceVerdict,
        /// The element of our maps that decided.
        found: Option<TracedElement>,
    },
    /// The policy of a base chain applied.
    Policy(TraceVerdict),
}

/// How a packet ended in this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TracedEnd {
    /// Sent through an interface.
    Left(Option<String>),
    /// Delivered to this host.
    Delivered,
    /// A rule answers with an ICMP error or a TCP reset.
    Rejected,
    /// A rule or policy drops it silently.
    Dropped,
    /// Passed to userspace (NFQUEUE).
    Queued,
    /// Taken over by another part of the kernel.
    Stolen,
    /// No event after this hook, although another was expected.
    Lost(&'static str),
}

/// What happened to a packet in this network namespace. `words.rs` has its sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedOutcome<'a> {
    /// How it ended.
    pub end: TracedEnd,
    /// Why it was not delivered or forwarded.
    pub reason: Option<TraceReason>,
    /// Its new destination, if DNAT replaced it.
    pub translation: Option<Translation<'a>>,
    /// True if one of our rules masquerades it.
    pub is_masqueraded: bool,
    /// Why it is masqueraded, if that is known.
    pub masquerade_reason: Option<MasqueradeReason>,
}

/// The destination after DNAT, and whose rule it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Translation<'a> {
    /// An endpoint of this service port.
    ToEndpoint(SocketAddr, &'a Comment),
    /// An address that a rule of another program has.
    ByOthers(SocketAddr),
}

impl TracedEnd {
    /// True if nothing on this node kept it from its destination.
    pub fn has_arrived(&self) -> bool {
        matches!(self, TracedEnd::Left(_) | TracedEnd::Delivered)
    }

    /// The name in output.
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
    /// What happens after the rule or policy.
    pub fn verdict(&self) -> &TraceVerdict {
        match &self.kind {
            StepKind::Rule { verdict, .. } | StepKind::Policy(verdict) => verdict,
        }
    }

    fn comment(&self) -> Option<&Comment> {
        match &self.kind {
            StepKind::Rule { rule, .. } => rule.as_ref()?.comment.as_ref(),
            StepKind::Policy(_) => None,
        }
    }

    /// The rule or policy.
    fn rule(&self) -> StepRule {
        let handle = match &self.kind {
            StepKind::Rule { handle, .. } => Some(*handle),
            StepKind::Policy(_) => None,
        };
        StepRule { at: self.at.clone(), handle, comment: self.comment().cloned() }
    }

    fn rejects(&self) -> bool {
        matches!(&self.kind, StepKind::Rule { rule: Some(rule), .. } if rule.rejects)
    }
}

impl TracedPacket {
    /// How it ended, why, and how it was translated.
    pub fn outcome(&self) -> TracedOutcome<'_> {
        let translation = self.endpoint.map(|to| match &self.service {
            Some(service) => Translation::ToEndpoint(to, service),
            None => Translation::ByOthers(to),
        });
        TracedOutcome {
            end: self.end(),
            reason: self.why(),
            translation,
            is_masqueraded: self.masqueraded,
            masquerade_reason: self.reason.filter(|_| self.masqueraded),
        }
    }

    /// How it ended.
    fn end(&self) -> TracedEnd {
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
            // Packets of established connections do not pass chains of type nat. Our chain of type
            // nat would be the last at postrouting.
            Some("forward" | "output") if !self.is_new => {
                TracedEnd::Left(self.last.out_interface.clone())
            }
            Some(hook) => TracedEnd::Lost(hook),
            None => TracedEnd::Lost("an unknown hook"),
        }
    }

    /// The reason, unless it was delivered or forwarded.
    fn why(&self) -> Option<TraceReason> {
        let step = self.steps.last()?;
        let end = self.end();
        if end.has_arrived() {
            return None;
        }
        Some(match end {
            TracedEnd::Lost(_) if self.is_incomplete => TraceReason::EventsDropped,
            TracedEnd::Lost(hook) => TraceReason::NoFurtherEvent(hook),
            TracedEnd::Rejected | TracedEnd::Dropped if step.is_ours => self.refusal(step, end),
            _ => TraceReason::RefusedByOthers(step.rule()),
        })
    }

    /// Why our rules refused it.
    fn refusal(&self, step: &TracedStep, end: TracedEnd) -> TraceReason {
        if let Some((service, refusal)) = self.service_refusal() {
            return TraceReason::Refused(service.clone(), refusal);
        }
        // Without a comment, for example of a deleted rule, the reason is unknown.
        let Some(comment) = step.comment().cloned() else {
            return TraceReason::UnknownRule(step.rule());
        };
        if step.at.chain.as_str() != CLOSED {
            return TraceReason::SourceRange(comment);
        }
        match end {
            TracedEnd::Rejected => TraceReason::NoSuchPort(comment),
            _ => TraceReason::NoSuchClusterIp(comment),
        }
    }

    /// The service port without a usable endpoint that rejected or dropped the packet.
    fn service_refusal(&self) -> Option<(&Comment, Refusal)> {
        let last = self.steps.last().filter(|step| step.is_ours)?;
        if last.comment().is_some() {
            return None;
        }
        // The element either drops, or leads to the chain that rejects.
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
