//! Events of many packets to the way of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rulegen_compiler::nftables::HAIRPINS;
use rulegen_ruleset::nftables::{
    ChainId, Condition, Name, PacketHeader, Rule, Statement, TraceEvent, TraceStep, TracedRule,
};

use super::packet::{StepKind, TracedPacket, TracedStep};
use super::{TraceContext, TracedElement};
use crate::rule_role::masquerade_reason as reason;
use crate::words::MasqueradeReason;

/// Follows the packets that one table has traced.
#[derive(Debug)]
pub struct PacketTracker {
    arming: Name,
    /// By their turn.
    live: BTreeMap<u64, TrackedPacket>,
    /// How many came.
    began: u64,
    /// Whether steps were lost, of packets that are followed or come next.
    lost: bool,
    /// When anything was heard last.
    heard: Duration,
}

/// What there is to tell of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceUpdate {
    /// It came.
    Began(Box<TracedPacket>),
    /// It did one more step.
    Step(u64, TracedStep),
    /// It now is to this endpoint.
    Endpoint(u64, SocketAddr),
    /// Nothing more is heard of it.
    Ended(Box<TracedPacket>),
}

impl TraceUpdate {
    /// Which packet it is about.
    pub fn number(&self) -> u64 {
        match self {
            TraceUpdate::Began(packet) | TraceUpdate::Ended(packet) => packet.number,
            TraceUpdate::Step(number, _) | TraceUpdate::Endpoint(number, _) => *number,
        }
    }
}

#[derive(Debug)]
struct TrackedPacket {
    packet: TracedPacket,
    /// The base chain that it is in.
    base: Option<ChainId>,
    /// The base chains that it came to.
    passed: Vec<ChainId>,
    /// The number that the kernel tells it by now.
    id: u32,
    /// When it was heard of last.
    heard: Duration,
}

/// A packet goes through all hooks within some microseconds; where the machine is busy, within
/// milliseconds. Then nothing more will come of it.
const PATIENCE: Duration = Duration::from_millis(100);

impl PacketTracker {
    /// Follows packets from where a table of this name has them traced.
    pub fn new(arming: Name) -> Self {
        Self { arming, live: BTreeMap::new(), began: 0, lost: false, heard: Duration::ZERO }
    }

    /// The next event. `now` is a time since any fixed one.
    pub fn take(
        &mut self,
        known: &TraceContext,
        event: TraceEvent,
        now: Duration,
    ) -> Vec<TraceUpdate> {
        self.heard = now;
        let mut told = Vec::new();
        let arms = event.at.table == self.arming;
        // Where others have a packet traced too, only the end of our chain may be told.
        let is_found = arms && matches!(event.step, TraceStep::Rule { .. });
        if let Some(header) = &event.header {
            told.extend(self.end_older(&event));
            if !self.goes_on(&event, header, is_found) && is_found {
                told.push(self.begin(known, event.packet, header, now));
            }
        }
        let Some(live) = self.live.values_mut().find(|live| live.id == event.packet) else {
            // Somebody else has it traced.
            return told;
        };
        live.heard = now;
        if arms {
            return told;
        }
        told.extend(live.take(known, event));
        if live.packet.steps.last().is_some_and(|step| step.verdict().is_end()) {
            let number = live.packet.number;
            told.extend(self.end(number));
        }
        told
    }

    /// Steps were lost. Which, nobody knows, until nothing is left to be told.
    pub fn lose(&mut self, now: Duration) {
        (self.lost, self.heard) = (true, now);
        self.live.values_mut().for_each(|live| live.packet.is_incomplete = true);
    }

    /// Ends packets that were not heard of for a while.
    pub fn rest(&mut self, now: Duration) -> Vec<TraceUpdate> {
        self.lost &= now.saturating_sub(self.heard) < PATIENCE;
        let silent = |live: &TrackedPacket| now.saturating_sub(live.heard) >= PATIENCE;
        let silent = self.live.iter().filter(|(_, live)| silent(live));
        let ended: Vec<u64> = silent.map(|(number, _)| *number).collect();
        ended.into_iter().filter_map(|number| self.end(number)).collect()
    }

    /// Ends all.
    pub fn finish(&mut self) -> Vec<TraceUpdate> {
        let ended = std::mem::take(&mut self.live).into_values();
        ended.map(|live| TraceUpdate::Ended(Box::new(live.packet))).collect()
    }

    /// When the next packet is to end unless it is heard of.
    pub fn deadline(&self) -> Option<Duration> {
        self.live.values().map(|live| live.heard.saturating_add(PATIENCE)).min()
    }

    fn begin(
        &mut self,
        known: &TraceContext,
        id: u32,
        header: &PacketHeader,
        now: Duration,
    ) -> TraceUpdate {
        self.began += 1;
        let packet = TracedPacket {
            number: self.began,
            id,
            header: header.clone(),
            last: header.clone(),
            service: known.service_at(header).cloned(),
            endpoint: None,
            masqueraded: false,
            reason: None,
            is_new: false,
            is_incomplete: self.lost,
            steps: Vec::new(),
        };
        let told = TraceUpdate::Began(Box::new(packet.clone()));
        self.live.insert(
            self.began,
            TrackedPacket { packet, base: None, passed: Vec::new(), id, heard: now },
        );
        told
    }

    fn end(&mut self, number: u64) -> Option<TraceUpdate> {
        let live = self.live.remove(&number)?;
        Some(TraceUpdate::Ended(Box::new(live.packet)))
    }

