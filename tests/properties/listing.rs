//! What a ruleset says of Services, read back: both backends and the plan say the same.

use proptest::prelude::*;
use rulegen_compiler::listing::{
    Kind, Listing, Owners, State, Traffic, compare, of_plan, of_ruleset, of_table, owner_of_object,
    owners_of_chains,
};
use rulegen_compiler::{Plan, Refusal, iptables, nftables};
use rulegen_model::{IpFamily, ProxyConfig, ProxyMode};
use rulegen_ruleset::iptables::{Ruleset, parse};
use rulegen_ruleset::nftables::{Held, HeldChain, HeldRule, Table, lower};
use serde_json::Value;

use crate::agreement::said;
use crate::cluster::{config, objects, plans};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn both_modes_and_the_plan_list_the_same(
        objects in objects(), config in config().prop_map(said),
    ) {
        for (plan, rules, table) in compiled(&objects, &config) {
            let by_plan = told(of_plan(&plan));
            prop_assert_eq!(&told(of_ruleset(&rules)), &by_plan, "iptables");
            prop_assert_eq!(&told(of_table(&table)), &by_plan, "nftables");
        }
    }

    /// Whoever applied it reads it back from text and from the kernel's expressions.
    #[test]
    fn what_was_applied_is_listed_as_wanted(
        objects in objects(), config in config().prop_map(said),
    ) {
        for (_, rules, table) in compiled(&objects, &config) {
            let (held, errors) = parse(rules.family, &rules.to_text());
            prop_assert!(errors.is_empty());
            nothing_differs(&of_ruleset(&held), &of_ruleset(&rules))?;
            let held = held_as(&table).raised(table.family, &table.name);
            prop_assert!(held.unknown.is_empty(), "{:?}", held.unknown);
            nothing_differs(&of_table(&held.table), &of_table(&table))?;
        }
    }

    /// With a service port go its elements and its chains, and no other's.
    #[test]
    fn all_that_is_not_there_without_services_has_an_owner(
        objects in objects(), config in config().prop_map(said),
    ) {
        for (plan, rules, table) in compiled(&objects, &config) {
            let listing = of_table(&table);
            let owners = Owners::of([&listing]);
            let names: Vec<_> = plan.services.iter().map(|service| &service.name).collect();
            for (name, set) in table.sets.iter().filter(|(_, set)| set.timeout.is_none()) {
                for (key, element) in set.elements.iter().filter(|(_, e)| e.comment.is_some()) {
                    let owner = owners.of_element(key, element);
                    prop_assert!(owner.is_some_and(|o| names.contains(&&o)), "{name} {key:?}");
                }
            }
            for name in table.chains.keys().filter(|name| name.as_str().contains('/')) {
                prop_assert!(owner_of_object(name).is_some_and(|o| names.contains(&&o)), "{name}");
            }
            let owners = owners_of_chains(&rules);
            for chain in rules.tables.values().flat_map(|chains| chains.keys()) {
                let own = ["SVC", "SVL", "EXT", "FW", "SEP"]
                    .iter()
                    .any(|kind| chain.as_str().starts_with(&format!("KUBE-{kind}-")));
                prop_assert_eq!(owners.contains_key(chain), own, "{}", chain);
            }
        }
    }
}

fn compiled(
    objects: &[Value],
    config: &ProxyConfig,
) -> impl Iterator<Item = (Plan, Ruleset, Table)> {
    let in_nftables = ProxyConfig { mode: ProxyMode::Nftables, ..config.clone() };
    let pairs = plans(objects, config).into_iter().zip(plans(objects, &in_nftables));
    pairs.map(|((_, plan), (_, other)): ((IpFamily, Plan), _)| {
        let rules = iptables::ruleset(&plan);
        (plan, rules, nftables::table(&other, &"rulegen".into()))
    })
}

/// Without what one of them does not tell: of other addresses than cluster IPs, what kind they
/// are; of cluster IPs, the policy; of what is refused for want of endpoints, all but that.
fn told(mut listing: Listing) -> Listing {
    for traffic in listing.services.values_mut().flat_map(|frontends| frontends.values_mut()) {
        let kind = match traffic.kind {
            Kind::ExternalIp | Kind::LoadBalancerIp => Kind::External,
            kind => kind,
        };
        let without_policy = kind == Kind::ClusterIp;
        *traffic = Traffic { kind, ..traffic.clone() };
        if traffic.refusal == Some(Refusal::NoEndpoints) {
            traffic.source_ranges = None;
            traffic.policy = None;
        }
        if without_policy {
            traffic.policy = None;
        }
    }
    listing
}

fn nothing_differs(held: &Listing, wanted: &Listing) -> Result<(), TestCaseError> {
    for (name, frontends) in compare(held, wanted) {
        for (frontend, compared) in frontends {
            prop_assert_eq!(compared.state(), State::AsWanted, "{:?} {:?}", name, frontend);
        }
    }
    Ok(())
}

/// A table as the kernel gives it back.
fn held_as(table: &Table) -> Held {
    let sets = table.sets.iter().map(|(name, set)| (name.clone(), Some(set.clone())));
    let chains = table.chains.iter().map(|(name, chain)| {
        let rules = chain.rules.iter().zip(1..).map(|(rule, handle)| HeldRule {
            handle: Some(handle),
            expressions: Some(lower(table.family, &rule.statements)),
            comment: rule.comment.clone(),
        });
        (name.clone(), Some(HeldChain { base: chain.base, rules: rules.collect() }))
    });
    Held { foreign: Vec::new(), sets: sets.collect(), chains: chains.collect() }
}
