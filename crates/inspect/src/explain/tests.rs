//! Explanations of packets in both modes.

use rulegen_compiler::{iptables::ruleset, nftables::table, plan};
use rulegen_config::{NodePortAddresses, ProxyConfig, ProxyMode};
use rulegen_model::{
    Host, KnownNodes, Objects, Snapshot, SnapshotOptions, UnavailableReason, Unproxied,
    UnusedEndpoints, read_manifest, snapshot, unavailability,
};
use rulegen_net::{FrontendKind, IpFamily, Protocol};
use rulegen_ruleset::Origin;

use super::*;

/// TCP has one endpoint, which is ready. UDP has `UDP_ENDPOINTS`.
const MANIFEST: &str = r#"
kind: Service
apiVersion: v1
metadata: {name: dns}
spec:
  clusterIP: 10.96.0.10
  ports:
  - {name: dns, protocol: TCP, port: 53}
  - {name: dns, protocol: UDP, port: 53}
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: dns-tcp, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, protocol: TCP, port: 5353}]
endpoints: [{addresses: [10.244.1.5]}]
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: dns-udp, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, protocol: UDP, port: 5353}]
endpoints: UDP_ENDPOINTS
"#;

fn cluster(udp_endpoints: &str) -> (Snapshot, Objects) {
    let manifest = MANIFEST.replace("UDP_ENDPOINTS", udp_endpoints);
    let mut objects = Objects::default();
    assert_eq!(read_manifest("test", manifest.as_bytes(), &mut objects), []);
    let (snapshot, problems) = snapshot(&objects, &SnapshotOptions::default(), &Host::default());
    assert_eq!(problems, []);
    (snapshot, objects)
}

fn packet(protocol: Protocol) -> Packet {
    Packet {
        origin: Origin::Interface("eth0".to_owned()),
        source: "10.244.1.9".parse().unwrap(),
        destination: "10.96.0.10:53".parse().unwrap(),
        protocol,
    }
}

/// What a packet over a protocol is explained with, in iptables and in nftables mode.
fn explained(udp_endpoints: &str, protocol: Protocol) -> [Explanation; 2] {
    let (snapshot, objects) = cluster(udp_endpoints);
    let plan = plan(&snapshot, &ProxyConfig::default(), IpFamily::Ipv4);
    let packet = packet(protocol);
    let explanations = [
        by_ruleset(&ruleset(&plan), &[], &packet, Some(&plan)),
        by_table(&table(&plan, &"rulegen".into()), &[], &packet, Some(&plan)),
    ];
    explanations.map(|mut explanation| {
        explanation.refused_because(|name| {
            let mut ports = snapshot.ipv4.iter();
            unavailability(ports.find(|port| port.name == *name)?, &objects)
        });
        explanation
    })
}

fn reasons(explanation: &Explanation, about: RemarkSubject) -> Vec<&Reason> {
    let remarks = explanation.remarks.iter().filter(|remark| remark.about == about);
    remarks.map(|remark| &remark.reason).collect()
}

#[test]
fn explain_policy_remark_counts_endpoints_of_packet_protocol_only() {
    let some_ready =
        "[{addresses: [10.244.1.6]}, {addresses: [10.244.1.7], conditions: {ready: false}}]";
    let unused = |protocol| {
        explained(some_ready, protocol).map(|explanation| {
            match reasons(&explanation, RemarkSubject::Policy).as_slice() {
                [Reason::PolicyCluster { unused, .. }] => *unused,
                other => panic!("{other:?}"),
            }
        })
    };
    let one = UnusedEndpoints { not_ready: 1, ..UnusedEndpoints::default() };
    assert_eq!(unused(Protocol::Udp), [one; 2]);
    assert_eq!(unused(Protocol::Tcp), [UnusedEndpoints::default(); 2]);
}

#[test]
fn explain_no_endpoints_reason_is_that_of_packet_protocol() {
    let not_ready = "[{addresses: [10.244.1.7], conditions: {ready: false}}]";
    for explanation in explained(not_ready, Protocol::Udp) {
        let service = explanation.frontend.as_ref().map(|frontend| &frontend.service);
        assert_eq!(service.map(|service| service.protocol), Some(Protocol::Udp));
        let reasons = reasons(&explanation, RemarkSubject::NoEndpoints);
        let why = UnavailableReason::NoneReady { not_ready: 1, terminating: 0 };
        let [Reason::NoEndpoints { why: found, .. }] = *reasons else { panic!("{reasons:?}") };
        assert_eq!(found, &Some(why));
    }
    for explanation in explained(not_ready, Protocol::Tcp) {
        assert!(matches!(explanation.ends[..], [End { outcome: Outcome::Endpoint { .. }, .. }]));
    }
}

/// Half of the packets match the first rule, half of the others the second.
const SAME_ENDPOINT_TWICE: &str = "*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m statistic --mode random --probability 0.5 -j KUBE-SEP-A
-A PREROUTING -m statistic --mode random --probability 0.5 -j KUBE-SEP-B
-A PREROUTING -j KUBE-SEP-C
:KUBE-SEP-A - [0:0]
:KUBE-SEP-B - [0:0]
:KUBE-SEP-C - [0:0]
-A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination 10.244.1.5:80
-A KUBE-SEP-B -p tcp -m tcp -j DNAT --to-destination 10.244.1.5:80
-A KUBE-SEP-C -p tcp -m tcp -j DNAT --to-destination 10.244.1.6:80
COMMIT
";

