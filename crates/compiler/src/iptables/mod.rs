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

use rulegen_ruleset::iptables::{ChainName, Rule, Ruleset, Table};

pub use cleanup::removal_of_everything;
pub use layout::{KUBELET_CHAINS, OURS};

use crate::plan::Plan;

/// The tables `filter` and `nat` that carry the plan out.
pub fn ruleset(plan: &Plan) -> Ruleset {
    let mut chains = Chains::default();
    layout::begin(plan, &mut chains);
    for service in &plan.services {
        service::spell(plan, service, &mut chains);
    }
    layout::finish(plan, &mut chains);

    let mut ruleset = Ruleset::new(spell::family(plan.family));
    for (table, own) in [(Table::Filter, chains.filter), (Table::Nat, chains.nat)] {
        let mut all = Ruleset::built_in_chains(table);
        for (name, rules) in own {
            all.entry(name).or_default().rules = rules;
        }
        ruleset.tables.insert(table, all);
    }
    ruleset
}

/// The rules made so far, by table and chain.
#[derive(Default)]
struct Chains {
    filter: BTreeMap<ChainName, Vec<Rule>>,
    nat: BTreeMap<ChainName, Vec<Rule>>,
}

impl Chains {
    fn filter(&mut self, chain: &'static str) -> &mut Vec<Rule> {
        self.filter.entry(chain.into()).or_default()
    }

    fn nat(&mut self, chain: &'static str) -> &mut Vec<Rule> {
        self.nat.entry(chain.into()).or_default()
    }

    /// Adds a whole chain of the table `nat`.
    fn add(&mut self, name: ChainName, rules: Vec<Rule>) {
        self.nat.insert(name, rules);
    }
}
