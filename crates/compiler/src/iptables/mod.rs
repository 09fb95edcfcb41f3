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
mod names;
mod service;
mod spell;

use std::collections::BTreeMap;

use rayon::prelude::*;
use rulegen_ruleset::iptables::{Chain, ChainName, Rule, Ruleset, Table};

pub use cleanup::removal_of_everything;
pub use layout::{KUBELET_CHAINS, OURS};

use crate::plan::{Plan, ServicePlan};

/// The tables `filter` and `nat` that carry the plan out.
pub fn ruleset(plan: &Plan) -> Ruleset {
    let mut chains = Chains::default();
    layout::begin(plan, &mut chains);
    let of_services: Vec<Chains> =
        plan.services.par_chunks(SERVICES_OF_A_PART).map(|part| spelled(plan, part)).collect();
    of_services.into_iter().for_each(|part| chains.append(part));
    layout::finish(plan, &mut chains);

    let mut ruleset = Ruleset::new(crate::family(plan.family));
    ruleset.tables.insert(Table::Filter, table(Table::Filter, chains.filter, Vec::new()));
    ruleset.tables.insert(Table::Nat, table(Table::Nat, chains.nat, chains.own));
    ruleset
}

/// Services that are spelled at a time, by one processor.
const SERVICES_OF_A_PART: usize = 256;

fn spelled(plan: &Plan, services: &[ServicePlan]) -> Chains {
    let mut chains = Chains::default();
    services.iter().for_each(|service| service::spell(plan, service, &mut chains));
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
