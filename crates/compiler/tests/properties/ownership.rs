//! A cluster IP belongs to its Service, regardless of the claims of other Services.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use rulegen_compiler::{Plan, iptables, nftables};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_inspect::explain::{Explanation, Outcome, by_ruleset, by_table};
use rulegen_model::Snapshot;
use rulegen_net::FrontendKind;
use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::{Origin, Packet};
use serde_json::{Value, json};

use crate::cluster::{config, objects_and_network, plans, snapshot_of};
use crate::meaning::local_addresses;

/// The cluster IPs of all Services, including those that another proxy serves.
fn cluster_ips(objects: &[Value]) -> Vec<String> {
    let services = objects.iter().filter(|object| object["kind"] == "Service");
    let services = services.filter(|service| service["spec"]["type"] != "ExternalName");
    let of = |service: &Value| service["spec"]["clusterIPs"].as_array().cloned();
    services.filter_map(of).flatten().filter_map(|ip| ip.as_str().map(str::to_owned)).collect()
}

/// The same cluster without claims to cluster IPs.
fn without_claims(objects: &[Value]) -> Vec<Value> {
    let taken: Vec<Value> = cluster_ips(objects).into_iter().map(Value::from).collect();
    let mut objects = objects.to_vec();
    for service in objects.iter_mut().filter(|object| object["kind"] == "Service") {
        let is_free = |ip: &Value| !taken.contains(ip);
        let external = service["spec"]["externalIPs"].as_array().unwrap().iter();
        let external: Vec<Value> = external.filter(|ip| is_free(ip)).cloned().collect();
        service["spec"]["externalIPs"] = json!(external);
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array().unwrap().iter();
        let ingress: Vec<Value> = ingress.filter(|of| is_free(&of["ip"])).cloned().collect();
        service["status"]["loadBalancer"]["ingress"] = json!(ingress);
    }
    objects
}

fn explained(
    plan: &Plan,
    mode: ProxyMode,
    destination: SocketAddr,
    protocol: Protocol,
) -> Explanation {
    let local = local_addresses(plan.family);
    let packet = packet(plan, destination, protocol);
    match mode {
        ProxyMode::Iptables => by_ruleset(&iptables::ruleset(plan), &local, &packet, Some(plan)),
        ProxyMode::Nftables => {
            by_table(&nftables::table(plan, &"rulegen".into()), &local, &packet, Some(plan))
        }
    }
}

/// A packet from outside the cluster.
fn packet(plan: &Plan, destination: SocketAddr, protocol: Protocol) -> Packet {
    let source: IpAddr = match plan.family {
        IpFamily::Ipv4 => "192.0.2.77".parse().unwrap(),
        IpFamily::Ipv6 => "2001:db8::77".parse().unwrap(),
    };
    let origin = Origin::Interface("eth0".to_owned());
    Packet { origin, source, destination, protocol }
}

/// Checks packets to one cluster IP: they reach endpoints of its Service only, and explain names no
/// other Service.
fn check(
    snapshot: &Snapshot,
    plan: &Plan,
    mode: ProxyMode,
    cluster_ip: IpAddr,
) -> Result<(), TestCaseError> {
    let ports = snapshot.service_ports(plan.family).iter();
    let own: Vec<_> = ports.filter(|port| port.cluster_ip == cluster_ip).collect();
    for (number, protocol) in
        (80..84).flat_map(|n| ["tcp", "udp", "sctp"].map(|protocol| (n, protocol)))
    {
        let destination = SocketAddr::new(cluster_ip, number);
        let explanation =
            explained(plan, mode, destination, Protocol::from_name(protocol).unwrap());
        let port = own.iter().find(|of| of.port == number && of.name.protocol.name() == protocol);
        let endpoints = port.map(|port| port.endpoints.as_slice()).unwrap_or_default();
        for end in &explanation.ends {
            if let Outcome::Endpoint { endpoint, .. } = end.outcome {
                prop_assert!(
                    endpoints.iter().any(|own| own.address == endpoint),
                    "{explanation:#?}"
                );
            }
        }
        if let Some(port) = port {
            let frontend = explanation.frontend.as_ref().expect("no frontend");
            prop_assert_eq!(&frontend.service, &port.name);
            prop_assert_eq!(frontend.kind, FrontendKind::ClusterIP);
        } else if let Some(frontend) = explanation.frontend {
            let is_own = own.iter().any(|port| {
                let of = &frontend.service;
                (&of.namespace, &of.service) == (&port.name.namespace, &port.name.service)
                    && of.port.is_empty()
            });
            prop_assert!(is_own && frontend.kind == FrontendKind::ClusterIP, "{frontend:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn cluster_ip_packet_reaches_no_other_service(
        objects in objects_and_network(), config in config(),
    ) {
        for mode in [ProxyMode::Iptables, ProxyMode::Nftables] {
            let config = ProxyConfig { mode, ..config.clone() };
            let snapshot = snapshot_of(&objects, &config);
            for (family, plan) in plans(&objects, &config) {
                for ip in cluster_ips(&objects).iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
                    if IpFamily::of(ip) == family {
                        check(&snapshot, &plan, mode, ip)?;
                    }
                }
            }
        }
    }

    #[test]
    fn external_ip_equal_to_foreign_cluster_ip_has_no_effect(objects in objects_and_network(), config in config()) {
        for mode in [ProxyMode::Iptables, ProxyMode::Nftables] {
            let config = ProxyConfig { mode, ..config.clone() };
            let unclaimed = without_claims(&objects);
            prop_assert_eq!(plans(&objects, &config), plans(&unclaimed, &config));
        }
    }
}

/// A cluster in which several Services claim the same frontends. All except `idle` and
/// `idle-at-node` have an endpoint.
fn contested() -> Vec<Value> {
    let service = |name: &str, ip: &str, kind: &str, external: &[&str], port: u16| {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": kind, "clusterIP": ip, "externalIPs": external,
                "ports": [{"port": port}]},
        });
        let node_port = if name == "zz-node-port" { 30_081 } else { 30_080 };
        if kind == "NodePort" {
            service["spec"]["ports"][0]["nodePort"] = json!(node_port);
        }
        service
    };
    let slice = |service: &str, address: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
            "ports": [{"port": 8080}], "endpoints": [{"addresses": [address]}],
        })
    };
    let mut both = service("both", "10.96.0.7", "LoadBalancer", &["198.51.100.9"], 80);
    both["status"] =
        json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}, {"ip": "198.51.100.8"}]}});
    vec![
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": crate::cluster::NODE},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.50.1"}]},
        }),
        service("aa-node-port", "10.96.0.1", "NodePort", &[], 80),
        service("idle", "10.96.0.2", "ClusterIP", &["203.0.113.7"], 80),
        service("first", "10.96.0.3", "ClusterIP", &["203.0.113.7", "10.96.0.5"], 80),
        service("second", "10.96.0.4", "ClusterIP", &["203.0.113.7", "10.96.0.5"], 80),
        service("zz-owner", "10.96.0.5", "ClusterIP", &[], 80),
        service("zz-at-node", "10.96.0.6", "ClusterIP", &["192.168.50.1"], 30_080),
        service("idle-at-node", "10.96.0.8", "ClusterIP", &["192.168.50.1"], 30_081),
        service("zz-node-port", "10.96.0.9", "NodePort", &[], 80),
        both,
        slice("aa-node-port", "10.244.2.1"),
        slice("first", "10.244.2.3"),
        slice("second", "10.244.2.4"),
        slice("zz-owner", "10.244.2.5"),
        slice("zz-at-node", "10.244.2.6"),
        slice("both", "10.244.2.7"),
        slice("zz-node-port", "10.244.2.9"),
    ]
}

