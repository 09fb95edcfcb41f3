//! The rules of one service port.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_ruleset::iptables::{
    AddressType, ChainName, Match, Recent, RecentAction, Rule, RuleSpec, Target,
};

use super::chains::RenderedChains;
use super::layout::{EXTERNAL_SERVICES, MARK_MASQUERADE, NODE_PORTS, PROXY_FIREWALL, SERVICES};
use super::names::{ServiceChains, endpoint_chain};
use super::rules::{by_pods, commented, from_network, jump, matching, reject, then, to_port};
use crate::plan::{
    External, ExternalAddress, Firewall, Masquerade, Plan, PodTraffic, Refusal, ServicePlan,
    Treatment,
};

/// Adds all rules of a service port.
pub(super) fn render(plan: &Plan, service: &ServicePlan, chains: &mut RenderedChains) {
    let speller = Renderer::new(plan, service);
    speller.shared(chains);
    speller.own(chains);
}

/// Adds only its rules in the shared chains.
pub(super) fn render_shared(plan: &Plan, service: &ServicePlan, chains: &mut RenderedChains) {
    Renderer::new(plan, service).shared(chains);
}

struct Renderer<'a> {
    plan: &'a Plan,
    service: &'a ServicePlan,
    names: ServiceChains,
    name: Arc<str>,
}

impl<'a> Renderer<'a> {
    fn new(plan: &'a Plan, service: &'a ServicePlan) -> Self {
        let name = service.name.to_string();
        let names = ServiceChains::new(&name, service.name.protocol);
        Self { names, name: name.into(), plan, service }
    }

    fn shared(&self, chains: &mut RenderedChains) {
        self.cluster_ip(chains);
        if let Some(external) = &self.service.external {
            let addresses = external.addresses.iter();
            addresses.for_each(|address| self.external_address(external, *address, chains));
        }
        if let Some(port) = self.service.health_check_node_port {
            let comment = format!("{} health check node port", self.name);
            let rule = to_port(None, rulegen_net::Protocol::Tcp, port.get(), comment);
            chains.filter(NODE_PORTS).push(then(rule, Target::Accept));
        }
    }

    fn own(&self, chains: &mut RenderedChains) {
        if let Some(external) = &self.service.external {
            self.external_chains(external, chains);
        }
        self.endpoints(chains);
    }

    fn cluster_ip(&self, chains: &mut RenderedChains) {
        let internal = self.service.internal;
        match internal.outcome {
            Treatment::Forward(policy) => {
                let rule = self.to_service(internal.address, "cluster IP");
                chains.nat(SERVICES).push(jump(rule, self.policy_chain(policy).clone()));
            }
            Treatment::Refuse(refusal) => {
                let rule = self.refused(Some(internal.address), self.service.port, refusal, None);
                chains.filter(SERVICES).push(rule);
            }
        }
    }

    fn external_address(
        &self,
        external: &External,
        address: ExternalAddress,
        chains: &mut RenderedChains,
    ) {
        let (ip, port) = match address {
            ExternalAddress::ExternalIp(ip) | ExternalAddress::LoadBalancerIp(ip) => {
                (Some(ip), self.service.port)
            }
            ExternalAddress::NodePort(port) => (None, port.get()),
        };
        if external.forwards {
            self.capture(external, address, chains);
        }
        if let Treatment::Refuse(refusal) = external.outcome {
            let at_node = ip.is_none().then_some(Match::DestinationType(AddressType::Local));
            chains.filter(EXTERNAL_SERVICES).push(self.refused(ip, port, refusal, at_node));
        }
    }

    /// Sends traffic to an external address to the service port's chains.
    fn capture(&self, external: &External, address: ExternalAddress, chains: &mut RenderedChains) {
        let to_external = |rule| jump(rule, self.names.external.clone());
        match address {
            ExternalAddress::ExternalIp(ip) => {
                chains.nat(SERVICES).push(to_external(self.to_service(ip, "external IP")));
            }
            ExternalAddress::LoadBalancerIp(ip) => {
                let rule = self.to_service(ip, "loadbalancer IP");
                if external.firewall.is_some() {
                    chains.nat(SERVICES).push(jump(rule, self.names.firewall.clone()));
                    chains.filter(PROXY_FIREWALL).push(self.not_accepted(ip));
                } else {
                    chains.nat(SERVICES).push(to_external(rule));
                }
            }
            ExternalAddress::NodePort(port) => {
                let over = self.service.name.protocol;
                let rule = to_port(None, over, port.get(), self.name.clone());
                chains.nat(NODE_PORTS).push(to_external(rule));
            }
        }
    }

