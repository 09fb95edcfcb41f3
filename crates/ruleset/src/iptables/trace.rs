//! Traces the first packet of a new connection through a ruleset, along every branch that random
//! choices can take.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::chain_name::ChainName;
use super::rule::{ConntrackState, Interface, Match, RecentAction, Rule, RuleSpec, Target};
use super::ruleset::{Chain, Policy, Ruleset, Table};
use crate::Negatable;
use crate::Probability;
use crate::firewall::{
    Action, Connection, FilterRule, NetfilterHook, PartialMark, PartialPacket, Ternary,
    hook_and_priority, rule_of_iptables,
};
use crate::packet::{Origin, Packet, PacketVerdict};
use crate::walk::{self, Exit, HookedRules, PacketState, pass_rules};

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<'a> {
    /// The table that has the chain.
    pub table: Table,
    /// Name of the chain that has the rule.
    pub chain: &'a ChainName,
    /// The rule that matched.
    pub rule: &'a Rule,
}

/// Number of values of the `statistic` match's random number (xt_statistic.c).
const RANDOM_DRAWS: u32 = 1 << 31;

/// One possible path of a packet. The policy is that of a built-in chain.
pub type Branch<'a> = walk::TraceBranch<Step<'a>, (Table, &'a ChainName)>;

/// All possible paths of a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace<'a> {
    /// The paths; their probabilities add up to 1.
    pub branches: Vec<Branch<'a>>,
    /// Foreign rules on the way that may change the verdict, could not be evaluated, and were assumed
    /// not to match.
    pub unknown: Vec<Step<'a>>,
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

/// The host that a packet passes.
#[derive(Clone, Copy)]
pub struct TracedHost<'a> {
    /// Its own addresses.
    pub local: &'a [IpAddr],
    /// The output interface of packets to an address, if it is known.
    pub out_interface: &'a dyn Fn(IpAddr) -> Option<String>,
}

/// Traces the first packet of a connection from a client not seen before. `local` are the host's
/// own addresses.
pub fn trace<'a>(ruleset: &'a Ruleset, local: &[IpAddr], packet: &Packet) -> Trace<'a> {
    trace_on(ruleset, &TracedHost { local, out_interface: &|_| None }, packet)
}

/// Traces a packet like [`trace`], on a host whose routes may be known.
pub fn trace_on<'a>(ruleset: &'a Ruleset, host: &TracedHost<'_>, packet: &Packet) -> Trace<'a> {
    let TracedHost { local, out_interface } = *host;
    let (unknown, interfaces) = (Vec::new(), RefCell::default());
    let mut tracer = Tracer { ruleset, local, out_interface, packet, unknown, interfaces };
    let branches = walk::walk(&mut tracer, packet);
    Trace { branches, unknown: tracer.unknown, interfaces: tracer.interfaces.into_inner() }
}

struct Tracer<'a, 'p> {
    ruleset: &'a Ruleset,
    local: &'p [IpAddr],
    out_interface: &'p dyn Fn(IpAddr) -> Option<String>,
    packet: &'p Packet,
    unknown: Vec<Step<'a>>,
    interfaces: RefCell<BTreeSet<String>>,
}

/// Where a chain is run.
#[derive(Clone, Copy)]
struct ChainPosition<'a> {
    table: Table,
    /// The built-in chain that a packet came from.
    built_in: &'a ChainName,
    depth: usize,
}

/// A packet in flight.
type TraceState<'a> = PacketState<Step<'a>>;

/// Whether a rule is for another destination. It then has no effect, whatever else it has.
fn is_for_others(rule: &Rule, state: &TraceState<'_>) -> bool {
    let Rule::Known(RuleSpec { destination, matches, target, .. }) = rule else { return false };
    let (ip, port) = (state.destination.ip(), state.destination.port());
    // A packet without a port stands for any.
    let has_other_port = |of: &Match| match of {
        Match::Transport { destination_port, .. } => {
            port != 0 && destination_port.is_some_and(|of| of != port)
        }
        _ => false,
    };
    destination.is_some_and(|network| network.value.contains(&ip) == network.negated)
        || target.is_some() && matches.iter().any(has_other_port)
}

/// Maximum depth of nested jumps. The kernel refuses loops, so a greater depth can only come from
/// text that no kernel accepted.
const MAX_DEPTH: usize = 64;