/// The order of claims in docs/replacing-kube-proxy.md: the Service with this cluster IP, then
/// external and load-balancer IPs by name, then node ports. A Service without endpoints comes last.
#[test]
fn contested_address_goes_to_first_claimant() {
    for mode in [ProxyMode::Iptables, ProxyMode::Nftables] {
        let config = ProxyConfig {
            mode,
            hostname_override: Some(crate::cluster::NODE.to_owned()),
            ..ProxyConfig::default()
        };
        let [(_, plan), _] = plans(&contested(), &config);
        for (to, service, kind, endpoint) in [
            ("203.0.113.7:80", "default/first", FrontendKind::ExternalIP, "10.244.2.3:8080"),
            ("10.96.0.5:80", "default/zz-owner", FrontendKind::ClusterIP, "10.244.2.5:8080"),
            ("198.51.100.9:80", "default/both", FrontendKind::ExternalIP, "10.244.2.7:8080"),
            ("198.51.100.8:80", "default/both", FrontendKind::LoadBalancerIP, "10.244.2.7:8080"),
            (
                "192.168.50.1:30081",
                "default/zz-node-port",
                FrontendKind::NodePort,
                "10.244.2.9:8080",
            ),
            (
                "192.168.50.1:30080",
                "default/zz-at-node",
                FrontendKind::ExternalIP,
                "10.244.2.6:8080",
            ),
        ] {
            let explanation = explained(&plan, mode, to.parse().unwrap(), Protocol::Tcp);
            let ends: Vec<String> = explanation
                .ends
                .iter()
                .map(|end| match end.outcome {
                    Outcome::Endpoint { endpoint, .. } => endpoint.to_string(),
                    other => format!("{other:?}"),
                })
                .collect();
            assert_eq!(ends, [endpoint], "{mode:?} {to}");
            let frontend = explanation.frontend.unwrap();
            assert_eq!(
                (frontend.service.to_string().as_str(), frontend.kind),
                (service, kind),
                "{mode:?} {to}"
            );
            // Also if the rules are missing and only the plan knows the owner.
            let bare = Plan { services: Vec::new(), ..plan.clone() };
            let local = local_addresses(plan.family);
            let packet = packet(&plan, to.parse().unwrap(), Protocol::Tcp);
            let explanation = match mode {
                ProxyMode::Iptables => {
                    by_ruleset(&iptables::ruleset(&bare), &local, &packet, Some(&plan))
                }
                ProxyMode::Nftables => {
                    let table = nftables::table(&bare, &"rulegen".into());
                    by_table(&table, &local, &packet, Some(&plan))
                }
            };
            let frontend = explanation.frontend.unwrap();
            assert_eq!(
                (frontend.service.to_string().as_str(), frontend.kind),
                (service, kind),
                "{mode:?} {to}"
            );
        }
        // The cluster IP belongs to its Service at every port.
        let explanation = explained(&plan, mode, "10.96.0.5:9".parse().unwrap(), Protocol::Tcp);
        let remark = explanation.remarks.first().unwrap();
        assert_eq!(remark.code(), "no-such-port", "{remark}");
        assert!(remark.to_string().contains("default/zz-owner"), "{remark}");
    }
}
