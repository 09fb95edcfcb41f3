//! The sets and chains that exist without any Service.

use std::collections::BTreeMap;

use ipnet::IpNet;
use rulegen_ruleset::Negatable;
use rulegen_ruleset::nftables::{
    BaseChain, Chain, ChainKind, Condition, DataType, Element, Field, Hook, Key, Name, Rule,
    Selector, Set, Statement, Value, Verdict,
};

use super::statements::{
    ADDRESS_KEY, NODE_PORT_KEY, goto, holds, jump, short_circuit, verdict_map,
};
use crate::plan::{NodePortsAt, Plan};

/// The set of all cluster IPs.
pub const CLUSTER_IPS: &str = "cluster-ips";
/// The set of endpoints paired with themselves as client.
pub const HAIRPINS: &str = "hairpins";
/// The map from load-balancer IPs with source ranges to their firewall chains.
pub const FIREWALL_IPS: &str = "firewall-ips";
/// The map of endpoints for service ports with chains of their own.
pub const SHARED_ENDPOINTS: &str = "shared-endpoints";
pub(crate) const SOURCE_RANGES: &str = "source-ranges";
/// The set of the networks of cluster IPs.
pub const SERVICE_CIDRS: &str = "service-cidrs";
const NODE_PORT_IPS: &str = "node-port-ips";
const SERVICES: &str = "services";
/// The chain that drops packets from outside `loadBalancerSourceRanges`.
pub const FIREWALL: &str = "firewall";
const REFUSED: &str = "no-endpoints";
const REFUSED_NODE_PORTS: &str = "no-endpoints-node-ports";
/// The chain that rejects packets to cluster IPs without a matching service port.
pub const CLOSED: &str = "closed-cluster-ips";
/// The chain that masquerades packets with the mark, and those of endpoints to themselves.
pub const MASQUERADE: &str = "masquerading";

/// The chain that rejects with "port unreachable", for use as a verdict.
pub const REJECT: &str = "reject-chain";

/// The two groups of maps and chains for frontends. Both have the same layout, but the key of a
/// node port has no address, because it is open at several addresses of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontendMaps {
    /// The address (cluster IP, external IP or load-balancer IP), protocol and port.
    Address,
    /// Protocol and node port, without an address.
    NodePort,
}

impl FrontendMaps {
    /// Both groups.
    pub const BOTH: [FrontendMaps; 2] = [FrontendMaps::Address, FrontendMaps::NodePort];

    pub(super) fn key(self) -> &'static [Selector] {
        match self {
            FrontendMaps::Address => ADDRESS_KEY,
            FrontendMaps::NodePort => NODE_PORT_KEY,
        }
    }

    fn fields(self) -> &'static [Field] {
        match self {
            FrontendMaps::Address => &[Field::Address, Field::Protocol, Field::Port],
            FrontendMaps::NodePort => &[Field::Protocol, Field::Port],
        }
    }

    /// The map from a frontend to its verdict.
    pub fn services(self) -> &'static str {
        match self {
            FrontendMaps::Address => "services",
            FrontendMaps::NodePort => "node-ports",
        }
    }

    /// The map from a frontend without endpoints to its verdict: reject or drop.
    pub fn refused(self) -> &'static str {
        match self {
            FrontendMaps::Address => REFUSED,
            FrontendMaps::NodePort => REFUSED_NODE_PORTS,
        }
    }

    /// The map from a frontend and a number to an endpoint. The chains that choose from it are
    /// named after it and the number of endpoints.
    pub(super) fn endpoints(self) -> &'static str {
        match self {
            FrontendMaps::Address => "endpoints",
            FrontendMaps::NodePort => "node-port-endpoints",
        }
    }

    /// The map from a frontend and a number to an endpoint of this node, for external traffic under
    /// policy Local.
    pub(super) fn local_endpoints(self) -> &'static str {
        match self {
            FrontendMaps::Address => "local-endpoints",
            FrontendMaps::NodePort => "node-port-local-endpoints",
        }
    }

    /// The map from a frontend under policy Local to the chain that chooses among the cluster's
    /// endpoints.
    pub fn short_circuits(self) -> &'static str {
        match self {
            FrontendMaps::Address => "short-circuits",
            FrontendMaps::NodePort => "node-port-short-circuits",
        }
    }

    /// The map from a frontend under policy Local to the chain that chooses among this node's
    /// endpoints.
    pub fn local_services(self) -> &'static str {
        match self {
            FrontendMaps::Address => "local-services",
            FrontendMaps::NodePort => "node-port-local-services",
        }
    }

    /// Whether a map of this name belongs to this group.
    pub fn has(self, map: &str) -> bool {
        [
            self.services(),
            self.refused(),
            self.endpoints(),
            self.local_endpoints(),
            self.short_circuits(),
            self.local_services(),
        ]
        .contains(&map)
    }

    /// The chain for external traffic under policy Local.
    pub fn local_policy(self) -> &'static str {
        match self {
            FrontendMaps::Address => "local-policy",
            FrontendMaps::NodePort => "node-port-local-policy",
        }
    }

    /// The chain for external traffic under policy Cluster, for this number of endpoints.
    pub(super) fn external(self, endpoints: usize) -> String {
        match self {
            FrontendMaps::Address => format!("external-{endpoints}"),
            FrontendMaps::NodePort => format!("node-port-external-{endpoints}"),
        }
    }
}

