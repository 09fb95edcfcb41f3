//! Random rules of other programs, routes and settings around the rules of Services.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::{Index, select};

use serde_json::{Value, json};

use crate::cluster::NODE;
use crate::namespace::Namespace;
use crate::topology::{From, POD_IPS, POD_PORT};

/// What surrounds the rules of Services on a node.
#[derive(Debug, Clone)]
pub(crate) struct OtherRules {
    nftables: Vec<NftChain>,
    iptables: Vec<IptablesChain>,
    /// Services that are excluded from connection tracking.
    untracked: Vec<Untracked>,
    host: HostFault,
    /// The hairpin mode of the bridge port of a pod that is an endpoint in place of another, and the
    /// only one of a Service of its own.
    hairpin: Option<bool>,
}

/// The Service whose only endpoint is the pod behind the bridge port.
pub(crate) const BRIDGED_SERVICE: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 9, 9)), 80);

/// A base chain with rules, and a chain that they may jump to.
#[derive(Debug, Clone)]
struct NftChain {
    hook: &'static str,
    priority: i32,
    drops: bool,
    rules: Vec<NftRule>,
    jumped: Vec<NftRule>,
}

#[derive(Debug, Clone)]
struct NftRule {
    conditions: Vec<&'static str>,
    action: &'static str,
}

/// Rules in front of those of a built-in chain, or behind them.
#[derive(Debug, Clone)]
struct IptablesChain {
    variant: &'static str,
    table: &'static str,
    chain: &'static str,
    is_first: bool,
    drops: bool,
    rules: Vec<(Vec<&'static str>, &'static str)>,
}

#[derive(Debug, Clone)]
struct Untracked {
    service: Index,
    protocol: &'static str,
    has_limit: bool,
    by_iptables: bool,
}

/// A fault in routes or settings.
#[derive(Debug, Clone, Copy)]
enum HostFault {
    None,
    /// No route to an endpoint.
    EndpointUnreachable,
    /// No route from the node to the cluster IPs.
    ServicesUnreachable,
    /// Strict rp_filter, and the route to a client leads elsewhere.
    ReversePath,
    /// Packets of clients outside are not forwarded.
    ForwardingOff,
    /// A tc filter drops what clients outside send.
    TcFilter,
    /// The route to the other node has a second next hop, which drops packets.
    Multipath,
    /// An endpoint is behind an interface where nothing has its address.
    DeadEndpoint,
    /// Replies to a client take another way, on which they are lost.
    AsymmetricRoute,
    /// explain is asked about an interface that does not exist.
    NoSuchInterface,
}

/// Conditions that depend on the address of the packet, its ports, interfaces and connection.
const NFT_CONDITIONS: [&str; 29] = [
    "ip daddr 10.244.1.0/24",
    "ip daddr 10.244.2.0/24",
    "ip daddr != 10.244.0.0/16",
    "ip daddr { 10.244.1.6, 10.244.2.0/24 }",
    "ip daddr 10.96.0.0/16",
    "ip saddr 10.244.1.5",
    "ip saddr { 10.244.1.0/24, 192.168.50.0/24 }",
    "ip saddr != 198.18.0.0/15",
    "ip6 daddr fd00:10:244:1::/64",
    "ip6 saddr { fd00:50::/64, fd00:10:244:1::5 }",
    "ip6 daddr != fd00:10:244::/48",
    "meta l4proto tcp",
    "meta l4proto { udp, sctp }",
    "tcp dport 8080",
    "tcp dport { 80, 8080-8082 }",
    "udp dport != 8081",
    "th dport > 8080",
    "tcp flags & (fin | syn | rst | ack) == syn",
    "iifname \"cali1\"",
    "iifname { \"cali1\", \"eth0\" }",
    "iifname \"cali*\"",
    "iifname \"none0\"",
    "oifname \"eth1\"",
    "oifname != \"cali2\"",
    "ct state new",
    "ct status dnat",
    "meta mark & 0x4000 == 0x4000",
    "fib daddr type local",
    "limit rate 10000/second",
];

const NFT_ACTIONS: [&str; 9] = [
    "drop",
    "drop",
    "reject",
    "accept",
    "return",
    "jump other",
    "goto other",
    "meta mark set meta mark or 0x4000",
    "meta mark set meta mark and 0xffffbfff",
];

