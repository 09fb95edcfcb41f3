//! Both backends send a packet to the same places.
//!
//! kube-proxy's two modes do not agree everywhere, and where they do not, neither do ours:
//! - Node ports at loopback exist in iptables mode only; here they are off in both.
//! - Where node ports are open by default differs; here it is said.
//! - What is refused at a node port is refused at every address of the node in iptables mode, in
//!   nftables mode only where node ports are open.
//! - What the node itself sends to an external address without endpoints goes out in iptables
//!   mode, and is refused in nftables mode.
//! - Source ranges are asked before anything else in nftables mode, so what is outside of them is
//!   dropped where iptables mode would reject it for want of endpoints.
//! - iptables mode knows no other choice than at random.
//! - Ports that no Service has at a cluster IP, and cluster IPs that no Service has, are refused in
//!   nftables mode only; no packet here goes there.

use std::net::IpAddr;

use proptest::prelude::*;
use rulegen_compiler::{ExternalAddress, Outcome, iptables, nftables};
use rulegen_config::{NodePortAddresses, ProxyConfig, ProxyMode};
use rulegen_model::LoadBalancing;
use rulegen_net::parse_network;
use rulegen_ruleset::iptables::{Packet, Verdict};
use rulegen_ruleset::{self as ruleset, Origin, Probability};

use crate::cluster::{config, objects, plans};
use crate::meaning::{Kind, clients, frontends, local_addresses};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn packet_fate_is_equal_in_iptables_and_nftables(
        objects in objects(), config in config().prop_map(said),
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
                            Kind::ClosedNodePort => true,
                            Kind::External(_) if client.origin == Origin::Host => {
                                matches!(refused, Some(Outcome::Refuse(_)))
                            }
                            Kind::External(ExternalAddress::LoadBalancerIp(_)) => external
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

/// The configuration with what the two modes take from different places, or by different
/// defaults, said for both.
pub(crate) fn said(config: ProxyConfig) -> ProxyConfig {
    let everywhere = ["0.0.0.0/0", "::/0"].iter().filter_map(|network| parse_network(network));
    ProxyConfig {
        nftables_masquerade_all: config.masquerade_all,
        nftables_masquerade_bit: config.masquerade_bit,
        localhost_node_ports: false,
        load_balancing: LoadBalancing::Random,
        node_port_addresses: match config.node_port_addresses {
            NodePortAddresses::Unset => NodePortAddresses::Networks(everywhere.collect()),
            said => said,
        },
        ..config
    }
}

/// The same verdicts, and each endpoint as probable as in iptables, where it is one in n but for
/// the rounding of 31 bits.
fn agree(
    rules: &ruleset::iptables::Ruleset,
    table: &ruleset::nftables::Table,
    local: &[IpAddr],
    packet: &Packet,
) -> Result<(), TestCaseError> {
    let by_rules = ruleset::iptables::trace(rules, local, packet).verdicts();
    let by_table: Vec<(Verdict, Probability)> =
        ruleset::nftables::trace(table, local, packet).verdicts();
    let n = u64::try_from(by_table.len()).unwrap();
    let same = by_rules.len() == by_table.len()
        && by_rules.iter().zip(&by_table).all(|((verdict, by_rules), (other, by_table))| {
            verdict == other && by_table.is_one_in(n, 0) && by_rules.is_one_in(n, 2)
        });
    prop_assert!(same, "{packet:?}\niptables {by_rules:?}\nnftables {by_table:?}");
    Ok(())
}
