//! A ruleset that follows its plan per service port: the cost is that of the change, not that of
//! the ruleset.
//!
//! Each service port has its own chains, named after a hash of its name. A shared chain is
//! rewritten as a whole if one of its rules changes, which a change of endpoints seldom causes.
//!
//! No rules are kept: the plan needs a fraction of their memory, and rendering all of them again
//! takes less time than reading those in the kernel.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rulegen_model::ObjectKey;
use rulegen_net::ServicePortName;
use rulegen_ruleset::iptables::{Chain, ChainName, Rule, Ruleset, Table, Transaction, diff};

use super::{OURS, RenderedChains, chains, service};
use crate::plan::{NodePortsAt, Plan, ServicePlan, names_endpoints};

/// A plan that changes, and the ruleset rendered from it.
pub struct LiveRuleset {
    plan: Plan,
    services: BTreeMap<ServicePortName, ServicePlan>,
    /// Of all service ports.
    endpoints: usize,
}

/// The chains that a change affects, before and after. A shared chain is only in the state after
/// the change.
pub struct Patch {
    actual: Ruleset,
    desired: Ruleset,
    sizes: BTreeMap<Table, Sizes>,
}

/// Numbers of rules of the service ports that changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Before the change.
    pub before: usize,
    /// After the change.
    pub after: usize,
}

impl Patch {
    /// The transaction from the state before to the state after, for a kernel that has the ruleset
    /// as it was.
    pub fn transaction(&self) -> Transaction<'_> {
        diff(&self.actual, &self.desired, &OURS)
    }

    /// By how much the number of rules in a table changes.
    pub fn sizes(&self, table: Table) -> Sizes {
        self.sizes.get(&table).copied().unwrap_or_default()
    }

    fn of_all(actual: Ruleset, desired: Ruleset) -> Self {
        let size = |table| Sizes { before: actual.rules_of(table), after: desired.rules_of(table) };
        let sizes = TABLES.into_iter().map(|table| (table, size(table))).collect();
        Self { actual, desired, sizes }
    }
}

const TABLES: [Table; 2] = [Table::Filter, Table::Nat];

impl LiveRuleset {
    /// Starts with a plan.
    pub fn new(mut plan: Plan) -> Self {
        let services = std::mem::take(&mut plan.services);
        let endpoints = services.iter().map(|service| service.endpoints).sum();
        let services = services.into_iter().map(|service| (service.name.clone(), service));
        Self { plan, services: services.collect(), endpoints }
    }

    /// Renders the complete ruleset.
    pub fn ruleset(&self) -> Ruleset {
        let services: Vec<&ServicePlan> = self.services.values().collect();
        chains(&self.plan, &services, service::render).into_ruleset(self.plan.family)
    }

    /// The rules of some Services with all shared rules, and the rules of the other Services.
    pub fn split(&self, services: &[ObjectKey]) -> (Ruleset, Ruleset) {
        let chosen: HashSet<&ObjectKey> = services.iter().collect();
        let is_chosen = |service: &&ServicePlan| chosen.contains(&service_of(&service.name));
        let (chosen, rest): (Vec<&ServicePlan>, Vec<&ServicePlan>) =
            self.services.values().partition(is_chosen);
        let ruleset = |services: &[&ServicePlan]| {
            chains(&self.plan, services, service::render).into_ruleset(self.plan.family)
        };
        (ruleset(&chosen), ruleset(&rest))
    }

    /// The Services that have rules.
    pub fn services(&self) -> BTreeSet<ObjectKey> {
        self.services.keys().map(service_of).collect()
    }

    /// Removes all ports of some Services.
    pub fn remove(&mut self, services: &[ObjectKey]) {
        let gone: HashSet<&ObjectKey> = services.iter().collect();
        let ports = self.services.keys().filter(|name| gone.contains(&service_of(name)));
        let ports: Vec<ServicePortName> = ports.cloned().collect();
        self.update(ports.into_iter().map(|name| (name, None)));
    }

    /// Whether it has the rule that must exist before route_localnet is set.
    pub fn guards_loopback(&self) -> bool {
        self.plan.guards_loopback
    }

    /// Adds, changes or (with `None`) removes service ports, and returns the change. If the number
    /// of endpoints crosses the limit above which their rules have no comments, all rules of
    /// endpoints change.
    pub fn update(
        &mut self,
        changes: impl IntoIterator<Item = (ServicePortName, Option<ServicePlan>)>,
    ) -> Patch {
        let changes: BTreeMap<ServicePortName, Option<ServicePlan>> = changes.into_iter().collect();
        let named = names_endpoints(self.endpoints_after(&changes));
        if named != self.plan.names_endpoints {
            let before = self.ruleset();
            self.take_in(changes);
            self.plan.names_endpoints = named;
            return Patch::of_all(before, self.ruleset());
        }
        let names: BTreeSet<ServicePortName> = changes.keys().cloned().collect();
        let before = self.rendered(&names);
        self.take_in(changes);
        let after = self.rendered(&names);
        self.patch(before, after)
    }