#[test]
fn explain_adds_probabilities_of_branches_to_same_endpoint() {
    let (rules, errors) = iptables::parse(IpFamily::Ipv4, SAME_ENDPOINT_TWICE);
    assert_eq!(errors, []);
    let packet = Packet {
        origin: Origin::Interface("eth0".to_owned()),
        source: "10.244.1.9".parse().unwrap(),
        destination: "10.96.0.10:80".parse().unwrap(),
        protocol: Protocol::Tcp,
    };
    let explanation = by_ruleset(&rules, &[], &packet, None);
    let exact: Vec<Option<&str>> =
        explanation.ends.iter().map(|end| end.probability.exact.as_deref()).collect();
    assert_eq!(exact, [Some("3/4"), Some("1/4")], "{:?}", explanation.ends);
}

/// A node port under policy Local whose endpoints `ENDPOINTS` are.
const LOCAL: &str = r#"
kind: Service
apiVersion: v1
metadata: {name: web}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  clusterIP: 10.96.0.20
  ports: [{port: 80, nodePort: 30080}]
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: ENDPOINTS
"#;

#[test]
fn explain_policy_local_tells_endpoints_without_node_name_from_those_on_other_nodes() {
    let without = "{addresses: [10.244.1.5]}";
    let elsewhere = "{addresses: [10.244.2.5], nodeName: node-2}";
    for (endpoints, code, words, remedy) in [
        (without.to_owned(), "endpoints-without-node", "1 on no known node", "nodeName"),
        (
            format!("{without}, {elsewhere}"),
            "no-local-endpoints",
            "1 on other nodes, 1 on no known node",
            "run a pod on this node",
        ),
        (
            elsewhere.to_owned(),
            "no-local-endpoints",
            "none usable on this node",
            "a pod of the Service",
        ),
    ] {
        let manifest = LOCAL.replace("ENDPOINTS", &format!("[{endpoints}]"));
        let mut objects = Objects::default();
        assert_eq!(read_manifest("test", manifest.as_bytes(), &mut objects), []);
        let options = SnapshotOptions {
            hostname_override: Some("node-1".to_owned()),
            ..SnapshotOptions::default()
        };
        let local: IpAddr = "192.0.2.10".parse().unwrap();
        let host = Host { name: String::new(), addresses: vec![local] };
        let (snapshot, _) = snapshot(&objects, &options, &host);
        let plan = plan(&snapshot, &ProxyConfig::default(), IpFamily::Ipv4);
        let packet = Packet {
            origin: Origin::Interface("eth0".to_owned()),
            source: "192.0.2.100".parse().unwrap(),
            destination: "192.0.2.10:30080".parse().unwrap(),
            protocol: Protocol::Tcp,
        };
        for mut explanation in [
            by_ruleset(&ruleset(&plan), &[local], &packet, Some(&plan)),
            by_table(&table(&plan, &"rulegen".into()), &[local], &packet, Some(&plan)),
        ] {
            explanation.refused_because(|_| unavailability(&snapshot.ipv4[0], &objects));
            let [remark] = explanation.remarks.as_slice() else {
                panic!("{:?}", explanation.remarks)
            };
            assert_eq!(remark.code(), code, "{endpoints}");
            assert!(remark.to_string().contains(words), "{remark:?}");
            assert!(remark.change().is_some_and(|change| change.contains(remedy)));
        }
    }
}

#[test]
fn explain_unused_addresses_of_endpoints_are_named() {
    let unused = |first: &str| UnusedAddress {
        service: "default/dns".parse().unwrap(),
        address: "10.244.1.6".parse().unwrap(),
        first: first.to_owned(),
    };
    for mut explanation in explained("[]", Protocol::Tcp) {
        explanation.unused_addresses(&[unused("10.244.1.5")]);
        let codes: Vec<&'static str> =
            explanation.remarks.iter().map(|remark| remark.code()).collect();
        assert_eq!(codes[..2], ["policy-cluster", "unused-addresses"]);
        assert!(explanation.remarks[1].to_string().ends_with("10.244.1.6"));

        explanation.packet.to = "10.244.1.6:5353".parse().unwrap();
        explanation.frontend = None;
        explanation.remarks.clear();
        explanation.unused_addresses(&[unused("10.244.1.5")]);
        assert_eq!(explanation.remarks[0].code(), "unused-address");
    }
}

#[test]
fn explain_names_reason_for_service_without_cluster_ip() {
    let remark = |state| {
        let service = "default/db".parse().unwrap();
        resolve(&service, IpFamily::Ipv4, std::iter::empty(), || state).unwrap_err()
    };
    for (state, code, is_answer) in [
        (ServiceState::Unknown, "unknown-service", false),
        (ServiceState::NoObjects, "unknown-service", false),
        (ServiceState::Unproxied(Unproxied::Headless), "headless", true),
        (ServiceState::Unproxied(Unproxied::ExternalName), "external-name", true),
        (ServiceState::Unproxied(Unproxied::OtherProxy), "other-proxy", true),
        (ServiceState::OtherFamily, "other-family", true),
        (ServiceState::Unusable, "unusable-service", false),
    ] {
        let unresolved = remark(state);
        assert_eq!(unresolved.code(), code);
        assert_eq!(unresolved.is_answer(), is_answer, "{code}");
    }
}

