//! Session affinity: what a client gets once it keeps, for a time after its last new connection.
//!
//! A service port with affinity has a set of pairs, client and number of an endpoint, which
//! packets fill, and a chain an endpoint. The chain of a policy first asks for each of its
//! endpoints whether the client has it, then chooses. So an endpoint that is gone loses its
//! clients with its rule, and the pairs count for all frontends of the service port.
//!
//! The number of an endpoint comes from its address and port: others that come and go leave it.
//! Two that share a number would share their clients, who would still stay with the first.

use std::time::Duration;

use rulegen_model::{Endpoint, LoadBalancing, TrafficPolicy};
use rulegen_ruleset::nftables::{
    Comment, Condition, Draw, Field, Name, Number, Rule, Selector, Set, Statement,
};
use sha2::{Digest, Sha256};

use super::draft::Draft;
use super::layout::of_rules;
use super::spell::{goto, holds, mark, masquerade_internal, short_circuit};
use crate::plan::{External, Internal, Outcome, Plan, ServicePlan};
use crate::words::protocol;

/// Where traffic to a service port with affinity enters.
pub(super) struct AffinityChains {
    /// To the cluster IP.
    pub(super) internal: Name,
    /// To all other addresses.
    pub(super) external: Name,
}

/// Adds the set and the chains of a service port with affinity.
pub(super) fn spell(plan: &Plan, service: &ServicePlan, draft: &mut Draft) -> AffinityChains {
    let mut speller = Speller { plan, service, path: path(service), draft };
    speller.clients();
    speller.endpoints();
    speller.choices(TrafficPolicy::Cluster, &service.cluster_endpoints);
    speller.choices(TrafficPolicy::Local, &service.local_endpoints);
    AffinityChains {
        internal: speller.internal(service.internal),
        external: speller.external(service.external.as_ref()),
    }
}

/// The service port that a set or a chain belongs to, if it belongs to one: namespace, name,
/// protocol and port.
pub(crate) fn affinity_path(name: &str) -> Option<[&str; 4]> {
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

/// `namespace/name/protocol/port`, of which no two service ports have the same.
fn path(service: &ServicePlan) -> String {
    let name = &service.name;
    let protocol = protocol(name.protocol).name();
    format!("{}/{}/{protocol}/{}", name.namespace, name.service, name.port)
}

struct Speller<'a> {
    plan: &'a Plan,
    service: &'a ServicePlan,
    path: String,
    draft: &'a mut Draft,
}

impl Speller<'_> {
    fn clients(&mut self) {
        let seconds = u64::from(self.service.affinity_seconds.unwrap_or_default());
        let comment = format!("clients of {} and what they got", self.service.name);
        let set = Set {
            timeout: Some(Duration::from_secs(seconds)),
            ..Set::new(&[Field::Address, Field::Number], &comment)
        };
        self.draft.set(self.clients_name(), set);
    }

    fn endpoints(&mut self) {
        let service = self.service;
        let about = Comment::from(service.name.to_string());
        for endpoint in &service.reachable_endpoints {
            let keep = Statement::Update { set: self.clients_name(), key: pair(endpoint) };
            let dnat = Statement::Dnat(protocol(service.name.protocol), endpoint.address);
            let count = self.plan.counts_connections.then_some(Statement::Counter);
            let lead = Rule::new(count.into_iter().chain([dnat])).comment(about.clone());
            let rules = vec![Rule::new([keep]), lead];
            self.add(self.endpoint_name(endpoint), rules);
        }
    }

    /// The endpoint that a client has, else any.
    fn choices(&mut self, policy: TrafficPolicy, endpoints: &[Endpoint]) {
        let clients = self.clients_name();
        let lead = |endpoint| goto(self.endpoint_name(endpoint).as_str());
        let kept = endpoints
            .iter()
            .map(|endpoint| Rule::new([holds(&pair(endpoint), clients.as_str()), lead(endpoint)]));
        let left = (1..=u32::try_from(endpoints.len()).unwrap_or(u32::MAX)).rev();
        let draw = first_choice(self.service.load_balancing);
        let chosen = left.zip(endpoints).map(|(left, endpoint)| {
            let one_in = (left > 1).then_some(Condition::Is(Number::Below(draw, left), 0));
            Rule::new(one_in.map(Statement::If).into_iter().chain([lead(endpoint)]))
        });
        let rules: Vec<Rule> = kept.chain(chosen).collect();
        if !rules.is_empty() {
            self.add(self.policy_name(policy), rules);
        }
    }

    fn internal(&mut self, internal: Internal) -> Name {
        let name = self.named("cluster-ip");
        if let Outcome::Forward(policy) = internal.outcome {
            let mut rules = Vec::from_iter(masquerade_internal(self.plan, internal.masquerade));
            rules.push(Rule::new([goto(self.policy_name(policy).as_str())]));
            self.add(name.clone(), rules);
        }
        name
    }

    fn external(&mut self, external: Option<&External>) -> Name {
        let name = self.named("external");
        let Some(external) = external.filter(|external| external.forwards) else { return name };
        let to = |policy| goto(self.policy_name(policy).as_str());
        let mut rules = match external.policy {
            TrafficPolicy::Cluster => vec![Rule::new([mark(self.plan)])],
            TrafficPolicy::Local if self.service.cluster_endpoints.is_empty() => Vec::new(),
            TrafficPolicy::Local => short_circuit(self.plan, &to(TrafficPolicy::Cluster)),
        };
        if let Outcome::Forward(policy) = external.outcome {
            rules.push(Rule::new([to(policy)]));
        }
        self.add(name.clone(), rules);
        name
    }

    fn add(&mut self, name: Name, rules: Vec<Rule>) {
        self.draft.chain(name, || of_rules(rules));
    }

    fn clients_name(&self) -> Name {
        self.named("affinity")
    }

    fn policy_name(&self, policy: TrafficPolicy) -> Name {
        match policy {
            TrafficPolicy::Cluster => self.named("cluster"),
            TrafficPolicy::Local => self.named("local"),
        }
    }

    /// Colons cannot stand in a name.
    fn endpoint_name(&self, endpoint: &Endpoint) -> Name {
        let (ip, port) = (endpoint.address.ip(), endpoint.address.port());
        let ip = ip.to_string().replace(':', ".");
        Name::from(format!("endpoint/{}/{ip}/{port}", self.path))
    }

    fn named(&self, what: &str) -> Name {
        Name::from(format!("{what}/{}", self.path))
    }
}

/// Of several rules one behind the other each asks for its own number, which must not be the same
/// for all: a hash of the source would be. The client keeps what it gets anyway.
fn first_choice(way: LoadBalancing) -> Draw {
    match way {
        LoadBalancing::Random | LoadBalancing::SourceHash => Draw::Random,
        LoadBalancing::RoundRobin => Draw::InTurn,
    }
}

fn pair(endpoint: &Endpoint) -> Vec<Selector> {
    vec![Selector::SourceAddress, Selector::Number(Number::Constant(number(endpoint)))]
}

fn number(endpoint: &Endpoint) -> u32 {
    let digest = Sha256::digest(endpoint.address.to_string());
    digest.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}