    /// Ends the packet that had this number before: none comes to a base chain twice.
    fn end_older(&mut self, event: &TraceEvent) -> Option<TraceUpdate> {
        let arms = event.at.table == self.arming;
        let is_older = |live: &&TrackedPacket| {
            live.id == event.packet && (live.passed.contains(&event.at) || arms)
        };
        let number = self.live.values().find(is_older)?.packet.number;
        self.end(number)
    }

    /// Whether a packet with a new number is one that is followed, and takes it for that from now on.
    /// The number is a hash of the packet's own among others, which translation may change.
    fn goes_on(&mut self, event: &TraceEvent, header: &PacketHeader, is_found: bool) -> bool {
        let id = event.packet;
        if self.live.values().any(|live| live.id == id) {
            return false;
        }
        let ways: &[fn(&TrackedPacket, &PacketHeader) -> bool] = match is_found {
            true => &[TrackedPacket::came_by_loopback],
            false => &[
                TrackedPacket::has_source_of,
                TrackedPacket::has_destination_of,
                TrackedPacket::came_by_loopback,
            ],
        };
        for is_it in ways {
            let those = self
                .live
                .values_mut()
                .filter(|live| is_it(live, header) && !live.passed.contains(&event.at));
            if let Some(live) = those.max_by_key(|live| live.heard) {
                live.id = id;
                return true;
            }
        }
        false
    }
}

impl TrackedPacket {
    fn has_source_of(&self, header: &PacketHeader) -> bool {
        let last = &self.packet.last;
        self.is_between(header)
            && last.source == header.source
            && last.source_socket() == header.source_socket()
    }

    /// The source is replaced last of all.
    fn has_destination_of(&self, header: &PacketHeader) -> bool {
        let leaves = self.packet.steps.last().is_some_and(|s| s.hook == Some("postrouting"));
        leaves && self.is_between(header) && self.is_to(header)
    }

    /// This host sent it to itself.
    fn came_by_loopback(&self, header: &PacketHeader) -> bool {
        const LOOPBACK: Option<&str> = Some("lo");
        header.in_interface.as_deref() == LOOPBACK
            && self.packet.last.out_interface.as_deref() == LOOPBACK
            && self.is_to(header)
    }

    /// Whether it came where that packet came.
    fn is_between(&self, header: &PacketHeader) -> bool {
        let last = &self.packet.last;
        last.in_interface == header.in_interface && last.protocol == header.protocol
    }

    fn is_to(&self, header: &PacketHeader) -> bool {
        let last = &self.packet.last;
        last.protocol == header.protocol
            && last.destination == header.destination
            && last.destination_socket() == header.destination_socket()
    }

    fn take(&mut self, known: &TraceContext, event: TraceEvent) -> Vec<TraceUpdate> {
        let mut told = Vec::new();
        if let Some(header) = event.header {
            told.extend(self.see(header));
            self.base = Some(event.at.clone());
            self.passed.push(event.at.clone());
        }
        let base = self.base.as_ref().and_then(|base| known.bases.get(base));
        self.packet.is_new |= base.is_some_and(|base| base.is_nat);
        let kind = match event.step {
            TraceStep::Return => return told,
            TraceStep::Policy(verdict) => StepKind::Policy(verdict),
            TraceStep::Rule { handle, verdict } => {
                let rule = known.rule(&event.at, handle).cloned();
                let found = rule
                    .as_ref()
                    .filter(|_| known.is_ours(&event.at))
                    .and_then(|rule| self.look_up(known, &event.at, rule));
                StepKind::Rule { handle, rule, verdict, found }
            }
        };
        let is_ours = known.is_ours(&event.at);
        let step = TracedStep { hook: base.map(|base| base.hook), at: event.at, is_ours, kind };
        told.push(TraceUpdate::Step(self.packet.number, step.clone()));
        self.packet.steps.push(step);
        told
    }

    /// What it looks like by now.
    fn see(&mut self, header: PacketHeader) -> Option<TraceUpdate> {
        let packet = &mut self.packet;
        let changed = header.destination_socket() != packet.last.destination_socket();
        packet.last = header;
        let endpoint = packet.last.destination_socket().filter(|_| changed)?;
        packet.endpoint = Some(endpoint);
        Some(TraceUpdate::Endpoint(packet.number, endpoint))
    }

    /// The element that a rule of ours found for it, and what else the rule does.
    fn look_up(
        &mut self,
        known: &TraceContext,
        at: &ChainId,
        rule: &TracedRule,
    ) -> Option<TracedElement> {
        let packet = &mut self.packet;
        let statements = &rule.statements;
        if statements.iter().any(|statement| matches!(statement, Statement::MarkOr(_))) {
            packet.reason = Some(reason(at.chain.as_str(), &Rule::new(statements.clone())));
        }
        if statements.contains(&Statement::Masquerade) {
            packet.masqueraded = true;
            if statements.iter().any(asks_for_hairpin) {
                packet.reason = Some(MasqueradeReason::Hairpin);
            }
        }
        let found = statements.iter().find_map(|statement| match statement {
            Statement::VerdictMap { map, .. } => known.found(map, &packet.last),
            _ => None,
        })?;
        packet.service.get_or_insert_with(|| found.service.clone());
        Some(found)
    }
}

fn asks_for_hairpin(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Match(Condition::SetLookup { set, .. }) if set.value.as_str() == HAIRPINS
    )
}