    fn to_service(&self, ip: IpAddr, what: &str) -> RuleSpec {
        let comment = format!("{} {what}", self.name);
        to_port(Some(ip), self.service.name.protocol, self.service.port, comment)
    }

    /// The rule that rejects or drops untranslated traffic.
    fn refused(
        &self,
        ip: Option<IpAddr>,
        port: u16,
        refusal: Refusal,
        also: Option<Match>,
    ) -> Rule {
        let (what, target) = match refusal {
            Refusal::NoEndpoints => ("has no endpoints", reject(self.plan.family)),
            Refusal::NoLocalEndpoints => ("has no local endpoints", Target::Drop),
        };
        let over = self.service.name.protocol;
        let mut rule = to_port(ip, over, port, format!("{} {what}", self.name));
        if let Some(also) = also {
            rule.matches.insert(1, also);
        }
        then(rule, target)
    }

    /// The rule that drops packets from outside all source ranges.
    fn not_accepted(&self, ip: IpAddr) -> Rule {
        let comment = format!("{} traffic not accepted by {}", self.name, self.names.firewall);
        let rule = to_port(Some(ip), self.service.name.protocol, self.service.port, comment);
        then(rule, Target::Drop)
    }

    fn external_chains(&self, external: &External, chains: &mut RenderedChains) {
        if !external.forwards {
            return;
        }
        chains.add(self.names.external.clone(), self.external_rules(external));
        if let Some(firewall) = &external.firewall {
            let rules = self.firewall_rules(external, firewall);
            chains.add(self.names.firewall.clone(), rules);
        }
    }

    fn external_rules(&self, external: &External) -> Vec<Rule> {
        let about =
            |what: &str| commented(format!("{what} for {} external destinations", self.name));
        let mut rules = Vec::new();
        match external.policy {
            TrafficPolicy::Cluster => {
                rules.push(jump(about("masquerade traffic"), MARK_MASQUERADE));
            }
            TrafficPolicy::Local => {
                if let Some(pods) = &self.plan.pod_traffic {
                    let rule = by_pods(about("pod traffic"), pods, false);
                    rules.push(jump(rule, self.names.cluster.clone()));
                }
                let from_node = |what| matching(about(what), Match::SourceType(AddressType::Local));
                rules.push(jump(from_node("masquerade LOCAL traffic"), MARK_MASQUERADE));
                rules.push(jump(from_node("route LOCAL traffic"), self.names.cluster.clone()));
            }
        }
        if let Treatment::Forward(policy) = external.outcome {
            rules.push(jump(RuleSpec::default(), self.policy_chain(policy).clone()));
        }
        rules
    }

    fn firewall_rules(&self, external: &External, firewall: &Firewall) -> Vec<Rule> {
        let comment: Arc<str> = format!("{} loadbalancer IP", self.name).into();
        let from = |source: IpNet| {
            jump(from_network(commented(comment.clone()), source), self.names.external.clone())
        };
        let mut rules: Vec<Rule> = firewall.source_ranges.iter().copied().map(from).collect();
        rules.extend(external.sources_of_node().into_iter().map(|ip| from(IpNet::from(ip))));
        let rest = format!("other traffic to {} will be dropped by {PROXY_FIREWALL}", self.name);
        rules.push(Rule::Known(commented(rest)));
        rules
    }

    fn policy_chain(&self, policy: TrafficPolicy) -> &ChainName {
        match policy {
            TrafficPolicy::Cluster => &self.names.cluster,
            TrafficPolicy::Local => &self.names.local,
        }
    }

