//! Real packets: which endpoint answers, which source address it sees, and how packets are rejected
//! or dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::topology::{ELSEWHERE_IPS, From, OTHER_POD_PORT, POD_IPS, POD_PORT, Topology};
use crate::traffic::{Answer, Listeners, Proto};

/// A frontend of the lab's Service number n, in both families.
#[derive(Debug, Clone, Copy)]
enum To {
    ClusterIp(u16),
    /// At the node's primary address.
    NodePort(u16),
    /// At another address of the node (IPv4).
    OtherNodePort(u16),
    /// At 127.0.0.1 and ::1.
    LocalhostPort(u16),
    ExternalIp(u16),
    LoadBalancerIp(u16),
}

impl To {
    fn address(self, family: usize) -> Option<SocketAddr> {
        let (v4, v6, port) = match self {
            To::ClusterIp(n) => (format!("10.96.0.{n}"), format!("fd00:96::{n}"), 80),
            To::NodePort(n) => ("192.168.50.1".into(), "fd00:50::1".into(), 30_000 + n),
            To::OtherNodePort(n) => ("172.20.0.1".into(), String::new(), 30_000 + n),
            To::LocalhostPort(n) => ("127.0.0.1".into(), "::1".into(), 30_000 + n),
            To::ExternalIp(n) => (format!("203.0.113.{n}"), format!("2001:db8::{n}"), 80),
            To::LoadBalancerIp(n) => (format!("198.51.100.{n}"), format!("2001:db8:1::{n}"), 80),
        };
        let ip: IpAddr = if family == 0 { &v4 } else { &v6 }.parse().ok()?;
        Some(SocketAddr::new(ip, port))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pod {
    /// 10.244.1.5
    First,
    /// 10.244.2.6
    Elsewhere,
}

impl Pod {
    fn address(self, family: usize) -> SocketAddr {
        let ips = match self {
            Pod::First => POD_IPS[0],
            Pod::Elsewhere => ELSEWHERE_IPS,
        };
        SocketAddr::new(ips[family].parse().unwrap(), POD_PORT)
    }
}

/// The expected result of requests.
#[derive(Debug, Clone, Copy)]
enum Expect {
    /// Exactly these endpoints answer, and they see the client's own address.
    Seen(&'static [Pod]),
    /// Like `Seen`, but they see an address of the node.
    Masqueraded(&'static [Pod]),
    /// Like `Seen`, but the first one is the client itself, and sees an address of the node.
    Hairpin(&'static [Pod]),
    /// ICMP port unreachable, at once.
    Refused,
    /// No answer.
    Silence,
}

use Expect::{Hairpin, Masqueraded, Refused, Seen, Silence};
use Pod::{Elsewhere, First};
use To::{ClusterIp, ExternalIp, LoadBalancerIp, LocalhostPort, NodePort, OtherNodePort};

const BOTH: &[Pod] = &[First, Elsewhere];
const OUTSIDERS: &[From] = &[From::Outside, From::OutsideInRange];

/// The default configuration. Pod traffic is detected by the cluster's pod networks.
const TABLE: &[(&[From], To, Expect)] = &[
    // Both policies Cluster. A pod's source address is kept only at the cluster IP.
    (&[From::PodElsewhere], ClusterIp(10), Hairpin(&[Elsewhere, First])),
    (&[From::BridgedPod], ClusterIp(10), Seen(BOTH)),
    (&[From::Pod], ClusterIp(10), Hairpin(BOTH)),
    (&[From::Node], ClusterIp(10), Masqueraded(BOTH)),
    (OUTSIDERS, ClusterIp(10), Masqueraded(BOTH)),
    (&[From::BridgedPod, From::Node, From::Outside], NodePort(10), Masqueraded(BOTH)),
    (&[From::BridgedPod, From::Outside], OtherNodePort(10), Masqueraded(BOTH)),
    (&[From::BridgedPod, From::Node, From::Outside], ExternalIp(10), Masqueraded(BOTH)),
    (&[From::BridgedPod, From::Node, From::Outside], LoadBalancerIp(10), Masqueraded(BOTH)),
    // External policy Local: traffic from outside goes to local endpoints and keeps its source
    // address. Traffic from pods and the node is short-circuited to all endpoints.
    (OUTSIDERS, NodePort(20), Seen(&[First])),
    (OUTSIDERS, OtherNodePort(20), Seen(&[First])),
    (OUTSIDERS, ExternalIp(20), Seen(&[First])),
    (OUTSIDERS, LoadBalancerIp(20), Seen(&[First])),
    (&[From::BridgedPod], LoadBalancerIp(20), Seen(BOTH)),
    (&[From::PodElsewhere], NodePort(20), Hairpin(&[Elsewhere, First])),
    (&[From::Node], NodePort(20), Masqueraded(BOTH)),
    (&[From::Node], ExternalIp(20), Masqueraded(BOTH)),
    // External policy Local without a local endpoint.
    (&[From::Outside], NodePort(30), Silence),
    (&[From::Outside], ExternalIp(30), Silence),
    (&[From::Outside], LoadBalancerIp(30), Silence),
    (&[From::BridgedPod], LoadBalancerIp(30), Seen(&[Elsewhere])),
    (&[From::BridgedPod], NodePort(30), Seen(&[Elsewhere])),
    (&[From::Node], NodePort(30), Masqueraded(&[Elsewhere])),
    (&[From::BridgedPod], ClusterIp(30), Seen(&[Elsewhere])),
    // No endpoints: rejected at once at every frontend.
    (&[From::Pod, From::PodElsewhere, From::Node, From::Outside], ClusterIp(40), Refused),
    (&[From::Pod, From::Node, From::Outside], NodePort(40), Refused),
    (&[From::Outside], OtherNodePort(40), Refused),
    (&[From::Pod, From::Outside], ExternalIp(40), Refused),
    (&[From::Pod, From::Outside], LoadBalancerIp(40), Refused),
    (&[From::Pod, From::Outside], ClusterIp(41), Refused),
    (&[From::Outside], NodePort(41), Refused),
    // Internal policy Local.
    (&[From::BridgedPod], ClusterIp(50), Seen(&[First])),
    (&[From::Node, From::Outside], ClusterIp(50), Masqueraded(&[First])),
    (&[From::Pod, From::PodElsewhere, From::Node, From::Outside], ClusterIp(60), Silence),
    // Source ranges apply to load-balancer IPs only.
    (&[From::OutsideInRange], LoadBalancerIp(80), Masqueraded(&[First])),
    (&[From::Outside, From::BridgedPod, From::Node], LoadBalancerIp(80), Silence),
    (&[From::Outside], NodePort(80), Masqueraded(&[First])),
    (&[From::Outside], ExternalIp(80), Masqueraded(&[First])),
    (&[From::Node], LoadBalancerIp(81), Masqueraded(&[First])),
    (&[From::OutsideInRange], LoadBalancerIp(81), Silence),
    // An endpoint reaches itself through every frontend (hairpin).
    (&[From::Pod], ClusterIp(90), Masqueraded(&[First])),
    (&[From::Pod], NodePort(90), Masqueraded(&[First])),
    (&[From::Pod], LoadBalancerIp(90), Masqueraded(&[First])),
    // Terminating endpoints, for the policies Cluster and Local separately.
    (&[From::BridgedPod], ClusterIp(91), Seen(&[First])),
    (&[From::BridgedPod], ClusterIp(92), Seen(&[Elsewhere])),
    (&[From::Outside], NodePort(92), Seen(&[First])),
    (&[From::BridgedPod], NodePort(92), Seen(&[Elsewhere])),
    // Topology hints for zones and nodes. They are ignored if an endpoint has none.
    (&[From::BridgedPod], ClusterIp(94), Seen(&[First])),
    (&[From::BridgedPod], ClusterIp(107), Seen(&[First])),
    (&[From::BridgedPod], ClusterIp(108), Seen(BOTH)),
    // A source range 0.0.0.0/0 allows all clients. There is no node port if none is allocated.
    (&[From::Outside, From::OutsideInRange], LoadBalancerIp(82), Masqueraded(&[First])),
    (&[From::Outside], NodePort(82), Refused),
    // EndpointSlices: several, an endpoint in two of them, one that is not ready, one without a
    // node, families in either order, and slices that do not count.
    (&[From::BridgedPod], ClusterIp(102), Seen(BOTH)),
    (&[From::BridgedPod], ClusterIp(103), Seen(&[First])),
    (&[From::BridgedPod], ClusterIp(104), Silence),
    (&[From::BridgedPod], ClusterIp(105), Silence),
    (&[From::BridgedPod], ClusterIp(106), Refused),
];

const CLUSTER_CIDR: &str = "--cluster-cidr 10.244.0.0/16,fd00:10:244::/48";
const NFTABLES: &str = "--proxy-mode nftables --cluster-cidr 10.244.0.0/16,fd00:10:244::/48";

#[test]
fn packets_of_every_service_kind_iptables_nft() {
    let lab = Topology::new("nft");
    lab.apply(&format!("{CLUSTER_CIDR} --iptables-variant nft"));
    check(&lab, TABLE);
    sctp(&lab);
}

#[test]
fn packets_of_every_service_kind_iptables_legacy() {
    let lab = Topology::new("legacy");
    lab.apply(&format!("{CLUSTER_CIDR} --iptables-variant legacy"));
    check(&lab, TABLE);
    sctp(&lab);
}

#[test]
fn packets_of_every_service_kind_nftables() {
    let lab = Topology::new("table");
    lab.apply(&format!("{NFTABLES} --nodeport-addresses 0.0.0.0/0,::/0"));
    check(&lab, TABLE);
    sctp(&lab);
    // Packets that iptables mode lets pass: to ports that no Service has at a cluster IP, and to
    // cluster IPs that no Service has.
    for family in 0..2 {
        let mut to = ClusterIp(10).address(family).unwrap();
        to.set_port(9999);
        assert_eq!(lab.ask(From::BridgedPod, Proto::Tcp, to), Answer::Refused);
    }
}

/// By default node ports are open only at the node's primary address, and never at loopback.
#[test]
fn node_port_packets_nftables() {
    let lab = Topology::new("table-ports");
    lab.apply(NFTABLES);
    check(
        &lab,
        &[
            (&[From::Outside], NodePort(10), Masqueraded(BOTH)),
            (&[From::Outside], OtherNodePort(10), Refused),
            (&[From::Node], LocalhostPort(10), Refused),
        ],
    );
}

/// Several configurations in the same lab, one after the other. Only the difference is written.
#[test]
fn packets_with_every_detect_local_mode_and_masquerade_all() {
    let lab = Topology::new("config");
    // One family only: pod traffic is detected in that family.
    lab.apply("--cluster-cidr 10.244.0.0/16");
    check_family(&lab, 0, &[(&[From::BridgedPod], NodePort(30), Seen(&[Elsewhere]))]);
    check_family(&lab, 1, &[(&[From::BridgedPod], NodePort(30), Silence)]);
    check(&lab, &[(&[From::BridgedPod], ClusterIp(10), Seen(BOTH))]);
    lab.apply("--detect-local-mode NodeCIDR");
    check(
        &lab,
        &[
            (&[From::BridgedPod], ClusterIp(10), Seen(BOTH)),
            (&[From::PodElsewhere], ClusterIp(50), Masqueraded(&[First])),
            (&[From::PodElsewhere], NodePort(30), Silence),
        ],
    );
    lab.apply("--detect-local-mode BridgeInterface --pod-bridge-interface cni0");
    check(
        &lab,
        &[
            (&[From::BridgedPod], ClusterIp(10), Seen(BOTH)),
            (&[From::BridgedPod], NodePort(30), Seen(&[Elsewhere])),
            (&[From::Pod], ClusterIp(94), Masqueraded(&[First])),
            (&[From::Pod], NodePort(30), Silence),
        ],
    );
    lab.apply("--detect-local-mode InterfaceNamePrefix --pod-interface-name-prefix cali");
    check(
        &lab,
        &[
            (&[From::Pod], ClusterIp(30), Seen(&[Elsewhere])),
            (&[From::Pod], NodePort(30), Seen(&[Elsewhere])),
            (&[From::BridgedPod], ClusterIp(10), Masqueraded(BOTH)),
            (&[From::BridgedPod], NodePort(30), Silence),
        ],
    );
    lab.apply("");
    check(
        &lab,
        &[
            (&[From::BridgedPod], ClusterIp(10), Seen(BOTH)),
            (&[From::Outside], ClusterIp(50), Seen(&[First])),
            (&[From::BridgedPod], NodePort(30), Silence),
        ],
    );
    lab.apply(&format!("{CLUSTER_CIDR} --masquerade-all --iptables-masquerade-bit 5"));
    check(&lab, &[(&[From::BridgedPod, From::Outside], ClusterIp(10), Masqueraded(BOTH))]);
}

#[test]
fn node_port_addresses_limit_where_node_ports_are_open() {
    let lab = Topology::new("nodeport");
    lab.node.run("sysctl -qw net.ipv4.conf.all.route_localnet=1");
    lab.apply(CLUSTER_CIDR);
    check(
        &lab,
        &[
            (&[From::Outside], NodePort(10), Masqueraded(BOTH)),
            (&[From::Outside], OtherNodePort(10), Masqueraded(BOTH)),
        ],
    );
    check_family(&lab, 0, &[(&[From::Node], LocalhostPort(10), Masqueraded(BOTH))]);
    check_family(&lab, 1, &[(&[From::Node], LocalhostPort(10), Refused)]);

    lab.apply(&format!("{CLUSTER_CIDR} --iptables-localhost-nodeports=false"));
    check_family(
        &lab,
        0,
        &[
            (&[From::Node], LocalhostPort(10), Refused),
            (&[From::Outside], NodePort(10), Masqueraded(BOTH)),
        ],
    );
    for addresses in ["192.168.50.0/24,fd00:50::/64", "primary"] {
        lab.apply(&format!("{CLUSTER_CIDR} --nodeport-addresses {addresses}"));
        check(
            &lab,
            &[
                (&[From::Outside], NodePort(10), Masqueraded(BOTH)),
                (&[From::Outside], OtherNodePort(10), Refused),
            ],
        );
        check_family(&lab, 0, &[(&[From::Node], LocalhostPort(10), Refused)]);
    }
}

/// Ports without a name, two ports, and a port number for two protocols (as in the whole table).
#[test]
fn service_ports_lead_to_target_ports_by_name() {
    let lab = Topology::new("ports");
    lab.apply(CLUSTER_CIDR);
    for family in 0..2 {
        let answers = |proto, n, port| {
            let mut to = ClusterIp(n).address(family).unwrap();
            to.set_port(port);
            lab.ask(From::BridgedPod, proto, to)
        };
        let (_, source) = lab.source(From::BridgedPod, ClusterIp(100).address(family).unwrap());
        let at = |port| {
            let endpoint = SocketAddr::new(First.address(family).ip(), port);
            Answer::From { endpoint, seen: source }
        };
        assert_eq!(answers(Proto::Udp, 100, 80), at(POD_PORT));
        assert_eq!(answers(Proto::Tcp, 100, 80), Answer::Silence, "the other protocol");
        assert_eq!(answers(Proto::Tcp, 101, 80), at(POD_PORT));
        assert_eq!(answers(Proto::Tcp, 101, 81), at(OTHER_POD_PORT));
        assert_eq!(
            answers(Proto::Tcp, 101, 82),
            Answer::Silence,
            "a port that the Service does not have"
        );
    }
}

/// With ipMode Proxy the load balancer itself has the address, so packets go there.
#[test]
fn load_balancer_ip_mode_proxy_gets_no_rules() {
    let lab = Topology::new("proxied");
    let to = "198.51.100.109:80".parse().unwrap();
    lab.client.run("ip addr add 198.51.100.109/32 dev lo");
    crate::traffic::serve(&lab.client, to);
    lab.apply(CLUSTER_CIDR);
    let (_, source) = lab.source(From::BridgedPod, to);
    let answer = lab.ask(From::BridgedPod, Proto::Udp, to);
    assert_eq!(answer, Answer::From { endpoint: to, seen: source });
}

/// If the load-balancer IP is one of the node's addresses, the node's own requests to it have it as
/// their source address. They are accepted if the node is in a source range.
#[test]
fn load_balancer_requests_of_the_node_are_short_circuited() {
    let lab = Topology::new("loopback");
    lab.apply(CLUSTER_CIDR);
    for (n, is_in_range) in [(81, true), (80, false)] {
        let to = LoadBalancerIp(n).address(0).unwrap();
        lab.node.run(&format!("ip addr add {}/32 dev lo", to.ip()));
        let answer = crate::traffic::ask(&lab.node, Proto::Tcp, to.ip(), to);
        let answered =
            matches!(answer, Answer::From { endpoint, .. } if endpoint == First.address(0));
        assert_eq!(answered, is_in_range, "{to}: {answer:?}");
    }
}

/// The load balancer's health check passes a firewall that drops everything else.
#[test]
fn health_check_node_port_is_accepted() {
    let lab = Topology::new("health");
    lab.apply(CLUSTER_CIDR);
    lab.node.run("iptables -P INPUT DROP");
    let (checked, other) = ("192.168.50.1:31020", "192.168.50.1:31019");
    for at in [checked, other] {
        crate::traffic::serve(&lab.node, at.parse().unwrap());
    }
    let checked = lab.ask(From::Outside, Proto::Tcp, checked.parse().unwrap());
    assert!(matches!(checked, Answer::From { .. }), "{checked:?}");
    let other = lab.ask(From::Outside, Proto::Tcp, other.parse().unwrap());
    assert_eq!(other, Answer::Silence);
}

/// With more than 1,000 endpoints, rules of endpoints have no comments and work the same.
#[test]
fn large_cluster_works_without_rule_comments() {
    let lab = Topology::new("large");
    let many: Vec<String> = (0..1001)
        .map(|n| {
            format!(
                "{{addresses: [10.244.3.{}], nodeName: node-3, conditions: {{ready: {}}}}}",
                n % 250,
                n < 3
            )
        })
        .collect();
    let slices: String = (0..5)
        .map(|n| {
            format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
                 metadata: {{name: many-{n}, labels: {{kubernetes.io/service-name: many}}}}\n\
                 ports: [{{port: {}}}]\nendpoints: [{}]\n",
                8080 + n,
                many.join(", ")
            )
        })
        .collect();
    let many = "apiVersion: v1\nkind: Service\nmetadata: {name: many}\n\
                spec: {clusterIP: 10.96.0.110, ports: [{port: 80}]}\n";
    let file = lab.node.file("many.yaml", &format!("{many}{slices}"));
    lab.apply(&format!("{CLUSTER_CIDR} -f {file}"));
    let rules = lab.node.run("iptables-save -t nat");
    assert!(rules.contains("lab/cluster:tcp cluster IP"), "rules of frontends have comments");
    assert!(!rules.contains("lab/cluster:tcp -> "), "rules of endpoints have no comments");
    check_family(&lab, 0, &[(&[From::BridgedPod], ClusterIp(10), Seen(BOTH))]);
}

/// A host on the same network cannot reach loopback addresses, which route_localnet alone would
/// allow.
#[test]
fn loopback_node_port_packets_from_outside_are_dropped() {
    let lab = Topology::new("guard");
    lab.node.run("sysctl -qw net.ipv4.conf.all.route_localnet=1");
    lab.apply(CLUSTER_CIDR);
    crate::traffic::serve(&lab.node, "127.0.0.1:9999".parse().unwrap());
    lab.client.run("sysctl -qw net.ipv4.conf.all.route_localnet=1; ip route del local 127.0.0.0/8 dev lo table local 2>/dev/null; ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via 192.168.50.1 dev eth0");
    let to = "127.0.0.1:9999".parse().unwrap();
    assert_eq!(lab.ask(From::Outside, Proto::Udp, to), Answer::Silence);
    lab.node.run("iptables -F KUBE-FIREWALL");
    assert!(
        matches!(lab.ask(From::Outside, Proto::Udp, to), Answer::From { .. }),
        "not reachable even without the rule"
    );
}

#[test]
fn session_affinity_keeps_endpoint_until_timeout() {
    for (variant, family) in [("nft", 0), ("legacy", 1), ("nftables", 0), ("nftables", 1)] {
        let lab = Topology::new("sticky");
        match variant {
            "nftables" => lab.apply(NFTABLES),
            variant => lab.apply(&format!("{CLUSTER_CIDR} --iptables-variant {variant}")),
        }
        let to = ClusterIp(70).address(family).unwrap();
        let endpoint = |to| match lab.ask(From::BridgedPod, Proto::Tcp, to) {
            Answer::From { endpoint, .. } => endpoint,
            other => panic!("{other:?}"),
        };
        let first = endpoint(to);
        for _ in 0..30 {
            assert_eq!(endpoint(to), first, "{variant}: the client lost its endpoint");
        }
        // All frontends lead to the same endpoint.
        assert_eq!(endpoint(LoadBalancerIp(70).address(family).unwrap()), first, "{variant}");
        // If the client is away for more than two seconds, it gets another endpoint with a
        // probability of two thirds.
        let deadline = Instant::now() + Duration::from_secs(90);
        while endpoint(to) == first {
            assert!(Instant::now() < deadline, "{variant}: affinity never expired");
            thread::sleep(Duration::from_millis(2_300));
        }
    }
}

/// Pearson's chi-squared over three endpoints (two degrees of freedom). A fair choice exceeds 23.03
/// once in 100,000 runs.
#[test]
fn load_balancing_random_is_even() {
    const REQUESTS: u32 = 1500;
    let lab = Topology::new("even");
    lab.apply(CLUSTER_CIDR);
    expect_even(&lab, REQUESTS);
    let lab = Topology::new("even-table");
    lab.apply(NFTABLES);
    expect_even(&lab, REQUESTS);
}

/// --load-balancing round-robin, and counters of connections.
#[test]
fn load_balancing_round_robin_counts_connections() {
    const TURNS: usize = 10;
    let lab = Topology::new("turns");
    lab.apply(&format!("{NFTABLES} --load-balancing round-robin --nftables-counters"));
    for (family, word) in ["ip", "ip6"].into_iter().enumerate() {
        let to = ClusterIp(93).address(family).unwrap();
        let asked: Vec<Answer> =
            (0..3 * TURNS).map(|_| lab.ask(From::BridgedPod, Proto::Udp, to)).collect();
        for turn in asked.chunks(3) {
            assert_eq!(turn, &asked[..3], "not round-robin");
            assert!(turn[0] != turn[1] && turn[1] != turn[2] && turn[0] != turn[2], "{turn:?}");
        }
        let listed = lab.node.run(&format!("nft list map {word} rulegen endpoints"));
        let counted = listed.lines().filter(|line| {
            line.contains(&format!("{} . udp . 80", to.ip()))
                && line.contains(&format!("counter packets {TURNS} "))
        });
        assert_eq!(counted.count(), 3, "{listed}");
    }
}

#[test]
fn load_balancing_maglev_keeps_endpoint() {
    let lab = Topology::new("hash");
    lab.apply(&format!("{NFTABLES} --load-balancing maglev"));
    let mut chosen = Vec::new();
    for family in 0..2 {
        let to = ClusterIp(93).address(family).unwrap();
        for from in [From::BridgedPod, From::PodElsewhere, From::Outside, From::OutsideInRange] {
            let endpoint = || match lab.ask(from, Proto::Udp, to) {
                Answer::From { endpoint, .. } => endpoint.ip(),
                other => panic!("{from:?}: {other:?}"),
            };
            let first = endpoint();
            (0..30).for_each(|_| assert_eq!(endpoint(), first, "{from:?}"));
            chosen.push(first);
        }
    }
    chosen.sort();
    chosen.dedup();
    assert!(chosen.len() > 3, "all clients got the same endpoint: {chosen:?}");
}

/// The source port chooses too, so the connections of one client reach all endpoints.
#[test]
fn load_balancing_maglev_5tuple_spreads_connections_of_a_client() {
    let lab = Topology::new("hash-flow");
    lab.apply(&format!("{NFTABLES} --load-balancing maglev-5tuple"));
    for family in 0..2 {
        let to = ClusterIp(93).address(family).unwrap();
        let endpoint = |_| match lab.ask(From::BridgedPod, Proto::Udp, to) {
            Answer::From { endpoint, .. } => endpoint.ip(),
            other => panic!("{to}: {other:?}"),
        };
        let reached: BTreeSet<IpAddr> = (0..60).map(endpoint).collect();
        assert_eq!(reached.len(), 3, "{to}: {reached:?}");
    }
}

fn expect_even(lab: &Topology, requests: u32) {
    for family in 0..2 {
        let mut counts: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        for _ in 0..requests {
            match lab.ask(From::BridgedPod, Proto::Udp, ClusterIp(93).address(family).unwrap()) {
                Answer::From { endpoint, .. } => *counts.entry(endpoint).or_default() += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(counts.len(), 3, "{counts:?}");
        let mean = f64::from(requests) / 3.0;
        let chi_squared: f64 = counts.values().map(|n| (f64::from(*n) - mean).powi(2) / mean).sum();
        assert!(chi_squared < 23.03, "{counts:?}: chi-squared is {chi_squared}");
    }
}

fn check(lab: &Topology, table: &[(&[From], To, Expect)]) {
    for family in 0..2 {
        check_family(lab, family, table);
    }
}

fn check_family(lab: &Topology, family: usize, table: &[(&[From], To, Expect)]) {
    for (from, to, expected) in table {
        let Some(address) = to.address(family) else { continue };
        for from in *from {
            for proto in [Proto::Tcp, Proto::Udp] {
                let about = format!("{from:?} asks {address} over {proto:?}");
                check_one(lab, family, *from, proto, address, *expected, &about);
            }
        }
    }
}

/// So many requests that no endpoint is missed by chance (2^-200).
const MANY: usize = 200;

fn check_one(
    lab: &Topology,
    family: usize,
    from: From,
    proto: Proto,
    to: SocketAddr,
    expected: Expect,
    about: &str,
) {
    let (pods, masqueraded, hairpin) = match expected {
        Refused => {
            let started = Instant::now();
            assert_eq!(lab.ask(from, proto, to), Answer::Refused, "{about}");
            assert!(started.elapsed() < Duration::from_millis(500), "{about}: rejected too late");
            return;
        }
        Silence => return assert_eq!(lab.ask(from, proto, to), Answer::Silence, "{about}"),
        Seen(pods) => (pods, false, None),
        Masqueraded(pods) => (pods, true, None),
        Hairpin(pods) => (pods, false, pods.first()),
    };
    let mut missing: Vec<SocketAddr> = pods.iter().map(|pod| pod.address(family)).collect();
    let own = hairpin.map(|pod| pod.address(family));
    let (_, source) = lab.source(from, to);
    for _ in 0..MANY {
        let Answer::From { endpoint, seen } = lab.ask(from, proto, to) else {
            panic!("{about}: no answer, expected {expected:?}");
        };
        assert!(
            pods.iter().any(|pod| pod.address(family) == endpoint),
            "{about}: {endpoint} answered"
        );
        if masqueraded || own == Some(endpoint) {
            assert!(lab.is_node_address(seen), "{about}: {endpoint} saw {seen}, not the node");
        } else {
            assert_eq!(seen, source, "{about}: {endpoint} did not see the client");
        }
        missing.retain(|other| *other != endpoint);
        if missing.is_empty() {
            return;
        }
    }
    panic!("{about}: {missing:?} never answered");
}

/// SCTP packets: where an INIT arrives, and from which source address.
fn sctp(lab: &Topology) {
    let mut at = Vec::new();
    for (namespace, ips) in lab.servers() {
        at.extend(ips.map(|ip| (namespace, SocketAddr::new(ip.parse().unwrap(), POD_PORT))));
    }
    let listeners = Listeners::new(&at);
    let mut tag = 0;
    for family in 0..2 {
        for (from, to, expected) in [
            (From::BridgedPod, ClusterIp(50), Seen(&[First])),
            (From::Outside, NodePort(20), Seen(&[First])),
            (From::Outside, NodePort(80), Masqueraded(&[First])),
            (From::OutsideInRange, LoadBalancerIp(80), Masqueraded(&[First])),
            (From::Outside, LoadBalancerIp(80), Silence),
            (From::Outside, NodePort(30), Silence),
            (From::Pod, ClusterIp(90), Masqueraded(&[First])),
        ] {
            tag += 1;
            let to = to.address(family).unwrap();
            let (namespace, source) = lab.source(from, to);
            let answer = listeners.ask(namespace, source, to, tag);
            let about = format!("{from:?} sends SCTP to {to}: {answer:?}");
            match (expected, answer) {
                (Silence, Answer::Silence) => {}
                (Seen([pod]), Answer::From { endpoint, seen }) => {
                    assert_eq!((endpoint, seen), (pod.address(family), source), "{about}");
                }
                (Masqueraded([pod]), Answer::From { endpoint, seen }) => {
                    assert_eq!(endpoint, pod.address(family), "{about}");
                    assert!(lab.is_node_address(seen), "{about}");
                }
                _ => panic!("{about}, expected {expected:?}"),
            }
        }
    }
}
