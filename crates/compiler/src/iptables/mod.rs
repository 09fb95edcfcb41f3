//! Spells a plan in kube-proxy's iptables layout, rule for rule.
//!
//! ```text
//! nat     PREROUTING, OUTPUT ─▶ KUBE-SERVICES ─▶ KUBE-SVC-…   cluster IP, policy Cluster
//!                                    │           KUBE-SVL-…   cluster IP, policy Local
//!                                    │           KUBE-FW-…  ─▶ KUBE-EXT-…  source ranges
//!                                    ├─────────▶ KUBE-EXT-… ─▶ KUBE-SVC-… or KUBE-SVL-…
//!                                    └▶ KUBE-NODEPORTS ─▶ KUBE-EXT-…
//!         KUBE-SVC-…, KUBE-SVL-… ─▶ KUBE-SEP-… ─▶ DNAT
//!         POSTROUTING ─▶ KUBE-POSTROUTING ─▶ MASQUERADE what KUBE-MARK-MASQ marked
//! filter  INPUT, FORWARD, OUTPUT ─▶ KUBE-SERVICES, KUBE-EXTERNAL-SERVICES  REJECT and DROP
//!                                   KUBE-PROXY-FIREWALL  what no source range let through
//! ```

mod cleanup;
mod layout;
mod live;
mod names;
mod rules;
mod service;

use std::collections::BTreeMap;

use rayon::prelude::*;
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{Chain, ChainName, Rule, Ruleset, Table};

pub use cleanup::removal_of_everything;
pub use layout::{
    EXTERNAL_SERVICES, KUBELET_CHAINS, MARK_MASQUERADE, NODE_PORTS, OURS, POSTROUTING,
    PROXY_FIREWALL, SERVICES, SHARED_FIREWALL, concerns, leads_to_services, loopback_guard,
};
pub use live::{LiveRuleset, Patch, Sizes};

use crate::plan::{Plan, ServicePlan};

/// The tables `filter` and `nat` that carry the plan out.
pub fn ruleset(plan: &Plan) -> Ruleset {
    let services: Vec<&ServicePlan> = plan.services.iter().collect();
    chains(plan, &services, service::render).into_ruleset(plan.family)
}

/// Services that are spelled at a time, by one processor.
const SERVICES_OF_A_PART: usize = 256;

/// The chains of a plan, with what `render` adds for each of the service ports, which are ordered
/// by name.
fn chains(
    plan: &Plan,
    services: &[&ServicePlan],
    render: fn(&Plan, &ServicePlan, &mut Chains),
) -> Chains {
    let mut chains = Chains::default();
    layout::begin(plan, &mut chains);
    let rendered = |part: &[&ServicePlan]| {
        let mut chains = Chains::default();
        part.iter().for_each(|service| render(plan, service, &mut chains));
        chains
    };
    let parts: Vec<Chains> = services.par_chunks(SERVICES_OF_A_PART).map(rendered).collect();
    parts.into_iter().for_each(|part| chains.append(part));
    layout::finish(plan, &mut chains);
    chains
}

/// The chains made so far: those that all Services share, by name, and those of one.
#[derive(Default)]
struct Chains {
    filter: BTreeMap<&'static str, Vec<Rule>>,
    nat: BTreeMap<&'static str, Vec<Rule>>,
    own: Vec<(ChainName, Vec<Rule>)>,
}

impl Chains {
    fn filter(&mut self, chain: &'static str) -> &mut Vec<Rule> {
        self.filter.entry(chain).or_default()
    }

    fn nat(&mut self, chain: &'static str) -> &mut Vec<Rule> {
        self.nat.entry(chain).or_default()
    }

    /// Adds a whole chain of the table `nat`.
    fn add(&mut self, name: ChainName, rules: Vec<Rule>) {
        self.own.push((name, rules));
    }

    fn append(&mut self, other: Chains) {
        other.filter.into_iter().for_each(|(name, rules)| self.filter(name).extend(rules));
        other.nat.into_iter().for_each(|(name, rules)| self.nat(name).extend(rules));
        self.own.extend(other.own);
    }

    fn into_ruleset(self, family: IpFamily) -> Ruleset {
        let mut ruleset = Ruleset::new(family);
        ruleset.tables.insert(Table::Filter, table(Table::Filter, self.filter, Vec::new()));
        ruleset.tables.insert(Table::Nat, table(Table::Nat, self.nat, self.own));
        ruleset
    }
}

/// A table of these chains and the built-in ones.
fn table(
    table: Table,
    shared: BTreeMap<&'static str, Vec<Rule>>,
    mut own: Vec<(ChainName, Vec<Rule>)>,
) -> BTreeMap<ChainName, Chain> {
    own.par_sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let own = own.into_iter().map(|(name, rules)| (name, Chain { policy: None, rules }));
    let mut chains: BTreeMap<ChainName, Chain> = own.collect();
    chains.append(&mut Ruleset::built_in_chains(table));
    for (name, rules) in shared {
        chains.entry(name.into()).or_default().rules = rules;
    }
    chains
}
