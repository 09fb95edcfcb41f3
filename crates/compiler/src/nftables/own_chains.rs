//! Chains that a service port has for itself, where the shared ones do not fit:
//!
//! - **Session affinity.** Clients that the kernel remembers belong to one service port.
//! - **Many frontends.** The shared maps hold each endpoint once for each
//!   frontend. 1,000 external IPs with 1,000 endpoints would be a million elements. The chains
//!   here are entered from all frontends and look endpoints up by a number of the service port,
//!   so f frontends and e endpoints cost f + e elements.
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
use super::contribution::{Contribution, SetElement};
use super::layout::{SHARED_ENDPOINTS, of_rules};
use super::number::Number64;
use super::shared_chain::drawn;
use super::spell::{goto, mark, masquerade_internal, short_circuit};
use crate::plan::{External, Internal, Outcome, Plan, ServicePlan};

/// The entrances to the chains of one service port.
pub(super) struct OwnChains {
    /// For traffic to the cluster IP.
    pub(super) internal: Name,
    /// For traffic to all other addresses.
    pub(super) external: Name,
}

/// How the chains of one service port choose an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnChoice {
    /// The endpoint that the client had before, else a new one.
    Affinity,
    /// By a number in a map.
    Numbered,
}

/// Up to so many frontends the shared maps are used. A Service with one address of each kind
/// (cluster IP, external IP, load-balancer IP, node port) needs no chains of its own, however
/// many endpoints it has, and f·e is at most 4·e.
const FEW_FRONTENDS: usize = 4;

/// Whether a service port needs chains of its own, and which.
pub(super) fn needed(service: &ServicePlan) -> Option<OwnChoice> {
    if service.affinity_seconds.is_some() {
        return Some(OwnChoice::Affinity);
    }
    let internal = matches!(service.internal.outcome, Outcome::Forward(_));
    let external = service.external.as_ref().filter(|external| external.forwards);
    let frontends = usize::from(internal) + external.map_or(0, |external| external.addresses.len());
    let endpoints = service.cluster_endpoints.len().max(service.local_endpoints.len());
    (frontends > FEW_FRONTENDS && endpoints > 1).then_some(OwnChoice::Numbered)
}

/// Adds the chains of a service port, and what they look up.
pub(super) fn add(
    plan: &Plan,
    service: &ServicePlan,
    choice: OwnChoice,
    contribution: &mut Contribution,
) -> OwnChains {
    let path = Path::of(service);
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

/// `namespace/name/protocol/port`, of which no two service ports have the same.
pub(super) struct Path(String);

impl Path {
    fn of(service: &ServicePlan) -> Self {
        let name = &service.name;
        let protocol = name.protocol.name();
        Self(format!("{}/{}/{protocol}/{}", name.namespace, name.service, name.port))
    }

    /// The name of a chain or set of the service port.
    pub(super) fn named(&self, what: &str) -> Name {
        Name::from(format!("{what}/{}", self.0))
    }

    /// The chain that chooses among the endpoints of a policy.
    pub(super) fn policy(&self, policy: TrafficPolicy) -> Name {
        self.named(policy_word(policy))
    }

    /// The chain of an endpoint. Colons cannot stand in a name.
    pub(super) fn endpoint(&self, endpoint: &Endpoint) -> Name {
        let (ip, port) = (endpoint.address.ip(), endpoint.address.port());
        let ip = ip.to_string().replace(':', ".");
        Name::from(format!("endpoint/{}/{ip}/{port}", self.0))
    }
}

fn policy_word(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "cluster",
        TrafficPolicy::Local => "local",
    }
}

/// The service port that a set or a chain belongs to, if it belongs to one: namespace, name,
/// protocol and port.
pub fn owner_path(name: &str) -> Option<[&str; 4]> {
    let mut parts = name.split('/');
    let is_ours = OBJECTS.contains(&parts.next()?);
    let path = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    is_ours.then_some(path)
}

/// What the names of a service port's own objects begin with.
const OBJECTS: [&str; 6] = ["affinity", "cluster", "local", "cluster-ip", "external", "endpoint"];

/// The service port whose connections to one endpoint a chain counts, if it is such a chain:
/// namespace, name, protocol and port.
pub(super) fn counted(chain: &str) -> Option<[&str; 4]> {
    let mut parts = chain.strip_prefix("endpoint/")?.split('/');
    let part = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    // The endpoint's address and port.
    (parts.count() == 2).then_some(part)
}

/// The chain that chooses among the endpoints of a policy by their numbers.
fn add_numbered(
    service: &ServicePlan,
    path: &Path,
    policy: TrafficPolicy,
    contribution: &mut Contribution,
) {
    let endpoints = match policy {
        TrafficPolicy::Cluster => &service.cluster_endpoints,
        TrafficPolicy::Local => &service.local_endpoints,
    };
    if endpoints.is_empty() {
        return;
    }
    let number = Number64::of(policy_word(policy), [&path.0]);
    let [high, low] = number.selectors();
    let key = vec![Selector::Protocol, high, low, drawn(service.load_balancing, endpoints.len())];
    let choose = Statement::DnatMap { key, map: Name::from(SHARED_ENDPOINTS) };
    let chain = of_rules(vec![Rule::new([choose])]);
    contribution.own_chains.push((path.policy(policy), chain));

    let comment = Some(Comment::from(service.name.to_string()));
    let over = Value::Protocol(service.name.protocol);
    let [high, low] = number.values();
    let element = |(turn, endpoint): (u32, &Endpoint)| SetElement {
        set: SHARED_ENDPOINTS,
        key: Key::from([over, high, low, Value::Number(turn)]),
        element: Element { data: Some(Data::Socket(endpoint.address)), comment: comment.clone() },
    };
    contribution.own_elements.extend((0..).zip(endpoints).map(element));
}

fn add_internal(
    plan: &Plan,
    internal: Internal,
    path: &Path,
    contribution: &mut Contribution,
) -> Name {
    let name = path.named("cluster-ip");
    if let Outcome::Forward(policy) = internal.outcome {
        let mut rules = Vec::from_iter(masquerade_internal(plan, internal.masquerade));
        rules.push(Rule::new([goto(path.policy(policy).as_str())]));
        contribution.own_chains.push((name.clone(), of_rules(rules)));
    }
    name
}

fn add_external(
    plan: &Plan,
    service: &ServicePlan,
    path: &Path,
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
    if let Outcome::Forward(policy) = external.outcome {
        rules.push(Rule::new([to(policy)]));
    }
    contribution.own_chains.push((name.clone(), of_rules(rules)));
    name
}
