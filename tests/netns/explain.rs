//! `explain` predicts what the kernel does with a packet, for random clusters, configurations and
//! packets, in both modes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rulegen_config::{DetectLocalMode, NodePortAddresses, ProxyConfig};
use serde_json::{Value, json};

use crate::cluster::{NODE, config, objects};
use crate::common::{has_all_rounds, root, rounds, stderr, stdout};
use crate::namespace::Namespace;
use crate::other_rules::{BRIDGED_SERVICE, OtherRules, other_rules};
use crate::running_agent::eventually;
use crate::topology::{ELSEWHERE_IPS, From, OTHER_POD_PORT, POD_IPS, POD_PORT, Topology};
use crate::traffic::{Answer, Proto, ask, ask_within, serve};

#[test]
fn explain_matches_packets_iptables() {
    check_mode(&Topology::new("explain-iptables"), "iptables");
}

#[test]
fn explain_matches_packets_nftables() {
    check_mode(&Topology::new("explain-nftables"), "nftables");
}

/// Number of random clusters, unless `RULEGEN_TEST_CLUSTERS` is set.
const CLUSTERS: u32 = 12;
/// Packets per cluster.
const PACKETS: usize = 12;
/// The ports of generated endpoints.
const POD_PORTS: std::ops::RangeInclusive<u16> = 8080..=8084;

