//! Packets meet what the plan decides: the printed rules are evaluated and compared with the plan.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use rulegen_compiler::iptables::ruleset;
use rulegen_compiler::{
    External, ExternalAddress, Firewall, Masquerade, NodePortsAt, Plan, PodTraffic, Refusal,
    ServicePlan, Treatment,
};
use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{Origin, Packet, PacketVerdict, Trace, parse, trace};

use crate::cluster::{config, objects, plans};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Each of n endpoints has the probability 1/n, up to the kernel's resolution of 31 bits. Each
    /// packet is forwarded, masqueraded, rejected or dropped as the plan decides.
    #[test]
    fn packet_fate_iptables_follows_plan_masquerade_hairpin_reject_source_ranges(objects in objects(), config in config()) {
        for (family, plan) in plans(&objects, &config) {
            let (rules, errors) = parse(ruleset(&plan).family, &ruleset(&plan).to_text());
            prop_assert!(errors.is_empty());
            let local = local_addresses(family);
            for service in &plan.services {
                for (destination, kind) in frontends(&plan, service, &local) {
                    for client in clients(family, service) {
                        let client = match destination.ip() {
                            // The kernel drops such packets from outside before any rule.
                            ip if ip.is_loopback() && client.origin != Origin::Host => continue,
                            ip if ip.is_loopback() => ClientKind { source: ip, ..client },
                            _ => client,
                        };
                        let packet = Packet {
                            origin: client.origin.clone(),
                            source: client.source,
                            destination,
                            protocol: service.name.protocol,
                        };
                        let trace = trace(&rules, &local, &packet);
                        let desired = expected(&plan, service, kind, &client, &local);
                        check(&trace, &desired, &packet)?;
                    }
                }
            }
        }
    }
}

