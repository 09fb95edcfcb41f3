//! Rulesets that another program changed.

use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::parse;
use rulegen_ruleset::nftables::{
    Chain, Data, DataType, Element, Key, Name, Number, NumgenMode, Rule, Selector, Set, Statement,
    Table, Value, Verdict,
};

use super::*;

fn of_text(rules: &str) -> Listing {
    let chains = "KUBE-SERVICES KUBE-NODEPORTS KUBE-SVC-A KUBE-SVC-B KUBE-SEP-A KUBE-SEP-B";
    let declared: String = chains.split(' ').map(|chain| format!(":{chain} - [0:0]\n")).collect();
    let (ruleset, errors) = parse(
        IpFamily::Ipv4,
        &format!("*nat\n:PREROUTING ACCEPT [0:0]\n{declared}{rules}COMMIT\n"),
    );
    assert!(errors.is_empty(), "{errors:?}");
    of_ruleset(&ruleset)
}

fn said(listing: &Listing) -> Vec<String> {
    let of_service = |(name, frontends): (&Option<ServicePortName>, &Frontends)| {
        let name = name.as_ref().map_or("?".to_owned(), ToString::to_string);
        let frontends = frontends.iter();
        let say = move |(frontend, traffic): (&Frontend, &Traffic)| {
            let endpoints: Vec<String> =
                traffic.endpoints.iter().map(ToString::to_string).collect();
            format!("{name} {} {}", frontend.port, endpoints.join(","))
        };
        frontends.map(say).collect::<Vec<String>>()
    };
    listing.services.iter().flat_map(of_service).collect()
}

#[test]
fn listing_first_rule_for_a_frontend_wins() {
    let listing = of_text(
        "-A KUBE-SERVICES -d 10.0.0.1/32 -p tcp -m comment --comment \"a/a cluster IP\" -m tcp --dport 80 -j KUBE-SVC-A\n\
         -A KUBE-SERVICES -d 10.0.0.1/32 -p tcp -m comment --comment \"a/b cluster IP\" -m tcp --dport 80 -j KUBE-SVC-B\n\
         -A KUBE-SVC-A -j KUBE-SEP-A\n\
         -A KUBE-SVC-B -j KUBE-SEP-B\n\
         -A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination 10.1.0.1:8080\n\
         -A KUBE-SEP-B -p tcp -m tcp -j DNAT --to-destination 10.1.0.2:8080\n",
    );
    assert_eq!(said(&listing), ["a/a 80 10.1.0.1:8080"]);
}

#[test]
fn listing_follows_foreign_rules_and_ignores_missing_chains() {
    let listing = of_text(
        "-A KUBE-SERVICES -d 10.0.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-A\n\
         -A KUBE-SVC-A -m limit --limit 5/min -j KUBE-SEP-A\n\
         -A KUBE-SVC-A -j KUBE-SVC-B\n\
         -A KUBE-SVC-B -j KUBE-SEP-MISSING\n\
         -A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination 10.1.0.1:8080\n",
    );
    assert_eq!(said(&listing), ["? 80 10.1.0.1:8080"], "no comment, so no name");
}

/// The kernel rejects loops, but a text may contain them.
#[test]
fn listing_ends_at_loops_of_chains() {
    let listing = of_text(
        "-A KUBE-NODEPORTS -p udp -m comment --comment \"a/a:dns\" -m udp --dport 30053 -j KUBE-SVC-A\n\
         -A KUBE-SVC-A -j KUBE-SVC-B\n\
         -A KUBE-SVC-B -j KUBE-SVC-A\n",
    );
    assert_eq!(said(&listing), ["a/a:dns 30053 "]);
}

fn table(rules: Vec<Rule>) -> Table {
    let key = Key::from([
        Value::Address("10.0.0.1".parse().unwrap()),
        Value::Protocol(rulegen_net::Protocol::Tcp),
        Value::Port(80),
    ]);
    let element = |data| Element { data: Some(data), comment: Some("a/a".into()) };
    let mut services = Set::map(&[], DataType::Verdict, "");
    let verdict = Data::Verdict(Verdict::Goto("chain".into()));
    services.elements.insert(key.clone(), element(verdict));
    let mut endpoints = Set::map(&[], DataType::AddrPort, "");
    for number in [0, 1, 2, u32::MAX] {
        let endpoint = format!("10.1.0.1:{}", 8080 + (number & 0xff)).parse().unwrap();
        endpoints
            .elements
            .insert(key.with(Value::Number(number)), element(Data::AddrPort(endpoint)));
    }
    Table {
        family: IpFamily::Ipv4,
        name: "rulegen".into(),
        comment: "".into(),
        sets: [("services", services), ("endpoints", endpoints)]
            .map(|(name, set)| (Name::from(name), set))
            .into(),
        chains: [(Name::from("chain"), Chain { base: None, rules })].into(),
    }
}

