//! What the rest of the host does with the ends of a packet.
//!
//! At each hook the packet is what it is there: before DNAT the original, behind it the one to the
//! endpoint.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::RefusedAt;
use rulegen_ruleset::firewall::{
    Bits, Budget, CertainVerdict, Connection, Effect, Evaluation, FirewallBaseChain,
    FirewallChainKind, Hit, MarkChange, NetfilterHook, PartialMark, PartialPacket, evaluate,
};

use super::cause::Cause;
use super::conditions::{Conditions, EndCondition};
use super::network::{
    HairpinFact, HostNetwork, PathObstacle, PathStage, RouteFact, RouteFailure, RouteInput,
    RouteQuery,
};
use super::outcome::Outcome;
use super::packet::{Sender, ShownPacket};
use super::reason::{Obstructed, Reason, TableEffect, TableRule};

/// Priorities of netfilter (NF_IP_PRI_*): connection tracking and NAT.
const CONNTRACK: i32 = -200;
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
/// IP numbers of ICMP and ICMPv6.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Evaluates the ends of one packet.
pub(super) struct HostEvaluation<'a> {
    /// The base chains of other tables.
    pub(super) chains: &'a [FirewallBaseChain],
    pub(super) network: &'a dyn HostNetwork,
    pub(super) local: &'a [IpAddr],
    pub(super) packet: &'a ShownPacket,
    /// Bits of the mark for which the followed rules masquerade a packet; 0 if they have none.
    pub(super) masquerade_mark: u32,
    pub(super) budget: Budget,
}

/// An end with what the rest of the host makes of it.
#[derive(PartialEq)]
pub(super) struct EvaluatedEnd {
    pub(super) outcome: Outcome,
    pub(super) cause: Option<Cause>,
    pub(super) conditions: Vec<EndCondition>,
    /// The interface through which it leaves, if that is known.
    pub(super) interface: Option<String>,
}

/// Whether connection tracking sees the packet.
pub(super) enum Tracking {
    /// It does for sure.
    Tracked,
    /// It may not: the chains with rules to that effect, with their evaluations.
    Unknown(Vec<(FirewallBaseChain, Evaluation)>),
    /// It does not, for this reason.
    Untracked(Cause),
}

impl HostEvaluation<'_> {
    /// Whether rules in front of connection tracking exclude the packet from it.
    pub(super) fn tracking(&self) -> Tracking {
        let hook = self.first_hook();
        let way = HostPath::new(self, Outcome::Passes { masqueraded: false }, None, true);
        let mut possible = Vec::new();
        for base in self.at(hook).filter(|base| base.priority <= CONNTRACK && base.sees_all) {
            let evaluation = way.evaluated(base, &way.entering(base.priority));
            let Some(hit) = evaluation.untracks.first() else { continue };
            if evaluation.surely_untracks && base.priority < CONNTRACK && possible.is_empty() {
                let reason = Reason::NotTracked(table_rule(base, hit));
                return Tracking::Untracked(Cause { reason, endpoint: None });
            }
            possible.push((base.clone(), evaluation));
        }
        if possible.is_empty() { Tracking::Tracked } else { Tracking::Unknown(possible) }
    }

    /// Evaluates an end. `refused_at` are the places where the followed rules refuse the packet.
    pub(super) fn end(
        &self,
        outcome: Outcome,
        refused_at: &BTreeSet<RefusedAt>,
        tracking: &Tracking,
    ) -> EvaluatedEnd {
        let mut places = refused_at.iter();
        let mut evaluated = self.end_at(outcome, places.next().copied(), tracking);
        for stage in places {
            evaluated = evaluated.or(self.end_at(outcome, Some(*stage), tracking), outcome);
        }
        evaluated
    }

    /// Evaluates an end that the packet reaches at one stage.
    fn end_at(&self, outcome: Outcome, at: Option<RefusedAt>, tracking: &Tracking) -> EvaluatedEnd {
        let is_tracked = !matches!(tracking, Tracking::Untracked(_));
        let mut way = HostPath::new(self, outcome, at, is_tracked);
        let left = if outcome == Outcome::Unreachable { Ok(()) } else { way.follow() };
        for base in self.chains.iter().filter(|base| !base.sees_all) {
            let evaluation = way.evaluated(base, &way.somewhere());
            way.conditions.add_chain(base, &evaluation, way.matters());
        }
        if let Tracking::Unknown(possible) = tracking {
            for (base, evaluation) in possible {
                let is_it = |effect| effect == TableEffect::DoesNotTrack;
                way.conditions.add_chain(base, evaluation, is_it);
            }
        }
        let (outcome, cause, connection) = match left {
            Ok(()) | Err(Left::Refused) => (outcome, None, Connection::Related),
            Err(Left::Stopped(Stop { outcome, cause, connection })) => {
                (outcome, Some(*cause), connection)
            }
        };
        if outcome == Outcome::Rejected {
            let by_others = cause.is_some() || at.is_some_and(|at| at.by_others);
            way.error_message(connection, by_others);
        }
        let interface = way.leaves_by.filter(|_| cause.is_none() && at.is_none());
        EvaluatedEnd { outcome, cause, conditions: way.conditions.all(), interface }
    }

    fn first_hook(&self) -> NetfilterHook {
        match self.packet.sender {
            Sender::Interface(_) | Sender::UnknownInterface => NetfilterHook::Prerouting,
            Sender::ThisNode => NetfilterHook::Output,
        }
    }

    /// The base chains that see all packets of a hook, in order.
    fn at(&self, hook: NetfilterHook) -> impl Iterator<Item = &FirewallBaseChain> {
        let chains = self.chains.iter();
        let chains = chains.filter(move |base| base.hook == hook && base.sees_all);
        let mut chains: Vec<&FirewallBaseChain> = chains.collect();
        chains.sort_by_key(|base| base.priority);
        chains.into_iter()
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.local.contains(&ip)
    }
}

