//! Traces the first packet of a new connection through a table, along every branch that random
//! choices can take.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::key::Key;
use super::rule::{Condition, Interface, Number, NumgenMode, Rule, Selector, Statement, Verdict};
use super::set::{Data, Element};
use super::table::{BaseChain, Chain, Hook, Table};
use super::value::Value;
use super::{Name, hash};
use crate::Probability;
use crate::packet::{Origin, Packet, PacketVerdict, RefusedAt};

/// A rule that acted on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<'a> {
    /// Name of the chain that has the rule.
    pub chain: &'a Name,
    /// The rule that matched.
    pub rule: &'a Rule,
    /// Element found by a lookup in a set or map.
    pub found: Option<MatchingElement<'a>>,
}

/// An element that matches a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchingElement<'a> {
    /// Set or map.
    pub set: &'a Name,
    /// Key of the element.
    pub key: &'a Key,
    /// The element that matched.
    pub element: &'a Element,
}

/// One possible path of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch<'a> {
    /// Probability of the path.
    pub probability: Probability,
    /// Rules that acted, in order.
    pub path: Vec<Step<'a>>,
    /// Final verdict.
    pub verdict: PacketVerdict,
    /// Where the packet is rejected or dropped, if it is.
    pub refused_at: Option<RefusedAt>,
}

/// All possible paths of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace<'a> {
    /// The paths; their probabilities add up to 1.
    pub branches: Vec<Branch<'a>>,
    /// The input interfaces that rules on the way ask for, if that of the packet is not known. It was
    /// assumed to be another one. A prefix ends in `*`.
    pub interfaces: BTreeSet<String>,
}

impl Trace<'_> {
    /// The probability of each verdict, ordered.
    pub fn verdicts(&self) -> Vec<(PacketVerdict, Probability)> {
        let mut verdicts: Vec<(PacketVerdict, Probability)> = Vec::new();
        for branch in &self.branches {
            match verdicts.iter_mut().find(|(other, _)| *other == branch.verdict) {
                Some((_, sum)) => *sum = sum.or(branch.probability),
                None => verdicts.push((branch.verdict, branch.probability)),
            }
        }
        verdicts.sort_unstable_by_key(|(outcome, _)| *outcome);
        verdicts
    }
}

/// Traces the first packet of a client not seen before. `local` are the host's own addresses. No
/// other tables are taken into account.
pub fn trace<'a>(table: &'a Table, local: &[IpAddr], packet: &Packet) -> Trace<'a> {
    let tracer = Tracer { table, local, packet, interfaces: RefCell::default() };
    let branches = tracer.run();
    Trace { branches, interfaces: tracer.interfaces.into_inner() }
}

struct Tracer<'a, 'p> {
    table: &'a Table,
    local: &'p [IpAddr],
    packet: &'p Packet,
    interfaces: RefCell<BTreeSet<String>>,
}

/// A packet in flight.
#[derive(Clone)]
struct PacketState<'a> {
    probability: Probability,
    path: Vec<Step<'a>>,
    destination: SocketAddr,
    translated: bool,
    masqueraded: bool,
    mark: u32,
    at: Option<RulePosition<'a>>,
}

/// The rule that a packet is at.
#[derive(Clone)]
struct RulePosition<'a> {
    chain: &'a Name,
    rule: &'a Rule,
    found: Option<MatchingElement<'a>>,
    /// True if the rule has already acted.
    acted: bool,
}

impl<'a> PacketState<'a> {
    fn is_like(&self, other: &Self) -> bool {
        let of =
            |state: &Self| (state.destination, state.translated, state.masqueraded, state.mark);
        of(self) == of(other)
    }

    fn found(&mut self, found: Option<MatchingElement<'a>>) {
        if let Some(at) = &mut self.at {
            at.found = found.or(at.found.take());
        }
    }

    /// Records that the current rule acted.
    fn acted(mut self) -> Self {
        if let Some(at) = self.at.as_mut().filter(|at| !at.acted) {
            at.acted = true;
            let (chain, rule, found) = (at.chain, at.rule, at.found.take());
            self.path.push(Step { chain, rule, found });
        }
        self
    }
}