/// A host with a route to everything, unless told otherwise.
struct FakeHost {
    route: RouteFact,
    /// The route of packets of this host.
    way_back: RouteFact,
    /// The route of forwarded replies.
    reply: RouteFact,
    hairpin: HairpinFact,
    obstacle: Option<PathObstacle>,
}

impl HostNetwork for FakeHost {
    fn route(&self, query: &RouteQuery<'_>) -> RouteFact {
        let client: IpAddr = packet(Protocol::Tcp).source;
        match query.input {
            RouteInput::Host => self.way_back.clone(),
            RouteInput::Interface(_) if query.to == client => self.reply.clone(),
            RouteInput::Interface(_) | RouteInput::UnknownInterface => self.route.clone(),
        }
    }

    fn hairpin(&self, _: &str, _: IpAddr, _: IpAddr) -> HairpinFact {
        self.hairpin.clone()
    }

    fn obstacles(&self, place: &PathStage<'_>) -> Vec<PathObstacle> {
        let is_there = match &self.obstacle {
            Some(PathObstacle::NoCarrier(_)) => matches!(place, PathStage::Out(_)),
            Some(PathObstacle::ErrorRate(_)) => matches!(place, PathStage::Error(_)),
            _ => true,
        };
        self.obstacle.clone().into_iter().filter(|_| is_there).collect()
    }
}

/// A working host: the packet comes in through eth0, and leaves through it.
fn host() -> FakeHost {
    let route = RouteFact::Out("eth0".to_owned());
    let (way_back, reply) = (route.clone(), route.clone());
    FakeHost { way_back, reply, route, hairpin: HairpinFact::Works, obstacle: None }
}

/// The only end of the TCP packet, in iptables mode, on a host with other rules.
fn end_on(host: &FakeHost, tables: &str) -> End {
    let (ruleset, errors) = rulegen_ruleset::iptables::parse(IpFamily::Ipv4, tables);
    assert_eq!(errors, []);
    let chains = rulegen_ruleset::firewall::of_iptables(&ruleset, "", |_| true);
    let [mut explanation, _] = explained("[]", Protocol::Tcp);
    explanation.on_host(&chains, host, &[]);
    let [end] = explanation.ends.as_slice() else { panic!("one end: {explanation:?}") };
    end.clone()
}

#[test]
fn explain_evaluates_packet_at_each_hook() {
    let endpoint =
        Outcome::Endpoint { endpoint: "10.244.1.5:5353".parse().unwrap(), masqueraded: false };
    // Table, chain and rule; the outcome, the cause, and the code of a condition.
    for (table, chain, rule, outcome, cause, condition) in [
        ("filter", "FORWARD", "-d 10.244.1.5/32 -j DROP", Outcome::Dropped, true, false),
        ("filter", "FORWARD", "-d 10.96.0.10/32 -j DROP", endpoint, false, false),
        ("filter", "FORWARD", "-p udp -j DROP", endpoint, false, false),
        ("filter", "FORWARD", "-i eth0 -o eth0 -j DROP", Outcome::Dropped, true, false),
        ("filter", "FORWARD", "-o eth1 -j DROP", endpoint, false, false),
        ("filter", "FORWARD", "-m limit --limit 1/sec -j DROP", endpoint, false, true),
        ("filter", "INPUT", "-j DROP", endpoint, false, false),
        ("filter", "OUTPUT", "-j DROP", endpoint, false, false),
        ("mangle", "PREROUTING", "-d 10.96.0.10/32 -j DROP", Outcome::Dropped, true, false),
        ("mangle", "PREROUTING", "-d 10.244.1.5/32 -j DROP", endpoint, false, false),
        ("mangle", "PREROUTING", "-m conntrack --ctstate DNAT -j DROP", endpoint, false, false),
        ("mangle", "POSTROUTING", "-d 10.244.1.5/32 -j DROP", Outcome::Dropped, true, false),
        ("raw", "PREROUTING", "-d 10.96.0.10/32 -j NOTRACK", passes(), true, false),
        ("raw", "PREROUTING", "-d 10.96.0.11/32 -j NOTRACK", endpoint, false, false),
        ("raw", "PREROUTING", "-m limit --limit 1/sec -j NOTRACK", endpoint, false, true),
        (
            "nat",
            "PREROUTING",
            "-d 10.96.0.10/32 -j DNAT --to-destination 10.9.9.9",
            endpoint,
            false,
            true,
        ),
        (
            "nat",
            "PREROUTING",
            "-d 10.96.0.11/32 -j DNAT --to-destination 10.9.9.9",
            endpoint,
            false,
            false,
        ),
    ] {
        let tables = format!("*{table}\n:{chain} ACCEPT [0:0]\n-A {chain} {rule}\nCOMMIT\n");
        let end = end_on(&host(), &tables);
        assert_eq!(end.outcome, outcome, "{table} {chain} {rule}");
        assert_eq!(end.cause.is_some(), cause, "{table} {chain} {rule}: {end:?}");
        assert_eq!(!end.conditions.is_empty(), condition, "{table} {chain} {rule}: {end:?}");
    }
}

