//! Follows the first packet of a new connection through a table, along every way that chance can
//! send it.

use std::net::{IpAddr, SocketAddr};

use super::Name;
use super::key::Key;
use super::rule::{Condition, Interface, Number, Rule, Selector, Statement, Verdict};
use super::set::{Data, Element, Value};
use super::share::Share;
use super::table::{BaseChain, Chain, Hook, Table};
use crate::packet::{Origin, Packet, Verdict as Outcome};

/// What becomes of a packet of a client that was not seen before, and how often, ordered.
/// `local` are the host's own addresses.
pub fn trace(table: &Table, local: &[IpAddr], packet: &Packet) -> Vec<(Outcome, Share)> {
    let tracer = Tracer { table, local, packet };
    let mut outcomes: Vec<(Outcome, Share)> = Vec::new();
    for (outcome, share) in tracer.run() {
        match outcomes.iter_mut().find(|(other, _)| *other == outcome) {
            Some((_, sum)) => *sum = sum.and(share),
            None => outcomes.push((outcome, share)),
        }
    }
    outcomes.sort_unstable();
    outcomes
}

struct Tracer<'a> {
    table: &'a Table,
    local: &'a [IpAddr],
    packet: &'a Packet,
}

/// A packet on its way.
#[derive(Clone, Copy)]
struct State {
    share: Share,
    destination: SocketAddr,
    translated: bool,
    masqueraded: bool,
    mark: u32,
}

/// How a chain was left.
#[derive(Clone, Copy, PartialEq)]
enum Exit {
    Fallen,
    Accepted,
    Rejected,
    Dropped,
}

/// How deep chains may call one another; the kernel takes 16 (NFT_JUMP_STACK_SIZE).
const MAX_DEPTH: usize = 16;

impl<'a> Tracer<'a> {
    fn run(&self) -> Vec<(Outcome, Share)> {
        let start = State {
            share: Share::ALL,
            destination: self.packet.destination,
            translated: false,
            masqueraded: false,
            mark: 0,
        };
        let first = match self.packet.origin {
            Origin::Interface(_) => Hook::Prerouting,
            Origin::Host => Hook::Output,
        };
        let mut outcomes = Vec::new();
        for state in self.hook(vec![start], first, &mut outcomes) {
            let then: &[Hook] = match (&self.packet.origin, self.is_local(state.destination.ip())) {
                (Origin::Interface(_), true) => &[Hook::Input],
                (Origin::Interface(_), false) => &[Hook::Forward, Hook::Postrouting],
                (Origin::Host, true) => &[Hook::Postrouting, Hook::Input],
                (Origin::Host, false) => &[Hook::Postrouting],
            };
            let mut states = vec![state];
            for hook in then {
                states = self.hook(states, *hook, &mut outcomes);
            }
            outcomes.extend(states.into_iter().map(|state| (delivered(&state), state.share)));
        }
        outcomes
    }

