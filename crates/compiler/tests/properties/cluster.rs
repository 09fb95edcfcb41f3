//! Random clusters with all kinds of Services, in small numbers, so that Services often interact.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use rulegen_compiler::{Plan, plan};
use rulegen_config::{DetectLocalMode, NodePortAddresses, ProxyConfig};
use rulegen_model::{Host, LoadBalancing, Objects, Snapshot, read_manifest, snapshot};
use rulegen_net::{IpFamily, parse_network};
use serde_json::{Value, json};

pub(crate) const NODE: &str = "node-1";

/// The objects of a cluster, as `kubectl get -o json` prints them.
pub(crate) fn objects() -> impl Strategy<Value = Vec<Value>> {
    let services = (1..=SERVICES)
        .prop_flat_map(|count| (0..count).map(service_with_slices).collect::<Vec<_>>());
    services.prop_map(|services| {
        let of_services =
            services.into_iter().flat_map(|(service, slices)| [vec![service], slices].concat());
        std::iter::once(node()).chain(of_services).collect()
    })
}

/// Like [`objects`], with or without a ServiceCIDR.
pub(crate) fn objects_and_network() -> impl Strategy<Value = Vec<Value>> {
    (objects(), any::<bool>()).prop_map(|(mut objects, has_network)| {
        objects.extend(has_network.then(service_cidr));
        objects
    })
}

/// Maximum number of Services.
const SERVICES: usize = 5;

fn service_cidr() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/24", "fd00:96::/112"]},
    })
}

/// The cluster IP of Service number n.
fn cluster_ip(n: usize, family: &str) -> String {
    match family {
        "IPv4" => format!("10.96.0.{}", n % SERVICES + 10),
        _ => format!("fd00:96::{:x}", n % SERVICES + 16),
    }
}

/// External IPs that a Service may have. No two Services share a valid one, but they may have
/// cluster IPs (also of other Services), addresses of the node, and forbidden addresses.
fn external_ips(n: usize) -> Vec<String> {
    let mut ips = vec![
        cluster_ip(n + 1, "IPv4"),
        cluster_ip(n, "IPv4"),
        format!("10.96.0.{}", n + 100),
        "127.0.0.1".to_owned(),
        "fe80::1".to_owned(),
    ];
    if n == 0 {
        let own = ["203.0.113.7", "2001:db8::7", "192.168.50.1", "fd00:50::1"];
        ips.extend(own.map(str::to_owned));
    }
    ips
}

/// Load-balancer IPs that a Service may have, with their ipMode.
fn ingress(n: usize) -> Vec<(String, &'static str)> {
    let mut ips = vec![(cluster_ip(n + 1, "IPv6"), "VIP")];
    if n == 0 {
        let own = [("198.51.100.1", "VIP"), ("198.51.100.2", "Proxy"), ("2001:db8:1::1", "VIP")];
        ips.extend(own.map(|(ip, mode)| (ip.to_owned(), mode)));
    }
    ips
}

fn node() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": "zone-a"}},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "192.168.50.1"},
            {"type": "InternalIP", "address": "fd00:50::1"},
            {"type": "ExternalIP", "address": "172.20.0.1"},
            {"type": "Hostname", "address": NODE},
        ]},
    })
}

fn service_with_slices(n: usize) -> impl Strategy<Value = (Value, Vec<Value>)> {
    (service(n), vec(slice(n), 0..4))
}

fn service(n: usize) -> impl Strategy<Value = Value> {
    let shape = (
        select(vec!["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
        select(vec![vec!["IPv4"], vec!["IPv6"], vec!["IPv4", "IPv6"], vec!["IPv6", "IPv4"]]),
        vec(select(vec!["TCP", "UDP", "SCTP"]), 1..4),
        few_or_many_external_ips(n),
        subsequence(ingress(n), 0..=1 + usize::from(n == 0)),
        subsequence(vec!["198.18.0.0/15", "192.168.50.0/24", "0.0.0.0/0", " fd00:50::/64"], 0..=2),
    );
    let policies = (
        select(vec!["Cluster", "Local"]),
        select(vec!["Cluster", "Local"]),
        option::of(1_u32..1000),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    (shape, policies).prop_map(
        move |((kind, families, protocols, external, ingress, ranges), policies)| {
            let (external_policy, internal_policy, affinity, headless, other_proxy) = policies;
            let ports: Vec<Value> = protocols
                .iter()
                .enumerate()
                .map(|(p, protocol)| {
                    let mut port =
                        json!({"name": format!("p{p}"), "port": 80 + p, "protocol": protocol});
                    if kind != "ClusterIP" {
                        port["nodePort"] = json!(30000 + n * 10 + p);
                    }
                    port
                })
                .collect();
            let ips: Vec<String> = families.iter().map(|of| cluster_ip(n, of)).collect();
            let ips = if headless { vec!["None".to_owned()] } else { ips };
            let ingress: Vec<Value> =
                ingress.iter().map(|(ip, mode)| json!({"ip": ip, "ipMode": mode})).collect();
            let mut spec = json!({
                "type": kind, "ports": ports, "ipFamilies": families, "clusterIP": ips[0],
                "clusterIPs": ips, "externalTrafficPolicy": external_policy,
                "internalTrafficPolicy": internal_policy, "loadBalancerSourceRanges": ranges,
            });
            spec["externalIPs"] = json!(external);
            if let Some(seconds) = affinity {
                spec["sessionAffinity"] = json!("ClientIP");
                spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": seconds}});
            }
            let ingress = if kind == "LoadBalancer" { ingress } else { Vec::new() };
            let mut metadata = json!({"name": format!("svc-{n}"), "namespace": "default"});
            if other_proxy {
                metadata["labels"] = json!({"service.kubernetes.io/service-proxy-name": "other"});
            }
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": metadata,
                "spec": spec, "status": {"loadBalancer": {"ingress": ingress}},
            })
        },
    )
}

/// A few, or for the first Service so many that it gets its own chains in nftables mode.
fn few_or_many_external_ips(n: usize) -> impl Strategy<Value = Vec<String>> {
    let few = subsequence(external_ips(n), 0..=3);
    let many = (7..12).flat_map(|of| [format!("203.0.113.{of}"), format!("2001:db8::{of}")]);
    let many: Vec<String> = many.filter(|_| n == 0).collect();
    prop_oneof![few, Just(many)]
}

fn slice(n: usize) -> impl Strategy<Value = Value> {
    let endpoints = |family| (Just(family), vec(endpoint(family), 0..5));
    let of_family = select(vec!["IPv4", "IPv6"]).prop_flat_map(endpoints);
    (any::<u32>(), of_family, 0_usize..3).prop_map(move |(id, (family, endpoints), shift)| {
        let port = |p: usize, protocol: &str| {
            json!({"name": format!("p{p}"), "port": 8080 + p + shift, "protocol": protocol})
        };
        let ports: Vec<Value> =
            (0..3).flat_map(|p| ["TCP", "UDP", "SCTP"].map(|protocol| port(p, protocol))).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {
                "name": format!("svc-{n}-{id:x}"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": format!("svc-{n}")},
            },
            "ports": ports, "endpoints": endpoints,
        })
    })
}