pub(crate) fn local_addresses(family: IpFamily) -> Vec<IpAddr> {
    let texts: &[&str] = match family {
        IpFamily::Ipv4 => &["192.168.50.1", "172.20.0.1", "127.0.0.1"],
        IpFamily::Ipv6 => &["fd00:50::1", "::1"],
    };
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[derive(Debug, Clone)]
pub(crate) struct ClientKind {
    pub(crate) origin: Origin,
    pub(crate) source: IpAddr,
}

/// A local pod, a pod on another node, clients outside in and out of source ranges, the node
/// itself, and the first endpoint of the Service.
pub(crate) fn clients(family: IpFamily, service: &ServicePlan) -> Vec<ClientKind> {
    let through = |interface: &str, source: &str| ClientKind {
        origin: Origin::Interface(interface.to_owned()),
        source: source.parse().unwrap(),
    };
    let mut clients = match family {
        IpFamily::Ipv4 => vec![
            through("cali1", "10.244.1.200"),
            through("cni0", "10.244.1.201"),
            through("eth1", "10.244.2.200"),
            through("eth0", "198.18.0.1"),
            through("eth0", "203.0.113.99"),
            ClientKind { origin: Origin::Host, source: "192.168.50.1".parse().unwrap() },
        ],
        IpFamily::Ipv6 => vec![
            through("cali1", "fd00:10:244:1::200"),
            through("eth1", "fd00:10:244:2::200"),
            through("eth0", "fd00:50::99"),
            through("eth0", "2001:db8:9::1"),
            ClientKind { origin: Origin::Host, source: "fd00:50::1".parse().unwrap() },
        ],
    };
    let first = service.reachable_endpoints.first();
    clients.extend(first.map(|endpoint| through("cali1", &endpoint.address.ip().to_string())));
    clients
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum AddressKind {
    ClusterIp,
    External(ExternalAddress),
    ClosedNodePort,
}

pub(crate) fn frontends(
    plan: &Plan,
    service: &ServicePlan,
    local: &[IpAddr],
) -> Vec<(SocketAddr, AddressKind)> {
    let mut frontends =
        vec![(SocketAddr::new(service.internal.address, service.port), AddressKind::ClusterIp)];
    for address in service.external.iter().flat_map(|external| &external.addresses) {
        let kind = AddressKind::External(*address);
        match *address {
            ExternalAddress::ExternalIp(ip) | ExternalAddress::LoadBalancerIp(ip) => {
                frontends.push((SocketAddr::new(ip, service.port), kind));
            }
            ExternalAddress::NodePort(port) => {
                frontends.extend(local.iter().map(|ip| {
                    let open = match &plan.node_ports_at {
                        NodePortsAt::AnyLocal { loopback } => *loopback || !ip.is_loopback(),
                        NodePortsAt::These(addresses) => addresses.contains(ip),
                    };
                    let kind = if open { kind } else { AddressKind::ClosedNodePort };
                    (SocketAddr::new(*ip, port.get()), kind)
                }));
            }
        }
    }
    frontends
}

/// The expected result for a packet.
#[derive(Debug)]
enum Expected {
    /// Passes untranslated. May be refused like other traffic to the node.
    Passes,
    Refused(Refusal),
    Dropped,
    Forwarded {
        endpoints: Vec<Endpoint>,
        masqueraded: bool,
        from: IpAddr,
    },
}

fn expected(
    plan: &Plan,
    service: &ServicePlan,
    kind: AddressKind,
    client: &ClientKind,
    local: &[IpAddr],
) -> Expected {
    let from_pod = is_pod(plan, client);
    let is_node = client.origin == Origin::Host || local.contains(&client.source);
    let forward = |policy: TrafficPolicy, masqueraded: bool| Expected::Forwarded {
        endpoints: match policy {
            TrafficPolicy::Cluster => service.cluster_endpoints.clone(),
            TrafficPolicy::Local => service.local_endpoints.clone(),
        },
        masqueraded,
        from: client.source,
    };
    match kind {
        // The rules in the filter table that refuse traffic match all addresses of the node,
        // regardless of where node ports are open.
        AddressKind::ClosedNodePort => {
            match service.external.as_ref().map(|external| external.outcome) {
                Some(Treatment::Refuse(refusal)) => Expected::Refused(refusal),
                _ => Expected::Passes,
            }
        }
        AddressKind::ClusterIp => match service.internal.outcome {
            Treatment::Refuse(refusal) => Expected::Refused(refusal),
            Treatment::Forward(policy) => forward(
                policy,
                match service.internal.masquerade {
                    Masquerade::All => true,
                    Masquerade::NotFromPods => !from_pod,
                    Masquerade::None => false,
                },
            ),
        },
        AddressKind::External(address) => {
            let external: &External = service.external.as_ref().unwrap();
            if !external.forwards {
                return refused(external, client, address, local);
            }
            if let (ExternalAddress::LoadBalancerIp(_), Some(firewall)) =
                (address, &external.firewall)
                && !is_accepted(firewall, external, client.source)
            {
                return Expected::Dropped;
            }
            match external.policy {
                TrafficPolicy::Cluster => forward(TrafficPolicy::Cluster, true),
                TrafficPolicy::Local if from_pod => forward(TrafficPolicy::Cluster, false),
                TrafficPolicy::Local if is_node => forward(TrafficPolicy::Cluster, true),
                TrafficPolicy::Local => match external.outcome {
                    Treatment::Forward(policy) => forward(policy, false),
                    Treatment::Refuse(_) => refused(external, client, address, local),
                },
            }
        }
    }
}

/// Packets from the node to a remote external address pass, because the rules that refuse them are
/// in INPUT and FORWARD, as in kube-proxy. Packets from the node to itself go through INPUT.
fn refused(
    external: &External,
    client: &ClientKind,
    address: ExternalAddress,
    local: &[IpAddr],
) -> Expected {
    let at_node = match address {
        ExternalAddress::NodePort(_) => true,
        ExternalAddress::ExternalIp(ip) | ExternalAddress::LoadBalancerIp(ip) => {
            local.contains(&ip)
        }
    };
    match external.outcome {
        Treatment::Refuse(_) if client.origin == Origin::Host && !at_node => Expected::Passes,
        Treatment::Refuse(refusal) => Expected::Refused(refusal),
        Treatment::Forward(_) => Expected::Passes,
    }
}

pub(crate) fn is_pod(plan: &Plan, client: &ClientKind) -> bool {
    match (&plan.pod_traffic, &client.origin) {
        (Some(PodTraffic::From(network)), _) => network.contains(&client.source),
        (Some(PodTraffic::Through(bridge)), Origin::Interface(name)) => name == bridge,
        (Some(PodTraffic::ThroughPrefix(start)), Origin::Interface(name)) => {
            name.starts_with(start.as_str())
        }
        _ => false,
    }
}

fn is_accepted(firewall: &Firewall, external: &External, source: IpAddr) -> bool {
    let is_load_balancer = || external.addresses.contains(&ExternalAddress::LoadBalancerIp(source));
    firewall.source_ranges.iter().any(|range| range.contains(&source))
        || (firewall.from_node && is_load_balancer())
}

fn check(trace: &Trace<'_>, desired: &Expected, packet: &Packet) -> Result<(), TestCaseError> {
    let verdicts = trace.verdicts();
    let only =
        |verdict: PacketVerdict| matches!(verdicts.as_slice(), [(found, _)] if *found == verdict);
    let is_as_expected = match desired {
        Expected::Passes => verdicts.iter().all(|(verdict, _)| {
            matches!(verdict, PacketVerdict::Delivered { translated: false, .. })
        }),
        Expected::Refused(Refusal::NoEndpoints) => only(PacketVerdict::Rejected),
        Expected::Refused(Refusal::NoLocalEndpoints) | Expected::Dropped => {
            only(PacketVerdict::Dropped)
        }
        Expected::Forwarded { endpoints, masqueraded, from } => {
            let n = u64::try_from(endpoints.len()).unwrap();
            verdicts.len() == endpoints.len()
                && endpoints.iter().all(|endpoint| {
                    let verdict = PacketVerdict::Delivered {
                        destination: endpoint.address,
                        translated: true,
                        masqueraded: *masqueraded || endpoint.address.ip() == *from,
                    };
                    // Each of at most n - 1 thresholds is off by less than one step of 2^-31. The
                    // other probabilities make up for the difference.
                    verdicts
                        .iter()
                        .any(|(found, chance)| *found == verdict && chance.is_one_in(n, 2))
                })
        }
    };
    prop_assert!(is_as_expected, "{packet:?}\nwanted {desired:?}\nfound {verdicts:?}");
    Ok(())
}
