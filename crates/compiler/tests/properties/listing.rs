//! The Services that are read back from a ruleset: both backends and the plan agree.

use std::net::SocketAddr;

use proptest::prelude::*;
use rulegen_compiler::{Plan, Refusal, iptables, nftables};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_inspect::listing::{
    Listing, Owners, State, Traffic, compare, of_plan, of_ruleset, of_table, owner_of_object,
    owners_of_chains,
};
use rulegen_net::{FrontendKind, IpFamily};
use rulegen_ruleset::Origin;
use rulegen_ruleset::iptables::{
    self as iptables_rules, Packet, PacketVerdict, Ruleset, parse, trace as iptables_trace,
};
use rulegen_ruleset::nftables::{
    Actual, ActualChain, ActualRule, Table, linearize, trace as nftables_trace,
};
use serde_json::Value;

use crate::agreement::with_equal_options;
use crate::cluster::{config, objects, plans};
use crate::meaning::local_addresses;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn listing_is_equal_for_both_modes_and_plan(
        objects in objects(), config in config().prop_map(with_equal_options),
    ) {
        for (plan, rules, table) in compiled(&objects, &config) {
            let by_plan = comparable(of_plan(&plan));
            prop_assert_eq!(&comparable(of_ruleset(&rules)), &by_plan, "iptables");
            prop_assert_eq!(&comparable(of_table(&table)), &by_plan, "nftables");
        }
    }

    /// Rules are read back unchanged from text and from the kernel's expressions.
    #[test]
    fn listing_of_applied_rules_equals_wanted(
        objects in objects(), config in config().prop_map(with_equal_options),
    ) {
        for (_, rules, table) in compiled(&objects, &config) {
            let (actual, errors) = parse(rules.family, &rules.to_text());
            prop_assert!(errors.is_empty());
            assert_in_sync(&of_ruleset(&actual), &of_ruleset(&rules))?;
            let actual = as_read(&table).delinearize(table.family, &table.name);
            prop_assert!(actual.unknown.is_empty(), "{:?}", actual.unknown);
            assert_in_sync(&of_table(&actual.table), &of_table(&table))?;
        }
    }

    /// Whatever rules are missing, the listing agrees with what packets from the node and from
    /// outside meet.
    #[test]
    fn listing_agrees_with_trace_when_rules_are_missing(
        objects in objects(),
        config in config().prop_map(with_equal_options),
        removals in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        for (_, mut rules, mut table) in compiled(&objects, &config) {
            removals.iter().for_each(|removal| remove_rule(&mut rules, removal));
            removals.iter().for_each(|removal| remove_rule_or_element(&mut table, removal));
            let local = local_addresses(rules.family);
            let follow = |packet: &Packet| to_endpoints(iptables_trace(&rules, &local, packet).verdicts());
            packets_reach_listed_endpoints(&of_ruleset(&rules), rules.family, &follow)?;
            let follow = |packet: &Packet| to_endpoints(nftables_trace(&table, &local, packet).verdicts());
            packets_reach_listed_endpoints(&of_table(&table), table.family, &follow)?;
        }
    }

    /// Each element and chain of a service port is attributed to this service port.
    #[test]
    fn listing_finds_owner_of_every_rule(
        objects in objects(), config in config().prop_map(with_equal_options),
    ) {
        for (plan, rules, table) in compiled(&objects, &config) {
            let listing = of_table(&table);
            let owners = Owners::of([&listing]);
            let names: Vec<_> = plan.services.iter().map(|service| &service.name).collect();
            for (name, set) in table.sets.iter().filter(|(_, set)| !set.dynamic) {
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

/// Removes what one of them cannot know: the kind of external addresses, the policy of cluster IPs,
/// and the policy and source ranges of frontends without endpoints.
fn comparable(mut listing: Listing) -> Listing {
    for traffic in listing.services.values_mut().flat_map(|frontends| frontends.values_mut()) {
        let kind = match traffic.kind {
            FrontendKind::ExternalIP | FrontendKind::LoadBalancerIP => FrontendKind::External,
            kind => kind,
        };
        let without_policy = kind == FrontendKind::ClusterIP;
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

fn assert_in_sync(actual: &Listing, desired: &Listing) -> Result<(), TestCaseError> {
    for (name, frontends) in compare(actual, desired) {
        for (frontend, compared) in frontends {
            prop_assert_eq!(compared.state(), State::InSync, "{:?} {:?}", name, frontend);
        }
    }
    Ok(())
}

/// A table in the form that is read from the kernel.
fn as_read(table: &Table) -> Actual {
    let sets = table.sets.iter().map(|(name, set)| (name.clone(), Some(set.clone())));
    let chains = table.chains.iter().map(|(name, chain)| {
        let rules = chain.rules.iter().zip(1..).map(|(rule, handle)| ActualRule {
            handle: Some(handle),
            expressions: Some(linearize(table.family, &rule.statements)),
            comment: rule.comment.clone(),
        });
        (name.clone(), Some(ActualChain { base: chain.base, rules: rules.collect() }))
    });
    Actual { foreign: Vec::new(), sets: sets.collect(), chains: chains.collect() }
}

/// Removes a rule from the chains that lead from Services to their endpoints.
fn remove_rule(rules: &mut Ruleset, which: &prop::sample::Index) {
    let nat = rules.tables.get_mut(&iptables_rules::Table::Nat).unwrap();
    let own = nat.iter_mut().filter(|(name, _)| {
        ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-SEP-"]
            .iter()
            .any(|start| name.as_str().starts_with(start))
    });
    let mut chains: Vec<_> = own.map(|(_, chain)| chain).filter(|c| !c.rules.is_empty()).collect();
    if !chains.is_empty() {
        let at = which.index(chains.len());
        let rules = &mut chains[at].rules;
        rules.remove(which.index(rules.len()));
    }
}

/// Removes an element or a rule.
fn remove_rule_or_element(table: &mut Table, which: &prop::sample::Index) {
    if which.index(2) == 0 {
        let chains = table.chains.iter_mut().filter(|(name, chain)| {
            chain.base.is_none() && name.as_str() != "services" && !chain.rules.is_empty()
        });
        let mut chains: Vec<_> = chains.map(|(_, chain)| chain).collect();
        let at = which.index(chains.len());
        let rules = &mut chains[at].rules;
        rules.remove(which.index(rules.len()));
    } else {
        let sets = table.sets.values_mut().filter(|set| set.data.is_some());
        let mut sets: Vec<_> = sets.filter(|set| !set.elements.is_empty()).collect();
        if !sets.is_empty() {
            let at = which.index(sets.len());
            let elements = &mut sets[at].elements;
            let key = elements.keys().nth(which.index(elements.len())).unwrap().clone();
            elements.remove(&key);
        }
    }
}

/// Only frontends with an address. Skips frontends with source ranges, because a client may be
/// outside of them.
fn packets_reach_listed_endpoints(
    listing: &Listing,
    family: IpFamily,
    follow: &dyn Fn(&Packet) -> Vec<SocketAddr>,
) -> Result<(), TestCaseError> {
    let (outside, node) = match family {
        IpFamily::Ipv4 => ("203.0.113.99", "192.168.50.1"),
        IpFamily::Ipv6 => ("2001:db8:9::1", "fd00:50::1"),
    };
    let frontends = listing.services.values().flatten();
    for (frontend, traffic) in frontends.filter(|(_, traffic)| traffic.source_ranges.is_none()) {
        let Some(ip) = frontend.ip() else { continue };
        let packet = |origin, source: &str| Packet {
            origin,
            source: source.parse().unwrap(),
            destination: SocketAddr::new(ip, frontend.port),
            protocol: frontend.protocol,
        };
        let from_outside = follow(&packet(Origin::Interface("eth0".to_owned()), outside));
        prop_assert_eq!(&from_outside, &traffic.endpoints, "{:?} {:?}", frontend, traffic);
        // If the rules for the node's own traffic are missing, it may follow the rules for all
        // traffic.
        let from_node = follow(&packet(Origin::Host, node));
        let all = traffic.all_endpoints();
        prop_assert!(from_node.iter().all(|to| all.contains(to)), "{frontend:?} {traffic:?}");
    }
    Ok(())
}

fn to_endpoints<C>(verdicts: Vec<(PacketVerdict, C)>) -> Vec<SocketAddr> {
    let translated = verdicts.into_iter().filter_map(|(verdict, _)| match verdict {
        PacketVerdict::Delivered { destination, translated: true, .. } => Some(destination),
        _ => None,
    });
    let mut endpoints: Vec<SocketAddr> = translated.collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
}
