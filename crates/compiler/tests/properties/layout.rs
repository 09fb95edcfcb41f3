//! The nftables table has a constant size for ordinary Services: only elements grow with them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use rulegen_compiler::{nftables, plan};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_net::{IpFamily, parse_network};
use rulegen_ruleset::nftables::{
    Condition, Data, Key, Name, Number, Selector, Statement, Table, Value as Part, Verdict,
    parse_tables,
};
use serde_json::{Value, json};

use crate::cluster::{NODE, config, objects, plans, snapshot_of};

#[test]
fn nftables_chains_rules_and_sets_do_not_grow_with_services() {
    let sizes = [10, 1_000, 20_000].map(|services| tables(services).map(|table| size(&table)));
    assert_eq!(sizes[0], sizes[1]);
    assert_eq!(sizes[1], sizes[2]);
    for size in &sizes[0] {
        assert!(size["sets"] > 15 && size["rules"] > 40, "{size:?}");
    }
}

#[test]
fn nftables_elements_grow_linearly_with_services() {
    let elements = |services| -> usize {
        let [ipv4, _] = tables(services);
        ipv4.sets.values().map(|set| set.elements.len()).sum()
    };
    let (few, more, most) = (elements(50), elements(100), elements(150));
    assert_eq!(more - few, most - more);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Every chain and set that a rule or an element names exists. A chain that chooses by a number
    /// has an endpoint for each number: a gap would let packets pass untranslated.
    #[test]
    fn nftables_every_jump_target_exists(objects in objects(), config in in_nftables_mode()) {
        for (_, plan) in plans(&objects, &config) {
            let table = nftables::table(&plan, &"rulegen".into());
            for rule in table.chains.values().flat_map(|chain| &chain.rules) {
                for statement in &rule.statements {
                    prop_assert_eq!(missing(&table, statement), None);
                }
            }
            for set in table.sets.values() {
                for (key, element) in &set.elements {
                    if let Some(Data::Verdict(Verdict::Goto(chain))) = &element.data {
                        prop_assert!(table.chains.contains_key(chain), "{} is missing", chain);
                        prop_assert_eq!(gap(&table, chain, key), None);
                    }
                }
            }
        }
    }

    /// The same objects give the same bytes in any order.
    #[test]
    fn nftables_table_is_independent_of_object_order(
        (given, shuffled) in objects().prop_flat_map(|o| (Just(o.clone()), Just(o).prop_shuffle())),
        config in in_nftables_mode(),
    ) {
        let texts = |objects: &[Value]| {
            plans(objects, &config).map(|(_, plan)| nftables::table(&plan, &"rulegen".into()).to_text())
        };
        prop_assert_eq!(texts(&given), texts(&shuffled));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Printed tables are parsed back to the same tables.
    #[test]
    fn nftables_text_is_parsed_back(objects in objects(), config in in_nftables_mode()) {
        let tables =
            plans(&objects, &config).map(|(_, plan)| nftables::table(&plan, &"rulegen".into()));
        let text: String = tables.iter().map(Table::to_text).collect();
        prop_assert_eq!(parse_tables(&text), Ok(tables.to_vec()), "{}", text);
    }
}

pub(crate) fn in_nftables_mode() -> impl Strategy<Value = ProxyConfig> {
    config().prop_map(|config| ProxyConfig { mode: ProxyMode::Nftables, ..config })
}

/// The chain or set that a statement refers to, if it is missing in the table.
fn missing<'a>(table: &Table, statement: &'a Statement) -> Option<&'a Name> {
    let (name, is_there) = match statement {
        Statement::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => {
            (chain, table.chains.contains_key(chain))
        }
        Statement::VerdictMap { map: set, .. }
        | Statement::DnatMap { map: set, .. }
        | Statement::Update { set, .. } => (set, table.sets.contains_key(set)),
        Statement::Match(Condition::SetLookup { set, .. }) => {
            (&set.value, table.sets.contains_key(&set.value))
        }
        _ => return None,
    };
    (!is_there).then_some(name)
}

