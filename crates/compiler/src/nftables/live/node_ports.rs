//! A change of the addresses at which node ports are open. It affects the elements of one set only.

use rulegen_ruleset::nftables::{Actual, Table};

use super::super::layout;
use super::{LiveTable, Patch};
use crate::plan::{NodePortsAt, Plan};

impl LiveTable {
    /// Changes the addresses at which node ports are open, and returns the change. `None` if rules
    /// change too, because only one of the two states lists addresses: then the table must be
    /// rendered again.
    pub fn open_node_ports_at(&mut self, addresses: NodePortsAt) -> Option<Patch> {
        let are_named = |at: &NodePortsAt| matches!(at, NodePortsAt::These(_));
        let is_set_only = are_named(&addresses) && are_named(&self.plan.node_ports_at);
        if !is_set_only && addresses != self.plan.node_ports_at {
            return None;
        }
        let before = self.without_services(&self.plan);
        self.plan.node_ports_at = addresses;
        let after = self.without_services(&self.plan);
        self.table.replace(&before, &after);
        let rendered = after.sets.values().map(|set| set.elements.len()).sum();
        let client_sets = Vec::new();
        Some(Patch { actual: Actual::from(before), desired: after, client_sets, rendered })
    }

    fn without_services(&self, plan: &Plan) -> Table {
        Table { sets: layout::sets(plan), ..self.table.without_content() }
    }
}
