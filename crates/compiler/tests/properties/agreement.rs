//! Both backends forward or refuse a packet in the same way.
//!
//! kube-proxy's two modes differ in some points, and rulegen differs in the same points:
//! - Node ports at loopback exist in iptables mode only. The test disables them.
//! - The default addresses of node ports differ. The test sets them.
//! - A node port that is refused is refused at every address of the node in iptables mode, but only
//!   where node ports are open in nftables mode.
//! - Packets from the node to an external address without endpoints leave the node in iptables mode,
//!   and are refused in nftables mode.
//! - nftables mode checks source ranges first. It drops packets from other sources, even if iptables
//!   mode would reject them because there are no endpoints.
//! - iptables mode can only choose endpoints at random.
//! - Ports that no Service has at a cluster IP, and cluster IPs that no Service has, are refused in
//!   nftables mode only. The test sends no such packets.

use std::net::IpAddr;

use proptest::prelude::*;
use rulegen_compiler::{ExternalAddress, Treatment, iptables, nftables};
use rulegen_config::{NodePortAddresses, ProxyConfig, ProxyMode};
use rulegen_model::LoadBalancing;
use rulegen_net::parse_network;
use rulegen_ruleset::iptables::{Packet, PacketVerdict};
use rulegen_ruleset::{self as ruleset, Origin, Probability};

use crate::cluster::{config, objects, plans};
use crate::meaning::{AddressKind, clients, frontends, local_addresses};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn packet_fate_is_equal_in_iptables_and_nftables(
        objects in objects(), config in config().prop_map(with_equal_options),
    ) {
        let in_nftables = ProxyConfig { mode: ProxyMode::Nftables, ..config.clone() };
        let pairs = plans(&objects, &config).into_iter().zip(plans(&objects, &in_nftables));
        for ((family, plan), (_, other_plan)) in pairs {
            let rules = iptables::ruleset(&plan);
            let table = nftables::table(&other_plan, &"rulegen".into());
            let local = local_addresses(family);
            for service in &plan.services {
                for (destination, kind) in frontends(&plan, service, &local) {
                    for client in clients(family, service) {
                        let external = service.external.as_ref();
                        let refused = external.map(|external| external.outcome);
                        let differs = match kind {
                            _ if destination.ip().is_loopback() => true,
                            AddressKind::ClosedNodePort => true,
                            AddressKind::External(_) if client.origin == Origin::Host => {
                                matches!(refused, Some(Treatment::Refuse(_)))
                            }
                            AddressKind::External(ExternalAddress::LoadBalancerIp(_)) => external
                                .is_some_and(|e| e.firewall.is_some() && !e.forwards),
                            _ => false,
                        };
                        if differs {
                            continue;
                        }
                        let packet = Packet {
                            origin: client.origin.clone(),
                            source: client.source,
                            destination,
                            protocol: service.name.protocol,
                        };
                        agree(&rules, &table, &local, &packet)?;
                    }
                }
            }
        }
    }
}

/// Sets options that the two modes read from different fields, or with different defaults, to the
/// same value.
pub(crate) fn with_equal_options(config: ProxyConfig) -> ProxyConfig {
    let everywhere = ["0.0.0.0/0", "::/0"].iter().filter_map(|network| parse_network(network));
    ProxyConfig {
        nftables_masquerade_all: config.masquerade_all,
        nftables_masquerade_bit: config.masquerade_bit,
        localhost_node_ports: false,
        load_balancing: LoadBalancing::Random,
        node_port_addresses: match config.node_port_addresses {
            NodePortAddresses::Unset => NodePortAddresses::Networks(everywhere.collect()),
            with_equal_options => with_equal_options,
        },
        ..config
    }
}

/// Both give the same verdicts, and each of n endpoints has the probability 1/n. iptables rounds it
/// to 31 bits.
fn agree(
    rules: &ruleset::iptables::Ruleset,
    table: &ruleset::nftables::Table,
    local: &[IpAddr],
    packet: &Packet,
) -> Result<(), TestCaseError> {
    let by_rules = ruleset::iptables::trace(rules, local, packet).verdicts();
    let by_table: Vec<(PacketVerdict, Probability)> =
        ruleset::nftables::trace(table, local, packet).verdicts();
    let n = u64::try_from(by_table.len()).unwrap();
    let same = by_rules.len() == by_table.len()
        && by_rules.iter().zip(&by_table).all(|((verdict, by_rules), (other, by_table))| {
            verdict == other && by_table.is_one_in(n, 0) && by_rules.is_one_in(n, 2)
        });
    prop_assert!(same, "{packet:?}\niptables {by_rules:?}\nnftables {by_table:?}");
    Ok(())
}
