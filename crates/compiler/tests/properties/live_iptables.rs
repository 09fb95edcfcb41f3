//! A ruleset that is updated incrementally equals the freshly compiled ruleset. Its patches bring
//! the kernel to the same state, and write no chain without need.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rulegen_compiler::iptables::{LiveRuleset, OURS, ruleset};
use rulegen_compiler::{Plan, ServicePlan};
use rulegen_net::ServicePortName;
use rulegen_ruleset::iptables::{Chain, ChainName, Change, Ruleset, Table, Transaction};

use crate::cluster::{config, objects, plans};
use crate::live::changes;

/// Number of endpoints above which rules have no comments.
const MANY: usize = 1001;

/// Marks some service ports as large, so that a plan may have too many endpoints for comments.
fn enlarge(plan: &mut Plan, large: &[bool]) {
    for (service, large) in plan.services.iter_mut().zip(large) {
        service.endpoints += if *large { MANY } else { 0 };
    }
    let endpoints: usize = plan.services.iter().map(|service| service.endpoints).sum();
    plan.names_endpoints = endpoints < MANY;
}

fn rules(ruleset: &Ruleset, table: Table) -> usize {
    ruleset.tables[&table].values().map(|chain| chain.rules.len()).sum()
}

/// Chains that a transaction writes without a change.
fn needless(transaction: &Transaction<'_>, actual: &Ruleset) -> Vec<String> {
    let mut needless = Vec::new();
    for table in &transaction.tables {
        for change in &table.changes {
            if let Change::Fill { chain, rules } = change
                && actual.chain(table.table, chain).is_some_and(|actual| actual.rules == *rules)
            {
                needless.push(format!("{} {chain}", table.table));
            }
        }
    }
    needless
}

type UpdateStep = Vec<(ServicePortName, Option<ServicePlan>)>;

/// The updates from one plan to another, in one step or in many.
fn steps(before: &Plan, after: &Plan, at_once: bool) -> Vec<UpdateStep> {
    let changes: UpdateStep =
        changes(before, after).into_iter().map(|update| (update.name, update.after)).collect();
    match at_once {
        true => vec![changes],
        false => changes.into_iter().map(|change| vec![change]).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn live_ruleset_equals_compiled_ruleset_iptables(
        states in prop::collection::vec(
            (objects(), prop::collection::vec(prop::bool::weighted(0.02), 20)), 2..5,
        ),
        config in config(), at_once in any::<bool>(), second in any::<bool>(),
    ) {
        let mut states: Vec<Plan> = states
            .iter()
            .map(|(objects, large)| {
                let [(_, ipv4), (_, ipv6)] = plans(objects, &config);
                let mut plan = if second { ipv6 } else { ipv4 };
                enlarge(&mut plan, large);
                plan
            })
            .collect();
        let mut last = states.remove(0);
        let mut live = LiveRuleset::new(last.clone());
        let mut actual = ruleset(&last);
        prop_assert_eq!(&live.ruleset(), &actual);

        for state in states {
            for step in steps(&last, &state, at_once) {
                let before = actual.clone();
                let patch = live.update(step);
                let transaction = patch.transaction();
                prop_assert_eq!(needless(&transaction, &before), Vec::<String>::new());
                transaction.apply(&mut actual);
                prop_assert_eq!(&actual, &live.ruleset());
                for table in [Table::Filter, Table::Nat] {
                    let sizes = patch.sizes(table);
                    let size = rules(&before, table) - sizes.before + sizes.after;
                    prop_assert_eq!(rules(&actual, table), size);
                }
            }
            prop_assert_eq!(&actual, &ruleset(&state));
            last = state;
        }
    }

    /// Of the changed chains, the repair needs only the content of those that other programs fill
    /// too. It writes only changed chains.
    #[test]
    fn live_ruleset_repairs_only_damaged_chains(
        objects in objects(), config in config(),
        damages in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
    ) {
        for (_, plan) in plans(&objects, &config) {
            let live = LiveRuleset::new(plan.clone());
            let desired = live.ruleset();
            let all: Vec<(Table, ChainName)> = desired
                .tables
                .iter()
                .flat_map(|(table, chains)| chains.keys().map(|name| (*table, name.clone())))
                .collect();
            let mut chains: BTreeSet<(Table, ChainName)> =
                damages.iter().map(|damage| damage.get(&all).clone()).collect();
            chains.insert((Table::Nat, "KUBE-SEP-OFNOBODY".into()));
            let mut kernel = desired.clone();
            let mut read = Ruleset::new(desired.family);
            for (table, name) in &chains {
                let content = kernel.tables.get_mut(table).unwrap();
                content.insert(name.clone(), Chain::default());
                if !OURS.owns(*table, name) {
                    read.tables.entry(*table).or_default().insert(name.clone(), Chain::default());
                }
            }
            let patch = live.repair(&chains, read);
            let transaction = patch.transaction();
            for table in &transaction.tables {
                for change in &table.changes {
                    let (Change::Fill { chain, .. }
                    | Change::Prepend { chain, .. }
                    | Change::Remove { chain, .. }
                    | Change::Delete { chain }) = change;
                    prop_assert!(chains.contains(&(table.table, (*chain).clone())));
                }
            }
            transaction.apply(&mut kernel);
            for (table, content) in &desired.tables {
                for (name, chain) in content {
                    let actual = kernel.chain(*table, name).map(|chain| &chain.rules);
                    prop_assert_eq!(actual, Some(&chain.rules), "{} {}", table, name);
                }
                prop_assert_eq!(content.len(), kernel.tables[table].len());
            }
        }
    }

    /// A change of endpoints writes only the chains of its service port.
    #[test]
    fn live_ruleset_endpoint_update_keeps_shared_chains(objects in objects(), config in config()) {
        for (_, plan) in plans(&objects, &config) {
            let mut live = LiveRuleset::new(plan.clone());
            for service in &plan.services {
                let mut changed = service.clone();
                let endpoints = [
                    &mut changed.cluster_endpoints,
                    &mut changed.local_endpoints,
                    &mut changed.reachable_endpoints,
                ];
                for endpoint in endpoints.into_iter().flatten() {
                    endpoint.address.set_port(endpoint.address.port() + 1);
                }
                let patch = live.update([(service.name.clone(), Some(changed))]);
                for table in patch.transaction().tables {
                    for change in table.changes {
                        let (Change::Fill { chain, .. } | Change::Delete { chain }) = change else {
                            panic!("{change:?}");
                        };
                        let own = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-"];
                        let name = chain.as_str();
                        prop_assert!(own.iter().any(|start| name.starts_with(start)), "{name}");
                    }
                }
            }
        }
    }
}
