//! A cluster IP belongs to its Service, whatever others ask for.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use rulegen_compiler::explain::{Explanation, FrontendKind, Outcome, by_ruleset, by_table};
use rulegen_compiler::{Plan, iptables, nftables};
use rulegen_model::{IpFamily, ProxyConfig, ProxyMode, Snapshot};
use rulegen_ruleset::{Origin, Packet, Protocol};
use serde_json::{Value, json};

use crate::cluster::{config, objects_and_network, plans, snapshot_of};
use crate::meaning::local_addresses;

/// The cluster IPs of all Services, also of those that another proxy serves.
fn cluster_ips(objects: &[Value]) -> Vec<String> {
    let services = objects.iter().filter(|object| object["kind"] == "Service");
    let services = services.filter(|service| service["spec"]["type"] != "ExternalName");
    let of = |service: &Value| service["spec"]["clusterIPs"].as_array().cloned();
    services.filter_map(of).flatten().filter_map(|ip| ip.as_str().map(str::to_owned)).collect()
}

/// The same cluster, in which nobody asks for a cluster IP.
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

fn explained(plan: &Plan, mode: ProxyMode, destination: SocketAddr, over: Protocol) -> Explanation {
    let local = local_addresses(plan.family);
    let source: IpAddr = match plan.family {
        IpFamily::Ipv4 => "192.0.2.77".parse().unwrap(),
        IpFamily::Ipv6 => "2001:db8::77".parse().unwrap(),
    };
    let origin = Origin::Interface("eth0".to_owned());
    let packet = Packet { origin, source, destination, protocol: over };
    match mode {
        ProxyMode::Iptables => by_ruleset(&iptables::ruleset(plan), &local, &packet, Some(plan)),
        ProxyMode::Nftables => {
            by_table(&nftables::table(plan, &"rulegen".into()), &local, &packet, Some(plan))
        }
    }
}

/// Checks all packets to one cluster IP: they reach endpoints of its Service only, and explain names
/// no other.
fn check(
    snapshot: &Snapshot,
    plan: &Plan,
    mode: ProxyMode,
    cluster_ip: IpAddr,
) -> Result<(), TestCaseError> {
    let ports = snapshot.service_ports(plan.family).iter();
    let own: Vec<_> = ports.filter(|port| port.cluster_ip == cluster_ip).collect();
    for (number, over) in (80..84).flat_map(|n| ["tcp", "udp", "sctp"].map(|over| (n, over))) {
        let destination = SocketAddr::new(cluster_ip, number);
        let told = explained(plan, mode, destination, Protocol::parse(over).unwrap());
        let port = own.iter().find(|of| of.port == number && of.name.protocol.lower_case() == over);
        let endpoints = port.map(|port| port.endpoints.as_slice()).unwrap_or_default();
        for end in &told.ends {
            if let Outcome::Endpoint { endpoint, .. } = end.outcome {
                prop_assert!(endpoints.iter().any(|own| own.address == endpoint), "{told:#?}");
            }
        }
        if let Some(port) = port {
            let frontend = told.frontend.as_ref().expect("a Service has it");
            prop_assert_eq!(&frontend.service, &port.name.to_string());
            prop_assert_eq!(frontend.kind, FrontendKind::ClusterIP);
        } else if let Some(frontend) = told.frontend {
            let is_own = own.iter().any(|port| {
                frontend.service == format!("{}/{}", port.name.namespace, port.name.service)
            });
            prop_assert!(is_own && frontend.kind == FrontendKind::ClusterIP, "{frontend:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_packet_to_a_cluster_ip_reaches_its_service_or_nobody(
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
    fn whoever_asks_for_a_cluster_ip_might_as_well_not(objects in objects_and_network(), config in config()) {
        for mode in [ProxyMode::Iptables, ProxyMode::Nftables] {
            let config = ProxyConfig { mode, ..config.clone() };
            let modest = without_claims(&objects);
            prop_assert_eq!(plans(&objects, &config), plans(&modest, &config));
        }
    }
}