/// Rules of others that change the mark for which the rules of Services masquerade, of a packet that
/// these do not masquerade.
#[test]
fn explain_mark_of_others_masquerades_packet() {
    // Table, chain and rule, and whether it is a condition.
    for (table, chain, rule, is_condition) in [
        ("mangle", "PREROUTING", "-j MARK --set-xmark 0x4000/0x4000", true),
        ("mangle", "FORWARD", "-j MARK --set-xmark 0x4000/0xffffffff", true),
        ("mangle", "FORWARD", "-s 10.244.1.9/32 -j MARK --set-xmark 0x4000/0x4000", true),
        ("mangle", "FORWARD", "-s 10.244.1.8/32 -j MARK --set-xmark 0x4000/0x4000", false),
        ("mangle", "FORWARD", "-m limit --limit 1/sec -j MARK --set-xmark 0x4000/0x4000", true),
        ("mangle", "POSTROUTING", "-j MARK --set-xmark 0x4000/0x4000", true),
        ("mangle", "POSTROUTING", "-j CONNMARK --restore-mark", true),
        ("mangle", "PREROUTING", "-j MARK --set-xmark 0x10000/0xff0000", false),
        ("security", "FORWARD", "-j MARK --set-xmark 0x4000/0x4000", true),
    ] {
        let tables = format!("*{table}\n:{chain} ACCEPT [0:0]\n-A {chain} {rule}\nCOMMIT\n");
        let (ruleset, errors) = iptables::parse(IpFamily::Ipv4, &tables);
        assert_eq!(errors, []);
        let chains = rulegen_ruleset::firewall::of_iptables(&ruleset, "", |_| true);
        for mut explanation in explained("[]", Protocol::Tcp) {
            explanation.on_host(&chains, &host(), &[]);
            let conditions = &explanation.ends[0].conditions;
            let codes: Vec<&str> = conditions.iter().map(|of| of.code()).collect();
            let expected: &[&str] = if is_condition { &["other-table"] } else { &[] };
            assert_eq!(codes, expected, "{table} {chain} {rule}: {conditions:?}");
        }
    }
    // Cleared again before it is looked at.
    let tables = "*mangle\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
                  -A PREROUTING -j MARK --set-xmark 0x4000/0x4000\n\
                  -A POSTROUTING -j MARK --set-xmark 0x0/0x4000\nCOMMIT\n";
    assert_eq!(end_on(&host(), tables).conditions, []);
}

/// A chain of another program may answer TCP with a reset, which other rules stop than an ICMP error.
#[test]
fn explain_rejected_packet_may_get_a_reset() {
    let tables = "*filter\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                  -A FORWARD -p tcp -j REJECT --reject-with tcp-reset\n\
                  -A OUTPUT -p tcp -m tcp --tcp-flags RST RST -j DROP\nCOMMIT\n";
    let end = end_on(&host(), tables);
    assert_eq!(end.outcome, Outcome::Rejected);
    assert!(!end.conditions.is_empty(), "the reset may be dropped: {end:?}");
}

/// Rules behind DNAT refuse the packet to each endpoint.
#[test]
fn explain_evaluates_packet_refused_behind_dnat_at_each_endpoint() {
    let followed = format!(
        "{SAME_ENDPOINT_TWICE}*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j REJECT\nCOMMIT\n"
    );
    let (followed, errors) = iptables::parse(IpFamily::Ipv4, &followed);
    assert_eq!(errors, []);
    let packet = Packet {
        origin: Origin::Interface("eth0".to_owned()),
        source: "10.244.1.9".parse().unwrap(),
        destination: "10.96.0.10:80".parse().unwrap(),
        protocol: Protocol::Tcp,
    };
    for (rule, is_condition) in [
        ("-d 10.244.1.5/32 -j DROP", true),
        ("-d 10.244.1.6/32 -j DROP", true),
        ("-d 10.244.1.7/32 -j DROP", false),
        ("-d 10.96.0.10/32 -j DROP", false),
    ] {
        let mangle = format!("*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD {rule}\nCOMMIT\n");
        let (ruleset, errors) = iptables::parse(IpFamily::Ipv4, &mangle);
        assert_eq!(errors, []);
        let chains = rulegen_ruleset::firewall::of_iptables(&ruleset, "", |_| true);
        let mut explanation = by_ruleset(&followed, &[], &packet, None);
        explanation.on_host(&chains, &host(), &[]);
        let [end] = explanation.ends.as_slice() else { panic!("{:?}", explanation.ends) };
        assert_eq!(end.outcome, Outcome::Rejected, "{rule}");
        assert_eq!(!end.conditions.is_empty(), is_condition, "{rule}: {:?}", end.conditions);
    }
}

