//! Traces the first packet of a new connection through a table, along every branch that random
//! choices can take.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::key::Key;
use super::rule::{Condition, Interface, Number, NumgenMode, Rule, Selector, Statement, Verdict};
use super::set::{Data, Element};
use super::table::{Chain, Table};
use super::value::Value;
use super::{Name, hash};
use crate::Probability;
use crate::firewall::NetfilterHook;
use crate::packet::{Origin, Packet, PacketVerdict};
use crate::walk::{self, Exit, HookedRules, PacketState, pass_rules};

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
pub type Branch<'a> = walk::TraceBranch<Step<'a>, &'a Name>;

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
        walk::verdicts(&self.branches)
    }
}

/// Traces the first packet of a client not seen before. `local` are the host's own addresses. No
/// other tables are taken into account.
pub fn trace<'a>(table: &'a Table, local: &[IpAddr], packet: &Packet) -> Trace<'a> {
    let mut tracer = Tracer { table, local, packet, interfaces: RefCell::default() };
    let branches = walk::walk(&mut tracer, packet);
    Trace { branches, interfaces: tracer.interfaces.into_inner() }
}

struct Tracer<'a, 'p> {
    table: &'a Table,
    local: &'p [IpAddr],
    packet: &'p Packet,
    interfaces: RefCell<BTreeSet<String>>,
}

/// A packet in flight.
type TraceState<'a> = PacketState<Step<'a>, Option<RulePosition<'a>>>;

/// The rule that a packet is at.
#[derive(Clone)]
struct RulePosition<'a> {
    chain: &'a Name,
    rule: &'a Rule,
    found: Option<MatchingElement<'a>>,
    /// True if the rule has already acted.
    acted: bool,
}

impl<'a> TraceState<'a> {
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

/// Maximum depth of nested jumps; the kernel allows 16 (NFT_JUMP_STACK_SIZE).
const MAX_DEPTH: usize = 16;

/// More than the endpoints that a Service can have; a larger random choice finds no element.
const MOST_NUMBERS: u32 = 100_000;

impl<'a> HookedRules for Tracer<'a, '_> {
    type Step = Step<'a>;
    type Chain = &'a Name;
    type At = Option<RulePosition<'a>>;

    fn base_chains(&self, hook: NetfilterHook) -> Vec<(i32, Self::Chain)> {
        let of_hook = |(name, chain): (&'a Name, &Chain)| {
            let base = chain.base.filter(|base| NetfilterHook::from(base.hook) == hook)?;
            Some((base.priority, name))
        };
        let mut chains: Vec<(i32, &Name)> = self.table.chains.iter().filter_map(of_hook).collect();
        chains.sort_by_key(|(priority, _)| *priority);
        chains
    }

    fn base_chain(&mut self, name: &'a Name, state: TraceState<'a>) -> Vec<(TraceState<'a>, Exit)> {
        match self.table.chains.get(name) {
            Some(chain) => self.chain(name, chain, state, 0),
            None => vec![(state, Exit::Returned)],
        }
    }

    /// The base chains that rulegen makes accept.
    fn has_policy_drop(&self, _: &'a Name) -> bool {
        false
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.local.contains(&ip)
    }
}

impl<'a> Tracer<'a, '_> {
    fn chain(
        &self,
        name: &'a Name,
        chain: &'a Chain,
        state: TraceState<'a>,
        depth: usize,
    ) -> Vec<(TraceState<'a>, Exit)> {
        pass_rules(
            &chain.rules,
            state,
            |_, _| true,
            |rule, mut state| {
                state.at = Some(RulePosition { chain: name, rule, found: None, acted: false });
                self.rule(rule, state, depth)
            },
        )
    }

    /// Runs a rule: packets continue with the next rule (`None`) or leave the chain.
    fn rule(
        &self,
        rule: &'a Rule,
        state: TraceState<'a>,
        depth: usize,
    ) -> Vec<(TraceState<'a>, Option<Exit>)> {
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
        state: TraceState<'a>,
        depth: usize,
        on: &mut Vec<TraceState<'a>>,
        done: &mut Vec<(TraceState<'a>, Option<Exit>)>,
    ) {
        match statement {
            Statement::Match(condition) => {
                let (holds, not) = self.split(condition, state);
                on.extend(holds);
                done.extend(not.map(|state| (state, None)));
            }
            Statement::Counter => on.push(state),
            Statement::MarkOr(bits) => {
                on.push(TraceState { mark: state.mark | bits, ..state }.acted());
            }
            Statement::MarkXor(bits) => {
                on.push(TraceState { mark: state.mark ^ bits, ..state }.acted());
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
                let state = TraceState { masqueraded: true, ..state.acted() };
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
        state: TraceState<'a>,
        depth: usize,
    ) -> Vec<(TraceState<'a>, Option<Exit>)> {
        let (name, comes_back) = match verdict {
            Verdict::Drop => return vec![(state, Some(Exit::Dropped))],
            Verdict::Jump(name) => (name, true),
            Verdict::Goto(name) => (name, false),
            Verdict::Return => return vec![(state, Some(Exit::Returned))],
        };
        let Some(chain) = self.table.chains.get(name).filter(|_| depth < MAX_DEPTH) else {
            return vec![(state, None)];
        };
        let left = self.chain(name, chain, state, depth + 1).into_iter();
        left.map(|(state, exit)| (state, (exit != Exit::Returned || !comes_back).then_some(exit)))
            .collect()
    }

    /// Splits the probability of a packet into the parts for which a condition matches and does not
    /// match.
    fn split(
        &self,
        condition: &'a Condition,
        mut state: TraceState<'a>,
    ) -> (Option<TraceState<'a>>, Option<TraceState<'a>>) {
        if let Condition::Is(Number::Modulo(NumgenMode::BySource, below), value) = condition {
            let is_it = hash::of_source(self.packet.source, *below) == *value;
            return if is_it { (Some(state), None) } else { (None, Some(state)) };
        }
        if let Condition::Is(Number::Modulo(_, below), value) = condition {
            let hit = u32::from(value < below);
            let with = |part| TraceState {
                probability: state.probability.times(part, *below),
                ..state.clone()
            };
            let (hit, miss) = (with(hit), with(below.saturating_sub(hit)));
            let some = |state: TraceState<'a>| (!state.probability.is_never()).then_some(state);
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

    fn holds(&self, condition: &Condition, state: &TraceState<'_>) -> bool {
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
        state: TraceState<'a>,
    ) -> Vec<(TraceState<'a>, Option<&'a Data>)> {
        let mut each: Vec<(TraceState<'a>, Option<&Data>)> = Vec::new();
        let mut known: HashMap<Option<&Data>, usize> = HashMap::new();
        for (probability, found) in self.lookups(key, map, &state) {
            let data = found.as_ref().and_then(|found| found.element.data.as_ref());
            if let Some((same, _)) = known.get(&data).and_then(|at| each.get_mut(*at)) {
                same.probability = same.probability.or(probability);
                continue;
            }
            known.insert(data, each.len());
            let mut state = TraceState { probability, ..state.clone() };
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
        state: &TraceState<'a>,
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

    fn value(&self, selector: Selector, state: &TraceState<'_>, random: u32) -> Value {
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
}

fn translated(state: TraceState<'_>, to: SocketAddr) -> (TraceState<'_>, Option<Exit>) {
    (TraceState { destination: to, translated: true, ..state }, Some(Exit::Accepted))
}
