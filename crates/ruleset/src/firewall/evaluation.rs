//! Evaluates a packet against the rules of a base chain.

use std::cell::Cell;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use super::bits::Ternary;
use super::mark::{MarkChange, PartialMark};
use super::packet::{Connection, PartialPacket};
use super::rule::{Action, FilterChains, FilterRule, FirewallBaseChain, FirewallChainKind};

/// Maximum depth of nested jumps; nftables allows 16 (NFT_JUMP_STACK_SIZE). iptables has no limit,
/// so what is deeper is unknown.
const MAX_DEPTH: usize = 64;

/// Number of rules that an evaluation names for each effect.
const NAMED: usize = 3;

/// The number of rules that may still be evaluated. It bounds the time for nested chains, which
/// could double with each level. When it is used up, the rest is unknown.
#[derive(Debug)]
pub struct Budget(Cell<u64>);

impl Budget {
    /// A budget for so many rules.
    pub fn new(rules: u64) -> Self {
        Self(Cell::new(rules))
    }

    fn take(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }
}

impl Default for Budget {
    /// Takes less than half a second.
    fn default() -> Self {
        Self::new(2_000_000)
    }
}

/// What a base chain does with a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether it may let the packet on.
    pub accepts: bool,
    /// The first rules or policies that may drop or reject the packet.
    pub refusals: Vec<Hit>,
    /// The first rules that may exclude the packet from connection tracking.
    pub untracks: Vec<Hit>,
    /// Whether one of them does for sure.
    pub surely_untracks: bool,
    /// The first rules that may replace an address.
    pub translates: Vec<Hit>,
    /// The first rules that may set or clear each bit of the mark.
    pub marks: Vec<Hit>,
}

/// A rule, or a policy, with an effect that a packet may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The chain that has the rule.
    pub chain: Arc<str>,
    /// The rule, or the policy.
    pub rule: String,
    /// What it does.
    pub effect: Effect,
}

/// An effect of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Drops or rejects the packet.
    Refuses(RefusalKind),
    /// Excludes it from connection tracking.
    Untracks,
    /// Replaces an address.
    Translates,
    /// Changes the mark.
    Marks {
        /// The bits that it may set.
        sets: u32,
        /// The bits that it may clear.
        clears: u32,
    },
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// Silently.
    Drop,
    /// With an error to the sender.
    Reject,
    /// In either way, or not at all: the rule is not understood.
    Unknown,
}

/// The certain part of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertainVerdict<'a> {
    /// It lets the packet on.
    Accepts,
    /// It drops the packet.
    Drops(&'a Hit),
    /// It rejects the packet.
    Rejects(&'a Hit),
    /// It may do one or the other.
    Unknown,
}

impl Evaluation {
    /// What is certain about dropping and rejecting.
    pub fn verdict(&self) -> CertainVerdict<'_> {
        let Some(first) = self.refusals.first() else { return CertainVerdict::Accepts };
        let is_same = self.refusals.iter().all(|hit| hit.effect == first.effect);
        match first.effect {
            Effect::Refuses(RefusalKind::Drop) if is_same && !self.accepts => {
                CertainVerdict::Drops(first)
            }
            Effect::Refuses(RefusalKind::Reject) if is_same && !self.accepts => {
                CertainVerdict::Rejects(first)
            }
            _ => CertainVerdict::Unknown,
        }
    }

    /// Whether it certainly lets the packet on unchanged.
    pub fn has_no_effect(&self) -> bool {
        self.verdict() == CertainVerdict::Accepts
            && self.untracks.is_empty()
            && self.translates.is_empty()
    }

    fn unknown(chain: &Arc<str>) -> Self {
        let hit = |effect| Hit { chain: chain.clone(), rule: "unknown".to_owned(), effect };
        Self {
            accepts: true,
            refusals: vec![hit(Effect::Refuses(RefusalKind::Unknown))],
            translates: vec![hit(Effect::Translates)],
            ..Self::default()
        }
    }
}