/// All sets. They are empty, except for elements that follow from the node's configuration.
pub(super) fn sets(plan: &Plan) -> BTreeMap<Name, Set> {
    let address = &[Field::Address];
    let pair = &[Field::Address, Field::Address];
    let socket = FrontendMaps::Address.fields();
    let by_number = &[Field::Protocol, Field::Number, Field::Number, Field::Number];
    let list_and_network = &[Field::Number, Field::Number, Field::Number, Field::Address];
    let mut sets: Vec<(&str, Set)> = vec![
        (CLUSTER_IPS, Set::new(address, "cluster IPs of all Services")),
        (HAIRPINS, Set::new(pair, "endpoints that reach themselves are masqueraded")),
        (
            FIREWALL_IPS,
            Set::map(
                socket,
                DataType::Verdict,
                "load-balancer IPs that only source ranges may use",
            ),
        ),
        (
            SOURCE_RANGES,
            Set::new(list_and_network, "source ranges: list, prefix length, first address"),
        ),
        (
            SHARED_ENDPOINTS,
            Set {
                counter: plan.counts_connections,
                ..Set::map(by_number, DataType::AddrPort, "endpoints that many frontends share")
            },
        ),
        (SERVICE_CIDRS, service_cidrs(plan)),
    ];
    if let NodePortsAt::These(addresses) = &plan.node_ports_at {
        let mut set = Set::new(address, "where node ports are open");
        let keys =
            addresses.iter().map(|ip| (Key::from([Value::Address(*ip)]), Element::default()));
        set.elements.extend(keys);
        sets.push((NODE_PORT_IPS, set));
    }
    FrontendMaps::BOTH.into_iter().for_each(|maps| sets.extend(sets_of(plan, maps)));
    sets.into_iter().map(|(name, set)| (Name::from(name), set)).collect()
}

fn service_cidrs(plan: &Plan) -> Set {
    let mut set = Set {
        interval: true,
        ..Set::new(&[Field::Address], "addresses that only cluster IPs are taken from")
    };
    let networks = plan.service_cidrs.iter();
    set.elements.extend(networks.map(|net| (Key::from([network(*net)]), Element::default())));
    set
}

/// A network as the value of an element. nft lists a network of one address as that address.
pub(super) fn network(network: IpNet) -> Value {
    match network.prefix_len() == network.max_prefix_len() {
        true => Value::Address(network.addr()),
        false => Value::Network(network.trunc()),
    }
}