/// Merges packets in equal states, and keeps the path of the first: otherwise each rule with a
/// random choice would double their number.
fn merged(states: Vec<PacketState<'_>>) -> Vec<PacketState<'_>> {
    let mut merged: Vec<PacketState<'_>> = Vec::with_capacity(states.len());
    for state in states {
        match merged.iter_mut().find(|other| other.is_like(&state)) {
            Some(other) => other.probability = other.probability.or(state.probability),
            None => merged.push(state),
        }
    }
    merged
}

/// How a chain ended.
#[derive(Clone, Copy, PartialEq)]
enum Exit {
    Fallen,
    Accepted,
    Rejected,
    Dropped,
}

/// Maximum depth of nested jumps; the kernel allows 16 (NFT_JUMP_STACK_SIZE).
const MAX_DEPTH: usize = 16;

/// More than the endpoints that a Service can have; a larger random choice finds no element.
const MOST_NUMBERS: u32 = 100_000;

impl<'a> Tracer<'a, '_> {
    fn run(&self) -> Vec<Branch<'a>> {
        let start = PacketState {
            probability: Probability::CERTAIN,
            path: Vec::new(),
            destination: self.packet.destination,
            translated: false,
            masqueraded: false,
            mark: 0,
            at: None,
        };
        let first = match self.packet.origin {
            Origin::Interface(_) | Origin::UnknownInterface => Hook::Prerouting,
            Origin::Host => Hook::Output,
        };
        let mut branches = Vec::new();
        for state in self.hook(vec![start], first, &mut branches) {
            let then: &[Hook] = match (&self.packet.origin, self.is_local(state.destination.ip())) {
                (Origin::Host, true) => &[Hook::Postrouting, Hook::Input],
                (Origin::Host, false) => &[Hook::Postrouting],
                (_, true) => &[Hook::Input],
                (_, false) => &[Hook::Forward, Hook::Postrouting],
            };
            let mut states = vec![state];
            for hook in then {
                states = self.hook(states, *hook, &mut branches);
            }
            branches.extend(states.into_iter().map(|state| {
                let verdict = delivered(&state);
                let PacketState { probability, path, .. } = state;
                Branch { probability, path, verdict, refused_at: None }
            }));
        }
        branches
    }

    /// Runs packets through the base chains of a hook. Those that end there are moved to the
    /// results.
    fn hook(
        &self,
        mut states: Vec<PacketState<'a>>,
        hook: Hook,
        branches: &mut Vec<Branch<'a>>,
    ) -> Vec<PacketState<'a>> {
        let of_hook = |(name, chain): (&'a Name, &'a Chain)| {
            chain.base.filter(|base| base.hook == hook).map(|base| (base, name, chain))
        };
        let mut chains: Vec<(BaseChain, &Name, &Chain)> =
            self.table.chains.iter().filter_map(of_hook).collect();
        chains.sort_by_key(|(base, ..)| base.priority);
        for (base, name, chain) in chains {
            let mut on = Vec::new();
            for (state, exit) in
                states.into_iter().flat_map(|state| self.chain(name, chain, state, 0))
            {
                match exit {
                    Exit::Fallen | Exit::Accepted => on.push(state),
                    Exit::Rejected => branches.push(refused(state, PacketVerdict::Rejected, base)),
                    Exit::Dropped => branches.push(refused(state, PacketVerdict::Dropped, base)),
                }
            }
            states = on;
        }
        states
    }

    fn chain(
        &self,
        name: &'a Name,
        chain: &'a Chain,
        state: PacketState<'a>,
        depth: usize,
    ) -> Vec<(PacketState<'a>, Exit)> {
        let (mut live, mut ended) = (vec![state], Vec::new());
        for rule in &chain.rules {
            let mut on = Vec::new();
            for mut state in live {
                state.at = Some(RulePosition { chain: name, rule, found: None, acted: false });
                for (state, exit) in self.rule(rule, state, depth) {
                    match exit {
                        None => on.push(state),
                        Some(exit) => ended.push((state, exit)),
                    }
                }
            }
            live = merged(on);
        }
        ended.extend(live.into_iter().map(|state| (state, Exit::Fallen)));
        ended
    }

    /// Runs a rule: packets continue with the next rule (`None`) or leave the chain.
    fn rule(
        &self,
        rule: &'a Rule,
        state: PacketState<'a>,
        depth: usize,
    ) -> Vec<(PacketState<'a>, Option<Exit>)> {
        let (mut live, mut done) = (vec![state], Vec::new());
        for statement in &rule.statements {
            let mut on = Vec::new();
            for state in live {
                self.statement(statement, state, depth, &mut on, &mut done);
            }
            live = on;
        }
        done.extend(live.into_iter().map(|state| (state, None)));
        done
    }

    /// Runs a statement: packets continue in the rule (`on`) or are `done` with it.
    fn statement(
        &self,
        statement: &'a Statement,
        state: PacketState<'a>,
        depth: usize,
        on: &mut Vec<PacketState<'a>>,
        done: &mut Vec<(PacketState<'a>, Option<Exit>)>,
    ) {
        match statement {
            Statement::Match(condition) => {
                let (holds, not) = self.split(condition, state);
                on.extend(holds);
                done.extend(not.map(|state| (state, None)));
            }
            Statement::Counter => on.push(state),
            Statement::MarkOr(bits) => {
                on.push(PacketState { mark: state.mark | bits, ..state }.acted());
            }
            Statement::MarkXor(bits) => {
                on.push(PacketState { mark: state.mark ^ bits, ..state }.acted());
            }
            Statement::Update { .. } => on.push(state.acted()),
            Statement::VerdictMap { key, map } => {
                for (state, data) in self.data(key, map, state) {
                    match data {
                        Some(Data::Verdict(verdict)) => {
                            done.extend(self.verdict(verdict, state.acted(), depth));
                        }
                        _ => done.push((state, None)),
                    }
                }
            }
            Statement::DnatMap { key, map } => {
                for (state, data) in self.data(key, map, state) {
                    match data {
                        Some(Data::AddrPort(to)) => done.push(translated(state.acted(), *to)),
                        _ => done.push((state, None)),
                    }
                }
            }
            Statement::Dnat(protocol, to) if *protocol == self.packet.protocol => {
                done.push(translated(state.acted(), *to));
            }
            Statement::Dnat(..) => done.push((state, None)),
            Statement::Masquerade => {
                let state = PacketState { masqueraded: true, ..state.acted() };
                done.push((state, Some(Exit::Accepted)));
            }
            Statement::Reject => done.push((state.acted(), Some(Exit::Rejected))),
            Statement::Verdict(verdict) => {
                done.extend(self.verdict(verdict, state.acted(), depth));
            }
        }
    }

    fn verdict(
        &self,
        verdict: &'a Verdict,
        state: PacketState<'a>,
        depth: usize,
    ) -> Vec<(PacketState<'a>, Option<Exit>)> {
        let (name, comes_back) = match verdict {
            Verdict::Drop => return vec![(state, Some(Exit::Dropped))],
            Verdict::Jump(name) => (name, true),
            Verdict::Goto(name) => (name, false),
            Verdict::Return => return vec![(state, Some(Exit::Fallen))],
        };
        let Some(chain) = self.table.chains.get(name).filter(|_| depth < MAX_DEPTH) else {
            return vec![(state, None)];
        };
        let left = self.chain(name, chain, state, depth + 1).into_iter();
        left.map(|(state, exit)| (state, (exit != Exit::Fallen || !comes_back).then_some(exit)))
            .collect()
    }

    /// Splits the probability of a packet into the parts for which a condition matches and does not
    /// match.
    fn split(
        &self,
        condition: &'a Condition,
        mut state: PacketState<'a>,
    ) -> (Option<PacketState<'a>>, Option<PacketState<'a>>) {
        if let Condition::Is(Number::Modulo(NumgenMode::BySource, below), value) = condition {
            let is_it = hash::of_source(self.packet.source, *below) == *value;
            return if is_it { (Some(state), None) } else { (None, Some(state)) };
        }
        if let Condition::Is(Number::Modulo(_, below), value) = condition {
            let hit = u32::from(value < below);
            let with = |part| PacketState {
                probability: state.probability.times(part, *below),
                ..state.clone()
            };
            let (hit, miss) = (with(hit), with(below.saturating_sub(hit)));
            let some = |state: PacketState<'a>| (!state.probability.is_never()).then_some(state);
            return (some(hit), some(miss));
        }
        if let Condition::SetLookup { key, set } = condition {
            let found = self.lookups(key, &set.value, &state).into_iter().find_map(|(_, it)| it);
            let holds = found.is_some() != set.negated;
            state.found(found);
            return if holds { (Some(state), None) } else { (None, Some(state)) };
        }
        if self.holds(condition, &state) { (Some(state), None) } else { (None, Some(state)) }
    }

    fn holds(&self, condition: &Condition, state: &PacketState<'_>) -> bool {
        let source = self.packet.source;
        match condition {
            Condition::NewConnection => true,
            Condition::Translated => state.translated,
            Condition::MarkBits(bits) => state.mark & bits == *bits,
            Condition::NoMarkBits(bits) => state.mark & bits == 0,
            Condition::Protocol(protocol) => self.packet.protocol == *protocol,
            Condition::DestinationPort(port) => state.destination.port() == *port,
            Condition::Source(network) => network.value.contains(&source) != network.negated,
            Condition::Destination(network) => {
                network.value.contains(&state.destination.ip()) != network.negated
            }
            Condition::SourceIsLocal => self.packet.origin == Origin::Host || self.is_local(source),
            Condition::DestinationIsLocal => self.is_local(state.destination.ip()),
            Condition::InInterface(interface) => {
                self.comes_through(&interface.value) != interface.negated
            }
            Condition::Is(Number::Constant(constant), value) => constant == value,
            Condition::SetLookup { .. } | Condition::Is(Number::Modulo(..), _) => false,
        }
    }

    fn comes_through(&self, interface: &Interface) -> bool {
        if self.packet.origin == Origin::UnknownInterface {
            self.interfaces.borrow_mut().insert(match interface {
                Interface::Named(name) => name.clone(),
                Interface::Prefix(start) => format!("{start}*"),
            });
        }
        match (&self.packet.origin, interface) {
            (Origin::Interface(name), Interface::Named(named)) => name == named,
            (Origin::Interface(name), Interface::Prefix(start)) => name.starts_with(start.as_str()),
            (Origin::UnknownInterface | Origin::Host, _) => false,
        }
    }

    /// The different data of a map that a generated number in the key can lead to, each with the
    /// first element that has it and the total probability.
    fn data(
        &self,
        key: &[Selector],
        map: &'a Name,
        state: PacketState<'a>,
    ) -> Vec<(PacketState<'a>, Option<&'a Data>)> {
        let mut each: Vec<(PacketState<'a>, Option<&Data>)> = Vec::new();
        let mut known: HashMap<Option<&Data>, usize> = HashMap::new();
        for (probability, found) in self.lookups(key, map, &state) {
            let data = found.as_ref().and_then(|found| found.element.data.as_ref());
            if let Some((same, _)) = known.get(&data).and_then(|at| each.get_mut(*at)) {
                same.probability = same.probability.or(probability);
                continue;
            }
            known.insert(data, each.len());
            let mut state = PacketState { probability, ..state.clone() };
            state.found(found);
            each.push((state, data));
        }
        each
    }

    /// The element for each value that a generated number in the key can have, with the frequency
    /// of that value.
    fn lookups(
        &self,
        key: &[Selector],
        set: &'a Name,
        state: &PacketState<'a>,
    ) -> Vec<(Probability, Option<MatchingElement<'a>>)> {
        let random = key.iter().find_map(|selector| match selector {
            // The source port is not known.
            Selector::Number(Number::Modulo(
                NumgenMode::Random | NumgenMode::InTurn | NumgenMode::ByFlow,
                below,
            )) => Some(*below),
            _ => None,
        });
        let below = random.unwrap_or(1);
        let evaluated = below.min(MOST_NUMBERS);
        let each = (0..evaluated).map(|number| {
            let values = key.iter().map(|selector| self.value(*selector, state, number)).collect();
            (state.probability.times(1, below), self.element(set, &values))
        });
        let rest =
            (evaluated < below).then(|| (state.probability.times(below - evaluated, below), None));
        each.chain(rest).collect()
    }

    fn value(&self, selector: Selector, state: &PacketState<'_>, random: u32) -> Value {
        match selector {
            Selector::SourceAddress => Value::Address(self.packet.source),
            Selector::SourceNetwork { prefix_length } => {
                let source = self.packet.source;
                let network = IpNet::new(source, prefix_length).map(|network| network.network());
                Value::Address(network.unwrap_or(source))
            }
            Selector::DestinationAddress => Value::Address(state.destination.ip()),
            Selector::Protocol => Value::Protocol(self.packet.protocol),
            Selector::DestinationPort => Value::Port(state.destination.port()),
            Selector::Number(Number::Constant(constant)) => Value::Number(constant),
            Selector::Number(Number::Modulo(NumgenMode::BySource, below)) => {
                Value::Number(hash::of_source(self.packet.source, below))
            }
            Selector::Number(Number::Modulo(..)) => Value::Number(random),
        }
    }

    fn element(&self, name: &'a Name, key: &Key) -> Option<MatchingElement<'a>> {
        let set = self.table.sets.get(name)?;
        let found = |(key, element)| MatchingElement { set: name, key, element };
        if !set.interval {
            return set.elements.get_key_value(key).map(found);
        }
        let covers = |(element, packet): (Value, Value)| match (element, packet) {
            (Value::Network(network), Value::Address(ip)) => network.contains(&ip),
            (actual, asked) => actual == asked,
        };
        let mut elements = set.elements.iter();
        elements.find(|(actual, _)| actual.values().zip(key.values()).all(covers)).map(found)
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.local.contains(&ip)
    }
}

fn refused(state: PacketState<'_>, verdict: PacketVerdict, base: BaseChain) -> Branch<'_> {
    let PacketState { probability, path, destination, translated, masqueraded, .. } = state;
    let (hook, priority) = (base.hook.into(), base.priority);
    let refused_at = RefusedAt {
        hook,
        priority,
        destination,
        translated,
        masqueraded,
        // Other errors than port unreachable are not understood.
        by_others: false,
    };
    Branch { probability, path, verdict, refused_at: Some(refused_at) }
}

fn delivered(state: &PacketState<'_>) -> PacketVerdict {
    PacketVerdict::Delivered {
        destination: state.destination,
        translated: state.translated,
        masqueraded: state.masqueraded,
    }
}

fn translated(state: PacketState<'_>, to: SocketAddr) -> (PacketState<'_>, Option<Exit>) {
    (PacketState { destination: to, translated: true, ..state }, Some(Exit::Accepted))
}
