//! Computes the contribution of a service port to the table.

use std::collections::HashSet;
use std::net::IpAddr;

use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_ruleset::nftables::{Comment, Data, Element, Key, Name, Value, Verdict};

use super::contribution::{Claim, Contribution};
use super::layout::{CLUSTER_IPS, FIREWALL_IPS, FrontendMaps, HAIRPINS, REJECT};
use super::own_chains::{self, OwnChains};
use super::set_element::SetElement;
use super::shared_chain::{EndpointChoice, SharedChain};
use super::source_ranges::LastSourceRanges;
use super::statements::masquerade_internal;
use crate::plan::{
    External, ExternalAddress, Firewall, Internal, Plan, Refusal, ServicePlan, Treatment,
};

/// Computes contributions, one service port after another.
pub(super) struct Renderer<'a> {
    plan: &'a Plan,
    last_source_ranges: LastSourceRanges,
}

impl<'a> Renderer<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self { plan, last_source_ranges: LastSourceRanges::default() }
    }

    pub(super) fn contribution(&mut self, service: &ServicePlan) -> Contribution {
        let mut contribution = Contribution::default();
        let own = own_chains::needed(service)
            .map(|choice| own_chains::add(self.plan, service, choice, &mut contribution));
        let name = Comment::from(service.name.to_string());
        ServiceRenderer {
            plan: self.plan,
            service,
            name,
            own,
            contribution,
            claimed: HashSet::new(),
        }
        .render(&mut self.last_source_ranges)
    }
}

struct ServiceRenderer<'a> {
    plan: &'a Plan,
    service: &'a ServicePlan,
    name: Comment,
    own: Option<OwnChains>,
    contribution: Contribution,
    /// A Service may have an address both as external IP and as load-balancer IP.
    claimed: HashSet<(&'static str, Key)>,
}

/// The key of a frontend, and the group of maps that contain it.
struct FrontendKey {
    maps: FrontendMaps,
    key: Key,
}