fn sets_of(plan: &Plan, maps: FrontendMaps) -> [(&'static str, Set); 6] {
    let key = maps.fields();
    let numbered: Vec<Field> = key.iter().copied().chain([Field::Number]).collect();
    let verdicts = |comment| Set::map(key, DataType::Verdict, comment);
    let sockets = |comment| Set {
        counter: plan.counts_connections,
        ..Set::map(&numbered, DataType::AddrPort, comment)
    };
    [
        (maps.services(), verdicts("verdict per frontend of a Service")),
        (maps.refused(), verdicts("frontends without endpoints: reject or drop")),
        (maps.endpoints(), sockets("endpoints by number")),
        (maps.local_endpoints(), sockets("endpoints on this node by number")),
        (maps.short_circuits(), verdicts("policy Local: for this node and its pods")),
        (maps.local_services(), verdicts("policy Local: for all other clients")),
    ]
}

/// All chains that do not depend on a number of endpoints.
pub(super) fn chains(plan: &Plan) -> BTreeMap<Name, Chain> {
    let new = || Statement::Match(Condition::NewConnection);
    let at_new = |chain: &str| Rule::new([new(), jump(chain)]);
    let mut chains: Vec<(&str, Chain)> = base_chains(at_new);
    chains.extend([
        (SERVICES, of_rules(services(plan))),
        (FIREWALL, of_rules(vec![firewall()])),
        (REFUSED, of_rules(vec![Rule::new([verdict_map(ADDRESS_KEY, REFUSED)])])),
        (REFUSED_NODE_PORTS, of_rules(vec![refused_node_ports(plan)])),
        (CLOSED, of_rules(closed())),
        (REJECT, of_rules(vec![Rule::new([Statement::Reject])])),
        (MASQUERADE, of_rules(masquerade(plan))),
    ]);
    for maps in FrontendMaps::BOTH {
        // The short circuit looks up the endpoints by the frontend again.
        chains.push((
            maps.short_circuits(),
            of_rules(vec![Rule::new([verdict_map(maps.key(), maps.short_circuits())])]),
        ));
        let mut rules = short_circuit(plan, &goto(maps.short_circuits()));
        rules.push(Rule::new([verdict_map(maps.key(), maps.local_services())]));
        chains.push((maps.local_policy(), of_rules(rules)));
    }
    chains.into_iter().map(|(name, chain)| (Name::from(name), chain)).collect()
}

pub(super) fn of_rules(rules: Vec<Rule>) -> Chain {
    Chain { base: None, rules }
}

/// NF_IP_PRI_NAT_DST and NF_IP_PRI_NAT_SRC of linux/netfilter_ipv4.h, and -110, which kube-proxy
/// uses too, for chains that must see packets before DNAT.
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
const BEFORE_DSTNAT: i32 = DSTNAT - 10;

fn base_chains(at_new: impl Fn(&str) -> Rule) -> Vec<(&'static str, Chain)> {
    use ChainKind::{Filter, Nat};
    let base = |kind, hook, priority, rules| Chain {
        base: Some(BaseChain { kind, hook, priority }),
        rules,
    };
    let firewalled = || vec![at_new(FIREWALL)];
    let translated = || vec![Rule::new([jump(SERVICES)])];
    let refused = |first: &[&str]| first.iter().map(|chain| at_new(chain)).collect();
    vec![
        ("filter-prerouting-pre-dnat", base(Filter, Hook::Prerouting, BEFORE_DSTNAT, firewalled())),
        ("filter-output-pre-dnat", base(Filter, Hook::Output, BEFORE_DSTNAT, firewalled())),
        ("filter-input", base(Filter, Hook::Input, 0, refused(&[REFUSED_NODE_PORTS, REFUSED]))),
        ("filter-forward", base(Filter, Hook::Forward, 0, refused(&[REFUSED, CLOSED]))),
        ("filter-output", base(Filter, Hook::Output, 0, refused(&[REFUSED, CLOSED]))),
        ("nat-prerouting", base(Nat, Hook::Prerouting, DSTNAT, translated())),
        ("nat-output", base(Nat, Hook::Output, DSTNAT, translated())),
        (
            "nat-postrouting",
            base(Nat, Hook::Postrouting, SRCNAT, vec![Rule::new([jump(MASQUERADE)])]),
        ),
    ]
}

/// Addresses come before node ports: an address of the node may be an external IP of a Service.
fn services(plan: &Plan) -> Vec<Rule> {
    let mut at_node = match &plan.node_ports_at {
        NodePortsAt::AnyLocal { .. } => vec![Statement::Match(Condition::DestinationIsLocal)],
        NodePortsAt::These(_) => Vec::new(),
    };
    at_node.extend(at_node_port_address(plan));
    at_node.push(verdict_map(NODE_PORT_KEY, FrontendMaps::NodePort.services()));
    vec![
        Rule::new([verdict_map(ADDRESS_KEY, FrontendMaps::Address.services())]),
        Rule::new(at_node),
    ]
}

fn refused_node_ports(plan: &Plan) -> Rule {
    let refuse = verdict_map(NODE_PORT_KEY, REFUSED_NODE_PORTS);
    Rule::new(at_node_port_address(plan).into_iter().chain([refuse]))
}

/// In nftables mode there are no node ports at loopback addresses: the kernel would have to route
/// these addresses.
fn at_node_port_address(plan: &Plan) -> Option<Statement> {
    match plan.node_ports_at {
        NodePortsAt::AnyLocal { loopback: true } => None,
        NodePortsAt::AnyLocal { loopback: false } => Some(Statement::Match(
            Condition::Destination(Negatable::is_not(plan.family.loopback_network())),
        )),
        NodePortsAt::These(_) => Some(holds(&[Selector::DestinationAddress], NODE_PORT_IPS)),
    }
}

fn firewall() -> Rule {
    Rule::new([verdict_map(ADDRESS_KEY, FIREWALL_IPS)])
}

/// No host has a cluster IP, so an untranslated packet to one would leave the node and get lost.
fn closed() -> Vec<Rule> {
    let to = |set| holds(&[Selector::DestinationAddress], set);
    vec![
        Rule::new([to(CLUSTER_IPS), Statement::Reject])
            .comment("a port that the Service does not have"),
        Rule::new([to(SERVICE_CIDRS), Statement::Verdict(Verdict::Drop)])
            .comment("a cluster IP that no Service has"),
    ]
}

/// The mark is removed, so that a packet that passes twice is masqueraded once.
fn masquerade(plan: &Plan) -> Vec<Rule> {
    let bits = plan.masquerade_mark;
    let pair = [Selector::SourceAddress, Selector::DestinationAddress];
    vec![
        Rule::new([
            Statement::Match(Condition::MarkBits(bits)),
            Statement::MarkXor(bits),
            Statement::Masquerade,
        ]),
        Rule::new([
            Statement::Match(Condition::Translated),
            holds(&pair, HAIRPINS),
            Statement::Masquerade,
        ])
        .comment("an endpoint that reaches itself"),
    ]
}
