//! Consistent hashing in the nftables table: it has the slots of the plan, once for all frontends.

use rulegen_compiler::{Plan, ServicePlan, nftables, plan};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_model::{LoadBalancing, TrafficPolicy};
use rulegen_net::{IpFamily, parse_network};
use rulegen_ruleset::iptables::PacketVerdict;
use rulegen_ruleset::nftables::{Table, trace};
use rulegen_ruleset::{Origin, Packet, Probability};
use serde_json::{Value, json};

use crate::cluster::{NODE, snapshot_of};

const HASHES: [LoadBalancing; 2] = [LoadBalancing::Maglev, LoadBalancing::Maglev5Tuple];

/// A Service with this many external IPs and endpoints. Every other endpoint is on this node.
fn objects(ports: usize, external_ips: u8, endpoints: u8, spec: &Value) -> [Value; 2] {
    let number = |n: usize| json!({"name": format!("p{n}"), "port": 80 + n});
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "clusterIP": "10.96.0.10",
            "externalIPs": (1..=external_ips).map(|n| format!("192.0.2.{n}")).collect::<Vec<_>>(),
            "ports": (0..ports).map(number).collect::<Vec<_>>(),
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        service["spec"][field] = value.clone();
    }
    let endpoint = |n: u8| {
        let node = if n.is_multiple_of(2) { NODE } else { "another" };
        json!({"addresses": [format!("10.244.1.{n}")], "nodeName": node})
    };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": (0..ports).map(number).collect::<Vec<_>>(),
        "endpoints": (1..=endpoints).map(endpoint).collect::<Vec<_>>(),
    });
    [service, slice]
}

fn plan_of(objects: &[Value], load_balancing: LoadBalancing) -> Plan {
    let config = ProxyConfig {
        mode: ProxyMode::Nftables,
        hostname_override: Some(NODE.to_owned()),
        cluster_cidrs: parse_network("10.244.0.0/16").into_iter().collect(),
        load_balancing,
        ..ProxyConfig::default()
    };
    plan(&snapshot_of(objects, &config), &config, IpFamily::Ipv4)
}

fn table(plan: &Plan) -> Table {
    nftables::table(plan, &"rulegen".into())
}

fn elements(table: &Table) -> usize {
    table.sets.values().map(|set| set.elements.len()).sum()
}

/// The endpoints that a client reaches at a frontend, with their probabilities.
fn reached(table: &Table, source: &str, to: &str) -> Vec<(PacketVerdict, Probability)> {
    let packet = Packet {
        origin: Origin::Interface("eth0".to_owned()),
        source: source.parse().unwrap(),
        destination: to.parse().unwrap(),
        protocol: rulegen_net::Protocol::Tcp,
    };
    trace(table, &[], &packet).verdicts()
}

fn planned(
    service: &ServicePlan,
    policy: TrafficPolicy,
) -> Vec<(std::net::SocketAddr, Probability)> {
    let shares = service.shares(policy);
    let all = shares.iter().sum::<usize>().try_into().unwrap();
    let chance = |share: usize| Probability::CERTAIN.times(share.try_into().unwrap(), all);
    let endpoints = service.endpoints_of(policy).iter().map(|endpoint| endpoint.address);
    endpoints.zip(shares.into_iter().map(chance)).collect()
}

fn endpoint(verdict: PacketVerdict) -> std::net::SocketAddr {
    match verdict {
        PacketVerdict::Delivered { destination, translated: true, .. } => destination,
        other => panic!("not translated: {other:?}"),
    }
}

/// For one and for many frontends, with affinity, and with both choices of external policy Local.
#[test]
fn maglev_endpoints_have_the_probabilities_of_the_plan() {
    let specs = [
        json!({}),
        json!({"sessionAffinity": "ClientIP"}),
        json!({"type": "NodePort", "externalTrafficPolicy": "Local"}),
    ];
    for (external_ips, spec) in
        [0, 1, 6].into_iter().flat_map(|n| specs.iter().map(move |s| (n, s)))
    {
        for method in HASHES {
            let plan = plan_of(&objects(1, external_ips, 7, spec), method);
            let (table, service) = (table(&plan), &plan.services[0]);
            let has_local = spec.get("externalTrafficPolicy").is_some();
            let external = if has_local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
            let frontends = [("10.96.0.10:80", TrafficPolicy::Cluster), ("192.0.2.1:80", external)];
            for (to, policy) in &frontends[..if external_ips == 0 { 1 } else { 2 }] {
                let planned = planned(service, *policy);
                let mut found = std::collections::HashSet::new();
                for client in 1..100 {
                    let reached = reached(&table, &format!("198.51.100.{client}"), to);
                    found.extend(reached.iter().map(|(verdict, _)| endpoint(*verdict)));
                    match method {
                        LoadBalancing::Maglev => assert_eq!(reached.len(), 1, "{to} {spec}"),
                        _ if client > 2 => break,
                        _ => {
                            let reached =
                                reached.into_iter().map(|(to, chance)| (endpoint(to), chance));
                            assert_eq!(reached.collect::<Vec<_>>(), planned, "{to} {spec}");
                        }
                    }
                }
                assert_eq!(found.len(), planned.len(), "{to} {spec}: not all are reached");
            }
        }
    }
}

#[test]
fn maglev_clients_get_the_same_endpoint_at_each_frontend_and_on_each_node() {
    let choices = |external_ips, to: &str| -> Vec<PacketVerdict> {
        let objects = objects(1, external_ips, 7, &json!({}));
        let table = table(&plan_of(&objects, LoadBalancing::Maglev));
        let client = |n| endpoint_only(&table, &format!("198.51.100.{n}"), to);
        (1..50).map(client).collect()
    };
    let masqueraded = |of: Vec<PacketVerdict>| of.into_iter().map(endpoint).collect::<Vec<_>>();
    let alone = masqueraded(choices(0, "10.96.0.10:80"));
    assert_eq!(masqueraded(choices(6, "10.96.0.10:80")), alone);
    assert_eq!(masqueraded(choices(6, "192.0.2.3:80")), alone);
}

fn endpoint_only(table: &Table, source: &str, to: &str) -> PacketVerdict {
    let reached = reached(table, source, to);
    let [(verdict, _)] = reached.as_slice() else { panic!("{source}: {reached:?}") };
    *verdict
}

/// One table per policy, whatever the number of frontends, and a bound for the ports of a Service.
#[test]
fn maglev_elements_are_bounded() {
    let count = |ports, external_ips, endpoints| {
        let objects = objects(ports, external_ips, endpoints, &json!({}));
        elements(&table(&plan_of(&objects, LoadBalancing::Maglev)))
    };
    for external_ips in [0, 1, 4, 100] {
        let others = 3 * (usize::from(external_ips) + 1) + 3;
        let of_table = count(1, external_ips, 3) - 4_093;
        assert!(of_table <= others, "{external_ips} external IPs: {of_table}");
    }
    assert!(count(1, 0, 32) < 4_093 + 64);
    assert!((16_381..16_381 + 80).contains(&count(1, 0, 33)));
    assert!(count(64, 0, 2) > 64 * 4_093);
    assert!(count(65, 0, 2) < 65 * 10, "{}", count(65, 0, 2));
}
