//! History does not matter: after any events, a store has the snapshot of its current objects, and
//! its reported changes lead to the same service ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;
use rulegen_compiler::nftables::LiveTable;
use rulegen_compiler::plan;
use rulegen_config::{NodePortAddresses, ProxyConfig, ProxyMode};
use rulegen_model::{
    Availability, Host, Kind, Object, ObjectKey, Problem, ServicePort, ServiceTotals, Store,
    StoreEvent, single_objects, snapshot,
};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;
use serde_json::{Value, json};

use crate::cluster::{config, objects, objects_and_network, read, snapshot_of};

fn singles(objects: &[Value]) -> Vec<Object> {
    let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
    single_objects(&read(&texts)).0
}

/// The service ports that result from all changes so far.
#[derive(Default)]
struct AppliedChanges {
    ports: BTreeMap<(String, bool), ServicePort>,
    /// Problems with addresses, per Service.
    problems: BTreeMap<ObjectKey, Vec<Problem>>,
}

impl AppliedChanges {
    /// Applies all changes, in batches.
    fn apply_all(&mut self, store: &mut Store, batch_size: usize) {
        while store.may_have_changes() {
            self.apply_batch(store, batch_size);
        }
    }

    /// Applies one batch of changes.
    fn apply_batch(&mut self, store: &mut Store, batch_size: usize) {
        let key = |port: &ServicePort| (format!("{:?}", port.name), port.cluster_ip.is_ipv4());
        let changes = store.next_changes(batch_size);
        assert!(changes.full_resync || changes.services.len() <= batch_size);
        for change in changes.services {
            assert_ne!(change.before, change.after);
            for port in change.before.iter() {
                assert_eq!(self.ports.remove(&key(port)).as_ref(), Some(port));
            }
            for port in change.after.iter() {
                assert_eq!(self.ports.insert(key(port), port.clone()), None);
            }
        }
        for (service, problems) in changes.addresses {
            if problems.is_empty() {
                self.problems.remove(&service);
            } else {
                self.problems.insert(service, problems);
            }
        }
    }
}

/// Problems with addresses, and all problems, as a new store reports them for these objects.
fn problems_of(
    objects: &[Object],
    config: &ProxyConfig,
) -> (BTreeMap<ObjectKey, Vec<Problem>>, Vec<String>) {
    let mut store = Store::new(config.snapshot_options(), Host::default());
    let put = |object: &Object| StoreEvent::Put(Box::new(object.clone()));
    let own: Vec<Problem> = objects.iter().flat_map(|object| store.take_in(put(object))).collect();
    let addresses: BTreeMap<_, _> = store.changes().addresses.into_iter().collect();
    let too_large = store.too_large().map(|(key, too_large)| too_large.problem(key).to_string());
    let mut all: Vec<String> = own
        .iter()
        .chain(addresses.values().flatten())
        .map(ToString::to_string)
        .chain(too_large)
        .collect();
    all.sort();
    (addresses, all)
}

fn problems_of_snapshot(objects: &[Value], config: &ProxyConfig) -> Vec<String> {
    let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
    let (_, problems) = snapshot(&read(&texts), &config.snapshot_options(), &Host::default());
    let without_source = |problem: Problem| Problem { source: None, ..problem }.to_string();
    let mut all: Vec<String> = problems.into_iter().map(without_source).collect();
    all.sort();
    all
}

/// Events that replace `earlier` by `later` in a shuffled order, either object by object or as
/// lists.
fn events(earlier: &[Object], later: &[Object], order: &[u32], as_lists: bool) -> Vec<StoreEvent> {
    let keys: Vec<(Kind, ObjectKey)> = later.iter().map(|o| (o.kind(), o.key())).collect();
    let gone = earlier.iter().map(|object| (object.kind(), object.key()));
    let gone = gone.filter(|name| !as_lists && !keys.contains(name));
    let gone = gone.map(|(kind, key)| StoreEvent::Gone(kind, key));
    let put = later.iter().cloned().map(|object| StoreEvent::Put(Box::new(object)));
    let mut events: Vec<(u32, StoreEvent)> =
        order.iter().cycle().copied().zip(gone.chain(put)).collect();
    events.sort_by_key(|(order, _)| *order);
    let events = events.into_iter().map(|(_, event)| event);
    if !as_lists {
        return events.collect();
    }
    let began = Kind::ALL.map(StoreEvent::ListBegan).into_iter();
    began.chain(events).chain(Kind::ALL.map(StoreEvent::ListEnded)).collect()
}