fn endpoint(family: &'static str) -> impl Strategy<Value = Value> {
    let conditions =
        (option::of(any::<bool>()), option::of(any::<bool>()), option::of(any::<bool>()));
    let hints =
        (option::of(select(vec!["zone-a", "zone-b"])), option::of(select(vec![NODE, "node-2"])));
    (1_u8..3, 2_u8..8, conditions, hints, prop::bool::weighted(0.9)).prop_map(
        move |(node, host, (ready, serving, terminating), (zone, on_node), named)| {
            let address = match family {
                "IPv4" => format!("10.244.{node}.{host}"),
                _ => format!("fd00:10:244:{node}::{host:x}"),
            };
            json!({
                "addresses": [address],
                "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                "nodeName": named.then(|| format!("node-{node}")),
                "hints": {
                    "forZones": zone.map(|name| vec![json!({"name": name})]),
                    "forNodes": on_node.map(|name| vec![json!({"name": name})]),
                },
            })
        },
    )
}

/// Configurations with all options that change rules.
pub(crate) fn config() -> impl Strategy<Value = ProxyConfig> {
    let modes = select(vec![
        DetectLocalMode::ClusterCidr,
        DetectLocalMode::NodeCidr,
        DetectLocalMode::BridgeInterface,
        DetectLocalMode::InterfaceNamePrefix,
    ]);
    let addresses = select(vec![
        NodePortAddresses::Unset,
        NodePortAddresses::Primary,
        NodePortAddresses::Networks(vec![parse_network("172.20.0.0/16").unwrap()]),
    ]);
    let cidrs = subsequence(vec!["10.244.0.0/16", "fd00:10:244::/48"], 0..=2);
    let load_balancing_modes = prop_oneof![
        30 => select(vec![LoadBalancing::Random, LoadBalancing::RoundRobin]),
        // Their tables are large.
        1 => select(vec![LoadBalancing::Maglev, LoadBalancing::Maglev5Tuple]),
    ];
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2));
    (modes, addresses, cidrs, flags, 0_u8..32, load_balancing_modes).prop_map(
        |(
            detect_local_mode,
            node_port_addresses,
            cidrs,
            (masquerade_all, localhost_node_ports, refuse_node_addresses),
            masquerade_bit,
            load_balancing,
        )| {
            ProxyConfig {
                hostname_override: Some(NODE.to_owned()),
                detect_local_mode,
                node_port_addresses,
                cluster_cidrs: cidrs.iter().filter_map(|cidr| parse_network(cidr)).collect(),
                bridge_interface: Some("cni0".to_owned()),
                interface_name_prefix: Some("cali".to_owned()),
                masquerade_all,
                localhost_node_ports,
                refuse_node_addresses,
                masquerade_bit,
                load_balancing,
                ..ProxyConfig::default()
            }
        },
    )
}

pub(crate) fn read(texts: &[String]) -> Objects {
    let mut objects = Objects::default();
    for (n, text) in texts.iter().enumerate() {
        let problems = read_manifest(&format!("{n}"), text.as_bytes(), &mut objects);
        assert!(problems.is_empty(), "{problems:?}");
    }
    objects
}

pub(crate) fn snapshot_of(objects: &[Value], config: &ProxyConfig) -> Snapshot {
    let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
    snapshot(&read(&texts), &config.snapshot_options(), &Host::default()).0
}

pub(crate) fn plans(objects: &[Value], config: &ProxyConfig) -> [(IpFamily, Plan); 2] {
    let snapshot = snapshot_of(objects, config);
    IpFamily::BOTH.map(|family| (family, plan(&snapshot, config, family)))
}
