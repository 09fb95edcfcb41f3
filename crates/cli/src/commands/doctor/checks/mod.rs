//! One file a check: facts in, findings out.

mod address_claims;
mod affinity_sets;
mod bridge_netfilter;
mod conntrack_table;
mod drift;
mod endpoints;
mod forwarding;
mod iptables_variants;
mod kernel_features;
mod kube_proxy;
mod left_out;
mod nat_order;
mod node_addresses;
mod node_ports;
mod other_mode;
mod route_localnet;
mod rp_filter;
mod rules_present;
mod service_size;
mod tcp_be_liberal;

use anyhow::Result;

use super::finding::Outcome;
use super::rim::Rim;

/// A check, by the name that `--check` takes. Names are kept from version to version.
pub(super) struct Check {
    pub(super) name: &'static str,
    /// What is so if all is well.
    pub(super) about: &'static str,
    pub(super) run: fn(&Rim<'_>) -> Result<Outcome>,
}

/// All checks: the machine, its other rules, ours, then the cluster.
pub(super) static CHECKS: [Check; 21] = [
    Check {
        name: "kernel-features",
        about: "the kernel, or iptables, has what the rules are made of",
        run: kernel_features::run,
    },
    Check { name: "ip-forward", about: "packets of IPv4 are forwarded", run: forwarding::run_ipv4 },
    Check {
        name: "ipv6-forward",
        about: "packets of IPv6 are forwarded, if Services use it",
        run: forwarding::run_ipv6,
    },
    Check {
        name: "bridge-netfilter",
        about: "rules see packets between pods on one bridge",
        run: bridge_netfilter::run,
    },
    Check {
        name: "rp-filter",
        about: "no packet is dropped because its way back leads elsewhere",
        run: rp_filter::run,
    },
    Check {
        name: "route-localnet",
        about: "loopback addresses are closed to neighbours",
        run: route_localnet::run,
    },
    Check {
        name: "tcp-be-liberal",
        about: "packets that conntrack finds invalid reset no connection",
        run: tcp_be_liberal::run,
    },
    Check {
        name: "conntrack-table",
        about: "there is room for more connections",
        run: conntrack_table::run,
    },
    Check {
        name: "kube-proxy",
        about: "kube-proxy is not at work beside rulegen",
        run: kube_proxy::run,
    },
    Check {
        name: "other-mode",
        about: "the other mode's rules are not there too",
        run: other_mode::run,
    },
    Check {
        name: "iptables-variants",
        about: "one variant of iptables is in use",
        run: iptables_variants::run,
    },
    Check {
        name: "nat-order",
        about: "nobody else translates connections before rulegen",
        run: nat_order::run,
    },
    Check { name: "rules-present", about: "there are rules for Services", run: rules_present::run },
    Check { name: "drift", about: "the rules are those that the objects ask for", run: drift::run },
    Check {
        name: "service-size",
        about: "no Service is too large to have rules",
        run: service_size::run,
    },
    Check {
        name: "left-out",
        about: "a running agent has left out no Service",
        run: left_out::run,
    },
    Check {
        name: "affinity-sets",
        about: "session affinity has room for more clients",
        run: affinity_sets::run,
    },
    Check { name: "endpoints", about: "every service port has endpoints", run: endpoints::run },
    Check {
        name: "address-claims",
        about: "every address and port is claimed by one Service",
        run: address_claims::run,
    },
    Check {
        name: "node-addresses",
        about: "no process listens at an address of the node that a Service takes",
        run: node_addresses::run,
    },
    Check { name: "node-ports", about: "no process waits at a node port", run: node_ports::run },
];
