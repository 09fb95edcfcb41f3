//! Groups the trace events of many packets by packet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rulegen_compiler::nftables::HAIRPINS;
use rulegen_ruleset::nftables::{
    ChainId, Condition, Name, PacketHeader, Rule, Statement, TraceEvent, TraceStep, TracedRule,
};

use super::packet::{StepKind, TracedPacket, TracedStep};
use super::{TraceContext, TracedElement};
use crate::masquerade_reason::MasqueradeReason;
use crate::rule_role::masquerade_reason as reason;

/// Follows packets that one table traces. A packet is kept until it ends, or until 100 ms pass
/// without an event for it.
#[derive(Debug)]
pub struct PacketTracker {
    arming: Name,
    /// By their sequence number.
    live: BTreeMap<u64, TrackedPacket>,
    /// Number of packets so far.
    began: u64,
    /// Whether trace events were lost, of current packets or of the next one.
    lost: bool,
    /// Time of the last event.
    heard: Duration,
}

/// Progress of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceUpdate {
    /// The first event of the packet.
    Began(Box<TracedPacket>),
    /// One more step.
    Step(u64, TracedStep),
    /// Its destination was translated to this endpoint.
    Endpoint(u64, SocketAddr),
    /// The packet is complete.
    Ended(Box<TracedPacket>),
}

impl TraceUpdate {
    /// The packet concerned.
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
    /// Its current base chain.
    base: Option<ChainId>,
    /// Its base chains so far.
    passed: Vec<ChainId>,
    /// Its current trace ID.
    id: u32,
    /// Time of its last event.
    heard: Duration,
}

/// A packet passes all hooks within microseconds, or milliseconds on a busy machine. After this
/// time, no more events are expected.
const PATIENCE: Duration = Duration::from_millis(100);

impl PacketTracker {
    /// Follows the packets that a table of this name traces.
    pub fn new(arming: Name) -> Self {
        Self { arming, live: BTreeMap::new(), began: 0, lost: false, heard: Duration::ZERO }
    }

    /// Processes an event. `now` is the time since any fixed point.
    pub fn take(
        &mut self,
        known: &TraceContext,
        event: TraceEvent,
        now: Duration,
    ) -> Vec<TraceUpdate> {
        self.heard = now;
        let mut updates = Vec::new();
        let arms = event.at.table == self.arming;
        // If another program traces a packet too, the end of our chain is reported for it although
        // none of our rules matched.
        let is_found = arms && matches!(event.step, TraceStep::Rule { .. });
        if let Some(header) = &event.header {
            updates.extend(self.end_older(&event));
            if !self.goes_on(&event, header, is_found) && is_found {
                updates.push(self.begin(known, event.packet, header, now));
            }
        }
        let Some(live) = self.live.values_mut().find(|live| live.id == event.packet) else {
            // Only another program traces it.
            return updates;
        };
        live.heard = now;
        if arms {
            return updates;
        }
        updates.extend(live.take(known, event));
        if live.packet.steps.last().is_some_and(|step| step.verdict().is_end()) {
            let number = live.packet.number;
            updates.extend(self.end(number));
        }
        updates
    }

    /// Records that events were lost. It is unknown of which packets, so all current packets become
    /// incomplete.
    pub fn lose(&mut self, now: Duration) {
        (self.lost, self.heard) = (true, now);
        self.live.values_mut().for_each(|live| live.packet.is_incomplete = true);
    }

    /// Completes packets without an event for 100 ms.
    pub fn rest(&mut self, now: Duration) -> Vec<TraceUpdate> {
        self.lost &= now.saturating_sub(self.heard) < PATIENCE;
        let silent = |live: &TrackedPacket| now.saturating_sub(live.heard) >= PATIENCE;
        let silent = self.live.iter().filter(|(_, live)| silent(live));
        let ended: Vec<u64> = silent.map(|(number, _)| *number).collect();
        ended.into_iter().filter_map(|number| self.end(number)).collect()
    }