    /// The chains that choose an endpoint, and the endpoints' chains.
    fn endpoints(&self, chains: &mut RenderedChains) {
        let over = self.service.name.protocol;
        let reachable = self.service.reachable_endpoints.iter();
        let named: Vec<NamedEndpoint<'_>> = reachable
            .map(|endpoint| NamedEndpoint {
                endpoint,
                chain: endpoint_chain(&self.name, over, endpoint.address),
            })
            .collect();
        for policy in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
            let seen = self.service.endpoints_of(policy);
            if !seen.is_empty() {
                let rules = self.choosing_rules(policy, seen, &named);
                chains.add(self.policy_chain(policy).clone(), rules);
            }
        }
        for endpoint in named {
            let rules = self.endpoint_rules(&endpoint);
            chains.add(endpoint.chain, rules);
        }
    }

    fn choosing_rules(
        &self,
        policy: TrafficPolicy,
        seen: &[Endpoint],
        named: &[NamedEndpoint<'_>],
    ) -> Vec<Rule> {
        let mut rules = Vec::with_capacity(seen.len() + 1);
        rules.extend(self.masquerade_internal(policy));
        // Both lists have the order of the service port's endpoints.
        let mut rest = named.iter();
        let seen: Vec<&NamedEndpoint<'_>> = seen
            .iter()
            .filter_map(|endpoint| rest.find(|named| named.endpoint == endpoint))
            .collect();
        if let Some(seconds) = self.service.affinity_seconds {
            let check = RecentAction::Check { seconds };
            rules.extend(seen.iter().map(|to| {
                jump(matching(self.to_endpoint(to), self.recent(to, check)), to.chain.clone())
            }));
        }
        for (n, to) in seen.iter().enumerate() {
            let mut rule = self.to_endpoint(to);
            if let Some(threshold) = one_in(seen.len() - n) {
                rule.matches.push(Match::Random(threshold));
            }
            rules.push(jump(rule, to.chain.clone()));
        }
        rules
    }

    /// The first rule of the chain for the cluster IP.
    fn masquerade_internal(&self, policy: TrafficPolicy) -> Option<Rule> {
        let internal = self.service.internal;
        if internal.outcome != Treatment::Forward(policy) {
            return None;
        }
        let rule = || self.to_service(internal.address, "cluster IP");
        let rule = match (internal.masquerade, &self.plan.pod_traffic) {
            (Masquerade::All, _) => rule(),
            // All sources are pods: a rule for the others would match nothing, and iptables-nft
            // rejects it.
            (_, Some(PodTraffic::From(all))) if all.prefix_len() == 0 => return None,
            (Masquerade::NotFromPods, Some(pods)) => by_pods(rule(), pods, true),
            (Masquerade::NotFromPods | Masquerade::None, _) => return None,
        };
        Some(jump(rule, MARK_MASQUERADE))
    }

    fn endpoint_rules(&self, of: &NamedEndpoint<'_>) -> Vec<Rule> {
        let about = || match self.plan.names_endpoints {
            true => commented(self.name.clone()),
            false => RuleSpec::default(),
        };
        let address = of.endpoint.address;
        let hairpin = jump(from_network(about(), IpNet::from(address.ip())), MARK_MASQUERADE);
        let over = self.service.name.protocol;
        let mut rule = RuleSpec { protocol: Some(over), ..about() };
        if self.service.affinity_seconds.is_some() {
            rule.matches.push(self.recent(of, RecentAction::Set));
        }
        rule.matches.push(Match::Transport { protocol: over, destination_port: None });
        vec![hairpin, then(rule, Target::Dnat(address))]
    }

    fn to_endpoint(&self, to: &NamedEndpoint<'_>) -> RuleSpec {
        match self.plan.names_endpoints {
            true => commented(format!("{} -> {}", self.name, to.endpoint.address)),
            false => RuleSpec::default(),
        }
    }

    /// The list of an endpoint's clients is named after its chain.
    fn recent(&self, of: &NamedEndpoint<'_>, action: RecentAction) -> Match {
        let mask = match of.endpoint.address.ip() {
            IpAddr::V4(_) => IpAddr::from([0xff; 4]),
            IpAddr::V6(_) => IpAddr::from([0xff; 16]),
        };
        Match::Recent(Recent { list: of.chain.clone(), action, mask })
    }
}

struct NamedEndpoint<'a> {
    endpoint: &'a Endpoint,
    chain: ChainName,
}

/// The probability `1/n` in units of 2⁻³¹; `None` for 1. kube-proxy writes it with ten decimals,
/// which iptables rounds to 31 bits.
fn one_in(n: usize) -> Option<u32> {
    const DECIMALS: u128 = 10_000_000_000;
    let n = u128::try_from(n).ok().filter(|n| *n > 1)?;
    let decimal = (2 * DECIMALS + n) / (2 * n);
    u32::try_from(((decimal << 32) / DECIMALS).div_ceil(2)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iptables_probability_one_in_n_is_rounded_like_kube_proxy() {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "test")]
        #[expect(clippy::cast_sign_loss, reason = "test")]
        let by_text = |n: usize| {
            let text = format!("{:.10}", 1.0 / n as f64);
            (text.parse::<f64>().unwrap_or_default() * f64::from(1_u32 << 31)).round() as u32
        };
        assert_eq!(one_in(1), None);
        for n in 2..20_000 {
            assert_eq!(one_in(n), Some(by_text(n)), "{n}");
        }
    }
}
