//! The way of a packet through the hooks, which is the same for both backends.

use std::net::{IpAddr, SocketAddr};

use crate::Probability;
use crate::firewall::NetfilterHook;
use crate::packet::{Origin, Packet, PacketVerdict, RefusedAt};

/// Rules as [`walk`] sees them. `Step` is a rule that acted on a packet, `Chain` a base chain.
pub(crate) trait HookedRules {
    type Step: Clone;
    type Chain: Copy;
    /// The place of a packet within a rule.
    type At: Clone + Default;

    /// The base chains of a hook with their priorities, in the order in which packets pass them.
    fn base_chains(&self, hook: NetfilterHook) -> Vec<(i32, Self::Chain)>;

    /// Runs a packet through a base chain. A return means that its policy applies.
    fn base_chain(
        &mut self,
        chain: Self::Chain,
        state: StateOf<Self>,
    ) -> Vec<(StateOf<Self>, Exit)>;

    /// True if the policy of a base chain drops packets.
    fn has_policy_drop(&self, chain: Self::Chain) -> bool;

    /// True for an address of this host.
    fn is_local(&self, ip: IpAddr) -> bool;
}

type StateOf<R> = PacketState<<R as HookedRules>::Step, <R as HookedRules>::At>;
type BranchOf<R> = TraceBranch<<R as HookedRules>::Step, <R as HookedRules>::Chain>;

/// One possible path of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceBranch<S, C> {
    /// Probability of the path.
    pub probability: Probability,
    /// Rules that acted, in order.
    pub path: Vec<S>,
    /// Final verdict.
    pub verdict: PacketVerdict,
    /// Where the packet is rejected or dropped, if it is.
    pub refused_at: Option<RefusedAt>,
    /// The base chain whose policy dropped the packet, if no rule decided.
    pub policy: Option<C>,
}

/// A packet in flight.
#[derive(Clone)]
pub(crate) struct PacketState<S, A = ()> {
    pub(crate) probability: Probability,
    pub(crate) path: Vec<S>,
    pub(crate) destination: SocketAddr,
    pub(crate) translated: bool,
    pub(crate) masqueraded: bool,
    pub(crate) mark: u32,
    pub(crate) at: A,
}

/// How a chain ended.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Exit {
    Returned,
    Accepted,
    Rejected,
    /// A rule of another program rejects the packet, with any error.
    RejectedByOthers,
    Dropped,
}

/// All possible paths of a packet.
pub(crate) fn walk<R: HookedRules>(rules: &mut R, packet: &Packet) -> Vec<BranchOf<R>> {
    use NetfilterHook::{Forward, Input, Output, Postrouting, Prerouting};
    let first = if packet.origin == Origin::Host { Output } else { Prerouting };
    let mut branches = Vec::new();
    for state in pass(rules, vec![PacketState::of(packet)], first, &mut branches) {
        let hooks: &[NetfilterHook] = match (&packet.origin, rules.is_local(state.destination.ip()))
        {
            (Origin::Host, true) => &[Postrouting, Input],
            (Origin::Host, false) => &[Postrouting],
            (_, true) => &[Input],
            (_, false) => &[Forward, Postrouting],
        };
        let mut states = vec![state];
        for hook in hooks {
            states = pass(rules, states, *hook, &mut branches);
        }
        branches.extend(states.into_iter().map(PacketState::delivered));
    }
    branches
}

/// Runs packets through the base chains of a hook. Those that end there become branches.
fn pass<R: HookedRules>(
    rules: &mut R,
    mut states: Vec<StateOf<R>>,
    hook: NetfilterHook,
    branches: &mut Vec<BranchOf<R>>,
) -> Vec<StateOf<R>> {
    for (priority, chain) in rules.base_chains(hook) {
        let drops_rest = rules.has_policy_drop(chain);
        let mut on = Vec::new();
        for (state, exit) in states.into_iter().flat_map(|state| rules.base_chain(chain, state)) {
            let by_policy = exit == Exit::Returned && drops_rest;
            let verdict = match exit {
                Exit::Returned if by_policy => PacketVerdict::Dropped,
                Exit::Dropped => PacketVerdict::Dropped,
                Exit::Rejected | Exit::RejectedByOthers => PacketVerdict::Rejected,
                Exit::Accepted | Exit::Returned => {
                    on.push(state);
                    continue;
                }
            };
            let by_others = exit == Exit::RejectedByOthers;
            let refused_at = state.refused_at(hook, priority, by_others);
            let policy = by_policy.then_some(chain);
            branches.push(TraceBranch {
                refused_at: Some(refused_at),
                policy,
                ..state.ended(verdict)
            });
        }
        states = on;
    }
    states
}