/// A chain of type nat translates packets: one that is dropped later may then pass.
#[test]
fn explain_condition_of_unknown_rule_says_that_nat_chain_changes_packet() {
    let followed = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n";
    let (followed, _) = iptables::parse(IpFamily::Ipv4, followed);
    let local: IpAddr = "192.0.2.10".parse().unwrap();
    let packet = Packet {
        origin: Origin::Interface("eth0".to_owned()),
        source: "192.0.2.100".parse().unwrap(),
        destination: "192.0.2.10:30080".parse().unwrap(),
        protocol: Protocol::Tcp,
    };
    for (table, condition) in [
        ("nat", "table ip nat changes it"),
        ("mangle", "table ip mangle does something that is not understood with it"),
    ] {
        let tables =
            format!("*{table}\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j SOMETHING\nCOMMIT\n");
        let (ruleset, errors) = iptables::parse(IpFamily::Ipv4, &tables);
        assert_eq!(errors, []);
        let chains = rulegen_ruleset::firewall::of_iptables(&ruleset, "", |_| true);
        let mut explanation = by_ruleset(&followed, &[local], &packet, None);
        let on_this_host = FakeHost { route: RouteFact::Local, ..host() };
        explanation.on_host(&chains, &on_this_host, &[local]);
        let end = &explanation.ends[0];
        assert_eq!(end.outcome, Outcome::Dropped);
        assert!(end.conditions[0].reason.to_string().starts_with(condition), "{end:?}");
    }
}

fn passes() -> Outcome {
    Outcome::Passes { masqueraded: false }
}

#[test]
fn explain_evaluates_routes_and_bridges() {
    use RouteFailure::{ForwardingOff, LinkLocalSource, Martian, NoRoute, ReversePath};
    let failed = |failure| FakeHost { route: RouteFact::Failed(failure), ..host() };
    for (failure, outcome, code) in [
        (NoRoute("no route".to_owned()), Outcome::Unreachable, "no-route"),
        (ReversePath, Outcome::Dropped, "reverse-path"),
        (Martian, Outcome::Dropped, "martian"),
        (ForwardingOff, Outcome::Dropped, "forwarding-off"),
        (LinkLocalSource, Outcome::Unreachable, "no-route"),
    ] {
        let end = end_on(&failed(failure), "");
        assert_eq!((end.outcome, end.cause.unwrap().code()), (outcome, code));
    }
    let dropped = HairpinFact::Dropped { port: "veth1".to_owned() };
    let end = end_on(&FakeHost { hairpin: dropped, ..host() }, "");
    assert_eq!((end.outcome, end.cause.unwrap().code()), (Outcome::Dropped, "hairpin-off"));
    let end = end_on(&FakeHost { hairpin: HairpinFact::Unknown, ..host() }, "");
    assert_eq!(end.conditions[0].code(), "hairpin-off");
    let end = end_on(&FakeHost { route: RouteFact::Unknown, ..host() }, "");
    assert_eq!(end.conditions[0].code(), "host-network");
    assert_eq!(end_on(&host(), "").conditions, []);
}

/// The conditions of the only end of a packet that the followed rules reject.
fn conditions_of_rejected(host: &FakeHost, rule: &str, other: &str) -> (End, Vec<&'static str>) {
    let filter = format!(
        "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p tcp -j REJECT --reject-with {rule}\nCOMMIT\n"
    );
    let (followed, errors) = iptables::parse(IpFamily::Ipv4, &filter);
    assert_eq!(errors, []);
    let mangle = format!("*mangle\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT {other}\nCOMMIT\n");
    let (others, errors) = iptables::parse(IpFamily::Ipv4, &mangle);
    assert_eq!(errors, []);
    let chains = rulegen_ruleset::firewall::of_iptables(&others, "", |_| true);
    let packet = Packet {
        origin: Origin::Interface("eth0".to_owned()),
        source: "192.0.2.100".parse().unwrap(),
        destination: "192.0.2.10:80".parse().unwrap(),
        protocol: Protocol::Tcp,
    };
    let mut explanation = by_ruleset(&followed, &[], &packet, None);
    explanation.on_host(&chains, host, &[]);
    let [end] = explanation.ends.as_slice() else { panic!("{:?}", explanation.ends) };
    assert_eq!(end.outcome, Outcome::Rejected);
    let codes = end.conditions.iter().map(|condition| condition.code()).collect();
    (end.clone(), codes)
}

/// A rule of another program in the followed tables may answer with a reset too.
#[test]
fn explain_packet_rejected_in_followed_tables_may_get_a_reset() {
    let reset_is_dropped = "-p tcp -m tcp --tcp-flags RST RST -j DROP";
    for (error, other, codes, words) in [
        ("tcp-reset", reset_is_dropped, vec!["other-table"], "the client gets an error"),
        ("icmp-host-prohibited", "-j ACCEPT", vec![], "the client gets an error"),
        ("icmp-port-unreachable", reset_is_dropped, vec![], "an ICMP port-unreachable"),
    ] {
        let (end, found) = conditions_of_rejected(&host(), error, other);
        assert_eq!(found, codes, "{error}");
        assert!(end.to_string().contains(words), "{error}: {end}");
    }
}

/// An error about a rejected packet needs a route back, and the kernel limits how many it sends.
#[test]
fn explain_error_about_rejected_packet_may_not_arrive() {
    let of = |host: &FakeHost| conditions_of_rejected(host, "icmp-port-unreachable", "-j ACCEPT").1;
    assert_eq!(of(&host()), [""; 0]);
    let limit = Some(PathObstacle::ErrorRate("net.ipv4.icmp_ratelimit"));
    assert_eq!(of(&FakeHost { obstacle: limit, ..host() }), ["icmp-rate-limit"]);
    let failed = RouteFact::Failed(RouteFailure::NoRoute("no route".to_owned()));
    assert_eq!(of(&FakeHost { way_back: failed, ..host() }), ["no-route"]);
    assert_eq!(of(&FakeHost { way_back: RouteFact::Unknown, ..host() }), ["host-network"]);
}

