//! Chains that many service ports use. Each is made once.

use rulegen_model::LoadBalancing;
use rulegen_ruleset::nftables::{Chain, Name, Number, NumgenMode, Rule, Selector, Statement};

use super::layout::{FrontendMaps, of_rules};
use super::set_element::SetElement;
use super::source_ranges::SourceRanges;
use super::statements::{goto, key_and, mark, masquerade_internal};
use crate::plan::{Masquerade, Plan};

/// A chain whose name determines its content, apart from the node's configuration.
#[derive(Debug, Clone)]
pub(super) enum SharedChain {
    /// Chooses one of this number of slots of a frontend.
    Choice(EndpointChoice),
    /// Marks traffic to a cluster IP for masquerading as the plan requires, then chooses.
    ClusterIp(EndpointChoice, Masquerade),
    /// Marks external traffic under policy Cluster for masquerading, then chooses.
    External(EndpointChoice),
    /// Drops packets from outside these networks.
    SourceRanges(SourceRanges),
}

/// A choice among the endpoints that a map has for a frontend.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndpointChoice {
    pub(super) maps: FrontendMaps,
    /// The map from a frontend and a number to an endpoint.
    pub(super) map: &'static str,
    /// Number of slots of the frontend.
    pub(super) slots: usize,
    pub(super) load_balancing: LoadBalancing,
}

impl SharedChain {
    pub(super) fn name(&self) -> Name {
        match self {
            SharedChain::Choice(choice) => choice.name(),
            SharedChain::ClusterIp(EndpointChoice { slots, load_balancing, .. }, _) => {
                Name::from(format!("cluster-ip-{slots}{}", suffix(*load_balancing)))
            }
            SharedChain::External(EndpointChoice { maps, slots, load_balancing, .. }) => {
                let external = maps.external(*slots);
                Name::from(format!("{external}{}", suffix(*load_balancing)))
            }
            SharedChain::SourceRanges(ranges) => ranges.chain_name(),
        }
    }

    pub(super) fn chain(&self, plan: &Plan) -> Chain {
        let then = |first: Option<Rule>, choice: &EndpointChoice| {
            let choose = Rule::new([goto(choice.name().as_str())]);
            of_rules(first.into_iter().chain([choose]).collect())
        };
        match self {
            SharedChain::Choice(choice) => of_rules(vec![choice.rule()]),
            SharedChain::ClusterIp(choice, masquerade) => {
                then(masquerade_internal(plan, *masquerade), choice)
            }
            SharedChain::External(choice) => then(Some(Rule::new([mark(plan)])), choice),
            SharedChain::SourceRanges(ranges) => ranges.chain(),
        }
    }

    /// Elements that are added and removed with the chain.
    pub(super) fn elements(&self) -> Vec<SetElement> {
        match self {
            SharedChain::SourceRanges(ranges) => ranges.elements(),
            _ => Vec::new(),
        }
    }
}

impl EndpointChoice {
    fn name(&self) -> Name {
        let Self { map, slots, load_balancing, .. } = self;
        Name::from(format!("{map}-{slots}{}", suffix(*load_balancing)))
    }

    fn rule(&self) -> Rule {
        let number = drawn(self.load_balancing, self.slots);
        let key = key_and(self.maps.key(), number);
        Rule::new([Statement::DnatMap { key, map: Name::from(self.map) }])
    }
}

/// The number of a slot, as the kernel generates it.
pub(super) fn drawn(load_balancing: LoadBalancing, slots: usize) -> Selector {
    let draw = match load_balancing {
        LoadBalancing::Random => NumgenMode::Random,
        LoadBalancing::RoundRobin => NumgenMode::InTurn,
        LoadBalancing::Maglev => NumgenMode::BySource,
        LoadBalancing::Maglev5Tuple => NumgenMode::ByFlow,
    };
    Selector::Number(Number::Modulo(draw, u32::try_from(slots).unwrap_or(u32::MAX)))
}

/// Suffix for the names of chains that choose in different ways.
fn suffix(load_balancing: LoadBalancing) -> &'static str {
    match load_balancing {
        LoadBalancing::Random => "",
        LoadBalancing::RoundRobin => "-round-robin",
        LoadBalancing::Maglev => "-maglev",
        LoadBalancing::Maglev5Tuple => "-maglev-5tuple",
    }
}
