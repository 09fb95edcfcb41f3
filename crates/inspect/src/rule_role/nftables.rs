//! The roles of nftables rules, by their chains and the elements that they find.

use rulegen_compiler::Refusal;
use rulegen_compiler::nftables::{
    CLOSED, CLUSTER_IPS, FIREWALL, FrontendMaps, HAIRPINS, SERVICE_CIDRS, SHARED_ENDPOINTS,
};
use rulegen_model::TrafficPolicy;
use rulegen_net::{FrontendKind, Protocol, ServicePortName};
use rulegen_ruleset::nftables::{
    Condition, Data, MatchingElement, Rule, Statement, Step, Table, Verdict,
};

use super::kube_proxy;
use super::statements::{does, drawn, is_cluster_ip};
use super::{RuleRole, RuleServicePort};
use crate::kube_proxy::Layout;
use crate::masquerade_reason::MasqueradeReason;

/// The role of a rule that matched a packet of this protocol; `None` for a plain jump.
pub(crate) fn role(table: &Table, step: &Step<'_>, protocol: Protocol) -> Option<RuleRole> {
    if Layout::of(table) == Layout::KubeProxy {
        return kube_proxy::role(table, step, protocol);
    }
    if let Some(meaning) =
        step.found.as_ref().and_then(|found| found_in(table, step, found, protocol))
    {
        return Some(meaning);
    }
    let chain = step.chain.as_str();
    let rule = step.rule;
    if does(rule, |s| matches!(s, Statement::MarkOr(_))) {
        return Some(RuleRole::Mark(reason(chain, rule)));
    }
    if does(rule, |s| *s == Statement::Masquerade) {
        return Some(RuleRole::Masquerade);
    }
    if does(rule, |s| matches!(s, Statement::Update { .. })) {
        return Some(RuleRole::RecordsClient);
    }
    if does(rule, |s| matches!(s, Statement::Dnat(..))) {
        return Some(RuleRole::Translation);
    }
    let is_local_policy = FrontendMaps::BOTH.iter().any(|maps| chain == maps.local_policy());
    if is_local_policy || chain.starts_with("external/") {
        return local_policy_role(rule);
    }
    let chooses = chain.starts_with("cluster/") || chain.starts_with("local/");
    chooses.then(|| RuleRole::Choice(drawn(rule)))
}

/// The role of the element that the rule found.
fn found_in(
    table: &Table,
    step: &Step<'_>,
    found: &MatchingElement<'_>,
    protocol: Protocol,
) -> Option<RuleRole> {
    let known = |kind| known(found, protocol, kind);
    let set = found.set.as_str();
    match (step.chain.as_str(), set) {
        (FIREWALL, _) => {
            let known = known(FrontendKind::LoadBalancerIP)?;
            return Some(RuleRole::Firewalled(known));
        }
        (CLOSED, CLUSTER_IPS) => {
            return Some(RuleRole::ClosedPort(known(FrontendKind::ClusterIP)?));
        }
        (CLOSED, SERVICE_CIDRS) => return Some(RuleRole::NoSuchClusterIp),
        (_, SHARED_ENDPOINTS) => return Some(RuleRole::ChosenTranslation(drawn(step.rule))),
        (_, HAIRPINS) => return Some(RuleRole::MasqueradeHairpin),
        _ if set.starts_with("affinity/") => return Some(RuleRole::KnownClient),
        _ if set.starts_with("cluster-slots/") || set.starts_with("local-slots/") => {
            return Some(RuleRole::Choice(drawn(step.rule)));
        }
        _ => {}
    }
    let maps = FrontendMaps::BOTH.into_iter().find(|maps| maps.has(set))?;
    let kind = match maps {
        FrontendMaps::NodePort => FrontendKind::NodePort,
        FrontendMaps::Address if is_cluster_ip(table, found.key) => FrontendKind::ClusterIP,
        FrontendMaps::Address => FrontendKind::External,
    };
    if set == maps.services() {
        return Some(RuleRole::Frontend(known(kind)?));
    }
    if set == maps.refused() {
        let refusal = match found.element.data {
            Some(Data::Verdict(Verdict::Drop)) => Refusal::NoLocalEndpoints,
            _ => Refusal::NoEndpoints,
        };
        return Some(RuleRole::Refused(known(kind)?, refusal));
    }
    if set == maps.local_services() {
        return Some(RuleRole::Policy(TrafficPolicy::Local));
    }
    (set != maps.short_circuits()).then(|| RuleRole::ChosenTranslation(drawn(step.rule)))
}

fn known(
    found: &MatchingElement<'_>,
    protocol: Protocol,
    kind: FrontendKind,
) -> Option<RuleServicePort> {
    let comment = found.element.comment.as_ref()?.as_str();
    let service = ServicePortName::from_comment(comment, protocol)?;
    Some(RuleServicePort { service, kind })
}

/// Why a rule marks a packet for masquerading.
pub(crate) fn reason(chain: &str, rule: &Rule) -> MasqueradeReason {
    let asks = does(rule, |statement| matches!(statement, Statement::Match(_)));
    let of_node = |s: &Statement| *s == Statement::Match(Condition::SourceIsLocal);
    match () {
        () if does(rule, of_node) => MasqueradeReason::FromNode,
        () if !chain.starts_with("cluster-ip") => MasqueradeReason::External,
        () if asks => MasqueradeReason::NotFromPods,
        () => MasqueradeReason::All,
    }
}

/// The role of a rule for external policy Local: which clients may reach all endpoints, and which
/// only the endpoints of this node.
fn local_policy_role(rule: &Rule) -> Option<RuleRole> {
    let of_node = |s: &Statement| *s == Statement::Match(Condition::SourceIsLocal);
    let leads_to = |start: &str| {
        does(rule, |statement| match statement {
            Statement::Verdict(Verdict::Goto(chain)) => chain.as_str().starts_with(start),
            _ => false,
        })
    };
    if leads_to("local/") {
        return Some(RuleRole::Policy(TrafficPolicy::Local));
    }
    let is_short = rule.comment.is_some();
    Some(match is_short {
        true => RuleRole::ShortCircuit { from_node: does(rule, of_node) },
        false => RuleRole::Policy(TrafficPolicy::Cluster),
    })
}
