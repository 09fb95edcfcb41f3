//! The cost of Services in nftables mode, as a number of elements instead of seconds.

use std::net::{IpAddr, Ipv4Addr};

use rulegen_compiler::nftables::{self, LiveTable, ServiceUpdate};
use rulegen_compiler::{Plan, ServicePlan, plan};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_net::{IpFamily, ServicePortName};
use rulegen_ruleset::nftables::{Name, Table};
use serde_json::{Value, json};

use crate::cluster::{NODE, snapshot_of};

fn config() -> ProxyConfig {
    ProxyConfig {
        mode: ProxyMode::Nftables,
        hostname_override: Some(NODE.to_owned()),
        ..ProxyConfig::default()
    }
}

fn ip(start: [u8; 4], n: usize) -> IpAddr {
    let first = u32::from(Ipv4Addr::from(start));
    Ipv4Addr::from(first + u32::try_from(n).unwrap()).into()
}

fn ports(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({"name": format!("p{n}"), "port": 1000 + n})).collect()
}

fn service(
    name: &str,
    cluster_ip: IpAddr,
    ports: usize,
    spec: Value,
    load_balancers: usize,
) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": cluster_ip.to_string(),
            "clusterIPs": [cluster_ip.to_string()], "ports": self::ports(ports),
        },
        "status": {"loadBalancer": {"ingress": (0..load_balancers)
            .map(|n| json!({"ip": ip([203, 0, 113, 0], n).to_string()})).collect::<Vec<_>>()}},
    });
    service["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    service
}

fn slice(service: &str, ports: usize, endpoints: impl Iterator<Item = usize>) -> Value {
    let endpoints: Vec<Value> = endpoints
        .map(|n| json!({"addresses": [ip([10, 244, 0, 1], n).to_string()], "nodeName": NODE}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{service}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "ports": self::ports(ports), "endpoints": endpoints,
    })
}

fn plan_of(objects: &[Value]) -> Plan {
    plan(&snapshot_of(objects, &config()), &config(), IpFamily::Ipv4)
}

fn table(objects: &[Value]) -> Table {
    nftables::table(&plan_of(objects), &Name::from("rulegen"))
}

fn elements(table: &Table) -> usize {
    table.sets.values().map(|set| set.elements.len()).sum()
}

/// A Service with these numbers of external IPs and endpoints.
fn frontends_and_endpoints(frontends: usize, endpoints: usize, policy: &str) -> Vec<Value> {
    let external: Vec<String> =
        (0..frontends).map(|n| ip([198, 18, 0, 1], n).to_string()).collect();
    let spec = json!({"externalIPs": external, "externalTrafficPolicy": policy});
    let cluster_ip = "10.96.0.10".parse().unwrap();
    vec![service("many", cluster_ip, 1, spec, 0), slice("many", 1, 0..endpoints)]
}

#[test]
fn nftables_elements_grow_with_frontends_plus_endpoints() {
    for policy in ["Cluster", "Local"] {
        for frontends in [0, 1, 2, 3, 4, 5, 50, 1000] {
            for endpoints in [0, 1, 3, 4, 5, 6, 50, 1000] {
                let table = table(&frontends_and_endpoints(frontends, endpoints, policy));
                let (elements, sum) = (elements(&table), frontends + endpoints + 1);
                assert!(elements <= 10 * sum, "{policy} {frontends} {endpoints}: {elements}");
                if frontends > 4 && endpoints > 1 {
                    assert!(elements <= 3 * sum, "{policy} {frontends} {endpoints}: {elements}");
                }
            }
        }
    }
}

/// At most four chains per service port, and only with more than four frontends.
#[test]
fn nftables_service_gets_own_chains_only_with_many_frontends() {
    let own = |frontends, endpoints| {
        let table = table(&frontends_and_endpoints(frontends, endpoints, "Local"));
        table.chains.keys().filter(|name| name.as_str().contains('/')).count()
    };
    assert_eq!([own(2, 1000), own(1000, 1)], [0, 0]);
    assert_eq!([own(5, 2), own(1000, 1000)], [4, 4]);
}

fn ranges(ports: usize, ranges: usize, load_balancers: usize, services: usize) -> Table {
    let networks: Vec<String> =
        (0..ranges).map(|n| format!("{}/32", ip([100, 64, 0, 0], 2 * n))).collect();
    let service = |n| {
        let name = format!("s{n}");
        let cluster_ip = ip([10, 96, 0, 1], n);
        let spec = json!({"loadBalancerSourceRanges": networks});
        [service(&name, cluster_ip, ports, spec, load_balancers), slice(&name, ports, 0..1)]
    };
    table(&(0..services).flat_map(service).collect::<Vec<_>>())
}