    /// Changes the addresses at which node ports are open, and returns the change. Renders all
    /// rules twice.
    pub fn update_with_node_ports_at(
        &mut self,
        changes: impl IntoIterator<Item = (ServicePortName, Option<ServicePlan>)>,
        addresses: NodePortsAt,
    ) -> Patch {
        let before = self.ruleset();
        self.take_in(changes.into_iter().collect());
        self.plan.names_endpoints = names_endpoints(self.endpoints);
        self.plan.node_ports_at = addresses;
        Patch::of_all(before, self.ruleset())
    }

    /// Repairs chains that another program may have changed: our own are rewritten, or deleted if
    /// they are not desired. In shared chains, rules missing in `actual` are added.
    pub fn repair(&self, chains: &BTreeSet<(Table, ChainName)>, mut actual: Ruleset) -> Patch {
        let mut desired = self.ruleset();
        for (table, content) in &mut desired.tables {
            content.retain(|name, _| chains.contains(&(*table, name.clone())));
        }
        for (table, name) in chains {
            if OURS.owns(*table, name) && desired.chain(*table, name).is_none() {
                actual.tables.entry(*table).or_default().insert(name.clone(), Chain::default());
            }
        }
        // Equal numbers before and after: they are those of the desired ruleset.
        Patch { actual, desired, sizes: BTreeMap::new() }
    }

    fn endpoints_after(&self, changes: &BTreeMap<ServicePortName, Option<ServicePlan>>) -> usize {
        let old = changes.keys().filter_map(|name| self.services.get(name));
        let gone: usize = old.map(|service| service.endpoints).sum();
        let new: usize = changes.values().flatten().map(|service| service.endpoints).sum();
        self.endpoints.saturating_sub(gone) + new
    }

    fn take_in(&mut self, changes: BTreeMap<ServicePortName, Option<ServicePlan>>) {
        self.endpoints = self.endpoints_after(&changes);
        for (name, service) in changes {
            match service {
                Some(service) => self.services.insert(name, service),
                None => self.services.remove(&name),
            };
        }
    }

    /// The rules of these service ports only.
    fn rendered(&self, names: &BTreeSet<ServicePortName>) -> RenderedChains {
        let mut chains = RenderedChains::default();
        let services = names.iter().filter_map(|name| self.services.get(name));
        services.for_each(|service| service::render(&self.plan, service, &mut chains));
        chains
    }

    fn patch(&self, before: RenderedChains, after: RenderedChains) -> Patch {
        let sizes = BTreeMap::from([
            (Table::Filter, Sizes { before: rules(&before.filter), after: rules(&after.filter) }),
            (
                Table::Nat,
                Sizes {
                    before: rules(&before.nat) + own_rules(&before),
                    after: rules(&after.nat) + own_rules(&after),
                },
            ),
        ]);
        let filter = changed(&before.filter, &after.filter);
        let nat = changed(&before.nat, &after.nat);
        let shared = match filter.is_empty() && nat.is_empty() {
            true => RenderedChains::default(),
            false => self.shared(),
        };
        let filled = |shared: BTreeMap<&'static str, Vec<Rule>>, names: &BTreeSet<&str>| {
            let filled = shared.into_iter().filter(|(name, _)| names.contains(name));
            filled.map(|(name, rules)| (name.into(), rules)).collect()
        };
        let desired = [
            (Table::Filter, table(filled(shared.filter, &filter))),
            (Table::Nat, table([filled(shared.nat, &nat), after.own].concat())),
        ];
        let actual = [(Table::Nat, table(before.own))];
        let family = self.plan.family;
        Patch {
            actual: Ruleset { family, tables: actual.into() },
            desired: Ruleset { family, tables: desired.into() },
            sizes,
        }
    }

    /// The shared chains, complete.
    fn shared(&self) -> RenderedChains {
        let services: Vec<&ServicePlan> = self.services.values().collect();
        chains(&self.plan, &services, service::render_shared)
    }
}

/// The shared chains in which the rendered service ports have other rules than before.
fn changed(
    before: &BTreeMap<&'static str, Vec<Rule>>,
    after: &BTreeMap<&'static str, Vec<Rule>>,
) -> BTreeSet<&'static str> {
    let names = before.keys().chain(after.keys()).copied();
    names.filter(|name| before.get(name) != after.get(name)).collect()
}

fn table(chains: Vec<(ChainName, Vec<Rule>)>) -> BTreeMap<ChainName, Chain> {
    chains.into_iter().map(|(name, rules)| (name, Chain { policy: None, rules })).collect()
}

fn service_of(name: &ServicePortName) -> ObjectKey {
    ObjectKey { namespace: name.namespace.clone(), name: name.service.clone() }
}

fn rules(chains: &BTreeMap<&'static str, Vec<Rule>>) -> usize {
    chains.values().map(Vec::len).sum()
}

fn own_rules(chains: &RenderedChains) -> usize {
    chains.own.iter().map(|(_, rules)| rules.len()).sum()
}