const IPTABLES_CONDITIONS: [&str; 20] = [
    "-d 10.244.1.0/24",
    "! -d 10.244.0.0/16",
    "-s 10.244.1.5/32",
    "! -s 192.168.50.0/24",
    SERVICES,
    "-i cali1",
    "! -i eth0",
    "-i none0",
    "-o eth1",
    "-p tcp",
    "-p udp",
    "-p tcp -m tcp --dport 8080",
    "-p tcp -m multiport --dports 80,8080:8082",
    "-p udp -m udp ! --dport 8081",
    "-m conntrack --ctstate NEW",
    "-m conntrack --ctstate DNAT",
    "-m mark --mark 0x4000/0x4000",
    "-m addrtype --dst-type LOCAL",
    "-m addrtype ! --dst-type LOCAL",
    "-m limit --limit 10000/sec --limit-burst 10000",
];

/// No reply has this destination.
const SERVICES: &str = "-d 10.96.0.0/16";

/// The networks of conditions, with those of the same place in IPv6.
const NETWORKS_OF_IPV6: [(&str, &str); 5] = [
    ("10.244.1.0/24", "fd00:10:244:1::/64"),
    ("10.244.0.0/16", "fd00:10:244::/48"),
    ("10.244.1.5/32", "fd00:10:244:1::5/128"),
    ("192.168.50.0/24", "fd00:50::/64"),
    ("10.96.0.0/16", "fd00:96::/64"),
];

/// Sees replies, error messages, and what IPv6 needs to find its neighbours.
const NFT_REPLIES: [&str; 2] =
    ["ct state established,related accept", "meta l4proto { icmp, ipv6-icmp } accept"];

pub(crate) fn other_rules() -> impl Strategy<Value = OtherRules> {
    let nftables = prop::collection::vec(nft_chain(), 0..3);
    let iptables = prop::collection::vec(iptables_chain(), 0..2);
    let untracked = prop::collection::vec(untracked(), 0..2);
    let host = prop_oneof![
        6 => Just(HostFault::None),
        1 => Just(HostFault::EndpointUnreachable),
        1 => Just(HostFault::ServicesUnreachable),
        1 => Just(HostFault::ReversePath),
        1 => Just(HostFault::ForwardingOff),
        1 => Just(HostFault::TcFilter),
        1 => Just(HostFault::Multipath),
        1 => Just(HostFault::DeadEndpoint),
        1 => Just(HostFault::AsymmetricRoute),
        1 => Just(HostFault::NoSuchInterface),
    ];
    let hairpin = select(vec![Some(false), Some(false), Some(true), None]);
    (nftables, iptables, untracked, host, hairpin).prop_map(
        |(nftables, iptables, untracked, host, hairpin)| OtherRules {
            nftables,
            iptables,
            untracked,
            host,
            hairpin,
        },
    )
}

fn nft_chain() -> impl Strategy<Value = NftChain> {
    let hooks = ["prerouting", "input", "forward", "forward", "output", "postrouting"];
    let place = (select(hooks.to_vec()), select(vec![-160, -90, 10, 110]));
    let rules = || prop::collection::vec(nft_rule(), 0..4);
    (place, prop::bool::weighted(0.3), rules(), rules()).prop_map(
        |((hook, priority), drops, rules, jumped)| NftChain {
            hook,
            priority,
            drops,
            rules,
            jumped,
        },
    )
}

fn nft_rule() -> impl Strategy<Value = NftRule> {
    let conditions = prop::collection::vec(select(NFT_CONDITIONS.to_vec()), 1..3);
    (conditions, select(NFT_ACTIONS.to_vec()))
        .prop_map(|(conditions, action)| NftRule { conditions, action })
}

fn iptables_chain() -> impl Strategy<Value = IptablesChain> {
    let places = [
        ("filter", "FORWARD"),
        ("filter", "FORWARD"),
        ("filter", "INPUT"),
        ("filter", "OUTPUT"),
        ("raw", "PREROUTING"),
        ("raw", "OUTPUT"),
        ("mangle", "PREROUTING"),
        ("mangle", "INPUT"),
        ("mangle", "FORWARD"),
        ("mangle", "OUTPUT"),
        ("mangle", "POSTROUTING"),
        ("security", "INPUT"),
        ("security", "FORWARD"),
        ("security", "OUTPUT"),
    ];
    let rule = (
        prop::collection::vec(select(IPTABLES_CONDITIONS.to_vec()), 1..3),
        select(vec![
            "DROP",
            "ACCEPT",
            "RETURN",
            "MARK --set-xmark 0x4000/0x4000",
            "MARK --set-xmark 0x0/0x4000",
        ]),
    );
    let rules = prop::collection::vec(rule, 0..4);
    let variants = ["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"];
    let variant = select(variants.to_vec());
    (variant, select(places.to_vec()), any::<bool>(), prop::bool::weighted(0.3), rules).prop_map(
        |(variant, (table, chain), is_first, drops, rules)| {
            // Two conditions of one kind are an error of iptables.
            let rules = rules.into_iter().map(|(conditions, target)| {
                let usable =
                    conditions.into_iter().filter(|condition| has_interface(chain, condition));
                (alone(usable.collect()), target)
            });
            // In front of connection tracking, replies are not recognised.
            let is_raw = table == "raw";
            let rules = rules.map(|(mut conditions, target)| {
                if is_raw {
                    conditions.retain(|condition| option(condition) != option(SERVICES));
                    conditions.push(SERVICES);
                }
                (conditions, target)
            });
            let drops = drops && !is_raw;
            IptablesChain { variant, table, chain, is_first, drops, rules: rules.collect() }
        },
    )
}