impl<'a> HookedRules for Tracer<'a, '_> {
    type Step = Step<'a>;
    type Chain = (Table, &'a ChainName);
    type At = ();

    fn base_chains(&self, hook: NetfilterHook) -> Vec<(i32, Self::Chain)> {
        let (tables, name): (&[Table], _) = match hook {
            NetfilterHook::Prerouting => (&[Table::Nat], "PREROUTING"),
            // The source of a packet from this host is decided at postrouting.
            NetfilterHook::Input if self.packet.origin == Origin::Host => {
                (&[Table::Filter], "INPUT")
            }
            NetfilterHook::Input => (&[Table::Filter, Table::Nat], "INPUT"),
            NetfilterHook::Forward => (&[Table::Filter], "FORWARD"),
            NetfilterHook::Output => (&[Table::Nat, Table::Filter], "OUTPUT"),
            NetfilterHook::Postrouting => (&[Table::Nat], "POSTROUTING"),
            NetfilterHook::Ingress | NetfilterHook::Egress => return Vec::new(),
        };
        let chain = |table: &Table| {
            let (chain, _) = self.chain(*table, &ChainName::from(name))?;
            let (_, priority) = hook_and_priority(*table, name)?;
            Some((priority, (*table, chain)))
        };
        tables.iter().filter_map(chain).collect()
    }

    fn base_chain(
        &mut self,
        (table, chain): Self::Chain,
        state: TraceState<'a>,
    ) -> Vec<(TraceState<'a>, Exit)> {
        match self.chain(table, chain) {
            Some((built_in, content)) => {
                let position = ChainPosition { table, built_in, depth: 0 };
                self.chain_rules(state, position, built_in, content)
            }
            None => vec![(state, Exit::Returned)],
        }
    }

    fn has_policy_drop(&self, (table, chain): Self::Chain) -> bool {
        self.chain(table, chain).is_some_and(|(_, content)| content.policy == Some(Policy::Drop))
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.local.contains(&ip)
    }
}