    /// Sends packets through the base chains of a hook; what ends there is taken out.
    fn hook(
        &self,
        mut states: Vec<State>,
        hook: Hook,
        outcomes: &mut Vec<(Outcome, Share)>,
    ) -> Vec<State> {
        let of_hook = |chain: &'a Chain| {
            chain
                .base
                .filter(|base| base.hook == hook)
                .map(|base: BaseChain| (base.priority, chain))
        };
        let mut chains: Vec<(i32, &Chain)> =
            self.table.chains.values().filter_map(of_hook).collect();
        chains.sort_by_key(|(priority, _)| *priority);
        for (_, chain) in chains {
            let mut on = Vec::new();
            for (state, exit) in states.into_iter().flat_map(|state| self.chain(chain, state, 0)) {
                match exit {
                    Exit::Fallen | Exit::Accepted => on.push(state),
                    Exit::Rejected => outcomes.push((Outcome::Rejected, state.share)),
                    Exit::Dropped => outcomes.push((Outcome::Dropped, state.share)),
                }
            }
            states = on;
        }
        states
    }

    fn chain(&self, chain: &Chain, state: State, depth: usize) -> Vec<(State, Exit)> {
        let (mut live, mut ended) = (vec![state], Vec::new());
        for rule in &chain.rules {
            let mut on = Vec::new();
            for state in live {
                for (state, exit) in self.rule(rule, state, depth) {
                    match exit {
                        None => on.push(state),
                        Some(exit) => ended.push((state, exit)),
                    }
                }
            }
            live = on;
        }
        ended.extend(live.into_iter().map(|state| (state, Exit::Fallen)));
        ended
    }

    /// What a rule does with a packet: the next rule follows (`None`), or the chain is left.
    fn rule(&self, rule: &Rule, state: State, depth: usize) -> Vec<(State, Option<Exit>)> {
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

    /// Carries a statement out: packets go `on` in the rule, or are `done` with it.
    fn statement(
        &self,
        statement: &Statement,
        mut state: State,
        depth: usize,
        on: &mut Vec<State>,
        done: &mut Vec<(State, Option<Exit>)>,
    ) {
        match statement {
            Statement::If(condition) => {
                let (holds, not) = self.split(condition, state);
                on.extend(holds);
                done.extend(not.map(|state| (state, None)));
            }
            Statement::Counter => on.push(state),
            Statement::SetMarkBits(bits) => on.push(State { mark: state.mark | bits, ..state }),
            Statement::FlipMarkBits(bits) => on.push(State { mark: state.mark ^ bits, ..state }),
            Statement::Update { .. } => on.push(state),
            Statement::VerdictMap { key, map } => {
                for (state, element) in self.lookups(key, map, state) {
                    match element.and_then(|element| element.data.as_ref()) {
                        Some(Data::Verdict(verdict)) => {
                            done.extend(self.verdict(verdict, state, depth))
                        }
                        _ => done.push((state, None)),
                    }
                }
            }
            Statement::DnatMap { key, map } => {
                for (state, element) in self.lookups(key, map, state) {
                    match element.and_then(|element| element.data.as_ref()) {
                        Some(Data::Socket(to)) => done.push(translated(state, *to)),
                        _ => done.push((state, None)),
                    }
                }
            }
            Statement::Dnat(protocol, to) if *protocol == self.packet.protocol => {
                done.push(translated(state, *to));
            }
            Statement::Dnat(..) => done.push((state, None)),
            Statement::Masquerade => {
                state.masqueraded = true;
                done.push((state, Some(Exit::Accepted)));
            }
            Statement::Reject => done.push((state, Some(Exit::Rejected))),
            Statement::Verdict(verdict) => done.extend(self.verdict(verdict, state, depth)),
        }
    }

    fn verdict(&self, verdict: &Verdict, state: State, depth: usize) -> Vec<(State, Option<Exit>)> {
        let (name, comes_back) = match verdict {
            Verdict::Drop => return vec![(state, Some(Exit::Dropped))],
            Verdict::Jump(name) => (name, true),
            Verdict::Goto(name) => (name, false),
        };
        let Some(chain) = self.table.chains.get(name).filter(|_| depth < MAX_DEPTH) else {
            return vec![(state, None)];
        };
        let left = self.chain(chain, state, depth + 1).into_iter();
        left.map(|(state, exit)| (state, (exit != Exit::Fallen || !comes_back).then_some(exit)))
            .collect()
    }

    /// The part of a packet's share for which a condition holds, and the part for which it does
    /// not.
    fn split(&self, condition: &Condition, state: State) -> (Option<State>, Option<State>) {
        if let Condition::Is(Number::Below(_, below), value) = condition {
            let hit = u32::from(value < below);
            let with = |part| State { share: state.share.times(part, *below), ..state };
            let (hit, miss) = (with(hit), with(below.saturating_sub(hit)));
            let some = |state: State| (!state.share.is_none()).then_some(state);
            return (some(hit), some(miss));
        }
        if self.holds(condition, &state) { (Some(state), None) } else { (None, Some(state)) }
    }

    fn holds(&self, condition: &Condition, state: &State) -> bool {
        let source = self.packet.source;
        match condition {
            Condition::NewConnection => true,
            Condition::Translated => state.translated,
            Condition::MarkBits(bits) => state.mark & bits == *bits,
            Condition::Source(network) => network.value.contains(&source) != network.negated,
            Condition::Destination(network) => {
                network.value.contains(&state.destination.ip()) != network.negated
            }
            Condition::SourceIsLocal => self.packet.origin == Origin::Host || self.is_local(source),
            Condition::DestinationIsLocal => self.is_local(state.destination.ip()),
            Condition::InInterface(interface) => {
                self.comes_through(&interface.value) != interface.negated
            }
            Condition::In { key, set } => {
                let found =
                    self.lookups(key, &set.value, *state).iter().any(|(_, found)| found.is_some());
                found != set.negated
            }
            Condition::Is(Number::Constant(constant), value) => constant == value,
            Condition::Is(Number::Below(..), _) => false,
        }
    }

    fn comes_through(&self, interface: &Interface) -> bool {
        match (&self.packet.origin, interface) {
            (Origin::Interface(name), Interface::Named(named)) => name == named,
            (Origin::Interface(name), Interface::Prefix(start)) => name.starts_with(start.as_str()),
            (Origin::Host, _) => false,
        }
    }

    /// The element for each value that a number in the key can have.
    fn lookups(
        &self,
        key: &[Selector],
        set: &Name,
        state: State,
    ) -> Vec<(State, Option<&'a Element>)> {
        let random = key.iter().find_map(|selector| match selector {
            Selector::Number(Number::Below(_, below)) => Some(*below),
            _ => None,
        });
        let below = random.unwrap_or(1);
        let each = (0..below).map(|number| {
            let values = key.iter().map(|selector| self.value(*selector, &state, number)).collect();
            let state = State { share: state.share.times(1, below), ..state };
            (state, self.element(set, &values))
        });
        each.collect()
    }

    fn value(&self, selector: Selector, state: &State, random: u32) -> Value {
        match selector {
            Selector::SourceAddress => Value::Address(self.packet.source),
            Selector::DestinationAddress => Value::Address(state.destination.ip()),
            Selector::Protocol => Value::Protocol(self.packet.protocol),
            Selector::DestinationPort => Value::Port(state.destination.port()),
            Selector::Number(Number::Constant(constant)) => Value::Number(constant),
            Selector::Number(Number::Below(..)) => Value::Number(random),
        }
    }

    fn element(&self, set: &Name, key: &Key) -> Option<&'a Element> {
        let set = self.table.sets.get(set)?;
        if !set.interval {
            return set.elements.get(key);
        }
        let covers = |(held, asked): (Value, Value)| match (held, asked) {
            (Value::Network(network), Value::Address(ip)) => network.contains(&ip),
            (held, asked) => held == asked,
        };
        let mut elements = set.elements.iter();
        elements
            .find(|(held, _)| held.values().zip(key.values()).all(covers))
            .map(|(_, element)| element)
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.local.contains(&ip)
    }
}

fn delivered(state: &State) -> Outcome {
    Outcome::Delivered {
        destination: state.destination,
        translated: state.translated,
        masqueraded: state.masqueraded,
    }
}

fn translated(state: State, to: SocketAddr) -> (State, Option<Exit>) {
    (State { destination: to, translated: true, ..state }, Some(Exit::Accepted))
}