impl EvaluatedEnd {
    /// The evaluation of an end that is reached at one stage or another. If they differ, what stops
    /// the packet at one stage only is a condition.
    fn or(self, other: Self, outcome: Outcome) -> Self {
        let is_same = (self.outcome, &self.cause) == (other.outcome, &other.cause);
        let mut conditions = self.conditions;
        let causes = [&self.cause, &other.cause].into_iter().flatten().filter(|_| !is_same);
        let stops = causes.map(|cause| EndCondition { reason: cause.reason.clone() });
        for condition in other.conditions.into_iter().chain(stops) {
            if !conditions.contains(&condition) {
                conditions.push(condition);
            }
        }
        match is_same {
            true => Self { conditions, ..self },
            false => Self { outcome, cause: None, conditions, interface: None },
        }
    }
}

/// Why a packet leaves its way before the last hook.
enum Left {
    /// The followed rules reject or drop it.
    Refused,
    /// Something else stops it.
    Stopped(Stop),
}

/// The packet does not reach its end.
struct Stop {
    outcome: Outcome,
    cause: Box<Cause>,
    /// Conntrack's view of an ICMP error about the packet.
    connection: Connection,
}

/// The way of a packet to one end.
struct HostPath<'a> {
    host: &'a HostEvaluation<'a>,
    outcome: Outcome,
    /// Where the followed rules reject or drop the packet, if they do.
    refused_at: Option<RefusedAt>,
    /// Destination behind DNAT.
    to: SocketAddr,
    is_translated: bool,
    masquerades: bool,
    is_tracked: bool,
    mark: Cell<PartialMark>,
    /// Whether the rules of Services marked it.
    is_marked: bool,
    /// Rules that may change the mark for masquerade, so far.
    markers: Vec<(&'a FirewallBaseChain, Hit)>,
    conditions: Conditions,
    /// The interface of its last route.
    leaves_by: Option<String>,
    /// What it meets on its last route, if it leaves.
    on_route: Vec<PathObstacle>,
}

impl<'a> HostPath<'a> {
    fn new(
        host: &'a HostEvaluation<'a>,
        outcome: Outcome,
        refused_at: Option<RefusedAt>,
        is_tracked: bool,
    ) -> Self {
        let (to, is_translated, masquerades) = match (outcome, refused_at) {
            (Outcome::Endpoint { endpoint, masqueraded }, _) => (endpoint, true, masqueraded),
            (Outcome::Passes { masqueraded }, _) => (host.packet.to, false, masqueraded),
            (_, Some(at)) => (at.destination, at.translated, at.masqueraded),
            _ => (host.packet.to, false, false),
        };
        Self {
            host,
            outcome,
            refused_at,
            to,
            is_translated,
            masquerades,
            is_tracked,
            mark: Cell::new(PartialMark::of(0)),
            is_marked: false,
            markers: Vec::new(),
            conditions: Conditions::default(),
            leaves_by: None,
            on_route: Vec::new(),
        }
    }