/// Whether packets at a chain have the interface of a condition.
fn has_interface(chain: &str, condition: &str) -> bool {
    match &*option(condition) {
        "-i" => !matches!(chain, "OUTPUT" | "POSTROUTING"),
        "-o" => !matches!(chain, "PREROUTING" | "INPUT"),
        _ => true,
    }
}

fn option(condition: &str) -> String {
    let start = condition.trim_start_matches("! ");
    start.get(..if start.starts_with("-m") { 6 } else { 2 }).unwrap_or(start).to_owned()
}

fn alone(mut conditions: Vec<&'static str>) -> Vec<&'static str> {
    let first = conditions.first().map(|first| option(first));
    let is_other = |condition: &&str| Some(option(condition)) != first;
    let others: Vec<&str> = conditions.iter().skip(1).copied().filter(is_other).collect();
    conditions.truncate(1);
    conditions.extend(others);
    conditions
}

fn untracked() -> impl Strategy<Value = Untracked> {
    (any::<Index>(), select(vec!["tcp", "udp"]), prop::bool::weighted(0.2), any::<bool>()).prop_map(
        |(service, protocol, has_limit, by_iptables)| Untracked {
            service,
            protocol,
            has_limit,
            by_iptables,
        },
    )
}

impl OtherRules {
    /// The objects with the endpoint behind the bridge port and its Service, if it is chosen.
    pub(crate) fn with_bridged_endpoint(&self, objects: Vec<Value>) -> Vec<Value> {
        if !self.has_bridged_endpoint() {
            return objects;
        }
        let replaced = POD_IPS[1]
            .into_iter()
            .zip(POD_IPS[2])
            .fold(Value::from(objects).to_string(), |text, (from, to)| {
                text.replace(&format!("\"{from}\""), &format!("\"{to}\""))
            });
        let mut objects: Vec<Value> = serde_json::from_str(&replaced).unwrap();
        let (pod, ip) = (POD_IPS[2][0], BRIDGED_SERVICE.ip());
        objects.extend([
            json!({"kind": "Service", "apiVersion": "v1",
                "metadata": {"name": "bridged", "namespace": "default"},
                "spec": {"clusterIP": ip, "clusterIPs": [ip],
                    "ports": [{"port": BRIDGED_SERVICE.port(), "targetPort": POD_PORT}]}}),
            json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
                "metadata": {"name": "bridged-1", "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "bridged"}},
                "addressType": "IPv4", "ports": [{"port": POD_PORT}],
                "endpoints": [{"addresses": [pod], "nodeName": NODE}]}),
        ]);
        objects
    }

    /// The flags of explain. It assumes that packets come in where the route back to them leads.
    pub(crate) fn live_flags(&self, from: From) -> &'static str {
        match (self.host, from) {
            (HostFault::ReversePath | HostFault::AsymmetricRoute, From::OutsideInRange) => {
                "--live --interface eth0"
            }
            _ => "--live",
        }
    }

    /// The codes of causes that stop packets.
    pub(crate) fn causes(&self) -> Vec<&'static str> {
        let of_host = match self.host {
            HostFault::ReversePath => Some("reverse-path"),
            HostFault::ForwardingOff => Some("forwarding-off"),
            HostFault::EndpointUnreachable
            | HostFault::ServicesUnreachable
            | HostFault::None
            | HostFault::TcFilter
            | HostFault::Multipath
            | HostFault::DeadEndpoint
            | HostFault::AsymmetricRoute
            | HostFault::NoSuchInterface => None,
        };
        let always = ["refused-by-others", "not-tracked", "hairpin-off", "no-route"];
        always.into_iter().chain(of_host).collect()
    }

    /// Whether explain is asked about an interface that does not exist.
    pub(crate) fn asks_for_no_interface(&self) -> bool {
        matches!(self.host, HostFault::NoSuchInterface)
    }

    pub(crate) fn has_bridged_endpoint(&self) -> bool {
        self.hairpin.is_some()
    }

    /// Adds all of it. `services` are addresses of Services that no reply has as its destination.
    pub(crate) fn add(&self, node: &Namespace, services: &[SocketAddr]) {
        let mut nft = String::from("add table inet others\nadd table inet others-raw\n");
        for (n, chain) in self.nftables.iter().enumerate() {
            chain.write(&mut nft, n);
        }
        let mut commands = String::new();
        for (n, untracked) in self.untracked.iter().enumerate() {
            if services.is_empty() {
                break;
            }
            untracked.write(&mut nft, &mut commands, n, services);
        }
        for (n, chain) in self.iptables.iter().enumerate() {
            chain.write(&mut commands, n);
        }
        let file = node.file("others.nft", &nft);
        let hairpin = if self.hairpin == Some(true) { "on" } else { "off" };
        node.run(&format!(
            "nft -f {file}; {commands}{}\nbridge link set dev veth3 hairpin {hairpin}",
            self.host.add()
        ));
    }

    /// Removes all of it.
    pub(crate) fn remove(&self, node: &Namespace) {
        let mut commands =
            String::from("nft delete table inet others; nft delete table inet others-raw; ");
        for (n, chain) in self.iptables.iter().enumerate() {
            let IptablesChain { variant, table, chain, .. } = chain;
            let _ = write!(
                commands,
                "{variant} -t {table} -P {chain} ACCEPT; {variant} -t {table} -D {chain} -j T{n}; \
                 {variant} -t {table} -F T{n}; {variant} -t {table} -X T{n}; "
            );
        }
        if self.untracked.iter().any(|untracked| untracked.by_iptables) {
            commands.push_str("iptables-nft -t raw -F; ip6tables-nft -t raw -F; ");
        }
        commands.push_str(self.host.remove());
        node.run(&commands);
    }
}

