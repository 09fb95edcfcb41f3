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

use rulegen_ruleset::iptables::{Chain, ChainName, Rule, Ruleset, Table};

pub use cleanup::removal_of_everything;
pub use layout::{KUBELET_CHAINS, OURS};

use crate::plan::Plan;

/// The tables `filter` and `nat` that carry the plan out.
pub fn ruleset(plan: &Plan) -> Ruleset {
    let mut chains = Chains::new();
    layout::begin(plan, &mut chains);
    for service in &plan.services {
        service::spell(plan, service, &mut chains);
    }
    layout::finish(plan, &mut chains);

    let mut ruleset = Ruleset::new(spell::family(plan.family));
    ruleset.tables.insert(Table::Filter, chains.filter);
    ruleset.tables.insert(Table::Nat, chains.nat);
    ruleset
}

/// The chains made so far.
struct Chains {
    filter: BTreeMap<ChainName, Chain>,
    nat: BTreeMap<ChainName, Chain>,
}

impl Chains {
    fn new() -> Self {
        Self {
            filter: Ruleset::built_in_chains(Table::Filter),
            nat: Ruleset::built_in_chains(Table::Nat),
        }
    }

    fn filter(&mut self, chain: &'static str) -> &mut Vec<Rule> {
        &mut self.filter.entry(chain.into()).or_default().rules
    }

    fn nat(&mut self, chain: &'static str) -> &mut Vec<Rule> {
        &mut self.nat.entry(chain.into()).or_default().rules
    }

    /// Adds a whole chain of the table `nat`.
    fn add(&mut self, name: ChainName, rules: Vec<Rule>) {
        self.nat.insert(name, Chain { policy: None, rules });
    }
}
