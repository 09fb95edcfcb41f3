//! Session affinity: a client keeps its endpoint until a timeout after its last new connection.
//!
//! A service port with affinity has a set of pairs of a client and the number of an endpoint, which
//! packets fill, and a chain per endpoint. The chain of a policy first checks for each of its
//! endpoints whether the client has it, then chooses. If an endpoint is removed, its rule and its
//! clients are removed too. All frontends of the service port share the set.
//!
//! If a policy has more slots than endpoints, a map of its own leads from the slots to the chains of
//! the endpoints.
//!
//! The number of an endpoint is a hash of its address and port, so it does not depend on other
//! endpoints. If two have the same number, they share their clients, which all keep the first.
//!
//! The timeout is in the rules and not in the set: when it changes, rules are replaced and the set
//! keeps its clients. A client in the set keeps its old timeout until its next new connection.
//!
//! The kernel limits the set to 65,535 clients. If it is full, new clients are not remembered, but
//! still balanced: the statement that cannot add its element ends only its own rule (`NFT_BREAK` of
//! nft_dynset_eval()), and the next rule leads to the endpoint.

use std::time::Duration;

use rulegen_model::{Endpoint, LoadBalancing, TrafficPolicy};
use rulegen_ruleset::nftables::{
    Comment, Condition, Data, DataType, Element, Field, Key, Number, NumgenMode, Rule, Selector,
    Set, Statement, Value,
};

use super::contribution::Contribution;
use super::layout::of_rules;
use super::number::number32;
use super::service_path::ServicePath;
use super::shared_chain::drawn;
use super::statements::{goto, holds};
use crate::plan::{Plan, ServicePlan, Slots};

/// Adds the set of clients, the chains of the endpoints, and the chains that choose among them.
pub(super) fn add(
    plan: &Plan,
    service: &ServicePlan,
    path: &ServicePath,
    contribution: &mut Contribution,
) {
    let mut affinity = AffinityChains { plan, service, path, contribution };
    affinity.clients();
    affinity.endpoints();
    affinity.choices(TrafficPolicy::Cluster, &service.cluster_endpoints);
    affinity.choices(TrafficPolicy::Local, &service.local_endpoints);
}

struct AffinityChains<'a> {
    plan: &'a Plan,
    service: &'a ServicePlan,
    path: &'a ServicePath,
    contribution: &'a mut Contribution,
}

impl AffinityChains<'_> {
    fn clients(&mut self) {
        let comment = format!("clients of {} and what they got", self.service.name);
        let set = Set { dynamic: true, ..Set::new(&[Field::Address, Field::Number], &comment) };
        self.contribution.own_sets.push((self.path.named("affinity"), set));
    }

    fn endpoints(&mut self) {
        let service = self.service;
        let about = Comment::from(service.name.to_string());
        let seconds = service.affinity_seconds.unwrap_or_default().into();
        let timeout = Some(Duration::from_secs(seconds));
        for endpoint in &service.reachable_endpoints {
            let (set, key) = (self.path.named("affinity"), pair(endpoint));
            let keep = Statement::Update { set, key, timeout };
            let dnat = Statement::Dnat(service.name.protocol, endpoint.address);
            let count = self.plan.counts_connections.then_some(Statement::Counter);
            let lead = Rule::new(count.into_iter().chain([dnat])).comment(about.clone());
            // Two rules: a full set ends the first, which must not prevent the second.
            let chain = of_rules(vec![Rule::new([keep]), lead]);
            self.contribution.own_chains.push((self.path.endpoint(endpoint), chain));
        }
    }

    /// Chooses the client's endpoint, or any endpoint for a new client.
    fn choices(&mut self, policy: TrafficPolicy, endpoints: &[Endpoint]) {
        let clients = self.path.named("affinity");
        let lead = |endpoint| goto(self.path.endpoint(endpoint).as_str());
        let kept = endpoints
            .iter()
            .map(|endpoint| Rule::new([holds(&pair(endpoint), clients.as_str()), lead(endpoint)]));
        let mut rules: Vec<Rule> = kept.collect();
        if rules.is_empty() {
            return;
        }
        match self.service.slots_of(policy) {
            Slots::OnePerEndpoint => rules.extend(self.one_after_another(endpoints)),
            slots @ Slots::Table(_) => rules.push(self.by_slot(policy, slots, endpoints)),
        }
        self.contribution.own_chains.push((self.path.policy(policy), of_rules(rules)));
    }

    /// Rules that each lead to one endpoint. Each generates a number, and these must be independent.
    /// A hash gives the same number each time.
    fn one_after_another(&self, endpoints: &[Endpoint]) -> Vec<Rule> {
        let left = (1..=u32::try_from(endpoints.len()).unwrap_or(u32::MAX)).rev();
        let draw = match self.service.load_balancing {
            LoadBalancing::Random | LoadBalancing::Maglev | LoadBalancing::Maglev5Tuple => {
                NumgenMode::Random
            }
            LoadBalancing::RoundRobin => NumgenMode::InTurn,
        };
        let chosen = left.zip(endpoints).map(|(left, endpoint)| {
            let one_in = (left > 1).then_some(Condition::Is(Number::Modulo(draw, left), 0));
            let lead = goto(self.path.endpoint(endpoint).as_str());
            Rule::new(one_in.map(Statement::Match).into_iter().chain([lead]))
        });
        chosen.collect()
    }

    /// The rule that leads to the endpoint of a slot, by a map of its own.
    fn by_slot(&mut self, policy: TrafficPolicy, slots: &Slots, endpoints: &[Endpoint]) -> Rule {
        let name = self.path.slots(policy);
        let comment = format!("endpoints of {} by number", self.service.name);
        let lead = |(number, endpoint): (u32, &Endpoint)| {
            let data = Data::from(self.path.endpoint(endpoint));
            (Key::from([Value::Number(number)]), Element { data: Some(data), comment: None })
        };
        let set = Set {
            elements: (0..).zip(slots.endpoints(endpoints)).map(lead).collect(),
            ..Set::map(&[Field::Number], DataType::Verdict, &comment)
        };
        self.contribution.own_sets.push((name.clone(), set));
        let number = drawn(self.service.load_balancing, slots.count(endpoints.len()));
        Rule::new([Statement::VerdictMap { key: vec![number], map: name }])
    }
}

fn pair(endpoint: &Endpoint) -> Vec<Selector> {
    let number = number32(&endpoint.address.to_string());
    vec![Selector::SourceAddress, Selector::Number(Number::Constant(number))]
}