    /// Follows the packet through the hooks, up to where the followed rules refuse it.
    fn follow(&mut self) -> Result<(), Left> {
        if self.is_tracked && self.outcome != Outcome::Dropped {
            self.meet(&PathStage::ConnectionTracking, Obstructed::Packet);
        }
        self.meet(&PathStage::Host, Obstructed::Packet);
        match self.host.packet.sender.clone() {
            Sender::Interface(interface) => self.follow_received(Some(&interface)),
            Sender::UnknownInterface => self.follow_received(None),
            Sender::ThisNode => self.follow_sent(),
        }
    }

    fn follow_received(&mut self, interface: Option<&str>) -> Result<(), Left> {
        match interface {
            Some(interface) => self.enter(interface)?,
            None => self.enter_somewhere(),
        }
        self.pass(NetfilterHook::Prerouting, |way, priority| way.original(priority, interface))?;
        let input = interface.map_or(RouteInput::UnknownInterface, RouteInput::Interface);
        let route = self.route(self.to, input)?;
        if let Some(interface) = interface {
            self.reply(interface, &route);
        }
        match route {
            RouteFact::Local => {
                self.pass(NetfilterHook::Input, |way, _| way.translated(interface, Some("")))
            }
            RouteFact::Out(out) => {
                self.pass(NetfilterHook::Forward, |way, _| way.translated(interface, Some(&out)))?;
                if interface == Some(&*out) {
                    self.hairpin(&out)?;
                }
                self.pass(NetfilterHook::Postrouting, |way, priority| {
                    way.leaving(priority, Some(&out))
                })?;
                self.leave(&out)
            }
            RouteFact::OneOf(interfaces) => {
                self.pass(NetfilterHook::Forward, |way, _| way.translated(interface, None))?;
                self.pass(NetfilterHook::Postrouting, |way, priority| way.leaving(priority, None))?;
                self.leave_by_one(&interfaces);
                Ok(())
            }
            RouteFact::Failed(_) | RouteFact::Unknown => {
                self.pass(NetfilterHook::Input, |way, _| way.translated(interface, Some("")))?;
                self.pass(NetfilterHook::Forward, |way, _| way.translated(interface, None))?;
                self.pass(NetfilterHook::Postrouting, |way, priority| way.leaving(priority, None))
            }
        }
    }

    fn follow_sent(&mut self) -> Result<(), Left> {
        let first = self.route(self.host.packet.to, RouteInput::Host)?;
        let out = out_interface(&first);
        self.pass(NetfilterHook::Output, |way, priority| PartialPacket {
            in_interface: Some(String::new()),
            out_interface: out.clone(),
            ..way.original(priority, Some(""))
        })?;
        let then = if self.is_translated { self.route(self.to, RouteInput::Host)? } else { first };
        let out = out_interface(&then);
        self.pass(NetfilterHook::Postrouting, |way, priority| {
            way.leaving(priority, out.as_deref())
        })?;
        match &then {
            RouteFact::Local => self.leave("lo")?,
            RouteFact::Out(out) => return self.leave(out),
            RouteFact::OneOf(interfaces) => {
                self.leave_by_one(interfaces);
                return Ok(());
            }
            RouteFact::Failed(_) | RouteFact::Unknown => return Ok(()),
        }
        self.meet(&PathStage::In("lo"), Obstructed::Packet);
        let looped = |way: &Self, _| {
            let packet = way.translated(Some("lo"), Some(""));
            if way.masquerades { PartialPacket { source: Bits::UNKNOWN, ..packet } } else { packet }
        };
        self.pass(NetfilterHook::Prerouting, looped)?;
        self.pass(NetfilterHook::Input, looped)
    }

    /// The packet comes in through an interface.
    fn enter(&mut self, interface: &str) -> Result<(), Left> {
        self.meet_or_stop(&PathStage::In(interface))
    }

    /// The packet comes in through an interface that is not known.
    fn enter_somewhere(&mut self) {
        self.conditions.add(Reason::UnknownInterface);
    }