impl NftChain {
    fn write(&self, nft: &mut String, n: usize) {
        let Self { hook, priority, drops, .. } = self;
        let policy = if *drops { "drop" } else { "accept" };
        let is_refusing = matches!(*hook, "input" | "forward" | "output");
        let _ = writeln!(
            nft,
            "add chain inet others base{n} {{ type filter hook {hook} priority {priority}; policy {policy}; }}\n\
             add chain inet others other{n}"
        );
        for reply in NFT_REPLIES {
            let _ = writeln!(nft, "add rule inet others base{n} {reply}");
        }
        for (chain, rules) in [("base", &self.rules), ("other", &self.jumped)] {
            for rule in rules {
                let action = match rule.action {
                    "reject" if !is_refusing => "drop".to_owned(),
                    "jump other" | "goto other" if chain == "other" => "drop".to_owned(),
                    "jump other" | "goto other" => format!("{}{n}", rule.action),
                    action => action.to_owned(),
                };
                // An output interface is known behind routing only.
                let is_behind = matches!(*hook, "forward" | "output" | "postrouting");
                let is_usable = |condition: &&&str| is_behind || !condition.starts_with("oif");
                let usable: Vec<&str> = rule.conditions.iter().filter(is_usable).copied().collect();
                if usable.is_empty() || !is_consistent(&usable) {
                    continue;
                }
                let _ =
                    writeln!(nft, "add rule inet others {chain}{n} {} {action}", usable.join(" "));
            }
        }
    }
}

/// nft refuses rules that can never match.
fn is_consistent(conditions: &[&str]) -> bool {
    let has = |start: &str| conditions.iter().filter(|of| of.starts_with(start)).count();
    let of_protocols = has("tcp") + has("udp") + has("meta l4proto");
    of_protocols <= 1 && !(has("ip ") > 0 && has("ip6 ") > 0)
}

