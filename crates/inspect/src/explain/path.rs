//! The paths that a packet can take through the rules of either backend.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use rulegen_compiler::nftables::KUBE_PROXY_TABLE;
use rulegen_compiler::{Plan, ServicePlan};
use rulegen_net::{Frontend, FrontendKind, Protocol, ServicePortName};
use rulegen_ruleset::iptables;
use rulegen_ruleset::nftables::{self, Table};
use rulegen_ruleset::{Packet, RefusedAt, TraceBranch};

use super::{Chance, End, Outcome, PassedRule, ReachedFrontend};
use crate::kube_proxy::Layout;
use crate::rule_role;
use crate::rule_role::{RuleRole, RuleServicePort};

/// One path.
pub(super) struct PacketPath {
    pub(super) probability: Chance,
    pub(super) steps: Vec<PassedRule>,
    pub(super) verdict: Outcome,
    /// Where the packet is rejected or dropped, if it is.
    refused_at: BTreeSet<RefusedAt>,
}

impl PacketPath {
    /// The paths of branches. Branches with the same end become one path, with the rules of the
    /// first.
    pub(super) fn of_iptables(
        branches: Vec<iptables::Branch<'_>>,
        protocol: Protocol,
    ) -> Vec<Self> {
        let path = |(branch, at)| Self::of_iptables_branch(&branch, at, protocol);
        merged(branches).into_iter().map(path).collect()
    }

    fn of_iptables_branch(
        branch: &iptables::Branch<'_>,
        refused_at: BTreeSet<RefusedAt>,
        protocol: Protocol,
    ) -> Self {
        let step = |step: &iptables::Step<'_>| PassedRule {
            role: rule_role::of_iptables(step, protocol),
            ..rule_of_iptables(step)
        };
        let policy = branch.policy.map(|(table, chain)| PassedRule {
            table: Some(table.name()),
            chain: chain.to_string(),
            rule: "policy DROP".to_owned(),
            element: None,
            role: None,
        });
        Self {
            probability: Chance::of_iptables(branch.probability),
            steps: branch.path.iter().map(step).chain(policy).collect(),
            verdict: Outcome::from(branch.verdict),
            refused_at,
        }
    }

    /// The paths of branches through a table.
    pub(super) fn of_nftables(
        branches: Vec<nftables::Branch<'_>>,
        table: &Table,
        protocol: Protocol,
    ) -> Vec<Self> {
        let path = |(branch, at)| Self::of_nftables_branch(&branch, at, table, protocol);
        merged(branches).into_iter().map(path).collect()
    }

    fn of_nftables_branch(
        branch: &nftables::Branch<'_>,
        refused_at: BTreeSet<RefusedAt>,
        table: &Table,
        protocol: Protocol,
    ) -> Self {
        let step = |step: &nftables::Step<'_>| PassedRule {
            role: rule_role::of_nftables(table, step, protocol),
            ..rule_of_nftables(table, step)
        };
        Self {
            probability: Chance::of_nftables(branch.probability),
            steps: branch.path.iter().map(step).collect(),
            verdict: Outcome::from(branch.verdict),
            refused_at,
        }
    }

    fn end(self) -> End {
        End {
            probability: self.probability,
            outcome: self.verdict,
            cause: None,
            conditions: Vec::new(),
            rules: self.steps,
            interface: None,
            refused_at: self.refused_at,
        }
    }

    pub(super) fn roles(&self) -> impl Iterator<Item = &RuleRole> {
        self.steps.iter().filter_map(|rule| rule.role.as_ref())
    }
}

/// One branch per verdict, with the rules of the first, the total probability, and the places where
/// the packet is refused.
fn merged<S, C>(branches: Vec<TraceBranch<S, C>>) -> Vec<(TraceBranch<S, C>, BTreeSet<RefusedAt>)> {
    let mut single: Vec<(TraceBranch<S, C>, BTreeSet<RefusedAt>)> = Vec::new();
    let mut known: HashMap<iptables::PacketVerdict, usize> = HashMap::new();
    for branch in branches {
        let at = branch.refused_at;
        match known.get(&branch.verdict).and_then(|n| single.get_mut(*n)) {
            Some((other, places)) => {
                other.probability = other.probability.or(branch.probability);
                places.extend(at);
            }
            None => {
                known.insert(branch.verdict, single.len());
                single.push((branch, at.into_iter().collect()));
            }
        }
    }
    single
}

pub(super) fn rule_of_iptables(step: &iptables::Step<'_>) -> PassedRule {
    PassedRule {
        table: Some(step.table.name()),
        chain: step.chain.to_string(),
        rule: step.rule.to_string().trim_start().to_owned(),
        element: None,
        role: None,
    }
}

fn rule_of_nftables(table: &Table, step: &nftables::Step<'_>) -> PassedRule {
    let found = step.found.as_ref();
    let is_of_kube_proxy = Layout::of(table) == Layout::KubeProxy;
    PassedRule {
        table: is_of_kube_proxy.then_some(KUBE_PROXY_TABLE),
        chain: step.chain.to_string(),
        rule: step.rule.text(table.family).to_string(),
        element: found.map(element_text),
        role: None,
    }
}

fn element_text(found: &nftables::MatchingElement<'_>) -> String {
    let element = found.element.text(found.key);
    match found.set.is_anonymous() {
        true => element.to_string(),
        false => format!("@{} {element}", found.set),
    }
}

