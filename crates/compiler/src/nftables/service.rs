//! The elements of one service port, and the chains for its numbers of endpoints.

use std::net::IpAddr;

use ipnet::IpNet;
use rulegen_model::{Endpoint, LoadBalancing, TrafficPolicy};
use rulegen_ruleset::nftables::{
    Chain, Comment, Data, Draw, Element, Key, Name, Number, Rule, Selector, Statement, Value,
    Verdict,
};

use super::affinity::{self, AffinityChains};
use super::draft::Draft;
use super::layout::{
    CLUSTER_IPS, FIREWALLED, HAIRPINS, Place, REJECT, SOURCE_RANGES, network, of_rules,
};
use super::spell::{goto, key_and, mark, masquerade_internal};
use crate::plan::{
    External, ExternalAddress, Firewall, Internal, Outcome, Plan, Refusal, ServicePlan,
};
use crate::words::protocol;

/// Adds everything that a service port needs.
pub(super) fn spell(plan: &Plan, service: &ServicePlan, draft: &mut Draft) {
    let name: Comment = service.name.to_string().into();
    let affinity = service.affinity_seconds.map(|_| affinity::spell(plan, service, draft));
    Speller { plan, service, name, affinity, draft }.spell();
}

struct Speller<'a> {
    plan: &'a Plan,
    service: &'a ServicePlan,
    name: Comment,
    affinity: Option<AffinityChains>,
    draft: &'a mut Draft,
}

/// An address or a node port, as the maps know it.
struct Frontend {
    place: Place,
    key: Key,
}