fn check_mode(lab: &Topology, mode: &str) {
    let _others = serve_all(lab);
    let cases = std::env::var("RULEGEN_TEST_CLUSTERS").ok().and_then(|n| n.parse().ok());
    let config_of_run = Config {
        cases: cases.unwrap_or(CLUSTERS),
        max_shrink_iters: 16,
        failure_persistence: None,
        ..Config::default()
    };
    let packets =
        prop::collection::vec((from(), any::<prop::sample::Index>(), any::<bool>()), PACKETS);
    TestRunner::new(config_of_run)
        .run(&(objects(), config(), packets), |(objects, config, packets)| {
            let files = Files::new(lab, &objects, &config, mode);
            let applied = lab.node.rulegen(&format!("{} --prune --allow-empty", files.arguments()));
            prop_assert!(applied.status.success(), "{}", stderr(&applied));
            for (from, to, is_udp) in packets {
                let Some(packet) = Packet::new(&objects, from, &to, is_udp) else { continue };
                check(lab, &files, &packet)?;
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn explain_with_other_rules_matches_packets_iptables() {
    check_with_other_rules(&Topology::new("explain-others-ipt"), "iptables");
}

#[test]
fn explain_with_other_rules_matches_packets_nftables() {
    check_with_other_rules(&Topology::new("explain-others-nft"), "nftables");
}

/// Number of random clusters with other rules.
const SURROUNDED_CLUSTERS: usize = 30;
/// Packets per cluster with other rules.
const SURROUNDED_PACKETS: usize = 6;

/// Rules of other programs, routes and settings around the rules of Services. What explain says
/// without a condition is what happens to packets.
fn check_with_other_rules(lab: &Topology, mode: &str) {
    let _others = serve_all(lab);
    for (ip, port) in POD_IPS[2].iter().flat_map(|ip| POD_PORTS.map(move |port| (ip, port))) {
        serve(&lab.pods[2], SocketAddr::new(ip.parse().unwrap(), port));
    }
    // The bridge forwards what it can reach itself.
    lab.node.run("ip addr add 10.244.1.129/25 dev cni0");
    let config_of_run = Config {
        cases: u32::try_from(rounds(SURROUNDED_CLUSTERS)).unwrap(),
        max_shrink_iters: 24,
        failure_persistence: None,
        ..Config::default()
    };
    let packet = (from(), any::<prop::sample::Index>(), any::<bool>());
    let packets = prop::collection::vec(packet, SURROUNDED_PACKETS);
    let seen = RefCell::new(Seen::default());
    runner(config_of_run)
        .run(
            &(objects(), config(), other_rules(), packets),
            |(objects, config, others, packets)| {
                let objects = others.with_bridged_endpoint(objects);
                let files = Files::new(lab, &objects, &config, mode);
                let applied =
                    lab.node.rulegen(&format!("{} --prune --allow-empty", files.arguments()));
                prop_assert!(applied.status.success(), "{}", stderr(&applied));
                let services: Vec<SocketAddr> =
                    destinations(&objects).into_iter().filter(|to| !is_of_node(to.ip())).collect();
                others.add(&lab.node, &services);
                let doctor = Diagnosis::new(lab, &files);
                let checked =
                    packets.into_iter().enumerate().try_for_each(|(n, (from, to, is_udp))| {
                        // An endpoint behind a bridge port also connects to itself.
                        let is_bridged = others.has_bridged_endpoint() && n == 0;
                        let packet = match is_bridged {
                            true => Some(Packet::BRIDGED),
                            false => Packet::new(&objects, from, &to, is_udp),
                        };
                        packet.map_or(Ok(()), |packet| {
                            let seen = &mut seen.borrow_mut();
                            check_certain(lab, &files, &packet, &others, &doctor, seen)
                        })
                    });
                others.remove(&lab.node);
                checked
            },
        )
        .unwrap();
    let seen = seen.into_inner();
    assert!(seen.is_enough(), "{mode}: {seen:?}");
}

/// A commit is checked against the same clusters each time; ci/nightly looks for new ones.
fn runner(config: Config) -> TestRunner {
    match has_all_rounds() {
        true => TestRunner::new(config),
        false => {
            let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
            TestRunner::new_with_rng(config, seed)
        }
    }
}

/// What doctor says about rules of other programs.
struct Diagnosis {
    findings: Vec<Value>,
    /// Findings about the route to cluster IPs.
    no_routes: Vec<Value>,
}

/// The findings of one check of doctor.
fn findings(lab: &Topology, files: &Files, check: &str) -> Vec<Value> {
    let command = format!("doctor -o json --check {check} {}", files.arguments());
    let output = lab.node.rulegen(&command);
    let report: Value = serde_json::from_str(&stdout(&output))
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    let findings = report["checks"][0]["findings"].as_array();
    findings.unwrap_or_else(|| panic!("{check}: {report}")).clone()
}

/// The check of doctor that has to notice why the host lost a packet of a Service.
fn check_of_loss(packet: &Packet, explained: &Value, cause: &Value) -> Option<&'static str> {
    let is_to_frontend = cause["endpoint"].is_null();
    match cause["code"].as_str()? {
        "reverse-path" => Some("rp-filter"),
        "forwarding-off" => Some("ip-forward"),
        "hairpin-off" | "ports-isolated" => Some("hairpin"),
        "no-route" if packet.from == From::Node && is_to_frontend => {
            (explained["frontend"]["kind"] == "ClusterIP").then_some("cluster-ip-routes")
        }
        _ => None,
    }
}

/// Doctor has a finding for a packet that the host lost.
fn check_loss(
    lab: &Topology,
    files: &Files,
    packet: &Packet,
    explained: &Value,
    seen: &mut Seen,
) -> Result<(), TestCaseError> {
    let causes = explained["ends"].as_array().unwrap().iter().map(|end| &end["cause"]);
    let checks = causes.filter_map(|cause| check_of_loss(packet, explained, cause));
    for check in checks.collect::<BTreeSet<_>>() {
        let found = findings(lab, files, check);
        prop_assert!(!found.is_empty(), "{packet:?}: {check} found nothing\n{explained:#}");
        *seen.noticed.entry(check).or_default() += 1;
    }
    Ok(())
}

impl Diagnosis {
    fn new(lab: &Topology, files: &Files) -> Self {
        let of = |check| findings(lab, files, check);
        Self { findings: of("firewall"), no_routes: of("cluster-ip-routes") }
    }

    /// Whether doctor says that this node's packets to an address have no route.
    fn has_no_route(&self, ip: IpAddr) -> bool {
        let names_it = |finding: &Value| {
            let what = finding["what"].as_str().unwrap();
            what.split([' ', ',']).any(|word| word.trim_end_matches(':') == ip.to_string())
        };
        self.no_routes.iter().any(names_it)
    }

    /// A packet that the node forwards to an endpoint fares as doctor says.
    fn check(&self, packet: &Packet, explained: &Value) -> Result<(), TestCaseError> {
        let drops_all = self.findings.iter().any(|finding| {
            let what = finding["what"].as_str().unwrap();
            let of_family =
                if packet.to.is_ipv4() { "all IPv4 packets" } else { "all IPv6 packets" };
            // A chain of iptables sees one family.
            let program = if packet.to.is_ipv4() { "of iptables" } else { "of ip6tables" };
            let is_seen = what.contains("nftables chain") || what.contains(program);
            let is_all = what.contains("everything") && is_seen || what.contains(of_family);
            finding["severity"] == "error" && is_all
        });
        // doctor is about packets of Services only.
        let is_forwarded = packet.from != From::Node && !explained["frontend"].is_null();
        for end in explained["ends"].as_array().unwrap() {
            let is_refused = end["cause"]["code"] == "refused-by-others" && is_forwarded;
            let is_noticed = !is_refused || !self.findings.is_empty();
            prop_assert!(is_noticed, "{packet:?}: no finding of doctor\n{end:#}");
            let arrives = end["outcome"] == "endpoint" && end["conditions"].is_null();
            let is_false = drops_all && arrives && packet.from != From::Node;
            prop_assert!(!is_false, "{packet:?}: {:?}\n{end:#}", self.findings);
            let is_routed = arrives && packet.from == From::Node;
            let is_false = is_routed && self.has_no_route(packet.to.ip());
            prop_assert!(!is_false, "{packet:?}: {:?}\n{end:#}", self.no_routes);
        }
        Ok(())
    }
}

/// What the explanations were like: a test without certain ones would test nothing.
#[derive(Debug, Default)]
struct Seen {
    certain: u32,
    stopped: u32,
    conditional: u32,
    /// Packets that the host lost, by the check of doctor that noticed it.
    noticed: BTreeMap<&'static str, u32>,
}

impl Seen {
    /// With few rounds, no packet may be stopped by chance.
    fn is_enough(&self) -> bool {
        let all = self.certain + self.stopped + self.conditional;
        all > 2 * self.conditional && (self.stopped > 0 || all < 100)
    }
}

/// Sends requests, each of which must have a predicted end, unless there is a condition.
fn check_certain(
    lab: &Topology,
    files: &Files,
    packet: &Packet,
    others: &OtherRules,
    doctor: &Diagnosis,
    seen: &mut Seen,
) -> Result<(), TestCaseError> {
    if others.asks_for_no_interface() {
        let arguments = explain_arguments(lab, files, packet, "--live --interface none0");
        let output = lab.node.rulegen(&arguments);
        prop_assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    }
    let explained = explained(lab, files, packet, others.live_flags(packet.from));
    doctor.check(packet, &explained)?;
    let ends_of = explained["ends"].as_array().unwrap();
    for code in ends_of.iter().filter_map(|end| end["cause"]["code"].as_str()) {
        prop_assert!(others.causes().contains(&code), "{packet:?}: {code}\n{explained:#}");
    }
    let is_certain = ends_of.iter().all(|end| end["conditions"].is_null());
    let count = match (is_certain, ends_of.iter().any(|end| !end["cause"].is_null())) {
        (false, _) => &mut seen.conditional,
        (true, true) => &mut seen.stopped,
        (true, false) => &mut seen.certain,
    };
    *count += 1;
    if !is_certain {
        return Ok(());
    }
    let (_, source) = lab.source(packet.from, packet.to);
    let ends = ends(&explained);
    let fits = |answer| ends.iter().any(|end| end.fits(lab, answer, source));
    for _ in 0..3 {
        let mut answer = lab.ask(packet.from, packet.proto, packet.to);
        if answer == Answer::Silence && !fits(answer) {
            // The machine may be busy.
            answer = lab.ask_with_long_timeout(packet.from, packet.proto, packet.to);
        }
        prop_assert!(fits(answer), "{packet:?} from {source}: {answer:?}\n{explained:#}");
        if answer == Answer::Silence {
            break;
        }
    }
    if ends_of.iter().all(|end| !end["cause"].is_null()) {
        check_loss(lab, files, packet, &explained, seen)?;
    }
    Ok(())
}

fn from() -> impl Strategy<Value = From> {
    select(From::ALL.to_vec())
}

/// The files with a test case's cluster and configuration.
struct Files {
    cluster: String,
    config: String,
}

impl Files {
    fn new(lab: &Topology, objects: &[Value], config: &ProxyConfig, mode: &str) -> Self {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        Self {
            cluster: lab.node.file("cluster.json", &list.to_string()),
            config: lab.node.file("config.json", &configuration(config, mode).to_string()),
        }
    }

    fn arguments(&self) -> String {
        format!("-f {} --config {} --ip-family dual", self.cluster, self.config)
    }
}

fn configuration(config: &ProxyConfig, mode: &str) -> Value {
    let cidrs: Vec<String> = config.cluster_cidrs.iter().map(ToString::to_string).collect();
    let addresses = match &config.node_port_addresses {
        NodePortAddresses::Unset => vec![],
        NodePortAddresses::Primary => vec!["primary".to_owned()],
        NodePortAddresses::Networks(of) => of.iter().map(ToString::to_string).collect(),
    };
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "hostnameOverride": NODE,
        "clusterCIDR": cidrs.join(","),
        "detectLocalMode": match config.detect_local_mode {
            DetectLocalMode::ClusterCidr => "ClusterCIDR",
            DetectLocalMode::NodeCidr => "NodeCIDR",
            DetectLocalMode::BridgeInterface => "BridgeInterface",
            DetectLocalMode::InterfaceNamePrefix => "InterfaceNamePrefix",
        },
        "detectLocal": {"bridgeInterface": "cni0", "interfaceNamePrefix": "cali"},
        "nodePortAddresses": addresses,
        "rulegen": {"refuseNodeAddresses": config.refuse_node_addresses},
        "iptables": {"masqueradeAll": config.masquerade_all, "masqueradeBit": config.masquerade_bit},
        "nftables": {
            "masqueradeAll": config.masquerade_all,
            "masqueradeBit": config.masquerade_bit,
            "loadBalancing": config.load_balancing.name(),
        },
    })
}

#[derive(Debug)]
struct Packet {
    from: From,
    to: SocketAddr,
    proto: Proto,
}

impl Packet {
    /// A pod behind a bridge port to the Service whose only endpoint it is.
    const BRIDGED: Self = Self { from: From::BridgedPod, to: BRIDGED_SERVICE, proto: Proto::Tcp };

    /// A packet to an address and a port of the cluster's Services, not always a valid pair.
    fn new(objects: &[Value], from: From, to: &prop::sample::Index, is_udp: bool) -> Option<Self> {
        let all = destinations(objects);
        (!all.is_empty()).then(|| {
            let proto = if is_udp { Proto::Udp } else { Proto::Tcp };
            Self { from, to: all[to.index(all.len())], proto }
        })
    }
}

fn destinations(objects: &[Value]) -> Vec<SocketAddr> {
    let mut ips: BTreeSet<IpAddr> = BTreeSet::new();
    let mut ports: BTreeSet<u16> = BTreeSet::new();
    let mut node_ports: BTreeSet<u16> = BTreeSet::new();
    for service in objects.iter().filter(|object| object["kind"] == "Service") {
        let spec = &service["spec"];
        let lists = [&spec["clusterIPs"], &spec["externalIPs"]];
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
        let texts = lists.into_iter().filter_map(Value::as_array).flatten();
        let texts = texts.chain(ingress.into_iter().flatten().map(|ingress| &ingress["ip"]));
        let parsed = texts.filter_map(|text| text.as_str()?.parse::<IpAddr>().ok());
        ips.extend(parsed.filter(|ip| leaves_its_host(*ip)));
        for port in spec["ports"].as_array().into_iter().flatten() {
            ports.extend(port["port"].as_u64().map(|port| port as u16));
            node_ports.extend(port["nodePort"].as_u64().map(|port| port as u16));
        }
    }
    let nodes = NODE_IPS.map(|ip| ip.parse().unwrap());
    let at = |ips: Vec<IpAddr>, ports: BTreeSet<u16>| {
        let pair = move |ip: IpAddr| ports.clone().into_iter().map(move |p| SocketAddr::new(ip, p));
        ips.into_iter().flat_map(pair).collect::<Vec<_>>()
    };
    [at(ips.into_iter().collect(), ports), at(nodes.to_vec(), node_ports)].concat()
}

const NODE_IPS: [&str; 3] = ["192.168.50.1", "172.20.0.1", "fd00:50::1"];

/// Replies to masqueraded packets go to addresses of the node.
fn is_of_node(ip: IpAddr) -> bool {
    NODE_IPS.iter().any(|of| of.parse() == Ok(ip))
}

/// A Service may have external IPs whose packets never leave their host.
fn leaves_its_host(ip: IpAddr) -> bool {
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !ip.is_loopback() && !is_link_local
}

/// Sends requests until every possible endpoint has answered. Fails if any other endpoint answers.
fn check(lab: &Topology, files: &Files, packet: &Packet) -> Result<(), TestCaseError> {
    let offline = explained(lab, files, packet, "");
    let live = explained(lab, files, packet, "--live");
    // With --live, a client with recorded affinity has a single end.
    let is_sticky = offline.to_string().contains("ClientIP");
    if is_sticky {
        let possible = ends(&offline);
        prop_assert!(ends(&live).iter().all(|end| possible.iter().any(|of| of.is_like(end))));
    } else {
        prop_assert_eq!(ends(&offline), ends(&live), "{:?}", packet);
    }
    prop_assert_eq!(&offline["frontend"], &live["frontend"], "{:?}", packet);
    let mut missing = ends(&offline);
    let (_, source) = lab.source(packet.from, packet.to);
    for _ in 0..200 {
        let mut answer = lab.ask(packet.from, packet.proto, packet.to);
        let may_be_silent = ends(&offline).iter().any(|end| end.fits(lab, Answer::Silence, source));
        if answer == Answer::Silence && !may_be_silent {
            // The machine may be busy.
            answer = lab.ask_with_long_timeout(packet.from, packet.proto, packet.to);
        }
        let fits: Vec<&End> = missing.iter().filter(|end| end.fits(lab, answer, source)).collect();
        let is_predicted = ends(&offline).iter().any(|end| end.fits(lab, answer, source));
        prop_assert!(is_predicted, "{packet:?} from {source}: {answer:?}\n{offline:#}");
        let fits: Vec<End> = fits.into_iter().cloned().collect();
        missing.retain(|end| !fits.contains(end));
        // A client with affinity gets the same endpoint again.
        if missing.is_empty() || is_sticky {
            return Ok(());
        }
    }
    Err(TestCaseError::fail(format!("{packet:?} from {source}: never {missing:?}\n{offline:#}")))
}

fn explained(lab: &Topology, files: &Files, packet: &Packet, live: &str) -> Value {
    let output = lab.node.rulegen(&explain_arguments(lab, files, packet, live));
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn explain_arguments(lab: &Topology, files: &Files, packet: &Packet, live: &str) -> String {
    let (_, source) = lab.source(packet.from, packet.to);
    // --live finds the interface.
    let interface = match packet.from {
        _ if !live.is_empty() => "",
        From::Pod => "--interface cali1",
        From::BridgedPod => "--interface cni0",
        From::PodElsewhere => "--interface eth1",
        From::Node => "",
        From::Outside | From::OutsideInRange => "--interface eth0",
    };
    let proto = match packet.proto {
        Proto::Tcp => "tcp",
        Proto::Udp => "udp",
    };
    format!(
        "explain {live} --allow-empty -f {} --config {} {interface} --from {source} --to {}/{proto} -o json",
        files.cluster, files.config, packet.to
    )
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    pub(crate) outcome: String,
    pub(crate) endpoint: Option<SocketAddr>,
    masqueraded: bool,
    pub(crate) exact: Value,
}

pub(crate) fn ends(explanation: &Value) -> Vec<End> {
    let end = |end: &Value| End {
        outcome: end["outcome"].as_str().unwrap().to_owned(),
        endpoint: end["endpoint"].as_str().map(|text| text.parse().unwrap()),
        masqueraded: end["masqueraded"].as_bool().unwrap_or_default(),
        exact: end["probability"]["exact"].clone(),
    };
    explanation["ends"].as_array().unwrap().iter().map(end).collect()
}

impl End {
    fn is_like(&self, other: &Self) -> bool {
        let of = |end: &Self| (end.outcome.clone(), end.endpoint, end.masqueraded);
        of(self) == of(other)
    }

    pub(crate) fn fits(&self, lab: &Topology, answer: Answer, source: IpAddr) -> bool {
        match (self.outcome.as_str(), answer) {
            ("endpoint", Answer::From { endpoint, seen }) => {
                let is_seen =
                    if self.masqueraded { lab.is_node_address(seen) } else { seen == source };
                self.endpoint == Some(endpoint) && is_seen
            }
            // A packet without a Service ends at the node or outside.
            ("rejected", Answer::Refused) | ("passes", Answer::Refused | Answer::Silence) => true,
            ("dropped", Answer::Silence) | ("unreachable", Answer::Refused | Answer::Silence) => {
                true
            }
            _ => false,
        }
    }
}

/// Serves every address and port of the generated endpoints. Addresses that the lab does not have
/// are in a namespace of their own. In a namespace that sends requests, the endpoint would reply
/// directly, bypassing the node.
fn serve_all(lab: &Topology) -> Namespace {
    let others = Namespace::new("others");
    lab.veth("eth2", &others, "eth0");
    lab.node.run("ip addr add 10.0.8.1/24 dev eth2; ip addr add fd00:8::1/64 dev eth2 nodad");
    others.run(
        "ip addr add 10.0.8.2/24 dev eth0; ip addr add fd00:8::2/64 dev eth0 nodad; \
         ip route add default via 10.0.8.1; ip -6 route add default via fd00:8::1",
    );
    for (node, host) in [1, 2].into_iter().flat_map(|node| (2..8).map(move |host| (node, host))) {
        let ips = [format!("10.244.{node}.{host}"), format!("fd00:10:244:{node}::{host:x}")];
        let servers = lab.servers();
        let found = servers.iter().find(|(_, served)| served.contains(&&*ips[0]));
        let namespace = found.map_or(&others, |(namespace, _)| namespace);
        if found.is_none() {
            let [v4, v6] = &ips;
            let add = format!("ip addr add {v4}/32 dev lo; ip addr add {v6}/128 dev lo nodad");
            others.run(&add);
            lab.node.run(&format!(
                "ip route add {v4}/32 via 10.0.8.2; ip -6 route add {v6}/128 via fd00:8::2"
            ));
        }
        for (ip, port) in ips.iter().flat_map(|ip| POD_PORTS.map(move |port| (ip, port))) {
            // The lab already serves the first two ports.
            if found.is_none() || port > OTHER_POD_PORT {
                serve(namespace, SocketAddr::new(ip.parse().unwrap(), port));
            }
        }
    }
    others
}

/// The client's address alone decides which endpoint it gets, so explain computes the kernel's
/// hash.
#[test]
fn explain_predicts_endpoint_with_maglev() {
    let lab = Topology::new("explain-hash");
    let flags = "--proxy-mode nftables --load-balancing maglev \
                 --cluster-cidr 10.244.0.0/16,fd00:10:244::/48";
    lab.apply(flags);
    let cluster = root().join("tests/netns/cluster.yaml");
    for to in ["10.96.0.10:80", "[fd00:96::10]:80"].map(|to| to.parse::<SocketAddr>().unwrap()) {
        for from in From::ALL {
            let (_, source) = lab.source(from, to);
            let explained = lab.node.rulegen(&format!(
                "explain -f {} --hostname-override node-1 {flags} --from {source} --to {to} -o json",
                cluster.display()
            ));
            let explained: Value = serde_json::from_str(&stdout(&explained)).unwrap();
            let ends = ends(&explained);
            let [end] = ends.as_slice() else { panic!("{source}: {ends:?}") };
            let answer = lab.ask_with_long_timeout(from, Proto::Tcp, to);
            assert!(end.fits(&lab, answer, source), "{source}: {answer:?}, not {end:?}");
        }
    }
}

/// Damage by other programs is reported as such, and not attributed to the objects.
#[test]
fn explain_live_reports_drift_as_cause() {
    let node = Namespace::new("explain-damage");
    node.run("ip addr add 192.168.1.10/24 dev lo");
    let example = root().join("examples/nodeport.yaml");
    let of = |mode: &str, command: &str| {
        let flags = "--hostname-override node-1 --cluster-cidr 10.244.0.0/16";
        let file = example.display();
        let output = node
            .rulegen(&format!("{command} -f {file} {flags} --proxy-mode {mode} --ip-family ipv4"));
        assert!(output.status.success(), "{}", stderr(&output));
    };
    let explain = |mode: &str, packet: &str| {
        let flags = "--hostname-override node-1 --cluster-cidr 10.244.0.0/16";
        let output = node.rulegen(&format!(
            "explain --live -f {} {flags} --proxy-mode {mode} {packet}",
            example.display()
        ));
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let from_outside = "--from 192.168.1.100 --to 192.168.1.10:30080";
    let from_pod = "--from 10.244.1.20 --to 10.96.0.10:80";

    of("nftables", "apply");
    node.run("nft delete element ip rulegen services '{ 10.96.0.10 . tcp . 80 }'");
    let text = explain("nftables", from_pod);
    assert!(text.contains("the rules on this node do not match the packet"), "{text}");
    node.run("nft delete element ip rulegen node-ports '{ tcp . 30080 }'");
    let text = explain("nftables", from_outside);
    assert!(text.contains("the rules on this node do not match the packet"), "{text}");
    of("nftables", "apply");
    node.run("nft add table inet other; nft add chain inet other f '{ type filter hook forward priority 0; policy drop; }'");
    node.run("nft insert rule ip rulegen filter-forward ip ttl 1 drop");
    node.run(
        "sysctl -qw net.ipv4.ip_forward=1; ip link add pods type veth peer name pod; \
         ip link set pods up; ip link set pod up; ip route add 10.244.0.0/16 dev pods",
    );
    let text = explain("nftables", from_pod);
    let (_, not_followed) =
        text.split_once("Not understood").expect("no rules that are not understood");
    assert!(not_followed.contains("filter-forward"), "{text}");
    assert!(text.contains("because on the way to 10.244"), "{text}");
    assert!(text.contains("table inet other drops it, f: policy drop"), "{text}");
    node.run("nft flush ruleset");

    of("iptables", "apply --iptables-variant legacy");
    node.run("iptables-legacy -t nat -F KUBE-POSTROUTING");
    let legacy = "--iptables-variant legacy";
    let text = explain("iptables", &format!("{legacy} {from_outside}"));
    assert!(text.contains("marked for masquerading, but no rule masquerades it"), "{text}");
    assert!(!text.contains("sees the node's address"), "{text}");
    node.run("iptables-legacy -P FORWARD DROP");
    let text = explain("iptables", &format!("{legacy} {from_pod}"));
    assert!(text.contains("filter FORWARD: policy DROP"), "{text}");
    let loopback = "--from 127.0.0.1 --to 127.0.0.1:30080";
    let text = explain("iptables", &format!("{legacy} {loopback}"));
    assert!(text.contains("route_localnet is 0"), "{text}");
}

/// Other tables are evaluated in both modes alike: what is certain is an end, the rest a condition.
#[test]
fn explain_live_evaluates_other_tables() {
    let node = Namespace::new("explain-others");
    node.run(
        "sysctl -qw net.ipv4.ip_forward=1; \
         ip addr add 192.168.1.10/24 dev lo; ip link add pods type veth peer name pod; ip link set pods up; ip link set pod up; \
         ip route add 10.244.0.0/16 dev pods; \
         for ip in 10.244.1.5 10.244.2.6 10.244.3.7 10.96.0.10; do \
             ip neigh add $ip dev pods lladdr 02:00:00:00:00:01 nud permanent; \
         done; \
         nft add table inet firewalld; \
         nft add chain inet firewalld f '{ type filter hook forward priority 10; policy drop; }'; \
         nft add chain inet firewalld i '{ type filter hook input priority 10; policy drop; }'",
    );
    let example = root().join("examples/nodeport.yaml");
    for mode in ["iptables --iptables-variant nft", "nftables"] {
        let flags = format!(
            "-f {} --hostname-override node-1 --cluster-cidr 10.244.0.0/16 --proxy-mode {mode}",
            example.display()
        );
        let applied = node.rulegen(&format!("apply {flags} --ip-family ipv4"));
        assert!(applied.status.success(), "{}", stderr(&applied));
        let packet = "--from 10.244.1.20 --to 10.96.0.10:80";
        let explain = |rest: &str| {
            let output = node.rulegen(&format!("explain --live {flags} {packet} {rest}"));
            assert!(output.status.success(), "{}", stderr(&output));
            stdout(&output)
        };
        let json = || serde_json::from_str::<Value>(&explain("-o json")).unwrap();
        let explanation = json();
        assert_eq!(explanation["packet"]["sender"]["interface"], "pods", "by the route");
        for end in explanation["ends"].as_array().unwrap() {
            assert_eq!(end["outcome"], "dropped", "{mode}: {explanation:#}");
            assert_eq!(end["cause"]["code"], "refused-by-others", "{mode}: {end:#}");
            assert_eq!(end["cause"]["table"], "inet firewalld", "{mode}: {end:#}");
            assert_eq!(end["cause"]["rule"], "policy drop", "{mode}: {end:#}");
            assert!(end["cause"]["endpoint"].as_str().unwrap().starts_with("10.244."), "{end:#}");
        }

        node.run("nft add rule inet firewalld f ct status dnat accept");
        for end in json()["ends"].as_array().unwrap() {
            assert_eq!(end["outcome"], "endpoint", "{mode}: {end:#}");
            assert_eq!(end["conditions"], Value::Null, "{mode}: {end:#}");
        }

        node.run("nft insert rule inet firewalld f limit rate 1/second drop");
        for end in json()["ends"].as_array().unwrap() {
            assert_eq!(end["outcome"], "endpoint", "{mode}: {end:#}");
            assert_eq!(end["conditions"][0]["code"], "other-table", "{mode}: {end:#}");
            let chain = &end["conditions"][0]["chains"][0];
            let rule = "limit rate 1/second drop";
            assert_eq!(*chain, format!("f (filter priority 10 at forward: {rule})"), "{mode}");
        }
        let text = explain("");
        assert!(text.contains("unless table inet firewalld drops it: f ("), "{text}");
        assert!(!text.contains("always"), "{text}");
        node.run("nft flush chain inet firewalld f; nft add rule inet firewalld f accept");

        node.run("iptables-nft -t raw -A PREROUTING -d 10.96.0.10/32 -p tcp -j NOTRACK");
        let explanation = json();
        let [end] = explanation["ends"].as_array().unwrap().as_slice() else { panic!("one end") };
        assert_eq!(explanation["remarks"][0]["code"], "not-tracked", "{explanation:#}");
        assert_eq!(end["outcome"], "unreachable", "there is no default route: {end:#}");
        node.run("ip route add 10.96.0.0/16 dev pods");
        let explanation = json();
        let end = &explanation["ends"][0];
        assert_eq!(
            (&end["outcome"], &end["cause"]["code"]),
            (&"passes".into(), &"not-tracked".into())
        );
        let text = explain("");
        let line = "always  goes on unchanged to 10.96.0.10:80/tcp through pods";
        assert!(text.contains(line), "{text}");
        node.run(
            "ip route del 10.96.0.0/16; iptables-nft -t raw -F; nft flush chain inet firewalld f",
        );
        node.rulegen("cleanup");
    }
}

/// A bridge drops what would leave by the port that it came in by, unless hairpin mode is on.
#[test]
fn explain_hairpin_on_bridge_port_matches_packets() {
    let lab = Topology::new("explain-hairpin");
    let [pod, _] = POD_IPS[2];
    let endpoint = SocketAddr::new(pod.parse().unwrap(), POD_PORT);
    serve(&lab.pods[2], endpoint);
    // The bridge forwards what it can reach itself.
    lab.node.run("ip addr add 10.244.1.129/25 dev cni0");
    let objects = json!([
        {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "self"},
            "spec": {"clusterIP": "10.96.9.9", "ports": [{"port": 80, "targetPort": POD_PORT}]}},
        {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": "self-1", "labels": {"kubernetes.io/service-name": "self"}},
            "addressType": "IPv4", "ports": [{"port": POD_PORT}],
            "endpoints": [{"addresses": [pod], "nodeName": NODE}]},
    ]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let file = lab.node.file("self.json", &list.to_string());
    let to = "10.96.9.9:80".parse().unwrap();
    for mode in ["iptables", "nftables"] {
        let flags = apply(&lab, &file, mode);
        for hairpin in ["off", "on"] {
            lab.node.run(&format!("bridge link set dev veth3 hairpin {hairpin}"));
            let answer = lab.ask(From::BridgedPod, Proto::Tcp, to);
            let explain =
                format!("explain --live {flags} --interface cni0 --from {pod} --to {to} -o json");
            let explained = lab.node.rulegen(&explain);
            let explained: Value = serde_json::from_str(&stdout(&explained)).unwrap();
            let end = &explained["ends"][0];
            if hairpin == "off" {
                assert_eq!(answer, Answer::Silence, "{mode}");
                assert_eq!(end["outcome"], "dropped", "{mode}: {end:#}");
                assert_eq!(end["cause"]["code"], "hairpin-off", "{mode}: {end:#}");
            } else {
                assert!(matches!(answer, Answer::From { .. }), "{mode}: {answer:?}");
                assert_eq!(end["outcome"], "endpoint", "{mode}: {end:#}");
                // The kernel does not say behind which port with hairpin mode a pod is.
                assert_eq!(end["conditions"], Value::Null, "{mode}: {end:#}");
            }
        }
        lab.node.rulegen("cleanup");
    }
}

/// A bridge may pass IPv6 packets to the rules by its own setting.
#[test]
fn explain_hairpin_of_ipv6_by_setting_of_bridge_matches_packets() {
    let lab = Topology::new("explain-hairpin6");
    let [_, pod] = POD_IPS[2];
    serve(&lab.pods[2], SocketAddr::new(pod.parse().unwrap(), POD_PORT));
    lab.node.run(
        "ip addr add fd00:10:244:1::100/120 dev cni0 nodad; bridge link set dev veth3 hairpin off; \
         sysctl -qw net.bridge.bridge-nf-call-ip6tables=0",
    );
    let objects = json!([
        {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "self"},
            "spec": {"clusterIP": "fd00:96::9", "ipFamilies": ["IPv6"],
                "ports": [{"port": 80, "targetPort": POD_PORT}]}},
        {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": "self-1", "labels": {"kubernetes.io/service-name": "self"}},
            "addressType": "IPv6", "ports": [{"port": POD_PORT}],
            "endpoints": [{"addresses": [pod], "nodeName": NODE}]},
    ]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let file = lab.node.file("self.json", &list.to_string());
    let flags = format!(
        "-f {file} --hostname-override {NODE} --cluster-cidr fd00:10:244::/48 --proxy-mode nftables"
    );
    let applied = lab.node.rulegen(&format!("{flags} --ip-family ipv6"));
    assert!(applied.status.success(), "{}", stderr(&applied));
    for is_passed in [false, true] {
        let setting = u8::from(is_passed);
        lab.node.run(&format!("ip link set cni0 type bridge nf_call_ip6tables {setting}"));
        let answer = lab.ask(From::BridgedPod, Proto::Tcp, "[fd00:96::9]:80".parse().unwrap());
        assert_eq!(answer == Answer::Silence, is_passed, "{answer:?}");
        let explained = lab.node.rulegen(&format!(
            "explain --live {flags} --interface cni0 --from {pod} --to [fd00:96::9]:80 -o json"
        ));
        let explained: Value = serde_json::from_str(&stdout(&explained)).unwrap();
        let end = &explained["ends"][0];
        let cause = if is_passed { json!("hairpin-off") } else { Value::Null };
        assert_eq!(end["cause"]["code"], cause, "{end:#}");
        assert_eq!(end["conditions"], Value::Null, "{end:#}");
    }
}

/// A Service at `10.96.9.9:80` with one endpoint, and one at `10.96.9.8:80` without any.
pub(crate) fn one_endpoint(lab: &Topology, endpoint: &str) -> String {
    let service = |name: &str, ip: &str| {
        json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": name},
            "spec": {"clusterIP": ip, "ports": [{"port": 80, "targetPort": POD_PORT}]}})
    };
    let slice = json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": "one-1", "labels": {"kubernetes.io/service-name": "one"}},
        "addressType": "IPv4", "ports": [{"port": POD_PORT}],
        "endpoints": [{"addresses": [endpoint], "nodeName": NODE}]});
    let objects = [service("one", "10.96.9.9"), service("none", "10.96.9.8"), slice];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    lab.node.file("one.json", &list.to_string())
}