#[test]
fn explain_obstacle_on_the_way_is_a_condition() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let to: IpAddr = "10.244.1.5".parse().unwrap();
    for (obstacle, code, text) in [
        (PathObstacle::Xdp(names(&["eth0"])), "xdp", "an XDP program on eth0 drops or changes it"),
        (
            PathObstacle::Filters(names(&["a", "b", "c", "d"])),
            "tc-filter",
            "a tc filter on a, b, c or others drops or changes it",
        ),
        (
            PathObstacle::Shapers { interfaces: names(&["eth0"]), kinds: names(&["htb", "tbf"]) },
            "qdisc",
            "the queueing discipline htb or tbf on eth0 drops it",
        ),
        (PathObstacle::Ipsec, "ipsec", "an IPsec policy drops or encrypts it"),
        (PathObstacle::Ipvs, "ipvs", "IPVS, which has services, takes it over"),
        (PathObstacle::UnreadIpvs, "ipvs", "/proc/net/ip_vs cannot be read"),
        (PathObstacle::SocketPrograms, "socket-programs", "in the socket of a process"),
        (
            PathObstacle::PodSocketPrograms(vec!["kubepods/pod1".to_owned()]),
            "socket-programs",
            "in the socket of a pod on this node (cgroup kubepods/pod1)",
        ),
        (PathObstacle::UnreadSocketPrograms, "socket-programs", "cannot be read"),
        (PathObstacle::UnknownRoute(to), "host-network", "the route to 10.244.1.5"),
        (PathObstacle::UnlistedFilters, "tc-filter", "a tc program drops or changes it"),
        (PathObstacle::Tunnel("vxlan0".to_owned()), "tunnel", "tunnel vxlan0 puts it is stopped"),
        (PathObstacle::Encapsulation(to), "tunnel", "the route to 10.244.1.5 puts it"),
        (
            PathObstacle::Master { interface: "eth0".to_owned(), master: "red".to_owned() },
            "master-device",
            "red, to which eth0 belongs",
        ),
        (
            PathObstacle::NextHops { to, interfaces: names(&["eth0", "eth1"]) },
            "multipath",
            "the route to 10.244.1.5 has several (eth0, eth1)",
        ),
        (
            PathObstacle::NoNeighbour { ip: to, interface: "eth0".to_owned() },
            "no-neighbour",
            "10.244.1.5 does not answer on eth0",
        ),
        (
            PathObstacle::FullTable { count: 95, max: 100 },
            "conntrack-full",
            "the conntrack table is full: it has 95 of at most 100 entries",
        ),
    ] {
        let end = end_on(&FakeHost { obstacle: Some(obstacle), ..host() }, "");
        let [condition] = end.conditions.as_slice() else { panic!("{code:?}: {end:?}") };
        assert_eq!(condition.code(), code);
        assert!(condition.reason.to_string().contains(text), "{condition:?}");
    }
    for (off, code) in [
        (PathObstacle::NoCarrier("eth0".to_owned()), "no-carrier"),
        (PathObstacle::InterfaceDown("eth0".to_owned()), "interface-down"),
    ] {
        let end = end_on(&FakeHost { obstacle: Some(off), ..host() }, "");
        assert_eq!((end.outcome, end.cause.unwrap().code()), (Outcome::Dropped, code));
    }
}

/// A reply that leaves through another interface than the packet came in through may get lost.
#[test]
fn explain_reply_on_another_way_is_a_condition() {
    let of = |reply: RouteFact| {
        let end = end_on(&FakeHost { reply, ..host() }, "");
        assert!(matches!(end.outcome, Outcome::Endpoint { .. }), "{end:?}");
        end.conditions.iter().map(|of| of.code()).collect::<Vec<_>>()
    };
    assert_eq!(of(RouteFact::Out("eth0".to_owned())), [""; 0]);
    assert_eq!(of(RouteFact::Out("eth1".to_owned())), ["asymmetric-route"]);
    let both = ["eth0", "eth1"].map(str::to_owned).to_vec();
    assert_eq!(of(RouteFact::OneOf(both)), ["asymmetric-route"]);
    let failed = RouteFact::Failed(RouteFailure::NoRoute("no route".to_owned()));
    assert_eq!(of(failed), ["asymmetric-route"]);
    assert_eq!(of(RouteFact::Unknown), ["host-network"]);
}