/// Runs a packet through the rules of a chain: after a rule, it continues with the next (`None`), or
/// leaves the chain. A rule that concerns no packet is skipped.
pub(crate) fn pass_rules<T: Copy, S, A>(
    rules: impl IntoIterator<Item = T>,
    state: PacketState<S, A>,
    concerns: impl Fn(T, &PacketState<S, A>) -> bool,
    mut pass: impl FnMut(T, PacketState<S, A>) -> Vec<(PacketState<S, A>, Option<Exit>)>,
) -> Vec<(PacketState<S, A>, Exit)> {
    let (mut live, mut ended) = (vec![state], Vec::new());
    for rule in rules {
        if !live.iter().any(|state| concerns(rule, state)) {
            continue;
        }
        let mut on = Vec::new();
        for (state, exit) in live.into_iter().flat_map(|state| pass(rule, state)) {
            match exit {
                None => on.push(state),
                Some(exit) => ended.push((state, exit)),
            }
        }
        live = merged(on);
    }
    ended.extend(live.into_iter().map(|state| (state, Exit::Returned)));
    ended
}

/// Merges packets in equal states, and keeps the path of the first: otherwise each rule with a
/// random choice would double their number.
fn merged<S, A>(states: Vec<PacketState<S, A>>) -> Vec<PacketState<S, A>> {
    let mut merged: Vec<PacketState<S, A>> = Vec::with_capacity(states.len());
    for state in states {
        match merged.iter_mut().find(|other| other.is_like(&state)) {
            Some(other) => other.probability = other.probability.or(state.probability),
            None => merged.push(state),
        }
    }
    merged
}

impl<S, A> PacketState<S, A> {
    fn of(packet: &Packet) -> Self
    where
        A: Default,
    {
        Self {
            probability: Probability::CERTAIN,
            path: Vec::new(),
            destination: packet.destination,
            translated: false,
            masqueraded: false,
            mark: 0,
            at: A::default(),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        let of =
            |state: &Self| (state.destination, state.translated, state.masqueraded, state.mark);
        of(self) == of(other)
    }

    fn refused_at(&self, hook: NetfilterHook, priority: i32, by_others: bool) -> RefusedAt {
        let Self { destination, translated, masqueraded, .. } = *self;
        RefusedAt { hook, priority, destination, translated, masqueraded, by_others }
    }

    fn delivered<C>(self) -> TraceBranch<S, C> {
        let Self { destination, translated, masqueraded, .. } = self;
        self.ended(PacketVerdict::Delivered { destination, translated, masqueraded })
    }

    fn ended<C>(self, verdict: PacketVerdict) -> TraceBranch<S, C> {
        let Self { probability, path, .. } = self;
        TraceBranch { probability, path, verdict, refused_at: None, policy: None }
    }
}

/// The probability of each verdict, ordered.
pub(crate) fn verdicts<S, C>(branches: &[TraceBranch<S, C>]) -> Vec<(PacketVerdict, Probability)> {
    let mut verdicts: Vec<(PacketVerdict, Probability)> = Vec::new();
    for branch in branches {
        match verdicts.iter_mut().find(|(verdict, _)| *verdict == branch.verdict) {
            Some((_, sum)) => *sum = sum.or(branch.probability),
            None => verdicts.push((branch.verdict, branch.probability)),
        }
    }
    verdicts.sort_unstable_by_key(|(verdict, _)| *verdict);
    verdicts
}