impl ServiceRenderer<'_> {
    fn render(mut self, last_source_ranges: &mut LastSourceRanges) -> Contribution {
        let service = self.service;
        self.internal(service.internal);
        if let Some(external) = &service.external {
            external.addresses.iter().for_each(|address| self.external(external, *address));
            if let Some(firewall) = &external.firewall {
                self.firewall(external, firewall, last_source_ranges);
            }
        }
        for endpoint in &service.reachable_endpoints {
            let address = Value::Address(endpoint.address.ip());
            self.contribution.shared_elements.push((HAIRPINS, Key::from([address, address])));
        }
        self.contribution
    }

    fn internal(&mut self, internal: Internal) {
        self.cluster_ip(internal.address);
        let frontend = self.at_address(internal.address);
        let policy = match internal.outcome {
            Treatment::Refuse(refusal) => return self.refuse(frontend, refusal),
            Treatment::Forward(policy) => policy,
        };
        let maps = frontend.maps;
        if let Some(own) = &self.own {
            let entry = own.internal.clone();
            return self.claim(maps.services(), frontend.key, entry.into(), Vec::new());
        }
        let choice = self.choice(maps, maps.endpoints(), policy);
        let entry = match masquerade_internal(self.plan, internal.masquerade) {
            Some(_) => self.chain(SharedChain::ClusterIp(choice, internal.masquerade)),
            None => choice_chain(choice, &mut self.contribution),
        };
        let elements = self.numbered(&frontend, maps.endpoints(), policy);
        self.claim(maps.services(), frontend.key, entry.into(), elements);
    }

    /// The address belongs to the Service, regardless of the port.
    fn cluster_ip(&mut self, address: IpAddr) {
        let key = Key::from([Value::Address(address)]);
        let name = &self.service.name;
        let comment = Some(Comment::from(format!("{}/{}", name.namespace, name.service)));
        let element = Element { data: None, comment };
        let elements = vec![SetElement { set: CLUSTER_IPS, key: key.clone(), element }];
        self.contribution.claims.push(Claim { set: CLUSTER_IPS, key, elements });
    }

    fn external(&mut self, external: &External, address: ExternalAddress) {
        let frontend = match address {
            ExternalAddress::ExternalIp(ip) | ExternalAddress::LoadBalancerIp(ip) => {
                self.at_address(ip)
            }
            ExternalAddress::NodePort(port) => {
                let over = Value::Protocol(self.service.name.protocol);
                FrontendKey {
                    maps: FrontendMaps::NodePort,
                    key: Key::from([over, Value::Port(port.get())]),
                }
            }
        };
        if external.forwards {
            self.capture(external, &frontend);
        }
        if let Treatment::Refuse(refusal) = external.outcome {
            self.refuse(frontend, refusal);
        }
    }

    fn capture(&mut self, external: &External, frontend: &FrontendKey) {
        let maps = frontend.maps;
        let (entry, elements) = match (&self.own, external.policy) {
            (Some(own), _) => (own.external.clone(), Vec::new()),
            (None, TrafficPolicy::Local) => {
                (Name::from(maps.local_policy()), self.under_local_policy(frontend))
            }
            (None, policy @ TrafficPolicy::Cluster) => {
                let choice = self.choice(maps, maps.endpoints(), policy);
                let entry = self.chain(SharedChain::External(choice));
                (entry, self.numbered(frontend, maps.endpoints(), policy))
            }
        };
        self.claim(maps.services(), frontend.key.clone(), entry.into(), elements);
    }

    /// Two choices: among all endpoints for pods and the node, and among those of this node for all
    /// others.
    fn under_local_policy(&mut self, frontend: &FrontendKey) -> Vec<SetElement> {
        let (service, maps) = (self.service, frontend.maps);
        let choices = [
            (maps.short_circuits(), maps.endpoints(), TrafficPolicy::Cluster),
            (maps.local_services(), maps.local_endpoints(), TrafficPolicy::Local),
        ];
        let mut elements = Vec::new();
        for (entrance, map, policy) in choices {
            if !service.endpoints_of(policy).is_empty() {
                let choice = self.choice(maps, map, policy);
                let chain = choice_chain(choice, &mut self.contribution);
                elements.push(self.element(entrance, frontend.key.clone(), Some(chain.into())));
                elements.extend(self.numbered(frontend, map, policy));
            }
        }
        elements
    }

    /// The endpoint of each slot of a frontend.
    fn numbered(
        &self,
        frontend: &FrontendKey,
        map: &'static str,
        policy: TrafficPolicy,
    ) -> Vec<SetElement> {
        let service = self.service;
        let slots = service.slots_of(policy).endpoints(service.endpoints_of(policy));
        let element = |(number, endpoint): (u32, &Endpoint)| {
            let key = frontend.key.with(Value::Number(number));
            self.element(map, key, Some(Data::AddrPort(endpoint.address)))
        };
        (0..).zip(slots).map(element).collect()
    }

    fn refuse(&mut self, frontend: FrontendKey, refusal: Refusal) {
        let verdict = match refusal {
            Refusal::NoEndpoints => Verdict::Goto(Name::from(REJECT)),
            Refusal::NoLocalEndpoints => Verdict::Drop,
        };
        let FrontendKey { maps, key } = frontend;
        self.claim(maps.refused(), key, Data::Verdict(verdict), Vec::new());
    }

    fn firewall(
        &mut self,
        external: &External,
        firewall: &Firewall,
        last_source_ranges: &mut LastSourceRanges,
    ) {
        let ranges = last_source_ranges.of(&firewall.source_ranges, external.sources_of_node());
        let chain = self.chain(SharedChain::SourceRanges(ranges));
        for ip in external.load_balancer_ips() {
            let FrontendKey { key, .. } = self.at_address(ip);
            self.claim(FIREWALL_IPS, key, chain.clone().into(), Vec::new());
        }
    }

    fn choice(
        &self,
        maps: FrontendMaps,
        map: &'static str,
        policy: TrafficPolicy,
    ) -> EndpointChoice {
        let service = self.service;
        let slots = service.slots_of(policy).count(service.endpoints_of(policy).len());
        EndpointChoice { maps, map, slots, load_balancing: service.load_balancing }
    }

    /// Adds a chain, and the one to which it leads.
    fn chain(&mut self, chain: SharedChain) -> Name {
        if let SharedChain::ClusterIp(choice, _) | SharedChain::External(choice) = &chain {
            choice_chain(*choice, &mut self.contribution);
        }
        let name = chain.name();
        self.contribution.shared_chains.push(chain);
        name
    }

    fn at_address(&self, ip: IpAddr) -> FrontendKey {
        let over = Value::Protocol(self.service.name.protocol);
        let key = Key::from([Value::Address(ip), over, Value::Port(self.service.port)]);
        FrontendKey { maps: FrontendMaps::Address, key }
    }

    fn claim(&mut self, set: &'static str, key: Key, data: Data, mut elements: Vec<SetElement>) {
        if self.claimed.insert((set, key.clone())) {
            elements.insert(0, self.element(set, key.clone(), Some(data)));
            self.contribution.claims.push(Claim { set, key, elements });
        }
    }

    fn element(&self, set: &'static str, key: Key, data: Option<Data>) -> SetElement {
        SetElement { set, key, element: Element { data, comment: Some(self.name.clone()) } }
    }
}

fn choice_chain(choice: EndpointChoice, contribution: &mut Contribution) -> Name {
    let chain = SharedChain::Choice(choice);
    let name = chain.name();
    contribution.shared_chains.push(chain);
    name
}