/// Without an input interface, what no interface can change is still certain.
#[test]
fn explain_from_unknown_interface_evaluates_routes_and_interfaces_of_rules() {
    let endpoint =
        Outcome::Endpoint { endpoint: "10.244.1.5:5353".parse().unwrap(), masqueraded: false };
    let (snapshot, _) = cluster("[]");
    let plan = plan(&snapshot, &ProxyConfig::default(), IpFamily::Ipv4);
    let packet = Packet { origin: Origin::UnknownInterface, ..packet(Protocol::Tcp) };
    let explained = |host: &FakeHost| {
        let mut explanation = by_ruleset(&ruleset(&plan), &[], &packet, None);
        explanation.on_host(&[], host, &[]);
        let [end] = explanation.ends.as_slice() else { panic!("{explanation:?}") };
        end.clone()
    };
    let end = explained(&host());
    assert_eq!(end.outcome, endpoint);
    assert_eq!(
        end.conditions.iter().map(|of| of.code()).collect::<Vec<_>>(),
        ["unknown-interface"]
    );
    for failure in [RouteFailure::LinkLocalSource, RouteFailure::NoRoute("no route".to_owned())] {
        let end = explained(&FakeHost { route: RouteFact::Failed(failure), ..host() });
        assert_eq!((end.outcome, end.cause.unwrap().code()), (Outcome::Unreachable, "no-route"));
    }
}

/// Rules that ask for an input interface claim nothing about a packet from an unknown one.
#[test]
fn explain_from_unknown_interface_depends_on_interfaces_of_rules() {
    let packet = Packet { origin: Origin::UnknownInterface, ..packet(Protocol::Tcp) };
    for (rule, outcome, is_conditional) in [
        ("! -i eth1 -j DROP", Outcome::Dropped, true),
        ("-i eth1 -j DROP", passes(), true),
        ("! -i eth+ -d 10.96.0.11/32 -j DROP", passes(), false),
    ] {
        let tables = format!("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD {rule}\nCOMMIT\n");
        let (ruleset, errors) = rulegen_ruleset::iptables::parse(IpFamily::Ipv4, &tables);
        assert_eq!(errors, []);
        let mut explanation = by_ruleset(&ruleset, &[], &packet, None);
        explanation.on_host(&[], &host(), &[]);
        let [end] = explanation.ends.as_slice() else { panic!("{explanation:?}") };
        assert_eq!(end.outcome, outcome, "{rule}");
        let names = |condition: &EndCondition| {
            condition.reason.to_string().contains("comes in through eth1")
        };
        assert_eq!(end.conditions.iter().any(names), is_conditional, "{rule}: {end:?}");
    }
}

/// Rules that depend on the output interface are not certain for a route with several.
#[test]
fn explain_output_interface_of_multipath_route_is_unknown() {
    let both = RouteFact::OneOf(["eth0", "eth1"].map(str::to_owned).to_vec());
    let host = FakeHost { route: both, ..host() };
    let tables =
        |rule: &str| format!("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD {rule}\nCOMMIT\n");
    let end = end_on(&host, &tables("-o eth1 -j DROP"));
    assert_eq!(end.conditions[0].code(), "other-table", "{end:?}");
    assert!(matches!(end.outcome, Outcome::Endpoint { .. }));
    assert_eq!(end_on(&host, &tables("-d 10.244.1.5/32 -j DROP")).outcome, Outcome::Dropped);
}

/// A Service with policy Local, an external IP and an endpoint on the node `worker-a.example`.
const FRONT: &str = r#"
kind: Service
apiVersion: v1
metadata: {name: front}
spec:
  type: NodePort
  clusterIPs: [10.96.0.20, "fd00:96::20"]
  ipFamilies: [IPv4, IPv6]
  externalIPs: [192.0.2.80]
  externalTrafficPolicy: Local
  ports: [{name: http, port: 80, nodePort: 30080}]
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: front-1, labels: {kubernetes.io/service-name: front}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.244.1.5], nodeName: worker-a.example}]
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: front-2, labels: {kubernetes.io/service-name: front}}
addressType: IPv6
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ["fd00:10:244:1::5"], nodeName: worker-a.example}]
"#;

const FRONT_NODE: &str = r#"
---
kind: Node
apiVersion: v1
metadata: {name: worker-a.example}
status: {addresses: [{type: InternalIP, address: 192.168.50.1}]}
"#;

/// The remarks about a packet from outside to the Service `front`, at a host that calls itself so.
fn remarks_of_front(node: &str, manifest: &str, mode: ProxyMode, to: &str) -> Vec<Remark> {
    let mut objects = Objects::default();
    assert_eq!(read_manifest("test", manifest.as_bytes(), &mut objects), []);
    let own = ["192.168.50.1", "192.168.50.2", "127.0.0.1", "::1"].map(|ip| ip.parse().unwrap());
    let config = ProxyConfig {
        mode,
        hostname_override: Some(node.to_owned()),
        localhost_node_ports: false,
        node_port_addresses: NodePortAddresses::Unset,
        ..ProxyConfig::default()
    };
    let host = Host { name: node.to_owned(), addresses: own.to_vec() };
    let (snapshot, _) = snapshot(&objects, &config.snapshot_options(), &host);
    let destination: std::net::SocketAddr = to.parse().unwrap();
    let family = IpFamily::of(destination.ip());
    let plan = plan(&snapshot, &config, family);
    let (origin, source) = match destination.ip().is_loopback() {
        true => (Origin::Host, destination.ip()),
        false => (Origin::Interface("eth0".to_owned()), "203.0.113.9".parse().unwrap()),
    };
    let packet = Packet { origin, source, destination, protocol: Protocol::Tcp };
    let mut explanation = match mode {
        ProxyMode::Iptables => by_ruleset(&ruleset(&plan), &own, &packet, Some(&plan)),
        ProxyMode::Nftables => {
            by_table(&table(&plan, &"rulegen".into()), &own, &packet, Some(&plan))
        }
    };
    let facts = ObjectFacts::of(&objects, &snapshot, KnownNodes::OfInput, &[]);
    explanation.add_objects(&facts, family);
    explanation.remarks
}