impl Display for Hit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.chain, self.rule)
    }
}

/// Evaluates a packet against a base chain. Bits of its mark become unknown if a rule may change them.
pub fn evaluate(
    base: &FirewallBaseChain,
    packet: &mut PartialPacket,
    budget: &Budget,
) -> Evaluation {
    walk(base, packet, budget, false)
}

/// Whether a base chain refuses a packet that matches none of the conditions that depend on
/// something unknown.
pub fn refuses_rest(base: &FirewallBaseChain, packet: &PartialPacket, budget: &Budget) -> bool {
    let evaluation = walk(base, &mut packet.clone(), budget, true);
    matches!(evaluation.verdict(), CertainVerdict::Drops(_) | CertainVerdict::Rejects(_))
}

fn walk(
    base: &FirewallBaseChain,
    packet: &mut PartialPacket,
    budget: &Budget,
    skips_unknown: bool,
) -> Evaluation {
    let Some(chains) = &base.chains else { return Evaluation::unknown(&base.chain) };
    // A chain of type nat sees packets with a connection only.
    if base.kind == FirewallChainKind::Nat && packet.connection == Connection::Untracked {
        return Evaluation { accepts: true, ..Evaluation::default() };
    }
    let evaluation = Evaluation::default();
    let mut walk = Walk { chains, packet, budget, skips_unknown, evaluation };
    let comes_out = walk.chain(&base.chain, true, 0);
    if comes_out.is_possible {
        if base.drops_rest {
            walk.refuse(&base.chain, || "policy drop".to_owned(), RefusalKind::Drop);
        } else {
            walk.evaluation.accepts = true;
        }
    }
    walk.evaluation
}

struct Walk<'a, 'p> {
    chains: &'a FilterChains,
    packet: &'p mut PartialPacket,
    budget: &'p Budget,
    /// Whether conditions that are unknown count as not met.
    skips_unknown: bool,
    evaluation: Evaluation,
}

/// Whether a packet comes out of a chain again: at its end, or by a return.
#[derive(Clone, Copy)]
struct ComesOut {
    is_possible: bool,
    is_certain: bool,
}

impl ComesOut {
    const NEVER: Self = Self { is_possible: false, is_certain: false };
    const MAYBE: Self = Self { is_possible: true, is_certain: false };
    const ALWAYS: Self = Self { is_possible: true, is_certain: true };
}

/// Where a packet goes from a rule that it matches.
struct Next {
    /// To the next rule of the chain.
    stays: ComesOut,
    /// Out of the chain.
    returns: ComesOut,
}

