//! What rules of this layout mean, by the chains that they are in and the elements that they find.

use rulegen_compiler::Refusal;
use rulegen_compiler::nftables::{
    CLOSED, CLUSTER_IPS, FIREWALL, FrontendMaps, HAIRPINS, SERVICE_CIDRS, SHARED_ENDPOINTS,
};
use rulegen_model::TrafficPolicy;
use rulegen_net::{FrontendKind, Protocol, ServicePortName};
use rulegen_ruleset::nftables::{
    Condition, Data, Found, Key, Number, NumgenMode, Rule, Selector, Statement, Step, Table, Value,
    Verdict,
};

use super::{Known, Meaning};
use crate::words::MasqueradeReason;

/// The role of a rule that matched a packet of this protocol, if it does more than lead to others.
pub(crate) fn role(table: &Table, step: &Step<'_>, protocol: Protocol) -> Option<Meaning> {
    if let Some(meaning) =
        step.found.as_ref().and_then(|found| found_in(table, step, found, protocol))
    {
        return Some(meaning);
    }
    let chain = step.chain.as_str();
    let rule = step.rule;
    if does(rule, |s| matches!(s, Statement::MarkOr(_))) {
        return Some(Meaning::Mark(reason(chain, rule)));
    }
    if does(rule, |s| *s == Statement::Masquerade) {
        return Some(Meaning::Masquerade);
    }
    if does(rule, |s| matches!(s, Statement::Update { .. })) {
        return Some(Meaning::Remembers);
    }
    if does(rule, |s| matches!(s, Statement::Dnat(..))) {
        return Some(Meaning::Translation);
    }
    let is_local_policy = FrontendMaps::BOTH.iter().any(|maps| chain == maps.local_policy());
    if is_local_policy || chain.starts_with("external/") {
        return way_of_policy(rule);
    }
    let chooses = chain.starts_with("cluster/") || chain.starts_with("local/");
    chooses.then(|| Meaning::Choice(drawn(rule)))
}

/// What the element says that it found.
fn found_in(
    table: &Table,
    step: &Step<'_>,
    found: &Found<'_>,
    protocol: Protocol,
) -> Option<Meaning> {
    let known = |kind| known(found, protocol, kind);
    let set = found.set.as_str();
    match (step.chain.as_str(), set) {
        (FIREWALL, _) => {
            let known = known(FrontendKind::LoadBalancerIP)?;
            return Some(Meaning::Firewalled(known));
        }
        (CLOSED, CLUSTER_IPS) => {
            return Some(Meaning::ClosedPort(known(FrontendKind::ClusterIP)?));
        }
        (CLOSED, SERVICE_CIDRS) => return Some(Meaning::NoSuchClusterIp),
        (_, SHARED_ENDPOINTS) => return Some(Meaning::ChosenTranslation(drawn(step.rule))),
        (_, HAIRPINS) => return Some(Meaning::Mark(MasqueradeReason::Hairpin)),
        _ if set.starts_with("affinity/") => return Some(Meaning::Kept),
        _ => {}
    }
    let maps = FrontendMaps::BOTH.into_iter().find(|maps| maps.has(set))?;
    let kind = match maps {
        FrontendMaps::NodePort => FrontendKind::NodePort,
        FrontendMaps::Address if is_cluster_ip(table, found.key) => FrontendKind::ClusterIP,
        FrontendMaps::Address => FrontendKind::External,
    };
    if set == maps.services() {
        return Some(Meaning::Frontend(known(kind)?));
    }
    if set == maps.refused() {
        let refusal = match found.element.data {
            Some(Data::Verdict(Verdict::Drop)) => Refusal::NoLocalEndpoints,
            _ => Refusal::NoEndpoints,
        };
        return Some(Meaning::Refused(known(kind)?, refusal));
    }
    if set == maps.local_services() {
        return Some(Meaning::Policy(TrafficPolicy::Local));
    }
    (set != maps.short_circuits()).then(|| Meaning::ChosenTranslation(drawn(step.rule)))
}

fn known(found: &Found<'_>, protocol: Protocol, kind: FrontendKind) -> Option<Known> {
    let comment = found.element.comment.as_ref()?.as_str();
    let service = ServicePortName::from_comment(comment, protocol)?;
    Some(Known { service, kind })
}

fn is_cluster_ip(table: &Table, key: &Key) -> bool {
    let address = key.values().find(|value| matches!(value, Value::Address(_)));
    let Some((address, set)) = address.zip(table.sets.get(CLUSTER_IPS)) else {
        return false;
    };
    set.elements.contains_key(&Key::from([address]))
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

/// Under external policy Local, who is sent to all endpoints and who only to those of this node.
fn way_of_policy(rule: &Rule) -> Option<Meaning> {
    let of_node = |s: &Statement| *s == Statement::Match(Condition::SourceIsLocal);
    let leads_to = |start: &str| {
        does(rule, |statement| match statement {
            Statement::Verdict(Verdict::Goto(chain)) => chain.as_str().starts_with(start),
            _ => false,
        })
    };
    if leads_to("local/") {
        return Some(Meaning::Policy(TrafficPolicy::Local));
    }
    let is_short = rule.comment.is_some();
    Some(match is_short {
        true => Meaning::ShortCircuit { from_node: does(rule, of_node) },
        false => Meaning::Policy(TrafficPolicy::Cluster),
    })
}

/// How the rule draws a number, if it does.
fn drawn(rule: &Rule) -> NumgenMode {
    let number = |number: &Number| match number {
        Number::Modulo(draw, below) if *below > 1 => Some(*draw),
        _ => None,
    };
    let in_key = |key: &Vec<Selector>| {
        key.iter().find_map(|selector| match selector {
            Selector::Number(of) => number(of),
            _ => None,
        })
    };
    let in_statement = |statement: &Statement| match statement {
        Statement::DnatMap { key, .. } => in_key(key),
        Statement::Match(Condition::Is(of, _)) => number(of),
        _ => None,
    };
    rule.statements.iter().find_map(in_statement).unwrap_or(NumgenMode::Random)
}

fn does(rule: &Rule, what: impl Fn(&Statement) -> bool) -> bool {
    rule.statements.iter().any(what)
}
