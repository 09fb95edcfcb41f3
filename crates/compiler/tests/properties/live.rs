//! A table that is updated incrementally equals the freshly compiled table, and its patches bring
//! the kernel to the same state.

use proptest::prelude::*;
use proptest::sample::Index;
use rulegen_compiler::nftables::{self, LiveTable, ServiceUpdate};
use rulegen_compiler::{Plan, ServicePlan};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_net::ServicePortName;
use rulegen_ruleset::dataplane::{Dataplane, reconcile};
use rulegen_ruleset::nftables::Name;
use serde_json::Value;

use crate::cluster::{config, objects, plans};
use crate::fake_kernel::FakeKernel;

fn plan(objects: &[Value], config: &ProxyConfig) -> Plan {
    let config = ProxyConfig { mode: ProxyMode::Nftables, ..config.clone() };
    let [(_, plan), _] = plans(objects, &config);
    plan
}

/// The difference of two plans, one update per service port.
pub(crate) fn changes(before: &Plan, after: &Plan) -> Vec<ServiceUpdate> {
    let names = before.services.iter().chain(&after.services).map(|service| &service.name);
    let mut names: Vec<ServicePortName> = names.cloned().collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| find(before, name) != find(after, name))
        .map(|name| {
            let (before, after) = (find(before, &name), find(after, &name));
            ServiceUpdate { name, before, after }
        })
        .collect()
}

fn find(plan: &Plan, name: &ServicePortName) -> Option<ServicePlan> {
    plan.services.iter().find(|service| service.name == *name).cloned()
}

/// Applies updates to a plan.
fn apply_updates(plan: &mut Plan, step: &[ServiceUpdate]) {
    for update in step {
        plan.services.retain(|service| service.name != update.name);
        plan.services.extend(update.after.clone());
    }
}

/// Copies addresses between service ports, so that several claim the same.
fn collide(plan: &mut Plan, collisions: &[(Index, Index)]) {
    for (one, other) in collisions {
        if let Some(count) = plan.services.len().checked_sub(1).filter(|count| *count > 0) {
            let taken = plan.services[other.index(count + 1)].clone();
            let service = &mut plan.services[one.index(count + 1)];
            service.internal.address = taken.internal.address;
            service.port = taken.port;
            service.name.protocol = taken.name.protocol;
            if let (Some(external), Some(taken)) = (&mut service.external, taken.external) {
                external.addresses = taken.addresses;
            }
        }
    }
    plan.services.sort_by(|a, b| a.name.cmp(&b.name));
    plan.services.dedup_by(|a, b| a.name == b.name);
}

fn collisions() -> impl Strategy<Value = Vec<(Index, Index)>> {
    prop::collection::vec((any::<Index>(), any::<Index>()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn live_table_equals_compiled_table_nftables(
        states in prop::collection::vec((objects(), collisions()), 2..5),
        config in config(), at_once in any::<bool>(),
    ) {
        let name = Name::from("rulegen");
        let mut states: Vec<Plan> = states
            .iter()
            .map(|(objects, collisions)| {
                let mut plan = plan(objects, &config);
                collide(&mut plan, collisions);
                plan
            })
            .collect();
        let mut last = states.remove(0);
        let mut live = LiveTable::new(last.clone(), &name);
        prop_assert_eq!(live.table(), &nftables::table(&last, &name));
        let mut fake = FakeKernel::default();
        reconcile(&mut fake, std::slice::from_ref(live.table()), |_| ()).unwrap();

        for state in states {
            let mut steps: Vec<_> =
                changes(&last, &state).into_iter().map(|change| vec![change]).collect();
            if at_once {
                steps = vec![steps.concat()];
            }
            for step in steps {
                let patch = live.update(step.clone(), |name| find(&last, name));
                apply_updates(&mut last, &step);
                let transaction = patch.transaction();
                if !transaction.is_empty() {
                    fake.commit(None, &[transaction]).unwrap();
                }
                let left = reconcile(&mut fake, std::slice::from_ref(live.table()), |all| {
                    let edits = all.iter().flat_map(|one| one.edits());
                    edits.map(|edit| format!("{edit:?}")).collect::<Vec<_>>()
                });
                prop_assert_eq!(left.unwrap(), Vec::<String>::new());
            }
            prop_assert_eq!(live.table(), &nftables::table(&state, &name));
            last = state;
        }
    }
}
