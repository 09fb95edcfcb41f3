//! What the kernel refuses is found, whatever it is, and all else is applied.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use rulegen_compiler::{Plan, nftables};
use rulegen_model::{ProxyConfig, ProxyMode};
use rulegen_ruleset::dataplane::{isolate, reconcile};
use rulegen_ruleset::nftables::Table;
use serde_json::Value;

use crate::cluster::{config, objects, plans};
use crate::twin::{Twin, services};

fn nftables_plans(objects: &[Value], config: &ProxyConfig) -> [Plan; 2] {
    let config = ProxyConfig { mode: ProxyMode::Nftables, ..config.clone() };
    plans(objects, &config).map(|(_, plan)| plan)
}

fn names(plans: &[Plan]) -> BTreeSet<String> {
    let ports = plans.iter().flat_map(|plan| &plan.services);
    ports.map(|port| format!("{}/{}", port.name.namespace, port.name.service)).collect()
}

/// The tables of some Services.
fn tables(plans: &[Plan], names: &[String]) -> Vec<Table> {
    let of_plan = |plan: &Plan| {
        let mut plan = plan.clone();
        plan.services.retain(|port| {
            names.contains(&format!("{}/{}", port.name.namespace, port.name.service))
        });
        nftables::table(&plan, &"rulegen".into())
    };
    plans.iter().map(of_plan).collect()
}

fn write(twin: &mut Twin, wanted: &[Table]) -> bool {
    reconcile(twin, wanted, |_| ()).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn isolate_applies_all_but_refused_services(
        before in objects(), after in objects(), config in config(),
        culprits in prop::collection::vec(any::<Index>(), 0..3),
        pair in prop::option::of((any::<Index>(), any::<Index>())),
        settled in any::<Index>(),
    ) {
        let before = nftables_plans(&before, &config);
        let after = nftables_plans(&after, &config);
        let all: Vec<String> = names(&after).into_iter().collect();
        prop_assume!(!all.is_empty());
        let mut twin = Twin::default();
        prop_assert!(write(&mut twin, &tables(&before, &Vec::from_iter(names(&before)))));

        let named = |index: &Index| all[index.index(all.len())].clone();
        let culprits: BTreeSet<String> = culprits.iter().map(named).collect();
        let pair = pair.map(|(one, other)| BTreeSet::from([named(&one), named(&other)]));
        let pair = pair.filter(|pair| pair.is_disjoint(&culprits) && pair.len() == 2);
        twin.refuses = culprits.iter().map(|name| BTreeSet::from([name.clone()])).collect();
        twin.refuses.extend(pair.clone());

        // What was there before is not looked at again, as long as it stays as it is.
        let wanted = tables(&after, &all);
        if write(&mut twin, &wanted) {
            return Ok(());
        }
        let (held, generation) = (twin.tables.clone(), twin.generation);
        let (settled, suspects) = all.split_at(settled.index(all.len()));
        twin.rehearsals = 0;
        let found = isolate(&mut twin, settled, suspects, 100, |names| tables(&after, names));
        let found = found.unwrap();
        prop_assert_eq!((&twin.tables, twin.generation), (&held, generation), "it was disturbed");
        prop_assert!(found.untried.is_empty());
        let levels = all.len().next_power_of_two().trailing_zeros() as usize;
        let trials = 3 + 2 * found.refused.len() * levels;
        // Each trial may be looked at in two forms.
        prop_assert!(twin.rehearsals <= 2 * trials, "{} for {found:?}", twin.rehearsals);

        let refused: BTreeSet<String> = found.refused.iter().cloned().collect();
        let mut expected: BTreeSet<String> = culprits;
        if let Some(pair) = &pair {
            prop_assert!(refused.intersection(pair).count() <= 1);
            expected.extend(pair.iter().cloned());
        }
        prop_assert!(refused.is_subset(&expected), "{refused:?} of {expected:?}");

        let accepted: Vec<String> =
            all.iter().filter(|name| !refused.contains(*name)).cloned().collect();
        prop_assert!(write(&mut twin, &tables(&after, &accepted)));
        prop_assert_eq!(services(&twin.tables), services_of(&tables(&after, &accepted)));
        // When the refusal ends, all are.
        twin.refuses.clear();
        prop_assert!(write(&mut twin, &wanted));
        prop_assert_eq!(services(&twin.tables), services_of(&wanted));
    }

    /// Without an answer nobody is blamed.
    #[test]
    fn isolate_ignores_refusals_not_about_content(objects in objects(), config in config()) {
        let plans = nftables_plans(&objects, &config);
        let all = Vec::from_iter(names(&plans));
        let mut twin = Twin::default();
        twin.is_owned = true;
        let found = isolate(&mut twin, &[], &all, 100, |names| tables(&plans, names));
        prop_assert!(found.is_err());
        prop_assert_eq!(twin.rehearsals, 1);
    }
}

fn services_of(tables: &[Table]) -> BTreeSet<String> {
    let mut twin = Twin::default();
    assert!(write(&mut twin, tables));
    services(&twin.tables)
}