impl<'a> Walk<'a, '_> {
    /// Runs the rules of a chain. `is_certain` says whether the packet gets there in any case.
    fn chain(&mut self, name: &Arc<str>, mut is_certain: bool, depth: usize) -> ComesOut {
        let chains: &'a FilterChains = self.chains;
        let found = chains.get_key_value(name).filter(|_| depth < MAX_DEPTH);
        let Some((name, rules)) = found else {
            // A base chain without rules.
            return if depth == 0 {
                ComesOut::ALWAYS
            } else {
                self.anything(name, || "unknown".to_owned())
            };
        };
        let (mut may_return, mut all_come_out) = (false, true);
        for rule in rules {
            if !self.budget.take() {
                return self.anything(name, || "too many rules".to_owned());
            }
            let matches = rule.matches(self.packet);
            let is_unknown = matches == Ternary::Unknown
                || matches!(rule.action, Action::MayAccept | Action::Anything(_));
            if matches == Ternary::No || self.skips_unknown && is_unknown {
                continue;
            }
            let is_sure = is_certain && matches == Ternary::Yes;
            self.side_effects(name, rule, is_sure);
            let Next { stays, returns } = self.action(name, rule, is_sure, depth);
            may_return |= returns.is_possible;
            all_come_out &= stays.is_certain || returns.is_certain;
            is_certain &= stays.is_certain;
            if matches == Ternary::Yes && !stays.is_possible {
                return ComesOut { is_possible: may_return, is_certain: all_come_out };
            }
        }
        ComesOut { is_possible: true, is_certain: all_come_out }
    }

    fn side_effects(&mut self, chain: &Arc<str>, rule: &FilterRule, is_sure: bool) {
        if let Some(change) = rule.marks {
            let mark = self.packet.mark;
            self.packet.mark =
                if is_sure { mark.changed(change) } else { mark.perhaps_changed(change) };
            self.note_mark(chain, rule, change);
        }
        if rule.untracks {
            self.evaluation.surely_untracks |= is_sure;
            note(&mut self.evaluation.untracks, chain, rule, Effect::Untracks);
        }
    }

    fn action(
        &mut self,
        chain: &Arc<str>,
        rule: &'a FilterRule,
        is_sure: bool,
        depth: usize,
    ) -> Next {
        let stays = |stays| Next { stays, returns: ComesOut::NEVER };
        let returns = |returns| Next { stays: ComesOut::NEVER, returns };
        match &rule.action {
            Action::Continue => stays(ComesOut::ALWAYS),
            Action::Accept => {
                self.evaluation.accepts = true;
                stays(ComesOut::NEVER)
            }
            Action::Drop => {
                self.refuse(chain, || rule.to_string(), RefusalKind::Drop);
                stays(ComesOut::NEVER)
            }
            Action::Reject => {
                self.refuse(chain, || rule.to_string(), RefusalKind::Reject);
                stays(ComesOut::NEVER)
            }
            Action::Return => returns(ComesOut::ALWAYS),
            Action::Jump(to) => stays(self.chain(to, is_sure, depth + 1)),
            Action::Goto(to) => returns(self.chain(to, is_sure, depth + 1)),
            Action::Translate => {
                self.evaluation.accepts = true;
                note(&mut self.evaluation.translates, chain, rule, Effect::Translates);
                stays(ComesOut::NEVER)
            }
            Action::MayAccept => {
                self.evaluation.accepts = true;
                stays(ComesOut::MAYBE)
            }
            Action::Anything(_) => stays(self.anything(chain, || rule.to_string())),
        }
    }

    /// Notes a rule that sets or clears bits of the mark that no noted rule does.
    fn note_mark(&mut self, chain: &Arc<str>, rule: &FilterRule, change: MarkChange) {
        let marks = &mut self.evaluation.marks;
        let noted = marks.iter().fold((0, 0), |(set, cleared), hit| match hit.effect {
            Effect::Marks { sets, clears } => (set | sets, cleared | clears),
            _ => (set, cleared),
        });
        let (sets, clears) = (change.sets(), change.clears());
        if sets & !noted.0 != 0 || clears & !noted.1 != 0 {
            let effect = Effect::Marks { sets, clears };
            marks.push(Hit { chain: chain.clone(), rule: rule.to_string(), effect });
        }
    }

    /// Notes the first refusals, and the first of each kind: only then is it known whether all are
    /// alike.
    fn refuse(&mut self, chain: &Arc<str>, rule: impl FnOnce() -> String, refusal: RefusalKind) {
        let effect = Effect::Refuses(refusal);
        let refusals = &mut self.evaluation.refusals;
        let is_new = refusals.iter().all(|hit| hit.effect != effect);
        if is_new || refusals.len() < NAMED {
            refusals.push(Hit { chain: chain.clone(), rule: rule(), effect });
        }
    }

    fn anything(&mut self, chain: &Arc<str>, rule: impl FnOnce() -> String) -> ComesOut {
        self.evaluation.accepts = true;
        self.packet.mark = PartialMark::UNKNOWN;
        self.refuse(chain, rule, RefusalKind::Unknown);
        ComesOut::MAYBE
    }
}

fn note(hits: &mut Vec<Hit>, chain: &Arc<str>, rule: &FilterRule, effect: Effect) {
    if hits.len() < NAMED {
        hits.push(Hit { chain: chain.clone(), rule: rule.to_string(), effect });
    }
}