    /// The packet leaves through an interface.
    fn leave(&mut self, interface: &str) -> Result<(), Left> {
        self.meet_or_stop(&PathStage::Out(interface))?;
        self.take_route();
        Ok(())
    }

    fn take_route(&mut self) {
        let obstacles = std::mem::take(&mut self.on_route);
        self.add_obstacles(&obstacles, Obstructed::Packet);
    }

    /// An interface that is off stops the packet. Anything else that it meets is a condition.
    fn meet_or_stop(&mut self, stage: &PathStage<'_>) -> Result<(), Left> {
        let obstacles = self.host.network.obstacles(stage);
        let is_off = |of: &&PathObstacle| {
            matches!(of, PathObstacle::NoCarrier(_) | PathObstacle::InterfaceDown(_))
        };
        if let Some(off) = obstacles.iter().find(is_off) {
            let (obstacle, packet) = (off.clone(), Obstructed::Packet);
            let reason = Reason::Obstacle { obstacle, packet };
            return Err(Left::Stopped(self.stop(Outcome::Dropped, reason)));
        }
        self.add_obstacles(&obstacles, Obstructed::Packet);
        Ok(())
    }

    /// The reply of an endpoint passes the conntrack entry again on its way to the client. Other
    /// hosts may not expect it on another way than that of the packet.
    fn reply(&mut self, interface: &str, route: &RouteFact) {
        let input = match route {
            RouteFact::Out(out) => RouteInput::Interface(out),
            RouteFact::Local => RouteInput::Host,
            RouteFact::OneOf(_) | RouteFact::Failed(_) | RouteFact::Unknown => return,
        };
        let is_forwarded = matches!(self.outcome, Outcome::Endpoint { .. });
        if !is_forwarded {
            return;
        }
        let client = self.host.packet.from;
        // The reply to a link-local address leaves through the interface that it belongs to.
        if matches!(client, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            return;
        }
        let query = RouteQuery { from: self.to.ip(), to: client, to_port: None, input, mark: None };
        let asymmetric = |back| {
            let interface = interface.to_owned();
            Reason::AsymmetricRoute { client, interface, back }
        };
        self.conditions.add(match self.host.network.route(&query) {
            RouteFact::Out(back) if back == interface => return,
            RouteFact::Out(back) => asymmetric(vec![back]),
            RouteFact::OneOf(back) => asymmetric(back),
            RouteFact::Failed(_) | RouteFact::Local => Reason::NoReply { client },
            RouteFact::Unknown => Reason::HostNetwork,
        });
    }

    /// The packet leaves through one of several interfaces.
    fn leave_by_one(&mut self, interfaces: &[String]) {
        for interface in interfaces {
            self.meet(&PathStage::Out(interface), Obstructed::Packet);
        }
        self.take_route();
    }

    /// Makes what the packet, or the error about it, meets at a stage a condition.
    fn meet(&mut self, stage: &PathStage<'_>, packet: Obstructed) {
        let obstacles = self.host.network.obstacles(stage);
        self.add_obstacles(&obstacles, packet);
    }

    fn add_obstacles(&mut self, obstacles: &[PathObstacle], packet: Obstructed) {
        for obstacle in obstacles {
            self.conditions.add(Reason::Obstacle { obstacle: obstacle.clone(), packet });
        }
    }