fn choose(number: Number) -> Rule {
    let key = vec![
        Selector::DestinationAddress,
        Selector::Protocol,
        Selector::DestinationPort,
        Selector::Number(number),
    ];
    Rule::new([Statement::DnatMap { key, map: "endpoints".into() }])
}

#[test]
fn listing_omits_endpoints_whose_number_is_never_drawn() {
    let of = |number| said(&of_table(&table(vec![choose(number)])));
    let below = |n| of(Number::Modulo(NumgenMode::Random, n));
    assert_eq!(below(2), ["a/a 80 10.1.0.1:8080,10.1.0.1:8081"]);
    assert_eq!(below(0), ["a/a 80 "]);
    assert_eq!(below(u32::MAX), ["a/a 80 10.1.0.1:8080,10.1.0.1:8081,10.1.0.1:8082"]);
    assert_eq!(of(Number::Constant(2)), ["a/a 80 10.1.0.1:8082"]);
    assert_eq!(of(Number::Constant(u32::MAX)), ["a/a 80 "]);
}

#[test]
fn listing_ignores_unreachable_rules() {
    let all = choose(Number::Modulo(NumgenMode::Random, 3));
    let before = |verdict| vec![Rule::new([Statement::Verdict(verdict)]), all.clone()];
    assert_eq!(said(&of_table(&table(before(Verdict::Drop)))), ["a/a 80 "]);
    assert_eq!(said(&of_table(&table(before(Verdict::Goto("chain".into()))))), ["a/a 80 "]);
    let listing = of_table(&table(before(Verdict::Jump("chain".into()))));
    assert_eq!(said(&listing), ["a/a 80 10.1.0.1:8080,10.1.0.1:8081,10.1.0.1:8082"]);
}

#[test]
fn listing_ignores_truncated_service_names() {
    let mut table = table(Vec::new());
    let long = format!("{}/{}:http", "a".repeat(63), "b".repeat(63));
    for element in table.sets.values_mut().flat_map(|set| set.elements.values_mut()) {
        element.comment = Some(long.as_str().into());
    }
    assert_eq!(said(&of_table(&table)), ["? 80 "]);
}

#[test]
fn listing_of_rules_alone_has_no_kind_or_policy_that_one_mode_lacks() {
    let shown = |kind, policy, refusal, has_ranges: bool| {
        let source_ranges = has_ranges.then(Vec::new);
        let traffic = Traffic { policy, refusal, source_ranges, ..Traffic::to(kind) };
        let at = Frontend {
            address: rulegen_net::FrontendAddress::Node(IpFamily::Ipv4),
            protocol: rulegen_net::Protocol::Tcp,
            port: 80,
        };
        let mut listing = Listing::default();
        listing.services.entry(None).or_default().insert(at, traffic);
        listing.keep_what_both_modes_show();
        let traffic = &listing.services[&None][&at];
        (traffic.kind, traffic.policy)
    };
    let (cluster, local) = (Some(TrafficPolicy::Cluster), Some(TrafficPolicy::Local));
    let dropped = Some(Refusal::NoLocalEndpoints);
    use FrontendKind::{ClusterIP, External, ExternalIP, LoadBalancerIP, NodePort};
    assert_eq!(shown(ClusterIP, cluster, None, false), (ClusterIP, None));
    assert_eq!(shown(ClusterIP, local, None, false), (ClusterIP, None));
    assert_eq!(shown(ClusterIP, local, dropped, false), (ClusterIP, local));
    assert_eq!(shown(ExternalIP, local, None, false), (External, local));
    assert_eq!(shown(LoadBalancerIP, cluster, None, false), (External, cluster));
    assert_eq!(shown(LoadBalancerIP, cluster, None, true), (LoadBalancerIP, cluster));
    assert_eq!(shown(NodePort, local, None, false), (NodePort, local));
}