impl IptablesChain {
    fn write(&self, commands: &mut String, n: usize) {
        let Self { variant, table, chain, is_first, drops, .. } = self;
        let add = if *is_first { "-I" } else { "-A" };
        let reply = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        let is_ipv6 = variant.starts_with("ip6");
        let icmp = if is_ipv6 { "ipv6-icmp" } else { "icmp" };
        let _ = write!(
            commands,
            "{variant} -t {table} -N T{n}; {variant} -t {table} -A T{n} {reply}; \
             {variant} -t {table} -A T{n} -p {icmp} -j ACCEPT; "
        );
        for (conditions, target) in &self.rules {
            let mut conditions = conditions.join(" ");
            if is_ipv6 {
                for (network, of_ipv6) in NETWORKS_OF_IPV6 {
                    conditions = conditions.replace(network, of_ipv6);
                }
            }
            let _ = write!(commands, "{variant} -t {table} -A T{n} {conditions} -j {target}; ");
        }
        let policy = if *drops { "DROP" } else { "ACCEPT" };
        let _ = write!(
            commands,
            "{variant} -t {table} {add} {chain} -j T{n}; {variant} -t {table} -P {chain} {policy}; "
        );
    }
}

impl Untracked {
    fn write(&self, nft: &mut String, commands: &mut String, n: usize, services: &[SocketAddr]) {
        let Self { service, protocol, has_limit, by_iptables } = self;
        let service = service.get(services);
        let (ip, port) = (service.ip(), service.port());
        if *by_iptables {
            let (program, bits) =
                if ip.is_ipv4() { ("iptables-nft", 32) } else { ("ip6tables-nft", 128) };
            let limit = if *has_limit { "-m limit --limit 10000/sec" } else { "" };
            for chain in ["PREROUTING", "OUTPUT"] {
                let _ = write!(
                    commands,
                    "{program} -t raw -A {chain} -d {ip}/{bits} -p {protocol} -m {protocol} --dport {port} {limit} -j NOTRACK; "
                );
            }
        } else {
            let family = if ip.is_ipv4() { "ip" } else { "ip6" };
            let limit = if *has_limit { "limit rate 10000/second" } else { "" };
            for hook in ["prerouting", "output"] {
                let _ = writeln!(
                    nft,
                    "add chain inet others-raw {hook}{n} {{ type filter hook {hook} priority -300; }}\n\
                     add rule inet others-raw {hook}{n} {family} daddr {ip} {protocol} dport {port} {limit} notrack"
                );
            }
        }
    }
}

impl HostFault {
    fn add(self) -> &'static str {
        match self {
            Self::None | Self::NoSuchInterface => "",
            Self::DeadEndpoint => {
                "ip route add 10.244.1.6 dev cni0 metric 0; ip -6 route add fd00:10:244:1::6 dev cni0 metric 1"
            }
            Self::AsymmetricRoute => "ip route add 198.18.0.0/15 via 10.0.9.2",
            Self::EndpointUnreachable => {
                "ip route add unreachable 10.244.1.6 metric 0; ip -6 route add unreachable fd00:10:244:1::6 metric 1"
            }
            Self::ServicesUnreachable => {
                "ip route add unreachable 10.96.0.0/16; ip -6 route add unreachable fd00:96::/64"
            }
            Self::ReversePath => {
                "sysctl -qw net.ipv4.conf.all.rp_filter=1; ip route add 198.18.0.0/15 via 10.0.9.2"
            }
            Self::ForwardingOff => "sysctl -qw net.ipv4.conf.eth0.forwarding=0",
            Self::TcFilter => {
                "tc qdisc add dev eth0 clsact; \
                 tc filter add dev eth0 ingress protocol ip bpf da bytecode '1,6 0 0 2,'"
            }
            Self::Multipath => {
                "ip route replace 10.244.2.0/24 nexthop via 10.0.9.2 nexthop via 192.168.50.254"
            }
        }
    }

    fn remove(self) -> &'static str {
        match self {
            Self::None | Self::NoSuchInterface => "",
            Self::DeadEndpoint => {
                "ip route del 10.244.1.6 dev cni0 metric 0; ip -6 route del fd00:10:244:1::6 dev cni0 metric 1"
            }
            Self::AsymmetricRoute => "ip route del 198.18.0.0/15",
            Self::EndpointUnreachable => {
                "ip route del unreachable 10.244.1.6 metric 0; ip -6 route del unreachable fd00:10:244:1::6 metric 1"
            }
            Self::ServicesUnreachable => {
                "ip route del unreachable 10.96.0.0/16; ip -6 route del unreachable fd00:96::/64"
            }
            Self::ReversePath => {
                "sysctl -qw net.ipv4.conf.all.rp_filter=0; ip route del 198.18.0.0/15"
            }
            Self::ForwardingOff => "sysctl -qw net.ipv4.conf.eth0.forwarding=1",
            Self::TcFilter => "tc qdisc del dev eth0 clsact",
            Self::Multipath => "ip route replace 10.244.2.0/24 via 10.0.9.2",
        }
    }
}