/// Counted without the store.
fn totals(services: &[&[ServicePort]]) -> ServiceTotals {
    let with_any = |is: fn(Availability) -> bool| {
        let has = |ports: &&&[ServicePort]| ports.iter().any(|port| is(Availability::of(port)));
        services.iter().filter(has).count()
    };
    let ports = services.iter().flat_map(|ports| ports.iter());
    ServiceTotals {
        service_ports: ports.clone().count(),
        endpoints: ports.map(|port| port.endpoints.len()).sum(),
        without_endpoints: with_any(|of| !of.has_usable()),
        without_local_endpoints: with_any(|of| of.lacks_local().is_some()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Sometimes with a limit that some Services exceed. Then a change of one port's endpoints
    /// affects all ports of the Service.
    #[test]
    fn store_equals_fresh_snapshot_after_any_events(
        config in config(), max_service_size in prop::option::of(1_usize..60),
        clusters in prop::collection::vec(objects_and_network(), 1..4),
        order in prop::collection::vec(any::<u32>(), 17),
        pauses in prop::collection::vec(any::<bool>(), 13),
        as_lists in any::<bool>(), batch_size in prop_oneof![1_usize..4, Just(usize::MAX)],
    ) {
        let config = ProxyConfig { max_service_size, ..config };
        let mut store = Store::new(config.snapshot_options(), Host::default());
        let mut applied = AppliedChanges::default();
        let mut earlier = Vec::new();
        for cluster in &clusters {
            let later = singles(cluster);
            for (event, pause) in
                events(&earlier, &later, &order, as_lists).into_iter().zip(pauses.iter().cycle())
            {
                store.take_in(event);
                if *pause {
                    applied.apply_batch(&mut store, batch_size);
                }
            }
            applied.apply_all(&mut store, batch_size);
            let snapshot = store.snapshot();
            prop_assert_eq!(&snapshot, &snapshot_of(cluster, &config));
            let (problems, all) = problems_of(&later, &config);
            prop_assert_eq!(&applied.problems, &problems);
            prop_assert_eq!(all, problems_of_snapshot(cluster, &config));
            let mut ports: Vec<&ServicePort> = applied.ports.values().collect();
            let mut desired: Vec<&ServicePort> = snapshot.ipv4.iter().chain(&snapshot.ipv6).collect();
            let by_name = |port: &&ServicePort| (!port.cluster_ip.is_ipv4(), port.name.clone());
            ports.sort_by_key(by_name);
            desired.sort_by_key(by_name);
            prop_assert_eq!(ports, desired);
            prop_assert!(store.changes().is_empty());
            let every_service: Vec<&[ServicePort]> =
                store.services().map(|(_, ports)| ports).collect();
            prop_assert_eq!(store.totals(), totals(&every_service));
            prop_assert_eq!(store.service_count(), every_service.len());
            earlier = later;
        }
    }
}

fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
    let all = ["192.168.50.1", "172.20.0.1", "172.20.1.2", "127.0.0.1", "127.0.0.2", "fd00::1"];
    let all = all.map(|ip| ip.parse::<IpAddr>().unwrap()).to_vec();
    prop::sample::subsequence(all, 1..=6)
}

fn node_port_networks() -> impl Strategy<Value = NodePortAddresses> {
    let all = ["0.0.0.0/0", "::/0", "172.20.0.0/16", "127.0.0.0/8", "127.0.0.1/32", "fd00::/64"];
    let networks = prop::sample::subsequence(all.to_vec(), 0..=6);
    let networks = networks.prop_map(|texts| NodePortAddresses::parse(texts.into_iter()).unwrap());
    prop_oneof![3 => networks, 1 => Just(NodePortAddresses::Primary)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Addresses come and go with every pod. A change is reported only if it changes the plan.
    #[test]
    fn store_node_address_change_is_reported_where_plan_uses_it(
        before in addresses(), after in addresses(), node_port_addresses in node_port_networks(),
        is_nftables in any::<bool>(), localhost_node_ports in any::<bool>(), objects in objects(),
    ) {
        let config = ProxyConfig {
            mode: if is_nftables { ProxyMode::Nftables } else { ProxyMode::Iptables },
            node_port_addresses,
            localhost_node_ports,
            ..ProxyConfig::default()
        };
        let mut store =
            Store::new(config.snapshot_options(), Host { name: "host".to_owned(), addresses: before });
        for object in singles(&objects) {
            store.take_in(StoreEvent::Put(Box::new(object)));
        }
        store.changes();
        let plans = |store: &Store| {
            IpFamily::BOTH.map(|family| plan(&store.snapshot(), &config, family))
        };
        let old = plans(&store);
        store.set_addresses(after);
        let may_have_changes = store.may_have_changes();
        let changes = store.changes();
        prop_assert!(may_have_changes || changes.is_empty());
        let mut new = plans(&store);
        if !changes.full_resync {
            let [old_at, new_at] = [&old, &new].map(|plans| plans.clone().map(|p| p.node_ports_at));
            prop_assert_eq!(old_at != new_at, changes.node_port_addresses);
            for (old, new) in old.iter().zip(&mut new) {
                // In nftables mode this changes elements of one set.
                let name = Name::from("rulegen");
                let mut live = LiveTable::new(old.clone(), &name);
                let made = LiveTable::new(new.clone(), &name);
                let patch = live.open_node_ports_at(new.node_ports_at.clone()).unwrap();
                let is_of_set = |(_, what): &(&str, &str)| *what == "element";
                prop_assert!(patch.transaction().counts().keys().all(is_of_set));
                prop_assert_eq!(patch.transaction().is_empty(), old.node_ports_at == new.node_ports_at);
                prop_assert_eq!(live.table(), made.table());
                new.node_ports_at = old.node_ports_at.clone();
            }
            prop_assert_eq!(old, new);
        }
    }
}

/// Addresses come and go with every pod. Rules name only the addresses at which node ports are
/// open.
#[test]
fn store_ignores_node_addresses_without_rules() {
    let networks = NodePortAddresses::parse(["172.20.0.0/16"].into_iter()).unwrap();
    let all = ["192.168.50.1", "172.20.0.1", "172.20.0.2", "fe80::1"].map(|ip| ip.parse().unwrap());
    let everywhere = NodePortAddresses::parse(["0.0.0.0/0", "::/0"].into_iter()).unwrap();
    for (addresses, are_named) in [
        (NodePortAddresses::Unset, [false; 2]),
        (everywhere, [false; 2]),
        (networks, [true, false]),
    ] {
        let config = ProxyConfig {
            hostname_override: Some("node-1".to_owned()),
            node_port_addresses: addresses,
            ..ProxyConfig::default()
        };
        let host = Host { name: String::new(), addresses: all[..2].to_vec() };
        let mut store = Store::new(config.snapshot_options(), host);
        assert!(store.changes().full_resync);
        for (count, is_named) in [3, 4].into_iter().zip(are_named) {
            store.set_addresses(all[..count].to_vec());
            let changes = store.changes();
            assert_eq!(
                (changes.full_resync, changes.node_port_addresses),
                (false, is_named),
                "{count}"
            );
            assert_eq!(store.node().ipv4.local.len(), 4);
        }
    }
}

/// An external IP is refused when the node gets this address, and accepted again when the node
/// loses it.
#[test]
fn store_refused_addresses_follow_node() {
    let config = ProxyConfig { refuse_node_addresses: true, ..ProxyConfig::default() };
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"clusterIP": "10.96.0.1", "externalIPs": ["192.0.2.1", "192.0.2.2"],
            "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}]}},
    });
    let mut store = Store::new(config.snapshot_options(), Host::default());
    singles(&[service]).into_iter().for_each(|object| {
        store.take_in(StoreEvent::Put(Box::new(object)));
    });
    let mut addresses = |addresses: &[&str]| {
        store.set_addresses(addresses.iter().map(|ip| ip.parse().unwrap()).collect());
        let problems = store.changes().addresses.into_iter().map(|(_, all)| all.len()).next();
        let port = store.service_ports().next().unwrap();
        let kept = [&port.external_ips, &port.load_balancer_ips].map(Vec::len);
        (kept, problems)
    };
    assert_eq!(addresses(&["192.0.2.1"]), ([1, 1], Some(1)));
    assert_eq!(addresses(&["192.0.2.1", "192.0.2.2"]), ([0, 0], Some(3)));
    assert_eq!(addresses(&["192.0.2.9"]), ([2, 1], Some(0)));
    assert_eq!(addresses(&["192.0.2.8"]), ([2, 1], None));
}