const MODES: [ProxyMode; 2] = [ProxyMode::Iptables, ProxyMode::Nftables];

#[test]
fn explain_dropped_at_misnamed_node_names_the_node_that_is_meant() {
    let with_node = format!("{FRONT}{FRONT_NODE}");
    for mode in MODES {
        for name in ["worker-a", "wroker-a.example"] {
            let remarks = remarks_of_front(name, &with_node, mode, "192.0.2.80:80");
            let [Remark { reason, .. }] = &remarks[..] else { panic!("{remarks:?}") };
            assert_eq!(reason.code(), "node-not-found", "{name}");
            let change = reason.change().unwrap();
            let flag = "--hostname-override=worker-a.example (hostnameOverride)";
            assert!(change.contains(flag) && !change.contains("pod"), "{change}");
        }
        // Without Nodes, another spelling may be another node.
        let remarks = remarks_of_front("wroker-a.example", FRONT, mode, "192.0.2.80:80");
        let [Remark { reason, .. }] = &remarks[..] else { panic!("{remarks:?}") };
        assert_eq!(reason.code(), "no-local-endpoints");
        let change = reason.change().unwrap();
        assert!(change.starts_with("if this node's name is worker-a.example: "), "{change}");
        assert!(change.contains("a pod of the Service on this node"), "{change}");
        let other_node = FRONT_NODE.replace("worker-a.example", "b");
        let known = format!("{FRONT}{FRONT_NODE}{other_node}");
        let remarks = remarks_of_front("b", &known, mode, "192.0.2.80:80");
        let [Remark { reason, .. }] = &remarks[..] else { panic!("{remarks:?}") };
        assert_eq!(reason.code(), "no-local-endpoints");
        assert!(!reason.change().unwrap().contains("hostname"), "{reason}");
    }
}

#[test]
fn explain_node_port_at_the_address_of_the_node_that_is_meant_names_it() {
    let node = FRONT_NODE.replace("192.168.50.1", "192.168.50.7");
    let manifest = format!("{FRONT}{node}");
    for mode in MODES {
        for (name, to, code) in [
            ("worker-a", "192.168.50.7:30080", "node-port-of-misnamed-node"),
            ("worker-a", "192.168.50.8:30080", "node-port-elsewhere"),
            ("node-2", "192.168.50.7:30080", "node-port-elsewhere"),
        ] {
            let remarks = remarks_of_front(name, &manifest, mode, to);
            assert_eq!(remarks[0].reason.code(), code, "{name} {to}");
            if code == "node-port-of-misnamed-node" {
                let change = remarks[0].reason.change().unwrap();
                assert!(change.contains("--hostname-override=worker-a.example"), "{change}");
            }
        }
    }
}

#[test]
fn explain_port_of_an_address_that_a_service_has_is_not_called_a_node_port_elsewhere() {
    for mode in MODES {
        for (to, kind) in [
            ("10.96.0.20:30080", FrontendKind::ClusterIP),
            ("192.0.2.80:30080", FrontendKind::ExternalIP),
            ("192.0.2.80:8080", FrontendKind::ExternalIP),
        ] {
            let remarks = remarks_of_front("worker-a.example", FRONT, mode, to);
            let [Remark { reason, .. }] = &remarks[..] else { panic!("{remarks:?}") };
            match reason {
                Reason::NoSuchPort { kind: found, ports, .. } => {
                    assert_eq!((*found, &ports[..]), (kind, &[(80, Protocol::Tcp)][..]), "{to}");
                }
                // nftables mode has a rule for other ports of cluster IPs.
                Reason::ClosedPort { .. } => assert_eq!(kind, FrontendKind::ClusterIP, "{to}"),
                other => panic!("{to}: {other:?}"),
            }
            assert!(reason.change().unwrap().contains("80/tcp"), "{to}: {reason}");
        }
        let remarks = remarks_of_front("worker-a.example", FRONT, mode, "198.51.100.7:30080");
        assert_eq!(remarks[0].reason.code(), "node-port-elsewhere");
    }
}

#[test]
fn explain_node_port_at_loopback_has_the_remedy_of_its_family() {
    let change = |mode, to: &str| {
        let remarks = remarks_of_front("worker-a.example", FRONT, mode, to);
        assert_eq!(remarks[0].reason.code(), "node-port-elsewhere", "{to}");
        remarks[0].reason.change().unwrap()
    };
    for mode in MODES {
        let of_ipv4 = change(mode, "127.0.0.1:30080");
        assert!(of_ipv4.contains("--iptables-localhost-nodeports"), "{of_ipv4}");
        assert!(of_ipv4.contains("iptables mode"), "{of_ipv4}");
        let of_ipv6 = change(mode, "[::1]:30080");
        assert!(of_ipv6.contains("never open at ::1"), "{of_ipv6}");
        assert!(!of_ipv6.contains("localhost"), "{of_ipv6}");
    }
}