/// The outcome of the only end of a packet, the code of its cause, and those of its conditions.
pub(crate) fn only_end(lab: &Topology, flags: &str, packet: &str) -> (String, Value, Vec<String>) {
    let output = lab.node.rulegen(&format!("explain --live {flags} {packet} -o json"));
    assert!(output.status.success(), "{}", stderr(&output));
    let explained: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let [end] = explained["ends"].as_array().unwrap().as_slice() else { panic!("{explained:#}") };
    let codes = end["conditions"].as_array().into_iter().flatten();
    let codes = codes.map(|condition| condition["code"].as_str().unwrap().to_owned());
    (end["outcome"].as_str().unwrap().to_owned(), end["cause"]["code"].clone(), codes.collect())
}

/// Runs a program that attaches an eBPF program, as long as it lives.
pub(crate) struct AttachedProgram(std::process::Child);

impl AttachedProgram {
    pub(crate) fn new(node: &Namespace, program: &str, arguments: [&str; 2]) -> Self {
        let mut child = std::process::Command::new("ip")
            .args(["netns", "exec", &node.name, program])
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        assert_eq!(line, "attached\n");
        Self(child)
    }
}

impl Drop for AttachedProgram {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Applies the rules of a file. Returns the flags with which explain reads the same.
pub(crate) fn apply(lab: &Topology, file: &str, mode: &str) -> String {
    let flags = format!(
        "-f {file} --hostname-override {NODE} --cluster-cidr 10.244.0.0/16 --proxy-mode {mode}"
    );
    let applied = lab.node.rulegen(&format!("{flags} --ip-family ipv4"));
    assert!(applied.status.success(), "{}", stderr(&applied));
    flags
}

/// What drops packets besides rules and routes is a condition, in both modes.
#[test]
fn explain_names_what_drops_packets_besides_rules_and_routes() {
    let lab = Topology::new("explain-obstacles");
    let bpf = lab.node.folder("bpf").join("bpf").to_str().unwrap().to_owned();
    let source = root().join("tests/netns/bpf.c");
    lab.node.run(&format!("cc -o {bpf} {}", source.display()));
    let file = one_endpoint(&lab, ELSEWHERE_IPS[0]);
    let service: SocketAddr = "10.96.9.9:80".parse().unwrap();
    let packet = format!("--from 192.168.50.254 --to {service} --interface eth0");
    let drops = "protocol ip bpf da bytecode '1,6 0 0 2,'";
    for mode in ["iptables", "nftables"] {
        let flags = apply(&lab, &file, mode);
        let end = || only_end(&lab, &flags, &packet);
        let always = ("endpoint".to_owned(), Value::Null, vec![]);
        let answer = || lab.ask(From::Outside, Proto::Tcp, service);
        eventually("the next hop answers", || matches!(answer(), Answer::From { .. }));
        for (add, remove, code) in [
            (
                format!("tc qdisc add dev eth0 clsact; tc filter add dev eth0 ingress {drops}"),
                "tc qdisc del dev eth0 clsact",
                "tc-filter",
            ),
            (
                format!("tc qdisc add dev eth1 clsact; tc filter add dev eth1 egress {drops}"),
                "tc qdisc del dev eth1 clsact",
                "tc-filter",
            ),
            (
                "tc qdisc add dev eth1 root tbf rate 8bit burst 1 latency 1ms".to_owned(),
                "tc qdisc del dev eth1 root",
                "qdisc",
            ),
            (
                "ip xfrm policy add src 0.0.0.0/0 dst 10.244.2.6/32 dir out action block"
                    .to_owned(),
                "ip xfrm policy flush",
                "ipsec",
            ),
        ] {
            assert_eq!(end(), always, "{mode}: before {add}");
            lab.node.run(&add);
            assert_eq!(answer(), Answer::Silence, "{mode}: {add}");
            assert_eq!(end(), ("endpoint".to_owned(), Value::Null, vec![code.to_owned()]), "{add}");
            lab.node.run(remove);
        }
        for (kind, interface, code) in [
            ("xdp", "eth0", "xdp"),
            ("tcx-ingress", "eth0", "tc-filter"),
            ("tcx-egress", "eth1", "tc-filter"),
        ] {
            let attached = AttachedProgram::new(&lab.node, &bpf, [kind, interface]);
            assert_eq!(answer(), Answer::Silence, "{mode}: {kind}");
            assert_eq!(
                end(),
                ("endpoint".to_owned(), Value::Null, vec![code.to_owned()]),
                "{kind}"
            );
            drop(attached);
        }
        assert_eq!(end(), always, "{mode}");
        assert!(matches!(answer(), Answer::From { .. }), "{mode}");
        // Its ports choose the next hop; the client does not forward.
        lab.node.run(
            "sysctl -qw net.ipv4.fib_multipath_hash_policy=1; \
             ip route replace 10.244.2.0/24 nexthop via 10.0.9.2 nexthop via 192.168.50.254",
        );
        let answers: Vec<Answer> = (0..16).map(|_| answer()).collect();
        assert!(answers.contains(&Answer::Silence), "{mode}: {answers:?}");
        assert!(answers.iter().any(|of| matches!(of, Answer::From { .. })), "{mode}: {answers:?}");
        assert_eq!(end().2, ["multipath"], "{mode}");
        lab.node.run("ip route replace 10.244.2.0/24 via 10.0.9.2");
        lab.node.run("ip neigh replace 10.0.9.2 dev eth1 nud failed");
        assert_eq!(end().2, ["no-neighbour"], "{mode}");
        assert!(matches!(answer(), Answer::From { .. }), "{mode}: it is found again");
        assert_eq!(end(), always, "{mode}");
        lab.elsewhere.run("ip link set eth0 down");
        assert_eq!(answer(), Answer::Silence, "{mode}");
        // The kernel may search the neighbour at that time, which is a condition too.
        let (outcome, cause, _) = end();
        assert_eq!((&*outcome, cause), ("dropped", json!("no-carrier")), "{mode}");
        lab.elsewhere.run("ip link set eth0 up; ip route add default via 10.0.9.1");
        lab.node.rulegen("cleanup");
    }
}

/// A rejected client gets no error if the kernel limits their rate, or has no route back.
#[test]
fn explain_rejected_packet_without_an_error_has_a_condition() {
    let lab = Topology::new("explain-errors");
    let file = one_endpoint(&lab, ELSEWHERE_IPS[0]);
    let service: SocketAddr = "10.96.9.8:80".parse().unwrap();
    let packet = format!("--from 198.18.0.1 --to {service} --interface eth0");
    for mode in ["iptables", "nftables"] {
        let flags = apply(&lab, &file, mode);
        let end = || only_end(&lab, &flags, &packet);
        let answer = || lab.ask(From::OutsideInRange, Proto::Tcp, service);
        assert_eq!(end(), ("rejected".to_owned(), Value::Null, vec![]), "{mode}");
        assert_eq!(answer(), Answer::Refused, "{mode}");

        lab.node.run("sysctl -qw net.ipv4.icmp_ratemask=6168 net.ipv4.icmp_ratelimit=100000");
        let answers: Vec<Answer> = (0..12).map(|_| answer()).collect();
        assert!(answers.contains(&Answer::Silence), "{mode}: {answers:?}");
        assert_eq!(end().2, ["icmp-rate-limit"], "{mode}");
        lab.node.run("sysctl -qw net.ipv4.icmp_ratemask=0 net.ipv4.icmp_ratelimit=0");

        lab.node.run("ip route add unreachable 198.18.0.0/15");
        assert_eq!(answer(), Answer::Silence, "{mode}");
        assert_eq!(end().2, ["no-route"], "{mode}");
        lab.node.run("ip route del unreachable 198.18.0.0/15");
        lab.node.rulegen("cleanup");
    }
}

/// Two pods behind one port of the bridge need its hairpin mode, like one that reaches itself.
#[test]
fn explain_hairpin_of_two_pods_behind_one_bridge_port_matches_packets() {
    let lab = Topology::new("explain-two-pods");
    let [switch, client, server] =
        ["switch", "client", "server"].map(|role| Namespace::new(&format!("two-pods-{role}")));
    lab.veth("veth4", &switch, "uplink");
    lab.node.run("ip link set veth4 master cni0; ip addr add 10.244.1.129/25 dev cni0");
    // What the bridge returns has the address of the client, which must not move to the uplink.
    switch.run("ip link add br0 type bridge; ip link set br0 up; ip link set uplink master br0; ip link set uplink type bridge_slave learning off");
    for (pod, ip) in [(&client, "10.244.1.140"), (&server, "10.244.1.141")] {
        let port = if ip.ends_with('0') { "port0" } else { "port1" };
        let name = &pod.name;
        switch.run(&format!(
            "ip link add {port} type veth peer name eth0 netns {name}; \
             ip link set {port} master br0 up"
        ));
        pod.run(&format!(
            "ip link set eth0 up; ip addr add {ip}/32 dev eth0; ip route add 10.244.1.1 dev eth0; \
             ip route add default via 10.244.1.1"
        ));
    }
    serve(&server, "10.244.1.141:8080".parse().unwrap());
    let file = one_endpoint(&lab, "10.244.1.141");
    let service: SocketAddr = "10.96.9.9:80".parse().unwrap();
    let from: IpAddr = "10.244.1.140".parse().unwrap();
    let packet = format!("--from {from} --to {service} --interface cni0");
    let patience = std::time::Duration::from_secs(10);
    for mode in ["iptables", "nftables"] {
        let flags = apply(&lab, &file, mode);
        let end = || only_end(&lab, &flags, &packet);
        lab.node.run("bridge link set dev veth4 hairpin on");
        let answer = ask_within(patience, &client, Proto::Tcp, from, service);
        assert!(matches!(answer, Answer::From { .. }), "{mode}: {answer:?}");
        assert_eq!(end(), ("endpoint".to_owned(), Value::Null, vec![]), "{mode}");
        lab.node.run("bridge link set dev veth4 isolated on");
        let answer = ask(&client, Proto::Tcp, from, service);
        assert_eq!(answer, Answer::Silence, "{mode}");
        assert_eq!(end(), ("dropped".to_owned(), json!("ports-isolated"), vec![]), "{mode}");
        lab.node.run("bridge link set dev veth4 isolated off");
        lab.node.run("bridge link set dev veth4 hairpin off");
        let answer = ask(&client, Proto::Tcp, from, service);
        assert_eq!(answer, Answer::Silence, "{mode}");
        assert_eq!(end(), ("dropped".to_owned(), json!("hairpin-off"), vec![]), "{mode}");
        // Without entries of the forwarding table it is not known behind which port they are.
        lab.node.run("ip link set veth4 type bridge_slave fdb_flush; ip neigh flush dev cni0");
        assert_eq!(
            end(),
            (
                "endpoint".to_owned(),
                Value::Null,
                vec!["hairpin-off".to_owned(), "no-neighbour".to_owned()]
            ),
            "{mode}"
        );
        lab.node.rulegen("cleanup");
    }
}