/// A Service with as many ports and endpoints as an API server accepts in one object and one slice.
/// The store creates none of the 400 million pairs, and does not compare all 20,000 ports with each
/// other.
#[test]
fn store_leaves_out_service_over_size_limit() {
    let ports: Vec<Value> =
        (1..=20_000).map(|n| json!({"name": format!("p{n}"), "port": n})).collect();
    let endpoints: Vec<Value> = (0..1000)
        .map(|n| json!({"addresses": [format!("10.244.{}.{}", n / 250, n % 250 + 1)]}))
        .collect();
    let service = |name: &str, ip: &str, ports: &[Value]| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": ports},
        })
    };
    let slice = |n: usize, of: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": format!("{of}-{n}"), "namespace": "default",
                         "labels": {"kubernetes.io/service-name": of}},
            "ports": ports, "endpoints": endpoints,
        })
    };
    let mut all = vec![
        service("large", "10.96.0.10", &ports),
        service("small", "10.96.0.11", &ports[..100]),
        slice(0, "small"),
    ];
    all.extend((0..20).map(|n| slice(n, "large")));
    let config = ProxyConfig { mode: ProxyMode::Nftables, ..ProxyConfig::default() };
    let mut store = Store::new(config.snapshot_options(), Host::default());
    for object in singles(&all) {
        store.take_in(StoreEvent::Put(Box::new(object)));
    }
    store.changes();
    let (key, too_large) = store.too_large().next().unwrap();
    assert_eq!((&*key.name, store.too_large().count()), ("large", 1));
    assert_eq!((too_large.size.addresses, too_large.size.endpoints), (20_000, 400_000_000));
    let snapshot = store.snapshot();
    assert_eq!(snapshot.ipv4.len(), 100);
    assert!(snapshot.ipv4.iter().all(|port| port.endpoints.len() == 1000));
    assert_eq!(snapshot, snapshot_of(&all, &config));
    // With fewer endpoints it is no longer left out.
    for n in 0..20 {
        let key = ObjectKey::new("default", &format!("large-{n}"));
        store.take_in(StoreEvent::Gone(Kind::EndpointSlice, key));
    }
    assert_eq!(store.changes().services.len(), 1);
    assert_eq!((store.too_large().count(), store.snapshot().ipv4.len()), (0, 20_100));
}
