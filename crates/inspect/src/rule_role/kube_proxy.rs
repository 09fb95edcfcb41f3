//! The roles of rules in kube-proxy's own nftables table, by their chains and the elements that they
//! find.

use rulegen_compiler::Refusal;
use rulegen_compiler::nftables::{CLUSTER_IPS, FrontendMaps};
use rulegen_model::TrafficPolicy;
use rulegen_net::{FrontendKind, Protocol, ServicePortName};
use rulegen_ruleset::nftables::{
    Condition, Data, Key, MatchingElement, Name, Rule, Statement, Step, Table, Verdict,
};

use super::statements::{does, drawn, is_cluster_ip};
use super::{RuleRole, RuleServicePort};
use crate::kube_proxy::{
    AFFINITY, CLUSTER_IPS_CHECK, CLUSTER_POLICY, ENDPOINT, EXTERNAL, FIREWALL, LOCAL_POLICY,
    Layout, MARK, service_of_chain,
};
use crate::masquerade_reason::MasqueradeReason;

/// The role of a rule that matched a packet of this protocol; `None` for a plain jump.
pub(super) fn role(table: &Table, step: &Step<'_>, protocol: Protocol) -> Option<RuleRole> {
    let (chain, rule) = (step.chain.as_str(), step.rule);
    let of_found = step.found.as_ref().and_then(|found| found_in(table, step, found, protocol));
    if of_found.is_some() {
        return of_found;
    }
    match () {
        () if leads_to(rule, MARK) => Some(RuleRole::Mark(reason(chain, rule))),
        () if does(rule, |s| *s == Statement::Masquerade) => Some(RuleRole::Masquerade),
        () if does(rule, |s| matches!(s, Statement::Update { .. })) => {
            Some(RuleRole::RecordsClient)
        }
        () if does(rule, |s| matches!(s, Statement::Dnat(..))) => Some(RuleRole::Translation),
        () if does(rule, |s| *s == Statement::Verdict(Verdict::Drop)) => dropped(chain),
        () if chain.starts_with(EXTERNAL) => policy(rule),
        () => None,
    }
}

/// The role of the element that the rule found.
fn found_in(
    table: &Table,
    step: &Step<'_>,
    found: &MatchingElement<'_>,
    protocol: Protocol,
) -> Option<RuleRole> {
    let (chain, set) = (step.chain.as_str(), found.set.as_str());
    let is_policy = chain.starts_with(CLUSTER_POLICY) || chain.starts_with(LOCAL_POLICY);
    match set {
        CLUSTER_IPS if chain == CLUSTER_IPS_CHECK => {
            return Some(RuleRole::ClosedPort(owner(table, found.key, protocol)?));
        }
        _ if set.starts_with(AFFINITY) => return Some(RuleRole::KnownClient),
        _ if is_policy && found.set.is_anonymous() => {
            return Some(RuleRole::Choice(drawn(step.rule)));
        }
        _ => {}
    }
    let layout = Layout::KubeProxy;
    let is_of =
        |maps: &FrontendMaps| [layout.services(*maps), layout.refused(*maps)].contains(&set);
    let maps = FrontendMaps::BOTH.into_iter().find(is_of)?;
    let kind = match maps {
        FrontendMaps::NodePort => FrontendKind::NodePort,
        FrontendMaps::Address if is_cluster_ip(table, found.key) => FrontendKind::ClusterIP,
        FrontendMaps::Address => FrontendKind::External,
    };
    let service = layout.service(found.element, protocol)?;
    let known = RuleServicePort { service, kind };
    if set == layout.services(maps) {
        return Some(RuleRole::Frontend(known));
    }
    let refusal = match found.element.data {
        Some(Data::Verdict(Verdict::Drop)) => Refusal::NoLocalEndpoints,
        _ => Refusal::NoEndpoints,
    };
    Some(RuleRole::Refused(known, refusal))
}

/// The Service with a cluster IP. The set of cluster IPs does not show it, the maps of frontends do.
fn owner(table: &Table, ip: &Key, protocol: Protocol) -> Option<RuleServicePort> {
    let layout = Layout::KubeProxy;
    let maps = [layout.services(FrontendMaps::Address), layout.refused(FrontendMaps::Address)];
    let elements = maps.iter().filter_map(|map| {
        let map = table.sets.get(&Name::from(map))?;
        let (key, element) = map.elements.range(ip.clone()..).next()?;
        let is_there = key.values().next() == ip.values().next();
        is_there.then(|| layout.service(element, protocol)).flatten()
    });
    let ServicePortName { namespace, service, .. } = elements.into_iter().next()?;
    let service = ServicePortName::from_comment(&format!("{namespace}/{service}"), protocol)?;
    Some(RuleServicePort { service, kind: FrontendKind::ClusterIP })
}

/// Why a rule marks a packet for masquerading.
fn reason(chain: &str, rule: &Rule) -> MasqueradeReason {
    let of_node = |s: &Statement| *s == Statement::Match(Condition::SourceIsLocal);
    let is_of_client = |s: &Statement| {
        matches!(s, Statement::Match(Condition::Source(_) | Condition::InInterface(_)))
    };
    match () {
        () if chain.starts_with(ENDPOINT) => MasqueradeReason::Hairpin,
        () if does(rule, of_node) => MasqueradeReason::FromNode,
        () if chain.starts_with(EXTERNAL) => MasqueradeReason::External,
        () if does(rule, is_of_client) => MasqueradeReason::NotFromPods,
        () => MasqueradeReason::All,
    }
}

/// The role of a rule that drops.
fn dropped(chain: &str) -> Option<RuleRole> {
    if chain == CLUSTER_IPS_CHECK {
        return Some(RuleRole::NoSuchClusterIp);
    }
    let service = service_of_chain(chain).filter(|_| chain.starts_with(FIREWALL))?;
    Some(RuleRole::Firewalled(RuleServicePort { service, kind: FrontendKind::LoadBalancerIP }))
}

/// The role of a rule for external traffic: which clients may reach all endpoints, and which only
/// the endpoints of this node.
fn policy(rule: &Rule) -> Option<RuleRole> {
    let of_node = |s: &Statement| *s == Statement::Match(Condition::SourceIsLocal);
    let is_conditional = does(rule, |s| matches!(s, Statement::Match(_)));
    match () {
        () if leads_to(rule, LOCAL_POLICY) => Some(RuleRole::Policy(TrafficPolicy::Local)),
        () if !leads_to(rule, CLUSTER_POLICY) => None,
        () if is_conditional => Some(RuleRole::ShortCircuit { from_node: does(rule, of_node) }),
        () => Some(RuleRole::Policy(TrafficPolicy::Cluster)),
    }
}

/// Whether a rule leads to a chain whose name starts like this.
fn leads_to(rule: &Rule, start: &str) -> bool {
    does(rule, |statement| match statement {
        Statement::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain)) => {
            chain.as_str().starts_with(start)
        }
        _ => false,
    })
}