#[test]
fn nftables_elements_grow_with_source_ranges_plus_ports() {
    let count = |table: &Table| {
        let of = |name: &str| table.sets[name].elements.len();
        of("source-ranges") + of("firewall-ips")
    };
    assert_eq!(count(&ranges(100, 1000, 1, 1)), 100 + 1000);
    assert_eq!(count(&ranges(3, 1000, 10, 1)), 3 * 10 + 1000);
    // Ten Services with the same list share it. Each address goes to the first Service by name.
    assert_eq!(count(&ranges(3, 1000, 10, 10)), 3 * 10 + 1000);
    assert_eq!(ranges(3, 1000, 10, 10).sets["source-ranges"].elements.len(), 1000);
}

/// The cost of a change: the number of computed elements, and of plans that the update looked up.
fn cost(before: &[Value], after: &[Value]) -> (usize, usize) {
    let (before, after) = (plan_of(before), plan_of(after));
    let mut live = LiveTable::new(before.clone(), &Name::from("rulegen"));
    let find = |plan: &Plan, name: &ServicePortName| -> Option<ServicePlan> {
        let at = plan.services.binary_search_by(|service| service.name.cmp(name)).ok()?;
        plan.services.get(at).cloned()
    };
    let changed =
        before.services.iter().filter(|old| find(&after, &old.name).as_ref() != Some(old));
    let updates: Vec<ServiceUpdate> = changed
        .map(|old| ServiceUpdate {
            name: old.name.clone(),
            before: Some(old.clone()),
            after: find(&after, &old.name),
        })
        .collect();
    assert!(!updates.is_empty());
    let lookups = std::cell::Cell::new(0);
    let patch = live.update(updates, |name| {
        lookups.set(lookups.get() + 1);
        find(&after, name)
    });
    assert_eq!(live.table(), &nftables::table(&after, &Name::from("rulegen")));
    (patch.rendered(), lookups.get())
}

/// Services that select the same five pods. The middle one loses all but `endpoints` of them.
fn shared_pods(services: usize, endpoints: usize) -> Vec<Value> {
    let one = |n: usize| {
        let name = format!("s{n:05}");
        let left = if n == services / 2 { endpoints } else { 5 };
        let cluster_ip = ip([10, 96, 0, 1], n);
        [service(&name, cluster_ip, 1, json!({}), 0), slice(&name, 1, 0..left)]
    };
    (0..services).flat_map(one).collect()
}

#[test]
fn update_of_service_does_not_touch_services_with_same_pods() {
    let cost = |services| cost(&shared_pods(services, 5), &shared_pods(services, 4));
    assert_eq!(cost(10), cost(1000));
    assert!(cost(1000).0 < 50, "{:?}", cost(1000));
}

#[test]
fn update_of_service_does_not_touch_service_with_all_pods() {
    let objects = |link: usize, endpoints: usize| {
        let mut objects = shared_pods(2, endpoints);
        objects.push(service("evil", "10.97.0.1".parse().unwrap(), 1, json!({}), 0));
        objects.push(slice("evil", 1, 0..link));
        objects
    };
    let cost = |link| cost(&objects(link, 5), &objects(link, 4));
    assert_eq!(cost(10), cost(5000));
}

#[test]
fn update_of_port_does_not_touch_other_ports() {
    let objects = |ports: usize, last: usize| {
        let mut slice = slice("many", ports, 0..100);
        slice["ports"][0]["port"] = json!(last);
        vec![service("many", "10.96.0.10".parse().unwrap(), ports, json!({}), 0), slice]
    };
    let cost = |ports| cost(&objects(ports, 1), &objects(ports, 2));
    assert_eq!(cost(10), cost(200));
}

/// A removed Service releases its addresses. Each address is looked up once, regardless of the
/// number of other claimants.
#[test]
fn update_of_contested_address_touches_next_owner() {
    let objects = |claimants: usize, first: bool| -> Vec<Value> {
        let claimant = |n: usize| {
            let name = format!("s{n:05}");
            let spec = json!({"externalIPs": ["198.18.0.1"]});
            let endpoints = if n == 0 && !first { 0..0 } else { 0..3 };
            [service(&name, ip([10, 96, 0, 1], n), 1, spec, 0), slice(&name, 1, endpoints)]
        };
        (0..claimants).flat_map(claimant).collect()
    };
    let cost = |claimants| cost(&objects(claimants, true), &objects(claimants, false));
    assert_eq!(cost(3), cost(500));
    assert_eq!(cost(3).1, 1);
}