    /// The way of an error back to a sender on another host, or a pod.
    fn return_error(&mut self) {
        let client = self.host.packet.from;
        let any = match client {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let input = RouteInput::Host;
        let query = RouteQuery { from: any, to: client, to_port: None, input, mark: Some(0) };
        match self.host.network.route(&query) {
            RouteFact::Out(out) => {
                self.meet(&PathStage::Route(&query), Obstructed::Error);
                self.meet(&PathStage::Out(&out), Obstructed::Error);
                self.returns_elsewhere(client, &[out]);
            }
            RouteFact::OneOf(interfaces) => {
                self.meet(&PathStage::Route(&query), Obstructed::Error);
                for interface in &interfaces {
                    self.meet(&PathStage::Out(interface), Obstructed::Error);
                }
                self.returns_elsewhere(client, &interfaces);
            }
            RouteFact::Failed(_) | RouteFact::Local => {
                self.conditions.add(Reason::NoWayBack { client });
            }
            RouteFact::Unknown => self.conditions.add(Reason::HostNetwork),
        }
    }

    /// Other hosts may not expect an error on another way than that of the packet.
    fn returns_elsewhere(&mut self, client: IpAddr, back: &[String]) {
        let Sender::Interface(interface) = &self.host.packet.sender else { return };
        if back.iter().all(|back| back == interface) {
            return;
        }
        let (interface, back) = (interface.clone(), back.to_vec());
        self.conditions.add(Reason::AsymmetricErrorRoute { client, interface, back });
    }

    /// An ICMP error of this host passes chains too. An error to this host also comes in again,
    /// through loopback.
    fn error_message(&mut self, connection: Connection, refused_by_others: bool) {
        use NetfilterHook::{Input, Output, Postrouting, Prerouting};
        let is_to_this_host = self.host.packet.sender == Sender::ThisNode;
        self.meet(&PathStage::Error(self.family()), Obstructed::Error);
        if !is_to_this_host {
            self.return_error();
        }
        let out = is_to_this_host.then(|| "lo".to_owned());
        let sent = PartialPacket {
            in_interface: Some(String::new()),
            out_interface: out,
            ..self.error_packet(connection, refused_by_others)
        };
        let received = PartialPacket {
            in_interface: Some("lo".to_owned()),
            out_interface: Some(String::new()),
            ..sent.clone()
        };
        let hooks =
            [(Output, &sent), (Postrouting, &sent), (Prerouting, &received), (Input, &received)];
        let passed = if is_to_this_host { hooks.len() } else { 2 };
        self.mark.set(PartialMark::UNKNOWN);
        for (hook, packet) in hooks.into_iter().take(passed) {
            // Chains of type nat do not see ICMP errors.
            for base in self.host.at(hook).filter(|base| base.kind != FirewallChainKind::Nat) {
                let evaluation = self.evaluated(base, packet);
                let is_stopped = |effect| {
                    use TableEffect::{Drops, Rejects, Unknown};
                    matches!(effect, Drops | Rejects | Unknown)
                };
                self.conditions.add_chain(base, &evaluation, is_stopped);
            }
        }
    }

    /// The answer to a packet that is rejected. Our rules send an ICMP error; `refused_by_others`
    /// chains may reject TCP with a reset, which belongs to no connection.
    fn error_packet(&self, connection: Connection, refused_by_others: bool) -> PartialPacket {
        let family = self.family();
        let number = if family == IpFamily::Ipv4 { ICMP } else { ICMPV6 };
        let sender = self.host.packet.from;
        let may_be_reset = refused_by_others && self.host.packet.protocol == Protocol::Tcp;
        let is_known = self.is_tracked && !may_be_reset;
        let packet = PartialPacket {
            protocol: (!may_be_reset).then_some(number),
            connection: if is_known { connection } else { Connection::Unknown },
            source_is_local: Some(true),
            ..PartialPacket::unknown(family)
        };
        // The error about a masqueraded packet is to the address that replaced the source.
        if self.masquerades { packet } else { packet.to(sender, self.host.is_local(sender)) }
    }

    /// Passes the chains of a hook, or those in front of the rules that refuse the packet. A certain
    /// refusal stops the packet; what is uncertain becomes a condition.
    fn pass(
        &mut self,
        hook: NetfilterHook,
        packet: impl Fn(&Self, i32) -> PartialPacket,
    ) -> Result<(), Left> {
        let host = self.host;
        let end = self.refused_at.filter(|at| at.hook == hook).map(|at| at.priority);
        let passes = |base: &&FirewallBaseChain| end.is_none_or(|end| base.priority <= end);
        let bases = host.at(hook).filter(passes).filter(|base| !self.is_done(base));
        // The priority of the rules of Services that change the packet.
        let own = match hook {
            NetfilterHook::Prerouting | NetfilterHook::Output => Some(DSTNAT),
            NetfilterHook::Postrouting => Some(SRCNAT),
            _ => None,
        };
        let (before, behind): (Vec<&FirewallBaseChain>, Vec<&FirewallBaseChain>) =
            bases.partition(|base| own.is_none_or(|own| base.priority <= own));
        for base in before {
            let evaluation = self.pass_chain(base, end, &packet(self, order(base)))?;
            self.note_markers(base, &evaluation);
        }
        match own {
            Some(SRCNAT) => self.masquerade(),
            Some(_) => self.translate(),
            None => {}
        }
        for base in behind {
            let evaluation = self.pass_chain(base, end, &packet(self, order(base)))?;
            self.note_markers(base, &evaluation);
        }
        if end.is_some() { Err(Left::Refused) } else { Ok(()) }
    }

    /// Passes a chain. `end` is the priority of the rules that refuse the packet at its hook.
    fn pass_chain(
        &mut self,
        base: &FirewallBaseChain,
        end: Option<i32>,
        packet: &PartialPacket,
    ) -> Result<Evaluation, Left> {
        // A chain at the same priority may be in front or behind.
        let is_sure = end.is_none_or(|end| base.priority < end);
        let evaluation = self.evaluated(base, packet);
        let refused = match evaluation.verdict() {
            CertainVerdict::Drops(hit) => Some((Outcome::Dropped, hit)),
            CertainVerdict::Rejects(hit) => Some((Outcome::Rejected, hit)),
            CertainVerdict::Accepts | CertainVerdict::Unknown => None,
        };
        match refused {
            Some((outcome, hit)) if is_sure && self.outcome != outcome => {
                Err(Left::Stopped(self.refused_by(base, hit, outcome)))
            }
            _ => {
                self.conditions.add_chain(base, &evaluation, self.matters());
                Ok(evaluation)
            }
        }
    }

    /// Which effects of a chain matter to the end.
    fn matters(&self) -> impl Fn(TableEffect) -> bool + use<> {
        let outcome = self.outcome;
        move |effect| match effect {
            // Rules in front of connection tracking were evaluated before.
            TableEffect::DoesNotTrack => false,
            TableEffect::Drops => outcome != Outcome::Dropped,
            TableEffect::Rejects => outcome != Outcome::Rejected,
            TableEffect::Changes
            | TableEffect::MarksForMasquerade
            | TableEffect::ClearsMasqueradeMark
            | TableEffect::Unknown => true,
        }
    }

    /// Of the NAT chains of a hook, the first that translates decides.
    fn is_done(&self, base: &FirewallBaseChain) -> bool {
        let is_first = match base.hook {
            NetfilterHook::Prerouting | NetfilterHook::Output => {
                self.is_translated && base.priority > DSTNAT
            }
            NetfilterHook::Postrouting => self.masquerades && base.priority > SRCNAT,
            _ => false,
        };
        base.kind == FirewallChainKind::Nat && is_first
    }

    fn evaluated(&self, base: &FirewallBaseChain, packet: &PartialPacket) -> Evaluation {
        let mut packet = PartialPacket { mark: self.mark.get(), ..packet.clone() };
        let evaluation = evaluate(base, &mut packet, &self.host.budget);
        self.mark.set(packet.mark);
        evaluation
    }

    /// The rules of Services translate the packet and mark it to be masqueraded.
    fn translate(&mut self) {
        if self.is_marked {
            return;
        }
        self.is_marked = true;
        let bits = self.host.masquerade_mark;
        if self.is_translated && self.refused_at.is_some() || self.masquerades && bits == 0 {
            self.mark.set(PartialMark::UNKNOWN);
        } else if self.masquerades {
            // Some packets are masqueraded without a mark, as those of an endpoint to itself.
            self.mark.set(self.mark.get().perhaps_changed(MarkChange::to(!bits, bits)));
            self.markers.clear();
        }
    }

    /// Adds rules that may change the mark for masquerade.
    fn note_markers(&mut self, base: &'a FirewallBaseChain, evaluation: &Evaluation) {
        let (bits, masquerades) = (self.host.masquerade_mark, self.masquerades);
        let matters = |hit: &&Hit| match hit.effect {
            Effect::Marks { sets, clears } => (if masquerades { clears } else { sets }) & bits != 0,
            _ => false,
        };
        let hits = evaluation.marks.iter().filter(matters).cloned();
        self.markers.extend(hits.map(|hit| (base, hit)));
    }

    /// The rules of Services masquerade a packet by its mark, even if another program set the mark, and
    /// clear it.
    fn masquerade(&mut self) {
        let bits = self.host.masquerade_mark;
        let effect = match self.masquerades {
            true => TableEffect::ClearsMasqueradeMark,
            false => TableEffect::MarksForMasquerade,
        };
        if self.mark.get().has(bits) != Some(self.masquerades) {
            for (base, hit) in &self.markers {
                self.conditions.add_hits(base, &[(effect, hit)]);
            }
        }
        self.mark.set(self.mark.get().changed(MarkChange::to(!bits, 0)));
    }

    fn refused_by(&self, base: &FirewallBaseChain, hit: &Hit, outcome: Outcome) -> Stop {
        let reason = Reason::RefusedByTable { by: table_rule(base, hit), outcome };
        let stop = self.stop(outcome, reason);
        let is_seen = base.priority > CONNTRACK;
        let connection = if is_seen { Connection::Related } else { Connection::Unknown };
        Stop { connection, ..stop }
    }

    fn stop(&self, outcome: Outcome, reason: Reason) -> Stop {
        let endpoint = self.is_translated.then_some(self.to);
        let cause = Box::new(Cause { reason, endpoint });
        Stop { outcome, cause, connection: Connection::Unknown }
    }

    fn route(&mut self, to: SocketAddr, input: RouteInput<'_>) -> Result<RouteFact, Left> {
        let packet = self.host.packet;
        let has_port = packet.no_port.is_none();
        let query = RouteQuery {
            from: packet.from,
            to: to.ip(),
            to_port: has_port.then(|| (packet.protocol, to.port())),
            input,
            mark: self.mark.get().exact(),
        };
        let fact = self.host.network.route(&query);
        self.leaves_by = out_interface(&fact);
        match &fact {
            RouteFact::Failed(failure) => {
                let outcome = match failure {
                    RouteFailure::NoRoute(_) | RouteFailure::LinkLocalSource => {
                        Outcome::Unreachable
                    }
                    // The process gets an error.
                    RouteFailure::Martian if input == RouteInput::Host => Outcome::Unreachable,
                    _ => Outcome::Dropped,
                };
                let (failure, input) = (failure.clone(), Sender::from(input));
                let reason = Reason::NotRouted { failure, to: to.ip(), input };
                let mut stop = self.stop(outcome, reason);
                // A packet of this host is routed before an endpoint is chosen.
                stop.cause.endpoint = stop.cause.endpoint.filter(|endpoint| *endpoint == to);
                Err(Left::Stopped(stop))
            }
            RouteFact::Unknown => {
                // The condition about an unknown interface says it.
                if input != RouteInput::UnknownInterface {
                    self.conditions.add(Reason::HostNetwork);
                }
                Ok(fact)
            }
            RouteFact::Out(_) | RouteFact::OneOf(_) => {
                // A packet of this host is routed again when it is translated.
                self.on_route = self.host.network.obstacles(&PathStage::Route(&query));
                Ok(fact)
            }
            RouteFact::Local => {
                self.on_route.clear();
                Ok(fact)
            }
        }
    }

    fn hairpin(&mut self, bridge: &str) -> Result<(), Left> {
        match self.host.network.hairpin(bridge, self.host.packet.from, self.to.ip()) {
            HairpinFact::Works => Ok(()),
            HairpinFact::Dropped { port } => {
                let reason = Reason::HairpinOff { bridge: bridge.to_owned(), port: Some(port) };
                Err(Left::Stopped(self.stop(Outcome::Dropped, reason)))
            }
            HairpinFact::Isolated { from, to } => {
                let reason = Reason::PortsIsolated { bridge: bridge.to_owned(), from, to };
                Err(Left::Stopped(self.stop(Outcome::Dropped, reason)))
            }
            HairpinFact::Unknown => {
                let bridge = bridge.to_owned();
                self.conditions.add(Reason::HairpinOff { bridge, port: None });
                Ok(())
            }
        }
    }

    fn family(&self) -> IpFamily {
        IpFamily::of(self.to.ip())
    }

    /// The packet with its source, of which the rest is not known.
    fn sent(&self) -> PartialPacket {
        let packet = self.host.packet;
        let has_port = packet.no_port.is_none();
        let is_local = packet.sender == Sender::ThisNode || self.host.is_local(packet.from);
        PartialPacket {
            protocol: has_port.then_some(packet.protocol.number()),
            ..PartialPacket::unknown(self.family()).from(packet.from, is_local)
        }
    }

    /// The packet at the first hook.
    fn entering(&self, priority: i32) -> PartialPacket {
        match &self.host.packet.sender {
            Sender::Interface(interface) => self.original(priority, Some(interface)),
            Sender::UnknownInterface => self.original(priority, None),
            Sender::ThisNode => {
                PartialPacket { out_interface: None, ..self.original(priority, Some("")) }
            }
        }
    }

    /// The packet at prerouting or output: its destination is replaced there.
    fn original(&self, priority: i32, interface: Option<&str>) -> PartialPacket {
        let original = self.host.packet.to;
        let is_replaced = match (self.is_translated, priority) {
            (true, priority) if priority > DSTNAT => Some(true),
            (true, DSTNAT) => None,
            _ => Some(false),
        };
        let connection = match priority {
            _ if !self.is_tracked && priority > CONNTRACK => Connection::Untracked,
            _ if !self.is_tracked => Connection::Unknown,
            CONNTRACK => Connection::Unknown,
            priority if priority < CONNTRACK => Connection::Before,
            _ => Connection::New { translated: is_replaced, masqueraded: Some(false) },
        };
        let packet = PartialPacket {
            in_interface: interface.map(str::to_owned),
            out_interface: Some(String::new()),
            connection,
            ..self.sent()
        };
        match is_replaced {
            Some(true) => self.to_end(packet),
            Some(false) => self.towards(packet, original),
            None => packet,
        }
    }

    /// The packet behind DNAT, with its final destination. `None` if an interface is not known.
    fn translated(&self, interface: Option<&str>, out: Option<&str>) -> PartialPacket {
        self.to_end(PartialPacket {
            in_interface: interface.map(str::to_owned),
            out_interface: out.map(str::to_owned),
            connection: self.connection(Some(false)),
            ..self.sent()
        })
    }

    /// The packet at postrouting: its source may be replaced there.
    fn leaving(&self, priority: i32, out: Option<&str>) -> PartialPacket {
        let masqueraded = match (self.masquerades, priority) {
            (true, priority) if priority > SRCNAT => Some(true),
            (true, SRCNAT) => None,
            _ => Some(false),
        };
        let packet = PartialPacket {
            in_interface: None,
            connection: self.connection(masqueraded),
            ..self.translated(None, out)
        };
        match masqueraded {
            Some(false) => packet,
            _ => PartialPacket { source: Bits::UNKNOWN, source_is_local: None, ..packet },
        }
    }

    /// The packet at a network device or bridge, which is not followed.
    fn somewhere(&self) -> PartialPacket {
        let packet = self.sent();
        let packet = match self.masquerades {
            true => PartialPacket { source: Bits::UNKNOWN, source_is_local: None, ..packet },
            false => packet,
        };
        match self.is_translated {
            true => packet,
            false => self.towards(packet, self.to),
        }
    }

    fn connection(&self, masqueraded: Option<bool>) -> Connection {
        match self.is_tracked {
            true => Connection::New { translated: Some(self.is_translated), masqueraded },
            false => Connection::Untracked,
        }
    }

    fn to_end(&self, packet: PartialPacket) -> PartialPacket {
        self.towards(packet, self.to)
    }

    fn towards(&self, packet: PartialPacket, to: SocketAddr) -> PartialPacket {
        let has_port = self.host.packet.no_port.is_none();
        let packet = packet.to(to.ip(), self.host.is_local(to.ip()));
        PartialPacket { destination_port: has_port.then(|| to.port()), ..packet }
    }
}

/// The priority at which a chain sees the packet. NAT chains see it untranslated: those behind the
/// one that translates are skipped.
fn order(base: &FirewallBaseChain) -> i32 {
    match (base.kind, base.hook) {
        (FirewallChainKind::Nat, NetfilterHook::Prerouting | NetfilterHook::Output) => {
            base.priority.min(DSTNAT - 1)
        }
        (FirewallChainKind::Nat, NetfilterHook::Postrouting) => base.priority.min(SRCNAT - 1),
        _ => base.priority,
    }
}

/// The interface that a packet leaves through; packets to this host leave through loopback.
fn out_interface(route: &RouteFact) -> Option<String> {
    match route {
        RouteFact::Out(name) => Some(name.clone()),
        RouteFact::Local => Some("lo".to_owned()),
        RouteFact::OneOf(_) | RouteFact::Failed(_) | RouteFact::Unknown => None,
    }
}

fn table_rule(base: &FirewallBaseChain, hit: &Hit) -> TableRule {
    TableRule { table: base.table.clone(), hit: hit.clone() }
}