impl<'a> Tracer<'a, '_> {
    fn chain(&self, table: Table, name: &ChainName) -> Option<(&'a ChainName, &'a Chain)> {
        self.ruleset.tables.get(&table)?.get_key_value(name)
    }

    fn chain_rules(
        &mut self,
        state: TraceState<'a>,
        position: ChainPosition<'a>,
        chain: &'a ChainName,
        content: &'a Chain,
    ) -> Vec<(TraceState<'a>, Exit)> {
        // A chain may have rules for each Service: those of other destinations cost only this.
        let concerns = |rule, state: &TraceState<'_>| !is_for_others(rule, state);
        pass_rules(&content.rules, state, concerns, |rule, state| {
            let step = Step { table: position.table, chain, rule };
            match (rule, self.foreign(position.table, rule)) {
                (Rule::Known(spec), None) => self.known(spec, &step, state, position),
                (_, Some(foreign)) => self.evaluated(&foreign, &step, state, position),
                (Rule::Foreign { .. }, None) => vec![(state, None)],
            }
        })
    }

    /// A rule that is evaluated instead of followed: one that rulegen does not make, also if only its
    /// target is foreign.
    fn foreign(&self, table: Table, rule: &Rule) -> Option<FilterRule> {
        let is_chain = |name: &ChainName| self.chain(table, name).is_some();
        let is_known = match rule {
            Rule::Known(RuleSpec { target: Some(Target::Jump(name)), .. }) => is_chain(name),
            Rule::Known(_) => true,
            Rule::Foreign { .. } => false,
        };
        (!is_known).then(|| rule_of_iptables(self.ruleset.family, rule, is_chain))
    }

    /// Runs a rule that rulegen can make: the packet continues with the next rule (`None`) or leaves
    /// the chain.
    fn known(
        &mut self,
        spec: &'a RuleSpec,
        step: &Step<'a>,
        state: TraceState<'a>,
        position: ChainPosition<'a>,
    ) -> Vec<(TraceState<'a>, Option<Exit>)> {
        let (taken, left) = self.split(spec, state);
        let left = left.map(|state| (state, None));
        let taken = taken.into_iter().flat_map(|mut state| {
            state.path.push(step.clone());
            self.target(spec.target.as_ref(), state, position)
        });
        left.into_iter().chain(taken).collect()
    }

    /// Runs a rule of another program as far as it is certain. Otherwise it is noted, and the packet
    /// continues.
    fn evaluated(
        &mut self,
        rule: &FilterRule,
        step: &Step<'a>,
        mut state: TraceState<'a>,
        position: ChainPosition<'a>,
    ) -> Vec<(TraceState<'a>, Option<Exit>)> {
        let matches = rule.matches(&self.partial(&state, position.built_in));
        let has_no_effect =
            rule.action == Action::Continue && rule.marks.is_none() && !rule.untracks;
        if matches == Ternary::No || has_no_effect {
            return vec![(state, None)];
        }
        let exit = match &rule.action {
            Action::Accept => Some(Exit::Accepted),
            Action::Drop => Some(Exit::Dropped),
            Action::Reject => Some(Exit::RejectedByOthers),
            Action::Return => Some(Exit::Returned),
            Action::Jump(to) | Action::Goto(to) if matches == Ternary::Yes => {
                state.path.push(step.clone());
                let left = self.jump(&ChainName::from(&**to), state, position);
                // A chain that was gone to returns from this one.
                let is_goto = matches!(rule.action, Action::Goto(_));
                let stays = |exit: Option<Exit>| {
                    if is_goto { exit.or(Some(Exit::Returned)) } else { exit }
                };
                return left.into_iter().map(|(state, exit)| (state, stays(exit))).collect();
            }
            _ => None,
        };
        match exit.filter(|_| matches == Ternary::Yes && rule.marks.is_none()) {
            Some(exit) => {
                state.path.push(step.clone());
                vec![(state, Some(exit))]
            }
            None => {
                if !self.unknown.contains(step) {
                    self.unknown.push(step.clone());
                }
                vec![(state, None)]
            }
        }
    }

    /// What rules of other programs see of the packet.
    fn partial(&self, state: &TraceState<'_>, built_in: &ChainName) -> PartialPacket {
        let Packet { origin, source, destination: original, protocol } = self.packet;
        // A packet without a port stands for any protocol.
        let has_port = original.port() != 0;
        let incoming = match origin {
            Origin::Host => Some("lo"),
            received => received.in_interface(),
        };
        let incoming = incoming.map(str::to_owned);
        let out = |to: IpAddr| (self.out_interface)(to);
        let (in_interface, out_interface) = match built_in.as_str() {
            "FORWARD" => (incoming, out(state.destination.ip())),
            "OUTPUT" => (Some(String::new()), out(original.ip())),
            "POSTROUTING" => (None, out(state.destination.ip())),
            _ => (incoming, Some(String::new())),
        };
        let (translated, masqueraded) = (Some(state.translated), Some(state.masqueraded));
        let to = state.destination;
        PartialPacket {
            protocol: has_port.then_some(protocol.number()),
            destination_port: has_port.then(|| to.port()),
            in_interface,
            out_interface,
            connection: Connection::New { translated, masqueraded },
            mark: PartialMark::of(state.mark),
            ..PartialPacket::unknown(self.ruleset.family)
                .from(*source, *origin == Origin::Host || self.is_local(*source))
                .to(to.ip(), self.is_local(to.ip()))
        }
    }

    /// Runs a chain: the packet comes back (`None`) or has a verdict.
    fn jump(
        &mut self,
        to: &ChainName,
        state: TraceState<'a>,
        position: ChainPosition<'a>,
    ) -> Vec<(TraceState<'a>, Option<Exit>)> {
        let chain = self.chain(position.table, to).filter(|_| position.depth < MAX_DEPTH);
        let Some((chain, content)) = chain else { return vec![(state, None)] };
        let position = ChainPosition { depth: position.depth + 1, ..position };
        let left = self.chain_rules(state, position, chain, content);
        let returned = |exit| (exit != Exit::Returned).then_some(exit);
        left.into_iter().map(|(state, exit)| (state, returned(exit))).collect()
    }

    /// Runs a target: the packet continues with the next rule (`None`) or leaves the chain.
    fn target(
        &mut self,
        target: Option<&'a Target>,
        mut state: TraceState<'a>,
        position: ChainPosition<'a>,
    ) -> Vec<(TraceState<'a>, Option<Exit>)> {
        let exit = match target {
            None => None,
            Some(Target::Jump(name)) => return self.jump(name, state, position),
            Some(Target::Accept) => Some(Exit::Accepted),
            Some(Target::Drop) => Some(Exit::Dropped),
            Some(Target::Reject(_)) => Some(Exit::Rejected),
            Some(Target::Return) => Some(Exit::Returned),
            Some(Target::SetMark(set)) => {
                state.mark = (state.mark & !set.mask) ^ set.value;
                None
            }
            Some(Target::Masquerade { .. }) => {
                state.masqueraded = true;
                Some(Exit::Accepted)
            }
            Some(Target::Dnat(to)) => {
                state.destination = *to;
                state.translated = true;
                Some(Exit::Accepted)
            }
        };
        vec![(state, exit)]
    }

    /// Splits a packet into the part that a rule matches and the part that it does not.
    fn split(
        &self,
        rule: &RuleSpec,
        state: TraceState<'a>,
    ) -> (Option<TraceState<'a>>, Option<TraceState<'a>>) {
        #[cfg(test)]
        tests::COMPARED.with(|count| count.set(count.get() + 1));
        if !self.matches(rule, &state) {
            return (None, Some(state));
        }
        let thresholds = rule.matches.iter().filter_map(|m| match m {
            Match::Random(threshold) => Some(*threshold),
            _ => None,
        });
        let (mut taken, mut left) = (state.probability, Probability::NEVER);
        for threshold in thresholds {
            let (hit, miss) = taken.split(threshold, RANDOM_DRAWS);
            left = left.or(miss);
            taken = hit;
        }
        let with = |probability: Probability| {
            (!probability.is_never()).then(|| TraceState { probability, ..state.clone() })
        };
        (with(taken), with(left))
    }

    /// True if everything except the random choice matches.
    fn matches(&self, rule: &RuleSpec, state: &TraceState<'_>) -> bool {
        let source = self.packet.source;
        let contains = |network: &Option<Negatable<IpNet>>, ip: IpAddr| {
            network.is_none_or(|network| network.value.contains(&ip) != network.negated)
        };
        contains(&rule.source, source)
            && contains(&rule.destination, state.destination.ip())
            && rule.protocol.is_none_or(|protocol| protocol == self.packet.protocol)
            && rule.matches.iter().all(|m| self.match_matches(m, state))
            && rule.in_interface.as_ref().is_none_or(|i| self.comes_through(&i.value) != i.negated)
    }

    fn comes_through(&self, interface: &Interface) -> bool {
        if self.packet.origin == Origin::UnknownInterface {
            self.interfaces.borrow_mut().insert(interface.0.replace('+', "*"));
        }
        interface.matches(self.packet.origin.in_interface().unwrap_or_default())
    }

    fn match_matches(&self, m: &Match, state: &TraceState<'_>) -> bool {
        match m {
            Match::Comment(_) | Match::Random(_) => true,
            Match::Transport { protocol, destination_port } => {
                *protocol == self.packet.protocol
                    && destination_port.is_none_or(|port| port == state.destination.port())
            }
            Match::Conntrack(states) => {
                let has = |s: &ConntrackState| match s {
                    ConntrackState::New => true,
                    ConntrackState::Dnat => state.translated,
                    _ => false,
                };
                states.value.iter().any(has) != states.negated
            }
            Match::Mark(mark) => (state.mark & mark.value.mask == mark.value.value) != mark.negated,
            Match::SourceType(_) => {
                self.packet.origin == Origin::Host || self.is_local(self.packet.source)
            }
            Match::DestinationType(_) => self.is_local(state.destination.ip()),
            Match::Recent(recent) => recent.action == RecentAction::Set,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rulegen_net::{IpFamily, Protocol};

    use super::*;
    use crate::iptables::parse;

    thread_local! {
        /// Rules that were compared as a whole.
        pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    /// A cluster has chains with rules for each Service, and tests of it send packets to each Service.
    #[test]
    fn trace_compares_only_rules_for_the_destination_of_the_packet() {
        let mut text = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SVC-A - [0:0]\n".to_owned();
        for n in 0..200 {
            let to = format!("-d 10.96.1.{n}/32 -p tcp -m tcp --dport 80");
            text += &format!("-A PREROUTING {to} -j KUBE-SVC-A\n");
            text += &format!("-A PREROUTING -p tcp -m tcp --dport {} -j KUBE-SVC-A\n", 30000 + n);
        }
        let (ruleset, errors) = parse(IpFamily::Ipv4, &(text + "COMMIT\n"));
        assert_eq!(errors, []);
        for destination in ["10.96.1.7:80", "192.168.1.1:30007", "192.168.1.1:80"] {
            let packet = Packet {
                origin: Origin::UnknownInterface,
                source: "10.244.1.9".parse().unwrap(),
                destination: destination.parse().unwrap(),
                protocol: Protocol::Tcp,
            };
            COMPARED.set(0);
            trace(&ruleset, &[], &packet);
            assert!(COMPARED.get() <= 1, "{destination}: {}", COMPARED.get());
        }
    }
}
