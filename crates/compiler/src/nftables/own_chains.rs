//! Chains of a single service port, for cases that the shared chains do not cover:
//!
//! - **Session affinity.** The clients that the kernel remembers belong to one service port.
//! - **Many frontends.** The shared maps contain each endpoint once per frontend. 1,000 external
//!   IPs with 1,000 endpoints would be a million elements. The chains here are used by all
//!   frontends and look up endpoints by a number of the service port, so f frontends and e
//!   endpoints need f + e elements. For a Service with more slots than endpoints (consistent
//!   hashing), two frontends are many.
//!
//! ```text
//! @services ─▶ cluster-ip/PATH ─┐
//!              external/PATH ───┴▶ cluster/PATH or local/PATH ─▶ DNAT
//! ```

use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_ruleset::nftables::{
    Comment, Data, Element, Key, Name, Rule, Selector, Statement, Value,
};

use super::affinity;
use super::contribution::Contribution;
use super::layout::{SHARED_ENDPOINTS, of_rules};
use super::number::Number64;
use super::service_path::{ServicePath, policy_word};
use super::set_element::SetElement;
use super::shared_chain::drawn;
use super::statements::{goto, mark, masquerade_internal, short_circuit};
use crate::plan::{External, Internal, Plan, ServicePlan, Slots, Treatment};

/// The first chains of one service port.
pub(super) struct OwnChains {
    /// For traffic to the cluster IP.
    pub(super) internal: Name,
    /// For traffic to all other addresses.
    pub(super) external: Name,
}

/// How the chains of one service port choose an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnChoice {
    /// The client's previous endpoint, or a new one.
    Affinity,
    /// By a generated number, from a map.
    Numbered,
}

/// Up to this number of frontends, the shared maps are used. A Service with one address of each
/// kind (cluster IP, external IP, load-balancer IP, node port) needs no chains of its own,
/// regardless of its number of endpoints, and f·e is at most 4·e.
const FEW_FRONTENDS: usize = 4;

/// The kind of chains that a service port needs for itself; `None` if it uses the shared ones.
pub(super) fn needed(service: &ServicePlan) -> Option<OwnChoice> {
    if service.affinity_seconds.is_some() {
        return Some(OwnChoice::Affinity);
    }
    let internal = matches!(service.internal.outcome, Treatment::Forward(_));
    let external = service.external.as_ref().filter(|external| external.forwards);
    let frontends = usize::from(internal) + external.map_or(0, |external| external.addresses.len());
    let policies = [TrafficPolicy::Cluster, TrafficPolicy::Local];
    let endpoints = policies.map(|policy| service.endpoints_of(policy).len());
    let has_table =
        policies.into_iter().any(|policy| *service.slots_of(policy) != Slots::OnePerEndpoint);
    let few = if has_table { 1 } else { FEW_FRONTENDS };
    (frontends > few && endpoints.into_iter().any(|count| count > 1)).then_some(OwnChoice::Numbered)
}

/// Adds the chains of a service port, and the elements that they look up.
pub(super) fn add(
    plan: &Plan,
    service: &ServicePlan,
    choice: OwnChoice,
    contribution: &mut Contribution,
) -> OwnChains {
    let path = ServicePath::of(service);
    match choice {
        OwnChoice::Affinity => affinity::add(plan, service, &path, contribution),
        OwnChoice::Numbered => {
            add_numbered(service, &path, TrafficPolicy::Cluster, contribution);
            add_numbered(service, &path, TrafficPolicy::Local, contribution);
        }
    }
    OwnChains {
        internal: add_internal(plan, service.internal, &path, contribution),
        external: add_external(plan, service, &path, contribution),
    }
}

/// The chain that chooses among the endpoints of a policy by their numbers.
fn add_numbered(
    service: &ServicePlan,
    path: &ServicePath,
    policy: TrafficPolicy,
    contribution: &mut Contribution,
) {
    let (endpoints, slots) = (service.endpoints_of(policy), service.slots_of(policy));
    if endpoints.is_empty() {
        return;
    }
    let number = Number64::of(policy_word(policy), [path.as_str()]);
    let [high, low] = number.selectors();
    let key = vec![
        Selector::Protocol,
        high,
        low,
        drawn(service.load_balancing, slots.count(endpoints.len())),
    ];
    let choose = Statement::DnatMap { key, map: Name::from(SHARED_ENDPOINTS) };
    let chain = of_rules(vec![Rule::new([choose])]);
    contribution.own_chains.push((path.policy(policy), chain));

    let comment = Some(Comment::from(service.name.to_string()));
    let over = Value::Protocol(service.name.protocol);
    let [high, low] = number.values();
    let element = |(turn, endpoint): (u32, &Endpoint)| SetElement {
        set: SHARED_ENDPOINTS,
        key: Key::from([over, high, low, Value::Number(turn)]),
        element: Element { data: Some(Data::AddrPort(endpoint.address)), comment: comment.clone() },
    };
    contribution.own_elements.extend((0..).zip(slots.endpoints(endpoints)).map(element));
}

fn add_internal(
    plan: &Plan,
    internal: Internal,
    path: &ServicePath,
    contribution: &mut Contribution,
) -> Name {
    let name = path.named("cluster-ip");
    if let Treatment::Forward(policy) = internal.outcome {
        let mut rules = Vec::from_iter(masquerade_internal(plan, internal.masquerade));
        rules.push(Rule::new([goto(path.policy(policy).as_str())]));
        contribution.own_chains.push((name.clone(), of_rules(rules)));
    }
    name
}

fn add_external(
    plan: &Plan,
    service: &ServicePlan,
    path: &ServicePath,
    contribution: &mut Contribution,
) -> Name {
    let name = path.named("external");
    let forwards = |external: &&External| external.forwards;
    let Some(external) = service.external.as_ref().filter(forwards) else { return name };
    let to = |policy| goto(path.policy(policy).as_str());
    let mut rules = match external.policy {
        TrafficPolicy::Cluster => vec![Rule::new([mark(plan)])],
        TrafficPolicy::Local if service.cluster_endpoints.is_empty() => Vec::new(),
        TrafficPolicy::Local => short_circuit(plan, &to(TrafficPolicy::Cluster)),
    };
    if let Treatment::Forward(policy) = external.outcome {
        rules.push(Rule::new([to(policy)]));
    }
    contribution.own_chains.push((name.clone(), of_rules(rules)));
    name
}