/// The service port that a packet reaches, according to the rules, or to the plan if no rule
/// matches.
pub(super) fn frontend(
    ways: &[PacketPath],
    packet: &Packet,
    local: &[IpAddr],
    plan: Option<&Plan>,
) -> Option<ReachedFrontend> {
    let told = ways.iter().flat_map(PacketPath::roles).find_map(known).cloned();
    let known = told.or_else(|| planned_at(packet, local, plan?))?;
    let address = packet.destination;
    let mut frontend = ReachedFrontend {
        service: known.service.clone(),
        kind: known.kind,
        address,
        policy: ways.iter().flat_map(PacketPath::roles).find_map(|meaning| match meaning {
            RuleRole::Policy(policy) => Some(*policy),
            _ => None,
        }),
    };
    if let Some(service) = planned(&frontend.service, plan) {
        frontend.kind = kind(service, address, known.kind);
        frontend.policy = service.policy(frontend.kind);
    }
    Some(frontend)
}

fn known(meaning: &RuleRole) -> Option<&RuleServicePort> {
    match meaning {
        RuleRole::Frontend(known)
        | RuleRole::Refused(known, _)
        | RuleRole::Firewalled(known)
        | RuleRole::ClosedPort(known) => Some(known),
        _ => None,
    }
}

/// The plan of a service port.
pub(super) fn planned<'a>(
    name: &ServicePortName,
    plan: Option<&'a Plan>,
) -> Option<&'a ServicePlan> {
    plan?.service(name)
}

fn planned_at(packet: &Packet, local: &[IpAddr], plan: &Plan) -> Option<RuleServicePort> {
    let is_local = |ip| local.contains(&ip);
    let (owner, kind) = plan.owner_at(packet.destination, packet.protocol, is_local)?;
    Some(RuleServicePort { service: owner.name.clone(), kind })
}

/// Rules do not always show whether an address is an external or a load-balancer IP.
fn kind(service: &ServicePlan, at: SocketAddr, shown: FrontendKind) -> FrontendKind {
    if shown != FrontendKind::External {
        return shown;
    }
    let is_external = |(frontend, kind): &(Frontend, FrontendKind)| {
        frontend.ip() == Some(at.ip()) && *kind != FrontendKind::ClusterIP
    };
    service.frontends().find(is_external).map_or(shown, |(_, kind)| kind)
}

/// The common start of all paths, their ends, and the common rest.
pub(super) fn parted(ways: Vec<PacketPath>) -> (Vec<PassedRule>, Vec<End>, Vec<PassedRule>) {
    let mut ends: Vec<End> = ways.into_iter().map(PacketPath::end).collect();
    let begin = common(&ends, |end| Box::new(end.rules.iter()));
    let rules = take(&mut ends, |rules| {
        let rest = rules.split_off(begin.min(rules.len()));
        std::mem::replace(rules, rest)
    });
    let end = common(&ends, |end| Box::new(end.rules.iter().rev()));
    let behind = take(&mut ends, |rules| rules.split_off(rules.len().saturating_sub(end)));
    (rules, ends, behind)
}

/// Number of leading rules that all have in common.
fn common(
    ends: &[End],
    rules: for<'a> fn(&'a End) -> Box<dyn Iterator<Item = &'a PassedRule> + 'a>,
) -> usize {
    let Some((first, others)) = ends.split_first() else { return 0 };
    let shared = |other| rules(first).zip(rules(other)).take_while(|(a, b)| a == b).count();
    others.iter().map(shared).min().unwrap_or(first.rules.len())
}

/// Removes the common rules from each, and returns them once.
fn take(
    ends: &mut [End],
    part: impl Fn(&mut Vec<PassedRule>) -> Vec<PassedRule>,
) -> Vec<PassedRule> {
    ends.iter_mut().fold(Vec::new(), |_, end| part(&mut end.rules))
}

impl From<rulegen_ruleset::iptables::PacketVerdict> for Outcome {
    fn from(verdict: iptables::PacketVerdict) -> Self {
        match verdict {
            iptables::PacketVerdict::Delivered { destination, translated: true, masqueraded } => {
                Outcome::Endpoint { endpoint: destination, masqueraded }
            }
            iptables::PacketVerdict::Delivered { masqueraded, .. } => {
                Outcome::Passes { masqueraded }
            }
            iptables::PacketVerdict::Rejected => Outcome::Rejected,
            iptables::PacketVerdict::Dropped => Outcome::Dropped,
        }
    }
}

/// iptables uses random numbers of 31 bits. Each of two consecutive rules may be off by one.
const IPTABLES_STEPS: u32 = 2;

impl Chance {
    fn of_iptables(probability: rulegen_ruleset::Probability) -> Self {
        Self::within(probability, IPTABLES_STEPS)
    }

    fn of_nftables(probability: rulegen_ruleset::Probability) -> Self {
        Self::within(probability, 0)
    }

    fn within(probability: rulegen_ruleset::Probability, steps: u32) -> Self {
        let value = probability.to_f64();
        let one_in = nearest(value).filter(|n| probability.is_one_in(*n, steps));
        Self { value, exact: probability.fraction(), one_in }
    }
}

/// The number `n` for which `1/n` is nearest to a probability.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number from 1 up; what is beyond saturates and is no match then"
)]
fn nearest(value: f64) -> Option<u64> {
    (value > 0.0).then(|| (1.0 / value).round() as u64)
}
