//! The roles of iptables rules, by their chains and comments.

use rulegen_compiler::iptables::{
    EXTERNAL_SERVICES, MARK_MASQUERADE, NODE_PORTS, POSTROUTING, PROXY_FIREWALL, SERVICES,
    SHARED_FIREWALL, loopback_guard,
};
use rulegen_model::TrafficPolicy;
use rulegen_net::{FrontendKind, Protocol};
use rulegen_ruleset::iptables::{Match, Rule, RuleSpec, Step, Table, Target};
use rulegen_ruleset::nftables::NumgenMode;

use super::{RuleRole, RuleServicePort};
use crate::masquerade_reason::MasqueradeReason;
use crate::rule_comment::{CommentSubject, RuleComment};

/// The role of a rule that matched a packet of this protocol; `None` for foreign rules and plain
/// jumps.
pub(crate) fn role(step: &Step<'_>, protocol: Protocol) -> Option<RuleRole> {
    let Rule::Known(rule) = step.rule else { return None };
    match (step.table, step.chain.as_str()) {
        (Table::Nat, SERVICES) => frontend(rule, protocol),
        (Table::Nat, NODE_PORTS) => {
            Some(RuleRole::Frontend(known(rule, protocol, FrontendKind::NodePort)?))
        }
        (Table::Nat, POSTROUTING) => {
            matches!(rule.target, Some(Target::Masquerade { .. })).then_some(RuleRole::Masquerade)
        }
        (Table::Nat, chain) => of_service(chain, rule),
        (Table::Filter, SERVICES) => refused(rule, protocol, FrontendKind::ClusterIP),
        (Table::Filter, EXTERNAL_SERVICES) => {
            let at_node = |m: &Match| matches!(m, Match::DestinationType(_));
            let is_at_node = rule.matches.iter().any(at_node);
            let kind = if is_at_node { FrontendKind::NodePort } else { FrontendKind::External };
            refused(rule, protocol, kind)
        }
        (Table::Filter, PROXY_FIREWALL) => {
            let CommentSubject::Firewalled = RuleComment::of(rule)?.subject()? else { return None };
            Some(RuleRole::Firewalled(known(rule, protocol, FrontendKind::LoadBalancerIP)?))
        }
        (Table::Filter, SHARED_FIREWALL) => {
            (*step.rule == loopback_guard()).then_some(RuleRole::LoopbackGuard)
        }
        _ => None,
    }
}

fn known(rule: &RuleSpec, protocol: Protocol, kind: FrontendKind) -> Option<RuleServicePort> {
    Some(RuleServicePort { service: RuleComment::of(rule)?.service_port(protocol)?, kind })
}

fn frontend(rule: &RuleSpec, protocol: Protocol) -> Option<RuleRole> {
    let CommentSubject::Frontend(kind) = RuleComment::of(rule)?.subject()? else { return None };
    Some(RuleRole::Frontend(known(rule, protocol, kind)?))
}

fn refused(rule: &RuleSpec, protocol: Protocol, kind: FrontendKind) -> Option<RuleRole> {
    let CommentSubject::Refused(refusal) = RuleComment::of(rule)?.subject()? else { return None };
    Some(RuleRole::Refused(known(rule, protocol, kind)?, refusal))
}

fn of_service(chain: &str, rule: &RuleSpec) -> Option<RuleRole> {
    let target = match &rule.target {
        Some(Target::Jump(chain)) => chain.as_str(),
        Some(Target::Dnat(_)) => return Some(RuleRole::Translation),
        _ => return None,
    };
    let marks = target == MARK_MASQUERADE;
    if chain.starts_with("KUBE-EXT-") {
        use CommentSubject::{MasqueradeFromNode, PodTraffic, RouteFromNode};
        return Some(match RuleComment::of(rule).and_then(RuleComment::subject) {
            Some(MasqueradeFromNode) if marks => RuleRole::Mark(MasqueradeReason::FromNode),
            _ if marks => RuleRole::Mark(MasqueradeReason::External),
            Some(RouteFromNode) => RuleRole::ShortCircuit { from_node: true },
            Some(PodTraffic) => RuleRole::ShortCircuit { from_node: false },
            _ if target.starts_with("KUBE-SVL-") => RuleRole::Policy(TrafficPolicy::Local),
            _ => RuleRole::Policy(TrafficPolicy::Cluster),
        });
    }
    if chain.starts_with("KUBE-SVC-") || chain.starts_with("KUBE-SVL-") {
        let is_for_some = rule.source.is_some() || rule.in_interface.is_some();
        return Some(match marks {
            true if is_for_some => RuleRole::Mark(MasqueradeReason::NotFromPods),
            true => RuleRole::Mark(MasqueradeReason::All),
            false => RuleRole::Choice(NumgenMode::Random),
        });
    }
    if chain.starts_with("KUBE-FW-") {
        return Some(RuleRole::SourceRange);
    }
    (marks && chain.starts_with("KUBE-SEP-")).then_some(RuleRole::Mark(MasqueradeReason::Hairpin))
}