impl Speller<'_> {
    fn spell(mut self) {
        let service = self.service;
        self.internal(service.internal);
        if let Some(external) = &service.external {
            external.addresses.iter().for_each(|address| self.external(external, *address));
            if let Some(firewall) = &external.firewall {
                self.firewall(external, firewall);
            }
        }
        for endpoint in &service.reachable_endpoints {
            let address = Value::Address(endpoint.address.ip());
            self.put(HAIRPINS, Key::from([address, address]), None);
        }
    }

    fn internal(&mut self, internal: Internal) {
        self.put(CLUSTER_IPS, Key::from([Value::Address(internal.address)]), None);
        let frontend = self.at_address(internal.address);
        let policy = match internal.outcome {
            Outcome::Refuse(refusal) => return self.refuse(frontend, refusal),
            Outcome::Forward(policy) => policy,
        };
        let service = self.service;
        let endpoints = match policy {
            TrafficPolicy::Cluster => &service.cluster_endpoints,
            TrafficPolicy::Local => &service.local_endpoints,
        };
        let entry = match &self.affinity {
            Some(chains) => chains.internal.clone(),
            None => self.cluster_ip_chain(internal, endpoints.len()),
        };
        if self.put(frontend.place.services(), frontend.key.clone(), Some(entry.into())) {
            self.choices(&frontend, frontend.place.endpoints(), endpoints);
        }
    }

    fn external(&mut self, external: &External, address: ExternalAddress) {
        let frontend = match address {
            ExternalAddress::ExternalIp(ip) | ExternalAddress::LoadBalancerIp(ip) => {
                self.at_address(ip)
            }
            ExternalAddress::NodePort(port) => {
                let over = Value::Protocol(protocol(self.service.name.protocol));
                Frontend { place: Place::NodePort, key: Key::from([over, Value::Port(port.get())]) }
            }
        };
        if external.forwards {
            self.capture(external, &frontend);
        }
        if let Outcome::Refuse(refusal) = external.outcome {
            self.refuse(frontend, refusal);
        }
    }

    fn capture(&mut self, external: &External, frontend: &Frontend) {
        let service = self.service;
        let place = frontend.place;
        let entry = match (&self.affinity, external.policy) {
            (Some(chains), _) => chains.external.clone(),
            (None, TrafficPolicy::Local) => Name::from(place.local_policy()),
            (None, TrafficPolicy::Cluster) => {
                self.external_chain(place, service.cluster_endpoints.len())
            }
        };
        if !self.put(place.services(), frontend.key.clone(), Some(entry.into())) {
            return;
        }
        self.choices(frontend, place.endpoints(), &service.cluster_endpoints);
        if external.policy == TrafficPolicy::Local && self.affinity.is_none() {
            self.lead(
                frontend,
                place.short_circuits(),
                place.endpoints(),
                &service.cluster_endpoints,
            );
            self.choices(frontend, place.local_endpoints(), &service.local_endpoints);
            let local = &service.local_endpoints;
            self.lead(frontend, place.local_services(), place.local_endpoints(), local);
        }
    }

    /// Leads a frontend under policy Local to the choice among endpoints, if there are any.
    fn lead(&mut self, frontend: &Frontend, map: &str, of: &str, endpoints: &[Endpoint]) {
        if !endpoints.is_empty() {
            let chain = self.choice_chain(frontend.place, of, endpoints.len());
            self.put(map, frontend.key.clone(), Some(chain.into()));
        }
    }

    /// Numbers the endpoints that a frontend's traffic may go to. Those of a service port with
    /// affinity have chains instead.
    fn choices(&mut self, frontend: &Frontend, map: &str, endpoints: &[Endpoint]) {
        if self.affinity.is_some() {
            return;
        }
        for (number, endpoint) in (0..).zip(endpoints) {
            let key = frontend.key.with(Value::Number(number));
            self.put(map, key, Some(Data::Socket(endpoint.address)));
        }
    }

    fn refuse(&mut self, frontend: Frontend, refusal: Refusal) {
        let verdict = match refusal {
            Refusal::NoEndpoints => Verdict::Goto(Name::from(REJECT)),
            Refusal::NoLocalEndpoints => Verdict::Drop,
        };
        self.put(frontend.place.refused(), frontend.key, Some(Data::Verdict(verdict)));
    }

    fn firewall(&mut self, external: &External, firewall: &Firewall) {
        let load_balancer_ips = external.addresses.iter().filter_map(|address| match address {
            ExternalAddress::LoadBalancerIp(ip) => Some(*ip),
            _ => None,
        });
        let mut sources = firewall.source_ranges.clone();
        if firewall.from_node {
            sources.extend(load_balancer_ips.clone().map(IpNet::from));
        }
        // The kernel takes no networks that overlap.
        let sources = IpNet::aggregate(&sources);
        for ip in load_balancer_ips {
            let Frontend { key, .. } = self.at_address(ip);
            if !self.put(FIREWALLED, key.clone(), None) {
                continue;
            }
            for source in &sources {
                self.put(SOURCE_RANGES, key.with(network(*source)), None);
            }
        }
    }

    fn cluster_ip_chain(&mut self, internal: Internal, endpoints: usize) -> Name {
        let choice = self.choice_chain(Place::Address, Place::Address.endpoints(), endpoints);
        let Some(rule) = masquerade_internal(self.plan, internal.masquerade) else { return choice };
        let suffix = suffix(self.service.load_balancing);
        let name = Name::from(format!("cluster-ip-{endpoints}{suffix}"));
        self.chain(name, || of_rules(vec![rule, Rule::new([goto(choice.as_str())])]))
    }

    fn external_chain(&mut self, place: Place, endpoints: usize) -> Name {
        let choice = self.choice_chain(place, place.endpoints(), endpoints);
        let mark = mark(self.plan);
        let rules = || of_rules(vec![Rule::new([mark]), Rule::new([goto(choice.as_str())])]);
        let suffix = suffix(self.service.load_balancing);
        self.chain(Name::from(format!("{}{suffix}", place.external(endpoints))), rules)
    }

    /// The chain that chooses one of so many endpoints from a map.
    fn choice_chain(&mut self, place: Place, map: &str, endpoints: usize) -> Name {
        let way = self.service.load_balancing;
        let below = u32::try_from(endpoints).unwrap_or(u32::MAX);
        let key = key_and(place.key(), Selector::Number(Number::Below(draw(way), below)));
        let choose = Statement::DnatMap { key, map: Name::from(map) };
        let rules = || of_rules(vec![Rule::new([choose])]);
        self.chain(Name::from(format!("{map}-{endpoints}{}", suffix(way))), rules)
    }

    fn chain(&mut self, name: Name, make: impl FnOnce() -> Chain) -> Name {
        self.draft.chain(name.clone(), make);
        name
    }

    fn at_address(&self, ip: IpAddr) -> Frontend {
        let over = Value::Protocol(protocol(self.service.name.protocol));
        let key = Key::from([Value::Address(ip), over, Value::Port(self.service.port)]);
        Frontend { place: Place::Address, key }
    }

    /// Puts an element in unless another service port has one with the key.
    fn put(&mut self, set: &str, key: Key, data: Option<Data>) -> bool {
        let comment = Some(self.name.clone());
        self.draft.put(set, key, Element { data, comment })
    }
}

fn draw(way: LoadBalancing) -> Draw {
    match way {
        LoadBalancing::Random => Draw::Random,
        LoadBalancing::RoundRobin => Draw::InTurn,
        LoadBalancing::SourceHash => Draw::BySource,
    }
}

/// What tells chains apart that choose in different ways.
fn suffix(way: LoadBalancing) -> &'static str {
    match way {
        LoadBalancing::Random => "",
        LoadBalancing::RoundRobin => "-round-robin",
        LoadBalancing::SourceHash => "-source-hash",
    }
}
