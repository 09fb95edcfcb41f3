//! One file per check. A check turns facts into findings.

mod address_claims;
mod affinity_sets;
mod bridge_netfilter;
mod cluster_ip_routes;
mod conntrack_table;
mod drift;
mod endpoints;
mod ephemeral_ports;
mod firewall;
mod forwarding;
mod hairpin;
mod iptables_variants;
mod kernel_features;
mod kube_proxy;
mod left_out;
mod nat_order;
mod node_addresses;
mod node_name;
mod node_ports;
mod objects;
mod other_mode;
mod pod_network;
mod route_localnet;
mod rp_filter;
mod rules_present;
mod service_size;
mod tcp_be_liberal;

use crate::error::FactResult;

use crate::finding::CheckResult;
use crate::node_facts::NodeFacts;

/// A check.
#[derive(Debug)]
pub struct Check {
    /// Stable name, in kebab-case.
    pub name: &'static str,
    /// The condition that the check tests.
    pub about: &'static str,
    pub(crate) run: fn(&NodeFacts) -> FactResult<CheckResult>,
}

/// All checks: host, rules of other programs, own rules, cluster.
pub static CHECKS: [Check; 28] = [
    Check {
        name: "kernel-features",
        about: "the kernel and iptables support all rules",
        run: kernel_features::run,
    },
    Check {
        name: "ip-forward",
        about: "IPv4 forwarding is on, on each interface",
        run: forwarding::run_ipv4,
    },
    Check {
        name: "ipv6-forward",
        about: "IPv6 forwarding is on, if Services use IPv6",
        run: forwarding::run_ipv6,
    },
    Check {
        name: "cluster-ip-routes",
        about: "this node has a route to the cluster IPs",
        run: cluster_ip_routes::run,
    },
    Check {
        name: "bridge-netfilter",
        about: "bridged traffic passes iptables and nftables",
        run: bridge_netfilter::run,
    },
    Check {
        name: "hairpin",
        about: "endpoints on a bridge reach themselves through Services",
        run: hairpin::run,
    },
    Check {
        name: "rp-filter",
        about: "the reverse-path filter drops no packets",
        run: rp_filter::run,
    },
    Check {
        name: "route-localnet",
        about: "127.0.0.0/8 is not reachable from the network",
        run: route_localnet::run,
    },
    Check {
        name: "tcp-be-liberal",
        about: "INVALID packets do not reset connections",
        run: tcp_be_liberal::run,
    },
    Check {
        name: "conntrack-table",
        about: "the conntrack table is not nearly full",
        run: conntrack_table::run,
    },
    Check {
        name: "kube-proxy",
        about: "kube-proxy is not running on this node",
        run: kube_proxy::run,
    },
    Check {
        name: "other-mode",
        about: "no rules of the other proxy mode are left",
        run: other_mode::run,
    },
    Check {
        name: "iptables-variants",
        about: "only one iptables variant is in use",
        run: iptables_variants::run,
    },
    Check {
        name: "nat-order",
        about: "no other NAT rules run before rulegen's",
        run: nat_order::run,
    },
    Check {
        name: "firewall",
        about: "no other rules drop what Services forward",
        run: firewall::run,
    },
    Check { name: "rules-present", about: "rules for Services exist", run: rules_present::run },
    Check { name: "drift", about: "the rules are in sync with the objects", run: drift::run },
    Check {
        name: "service-size",
        about: "no Service exceeds the maximum size",
        run: service_size::run,
    },
    Check {
        name: "left-out",
        about: "a running agent has left out no Service",
        run: left_out::run,
    },
    Check {
        name: "affinity-sets",
        about: "no session affinity set is nearly full",
        run: affinity_sets::run,
    },
    Check { name: "node-name", about: "a Node has the name of this node", run: node_name::run },
    Check {
        name: "pod-network",
        about: "this node's pods are in the pod network (clusterCIDR)",
        run: pod_network::run,
    },
    Check {
        name: "objects",
        about: "rulegen lint finds no fault in the cluster's objects",
        run: objects::run,
    },
    Check { name: "endpoints", about: "every service port has endpoints", run: endpoints::run },
    Check {
        name: "address-claims",
        about: "no address and port is claimed by two Services",
        run: address_claims::run,
    },
    Check {
        name: "node-addresses",
        about: "no process listens on a node address that a Service uses",
        run: node_addresses::run,
    },
    Check { name: "node-ports", about: "no process listens on a node port", run: node_ports::run },
    Check {
        name: "ephemeral-ports",
        about: "no node port is used for outgoing connections",
        run: ephemeral_ports::run,
    },
];