/// A number for which a chain, or a chain that it jumps to, has no endpoint.
pub(crate) fn gap(table: &Table, chain: &Name, key: &Key) -> Option<u32> {
    table.chains[chain].rules.iter().flat_map(|rule| &rule.statements).find_map(|statement| {
        match statement {
            Statement::DnatMap { key: selectors, map } => {
                let numbers = match selectors.last() {
                    Some(Selector::Number(Number::Modulo(_, below))) => 0..*below,
                    // The kernel's form of round-robin with one endpoint.
                    Some(Selector::Number(Number::Constant(0))) => 0..1,
                    _ => return Some(u32::MAX),
                };
                let start = looked_up(selectors, key);
                let has = |number: &u32| {
                    table.sets[map].elements.contains_key(&start.with(Part::Number(*number)))
                };
                numbers.clone().find(|number| !has(number))
            }
            Statement::VerdictMap { key: selectors, map } => match selectors.as_slice() {
                [Selector::Number(Number::Modulo(_, below))] => {
                    let elements = &table.sets[map].elements;
                    (0..*below)
                        .find(|number| !elements.contains_key(&Key::from([Part::Number(*number)])))
                }
                _ => None,
            },
            Statement::Verdict(Verdict::Goto(next)) => gap(table, next, key),
            _ => None,
        }
    })
}

/// The key that a rule looks up, except for the number: parts of a frontend, and constants.
fn looked_up(selectors: &[Selector], frontend: &Key) -> Key {
    let part = |selector: &Selector| match selector {
        Selector::Number(Number::Constant(number)) => Some(Part::Number(*number)),
        Selector::Number(Number::Modulo(..)) => None,
        Selector::Protocol => frontend.values().find(|of| matches!(of, Part::Protocol(_))),
        Selector::DestinationPort => frontend.values().find(|of| matches!(of, Part::Port(_))),
        Selector::DestinationAddress => frontend.values().find(|of| matches!(of, Part::Address(_))),
        other => panic!("unexpected selector {other:?}"),
    };
    let (_, before) = selectors.split_last().unwrap();
    before.iter().filter_map(part).collect()
}

fn size(table: &Table) -> BTreeMap<&'static str, usize> {
    let rules = table.chains.values().map(|chain| chain.rules.len()).sum();
    [("chains", table.chains.len()), ("rules", rules), ("sets", table.sets.len())].into()
}

/// The tables of both families, for dual-stack Services.
fn tables(services: usize) -> [Table; 2] {
    let config = ProxyConfig {
        mode: ProxyMode::Nftables,
        hostname_override: Some(NODE.to_owned()),
        cluster_cidrs: ["10.244.0.0/16", "fd00:10:244::/48"]
            .iter()
            .filter_map(|cidr| parse_network(cidr))
            .collect(),
        ..ProxyConfig::default()
    };
    let objects: Vec<Value> = (0..services).flat_map(service).collect();
    let snapshot = snapshot_of(&objects, &config);
    IpFamily::BOTH
        .map(|family| nftables::table(&plan(&snapshot, &config, family), &"rulegen".into()))
}

/// Ten kinds of Services in turn: different policies, source ranges, and zero to five endpoints.
/// The first endpoint is on this node.
fn service(n: usize) -> Vec<Value> {
    let (shape, high, low) = (n % 10, n / 250, n % 250 + 1);
    let policy = |local| if local { "Local" } else { "Cluster" };
    let name = format!("s{n}");
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIPs": [format!("10.96.{high}.{low}"), format!("fd00:96::{high:x}:{low:x}")],
            "clusterIP": format!("10.96.{high}.{low}"),
            "ipFamilies": ["IPv4", "IPv6"],
            "externalIPs": [format!("10.32.{high}.{low}"), format!("2001:db8::{high:x}:{low:x}")],
            "externalTrafficPolicy": policy(shape % 3 == 1),
            "internalTrafficPolicy": policy(shape % 4 == 3),
            "loadBalancerSourceRanges": if shape % 5 == 2 { json!(["198.18.0.0/15"]) } else { json!([]) },
            "ports": [{"port": 80, "nodePort": 30_000 + n}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": format!("10.64.{high}.{low}")}]}},
    });
    let slices = [("IPv4", "10.244."), ("IPv6", "fd00:10:244::")].map(|(family, start)| {
        let endpoints: Vec<Value> = (0..shape % 6)
            .map(|endpoint| {
                let node = if endpoint == 0 { NODE } else { "another" };
                let end = match family {
                    "IPv4" => format!("{}.{endpoint}", n % 250),
                    _ => format!("{n:x}:{endpoint}"),
                };
                json!({"addresses": [format!("{start}{end}")], "nodeName": node})
            })
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {
                "name": format!("{name}-{family}"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "ports": [{"port": 8080}],
            "endpoints": endpoints,
        })
    });
    [service].into_iter().chain(slices).collect()
}