    /// Completes all packets.
    pub fn finish(&mut self) -> Vec<TraceUpdate> {
        let ended = std::mem::take(&mut self.live).into_values();
        ended.map(|live| TraceUpdate::Ended(Box::new(live.packet))).collect()
    }

    /// The time at which the next packet is completed unless an event arrives.
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
        let began = TraceUpdate::Began(Box::new(packet.clone()));
        self.live.insert(
            self.began,
            TrackedPacket { packet, base: None, passed: Vec::new(), id, heard: now },
        );
        began
    }

    fn end(&mut self, number: u64) -> Option<TraceUpdate> {
        let live = self.live.remove(&number)?;
        Some(TraceUpdate::Ended(Box::new(live.packet)))
    }

    /// Completes the previous packet with this trace ID if this is another one: no packet enters a
    /// base chain twice.
    fn end_older(&mut self, event: &TraceEvent) -> Option<TraceUpdate> {
        let arms = event.at.table == self.arming;
        let is_older = |live: &&TrackedPacket| {
            live.id == event.packet && (live.passed.contains(&event.at) || arms)
        };
        let number = self.live.values().find(is_older)?.packet.number;
        self.end(number)
    }

    /// Whether an unknown trace ID is that of a known packet; if so, it is recorded.
    fn goes_on(&mut self, event: &TraceEvent, header: &PacketHeader, is_found: bool) -> bool {
        let id = event.packet;
        if self.live.values().any(|live| live.id == id) {
            return false;
        }
        let comparisons: &[fn(&TrackedPacket, &PacketHeader) -> bool] = match is_found {
            true => &[TrackedPacket::came_by_loopback],
            false => &[
                TrackedPacket::has_source_of,
                TrackedPacket::has_destination_of,
                TrackedPacket::came_by_loopback,
            ],
        };
        for is_same in comparisons {
            let candidates = self
                .live
                .values_mut()
                .filter(|live| is_same(live, header) && !live.passed.contains(&event.at));
            if let Some(live) = candidates.max_by_key(|live| live.heard) {
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

    /// Whether its destination is unchanged. DNAT comes before SNAT.
    fn has_destination_of(&self, header: &PacketHeader) -> bool {
        let leaves = self.packet.steps.last().is_some_and(|s| s.hook == Some("postrouting"));
        leaves && self.is_between(header) && self.is_to(header)
    }

    /// Whether this host sent it to itself.
    fn came_by_loopback(&self, header: &PacketHeader) -> bool {
        const LOOPBACK: Option<&str> = Some("lo");
        header.in_interface.as_deref() == LOOPBACK
            && self.packet.last.out_interface.as_deref() == LOOPBACK
            && self.is_to(header)
    }

    /// Whether it enters where the other packet left.
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
        let mut updates = Vec::new();
        if let Some(header) = event.header {
            updates.extend(self.see(header));
            self.base = Some(event.at.clone());
            self.passed.push(event.at.clone());
        }
        let base = self.base.as_ref().and_then(|base| known.bases.get(base));
        self.packet.is_new |= base.is_some_and(|base| base.is_nat);
        let kind = match event.step {
            TraceStep::Return => return updates,
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
        updates.push(TraceUpdate::Step(self.packet.number, step.clone()));
        self.packet.steps.push(step);
        updates
    }

    /// Its current headers.
    fn see(&mut self, header: PacketHeader) -> Option<TraceUpdate> {
        let packet = &mut self.packet;
        let changed = header.destination_socket() != packet.last.destination_socket();
        packet.last = header;
        let endpoint = packet.last.destination_socket().filter(|_| changed)?;
        packet.endpoint = Some(endpoint);
        Some(TraceUpdate::Endpoint(packet.number, endpoint))
    }

    /// The element that one of our rules found, and the effect of the rule.
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
