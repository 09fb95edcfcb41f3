//! Bisection finds what the kernel refuses, and everything else is applied.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use rulegen_compiler::iptables::{LiveRuleset, OURS, ruleset};
use rulegen_compiler::{Plan, nftables};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_model::ObjectKey;
use rulegen_ruleset::Bisection;
use rulegen_ruleset::dataplane::{RefusalReason, isolate, reconcile};
use rulegen_ruleset::iptables::{self, Ruleset, Split, Tables as _, diff};
use rulegen_ruleset::nftables::Table;
use serde_json::Value;

use crate::cluster::{config, objects, plans};
use crate::fake_iptables::{FakeTables, TransactionRefusal, rules};
use crate::fake_kernel::{FakeKernel, services};

fn nftables_plans(objects: &[Value], config: &ProxyConfig) -> [Plan; 2] {
    let config = ProxyConfig { mode: ProxyMode::Nftables, ..config.clone() };
    plans(objects, &config).map(|(_, plan)| plan)
}

fn names(plans: &[Plan]) -> BTreeSet<String> {
    let ports = plans.iter().flat_map(|plan| &plan.services);
    ports.map(|port| format!("{}/{}", port.name.namespace, port.name.service)).collect()
}

/// The tables of these Services only.
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

fn write(fake: &mut FakeKernel, desired: &[Table]) -> bool {
    reconcile(fake, desired, |_| ()).is_ok()
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
        let mut fake = FakeKernel::default();
        prop_assert!(write(&mut fake, &tables(&before, &Vec::from_iter(names(&before)))));

        let named = |index: &Index| all[index.index(all.len())].clone();
        let culprits: BTreeSet<String> = culprits.iter().map(named).collect();
        let pair = pair.map(|(one, other)| BTreeSet::from([named(&one), named(&other)]));
        let pair = pair.filter(|pair| pair.is_disjoint(&culprits) && pair.len() == 2);
        fake.refuses = culprits.iter().map(|name| BTreeSet::from([name.clone()])).collect();
        fake.refuses.extend(pair.clone());

        // The kernel does not check existing rules again if they do not change.
        let desired = tables(&after, &all);
        if write(&mut fake, &desired) {
            return Ok(());
        }
        let (actual, generation) = (fake.tables.clone(), fake.generation);
        let (settled, suspects) = all.split_at(settled.index(all.len()));
        fake.rehearsals = 0;
        let found = isolate(&mut fake, settled, suspects, 100, |names| tables(&after, names));
        let found = found.unwrap();
        prop_assert_eq!((&fake.tables, fake.generation), (&actual, generation), "the search changed the kernel");
        prop_assert!(found.untried.is_empty());
        let levels = all.len().next_power_of_two().trailing_zeros() as usize;
        let trials = 3 + 2 * found.refused.len() * levels;
        // Each trial may be validated in two forms.
        prop_assert!(fake.rehearsals <= 2 * trials, "{} for {found:?}", fake.rehearsals);

        let refused: BTreeSet<String> = found.refused.iter().cloned().collect();
        let mut expected: BTreeSet<String> = culprits;
        if let Some(pair) = &pair {
            prop_assert!(refused.intersection(pair).count() <= 1);
            expected.extend(pair.iter().cloned());
        }
        prop_assert!(refused.is_subset(&expected), "{refused:?} of {expected:?}");

        let accepted: Vec<String> =
            all.iter().filter(|name| !refused.contains(*name)).cloned().collect();
        prop_assert!(write(&mut fake, &tables(&after, &accepted)));
        prop_assert_eq!(services(&fake.tables), services_of(&tables(&after, &accepted)));
        // When the kernel refuses nothing any more, all Services are applied.
        fake.refuses.clear();
        prop_assert!(write(&mut fake, &desired));
        prop_assert_eq!(services(&fake.tables), services_of(&desired));
    }

    /// No Service is left out because memory or a permission is missing.
    #[test]
    fn isolate_ignores_refusals_not_about_content(objects in objects(), config in config()) {
        let plans = nftables_plans(&objects, &config);
        let all = Vec::from_iter(names(&plans));
        let mut fake = FakeKernel::default();
        fake.refuses_all = Some(RefusalReason::Circumstances);
        let error = isolate(&mut fake, &[], &all, 100, |names| tables(&plans, names)).unwrap_err();
        prop_assert!(!error.is_about_content());
        prop_assert_eq!(fake.rehearsals, 1);
    }

    #[test]
    fn isolate_iptables_applies_all_but_refused_services(
        before in objects(), after in objects(), config in config(),
        culprits in prop::collection::vec(any::<Index>(), 0..3),
        pair in prop::option::of((any::<Index>(), any::<Index>())),
        settled in any::<Index>(), is_ipv6 in any::<bool>(), grows in any::<bool>(),
    ) {
        let [before, after] = [&before, &after].map(|objects| iptables_plan(objects, &config, is_ipv6));
        let mut live = LiveRuleset::new(after);
        let all: Vec<ObjectKey> = live.services().into_iter().collect();
        prop_assume!(!all.is_empty());
        let mut fake = FakeTables::new(live.ruleset().family);
        // Initially the kernel has other rules, or the desired rules of some Services.
        let before = match grows {
            true => live.split(&all[settled.index(all.len())..]).0,
            false => ruleset(&before),
        };
        write_iptables(&mut fake, &before).unwrap();

        let named = |index: &Index| display_name(&all[index.index(all.len())]);
        let culprits: BTreeSet<String> = culprits.iter().map(named).collect();
        let pair = pair.map(|(one, other)| BTreeSet::from([named(&one), named(&other)]));
        let pair = pair.filter(|pair| pair.is_disjoint(&culprits) && pair.len() == 2);
        fake.refuses = culprits.iter().map(|name| BTreeSet::from([name.clone()])).collect();
        fake.refuses.extend(pair.clone());
        if write_iptables(&mut fake, &live.ruleset()).is_ok() {
            return Ok(());
        }
        let (settled, suspects) = all.split_at(settled.index(all.len()));
        (fake.trials, fake.lost) = (0, BTreeSet::new());
        let found = isolate_iptables(&mut fake, &live, settled, suspects).unwrap();
        let desired = live.ruleset();
        let is_unchanged = |name: &&String| rules(&before, name) == rules(&desired, name);
        let lost: Vec<&String> = fake.lost.iter().filter(is_unchanged).collect();
        prop_assert!(lost.is_empty(), "trials removed unchanged Services: {lost:?}");
        let levels = all.len().next_power_of_two().trailing_zeros() as usize;
        prop_assert!(fake.trials <= 3 + 2 * found.refused.len() * levels, "{}", fake.trials);

        let refused: BTreeSet<String> = found.refused.iter().map(display_name).collect();
        let mut expected = culprits;
        if let Some(pair) = &pair {
            // The existing rules of one stay while the other is tried.
            if !pair.iter().all(|name| !rules(&before, name).is_empty()) {
                prop_assert!(refused.intersection(pair).count() <= 1);
            }
            expected.extend(pair.iter().cloned());
        }
        prop_assert!(refused.is_subset(&expected), "{refused:?} of {expected:?}");

        live.remove(&found.refused);
        prop_assert!(write_iptables(&mut fake, &live.ruleset()).is_ok());
        prop_assert_eq!(&fake.actual, &live.ruleset());
    }

    #[test]
    fn isolate_iptables_out_of_memory_leaves_no_service_out(
        objects in objects(), config in config(),
    ) {
        let live = LiveRuleset::new(iptables_plan(&objects, &config, false));
        let all: Vec<ObjectKey> = live.services().into_iter().collect();
        let mut fake = FakeTables::new(live.ruleset().family);
        fake.is_out_of_memory = true;
        let error = isolate_iptables(&mut fake, &live, &[], &all).unwrap_err();
        prop_assert_eq!(error, TransactionRefusal::Memory);
        prop_assert_eq!(fake.trials, 1);
    }
}

fn iptables_plan(objects: &[Value], config: &ProxyConfig, is_ipv6: bool) -> Plan {
    let config = ProxyConfig { mode: ProxyMode::Iptables, ..config.clone() };
    let [(_, ipv4), (_, ipv6)] = plans(objects, &config);
    if is_ipv6 { ipv6 } else { ipv4 }
}

fn isolate_iptables(
    fake: &mut FakeTables,
    live: &LiveRuleset,
    settled: &[ObjectKey],
    suspects: &[ObjectKey],
) -> Result<Bisection<ObjectKey>, TransactionRefusal> {
    iptables::isolate(fake, &OURS, settled, suspects, 100, |services| {
        let (chosen, rest) = live.split(services);
        Split { chosen, rest }
    })
}

fn write_iptables(fake: &mut FakeTables, desired: &Ruleset) -> Result<(), TransactionRefusal> {
    let actual = fake.save()?;
    fake.restore(&diff(&actual, desired, &OURS))
}

fn display_name(service: &ObjectKey) -> String {
    format!("{}/{}", service.namespace, service.name)
}

fn services_of(tables: &[Table]) -> BTreeSet<String> {
    let mut fake = FakeKernel::default();
    assert!(write(&mut fake, tables));
    services(&fake.tables)
}
