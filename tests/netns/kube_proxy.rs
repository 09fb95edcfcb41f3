//! `list` and `explain --live` read kube-proxy's own nftables table. `kube-proxy.nft` is what
//! kube-proxy writes for the Services of `kube-proxy.yaml`.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::common::{root, stderr, stdout};
use crate::explain::{End, ends};
use crate::namespace::Namespace;
use crate::topology::{From, Topology};
use crate::traffic::{Answer, Proto};

fn file(name: &str) -> String {
    root().join("tests/netns").join(name).to_str().unwrap().to_owned()
}

/// The flags of the kube-proxy that wrote the table.
const FLAGS: &str = "--hostname-override node-1 --cluster-cidr 10.244.0.0/16,fd00:10:244::/48 --proxy-mode nftables";

fn with_kube_proxy(label: &str) -> Namespace {
    let node = Namespace::new(label);
    node.run(
        "ip addr add 192.168.50.1/32 dev lo; ip addr add fd00:50::1/64 dev lo nodad; \
         sysctl -qw net.ipv4.ip_forward=1",
    );
    node.run(&format!("nft -f {}", file("kube-proxy.nft")));
    node
}

fn list_json(node: &Namespace, arguments: &str) -> Value {
    let output = node.rulegen(&format!("list -o json --ip-family dual {arguments}"));
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Without a flag, the mode is that of kube-proxy's table. The rows are those that rulegen's own
/// table for the same Services has.
#[test]
fn list_of_kube_proxy_table_equals_list_of_rulegens() {
    let node = with_kube_proxy("kp-list");
    let objects = format!("-f {} {FLAGS}", file("kube-proxy.yaml"));
    let rows = |arguments: &str| {
        let output = node.rulegen(&format!("list -o wide --ip-family dual {arguments}"));
        assert!(output.status.success(), "{}", stderr(&output));
        (stdout(&output), stderr(&output))
    };
    let (theirs, notes) = rows("");
    assert_eq!(
        notes,
        "note: ip kube-proxy: these Services are in kube-proxy's own table\n\
         note: ip6 kube-proxy: these Services are in kube-proxy's own table\n"
    );
    let json = list_json(&node, "");
    assert_eq!(json["kubeProxyTables"], json!(["ip kube-proxy", "ip6 kube-proxy"]));
    let balanced = json["services"].as_array().unwrap().iter().find(|of| of["name"] == "balanced");
    let frontends = balanced.unwrap()["frontends"].as_array().unwrap();
    let limited: Vec<&Value> = frontends
        .iter()
        .filter(|of| !of["sourceRanges"].is_null())
        .map(|of| &of["address"])
        .collect();
    assert_eq!(limited, ["192.0.2.13", "2001:db8:2::13"], "{frontends:#?}");

    // Compared with the objects, everything is as wanted.
    for service in list_json(&node, &objects)["services"].as_array().unwrap() {
        assert_eq!(service["state"], "inSync", "{service:#}");
    }
    let applied = node.rulegen(&format!("apply --prune --ip-family dual {objects}"));
    assert!(applied.status.success(), "{}", stderr(&applied));
    let (ours, notes) = rows("");
    assert!(notes.contains("note: ip kube-proxy: kube-proxy's own table exists too"), "{notes}");
    let words = |text: &str| -> Vec<Vec<String>> {
        let row = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        text.lines().map(row).collect()
    };
    assert_eq!(words(&theirs), words(&ours));
    let explain = "explain --live --from 10.244.1.7 --to 10.96.0.10:80 -o json";
    let explanation: Value = serde_json::from_str(&stdout(&node.rulegen(explain))).unwrap();
    assert!(explanation["rules"][0]["table"].is_null(), "{explanation:#}");
    let conditions = explanation["ends"][0]["conditions"].to_string();
    assert!(conditions.contains("table ip kube-proxy"), "{conditions}");
    let (chosen, _) = rows("--nftables-table kube-proxy");
    assert_eq!(chosen, theirs);
}

/// nft joins adjacent networks to a range, which need not be a network.
#[test]
fn list_of_kube_proxy_table_splits_joined_source_ranges() {
    let node = Namespace::new("kp-ranges");
    let text = std::fs::read_to_string(file("kube-proxy.nft")).unwrap();
    let text = text.replace("{ 198.18.0.0/15 , 10.244.1.5 }", "{ 10.0.0.0/25 , 10.0.0.128/26 }");
    let path = node.file("ranges.nft", &text);
    node.run(&format!("nft -f {path}"));
    let json = list_json(&node, "balanced --address 192.0.2.13");
    let frontend = &json["services"][0]["frontends"][0];
    assert_eq!(frontend["sourceRanges"], json!(["10.0.0.0/25", "10.0.0.128/26"]), "{frontend:#}");
}

/// A rule of a form that is not known is named, and its Service has no endpoint from it.
#[test]
fn list_of_kube_proxy_table_names_unknown_rules() {
    let node = with_kube_proxy("kp-unknown");
    node.run(
        "chain=$(nft list table ip kube-proxy | grep -o 'service-[A-Z0-9]*-default/three/tcp/http' | head -1); \
         nft flush chain ip kube-proxy $chain; \
         nft add rule ip kube-proxy $chain ip ttl 7 drop",
    );
    let output = node.rulegen("list three --ip-family ipv4");
    assert!(stdout(&output).trim_end().ends_with("<none>"), "{}", stdout(&output));
    let notes = stderr(&output);
    assert!(notes.contains("ip kube-proxy: 1 parts of kube-proxy's own table"), "{notes}");
}

#[test]
fn explain_live_matches_packets_through_kube_proxy_table() {
    let lab = Topology::new("kp-explain");
    lab.node.run(&format!("nft -f {}", file("kube-proxy.nft")));
    for to in destinations() {
        for from in From::ALL {
            check(&lab, from, to);
        }
    }
}

/// Rules that kube-proxy writes with other settings, or wrote in 1.31: pods by interface, the port of
/// a cluster IP, masqueradeAll, node ports at all addresses, one source range.
#[test]
fn explain_live_matches_packets_through_other_kube_proxy_rules() {
    let text = std::fs::read_to_string(file("kube-proxy.nft")).unwrap();
    let by_interface = text
        .replace(" ip saddr != 10.244.0.0/16 jump", " tcp dport 80 iifname != \"cali*\" jump")
        .replace(" ip6 saddr != fd00:10:244::/48 jump", " tcp dport 80 iifname != \"cali*\" jump")
        .replace(" ip daddr @nodeport-ips", " fib daddr type local ip daddr != 127.0.0.0/8")
        .replace(" ip6 daddr @nodeport-ips", " fib daddr type local ip6 daddr != ::1")
        .replace("{ 198.18.0.0/15 , 10.244.1.5 }", "{ 198.18.0.0/15 }")
        .replace("{ 2001:db8:9::/64 , fd00:10:244:1::5 }", "{ 2001:db8:9::/64 }");
    let masquerades_all = text
        .replace(" ip saddr != 10.244.0.0/16 jump", " jump")
        .replace(" ip6 saddr != fd00:10:244::/48 jump", " jump");
    let lab = Topology::new("kp-forms");
    for form in [by_interface, masquerades_all] {
        let path = lab.node.file("form.nft", &format!("flush ruleset\n{form}"));
        lab.node.run(&format!("nft -f {path}"));
        let list = lab.node.rulegen("list --ip-family dual");
        assert!(!stderr(&list).contains("not understood"), "{}", stderr(&list));
        let met = [
            "10.96.0.10:80",
            "[fd00:96::10]:80",
            "192.168.50.1:30080",
            "192.0.2.13:80",
            "[2001:db8:2::13]:80",
        ];
        for to in met.map(|to| to.parse().unwrap()) {
            for from in From::ALL {
                check(&lab, from, to);
            }
        }
    }
}

/// Cluster IPs, other addresses and node ports of the Services, a port that no Service has, and a
/// cluster IP that no Service has.
fn destinations() -> Vec<SocketAddr> {
    let families =
        [("10.96.0.", "192.0.2.", "192.168.50.1"), ("[fd00:96::", "[2001:db8:2::", "[fd00:50::1")];
    let of_family = |(cluster, other, node): (&str, &str, &str)| {
        let end = if cluster.starts_with('[') { "]" } else { "" };
        let clusters = [10, 12, 13, 14, 16, 17, 18, 99].map(|n| format!("{cluster}{n}{end}:80"));
        let others = [13, 14, 15, 16, 17].map(|n| format!("{other}{n}{end}:80"));
        let nodes = [30080, 30081, 30082, 30083, 30084].map(|n| format!("{node}{end}:{n}"));
        let closed = [format!("{cluster}10{end}:81")];
        let all = clusters.into_iter().chain(others).chain(nodes).chain(closed);
        all.map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>()
    };
    families.into_iter().flat_map(of_family).collect()
}

/// Sends requests until every possible endpoint has answered. Fails if any other endpoint answers.
fn check(lab: &Topology, from: From, to: SocketAddr) {
    let explanation = explained(lab, from, to);
    assert!(explanation["unknown"].is_null(), "{explanation:#}");
    let possible = ends(&explanation);
    let (_, source) = lab.source(from, to);
    let mut missing = possible.clone();
    for _ in 0..200 {
        let answer = answer(lab, from, to, &possible);
        let is_it = |end: &End| end.fits(lab, answer, source);
        assert!(possible.iter().any(is_it), "{from:?} to {to}: {answer:?}\n{explanation:#}");
        missing.retain(|end| !is_it(end));
        if missing.is_empty() {
            return;
        }
    }
    panic!("{from:?} to {to}: never {missing:?}\n{explanation:#}");
}

/// Waits longer for an answer that should come.
fn answer(lab: &Topology, from: From, to: SocketAddr, possible: &[End]) -> Answer {
    let (_, source) = lab.source(from, to);
    match lab.ask(from, Proto::Tcp, to) {
        Answer::Silence if !possible.iter().any(|end| end.fits(lab, Answer::Silence, source)) => {
            lab.ask_with_long_timeout(from, Proto::Tcp, to)
        }
        answer => answer,
    }
}

fn explained(lab: &Topology, from: From, to: SocketAddr) -> Value {
    let (_, source) = lab.source(from, to);
    let output = lab.node.rulegen(&format!("explain --live --from {source} --to {to} -o json"));
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// A client that kube-proxy's affinity sets have gets its endpoint again.
#[test]
fn explain_live_knows_clients_in_kube_proxy_affinity_sets() {
    let lab = Topology::new("kp-affinity");
    lab.node.run(&format!("nft -f {}", file("kube-proxy.nft")));
    for to in ["10.96.0.11:80", "[fd00:96::11]:80"].map(|to| to.parse().unwrap()) {
        let from = From::Outside;
        let before = ends(&explained(&lab, from, to));
        assert_eq!(before.len(), 2, "{before:?}");
        assert!(before.iter().all(|end| end.exact == "1/2"), "{before:?}");
        let Answer::From { endpoint, .. } = answer(&lab, from, to, &before) else {
            panic!("no answer")
        };
        let explanation = explained(&lab, from, to);
        let after = ends(&explanation);
        let [end] = after.as_slice() else { panic!("{after:?}") };
        assert_eq!(end.endpoint, Some(endpoint));
        let codes: Vec<&Value> =
            explanation["remarks"].as_array().unwrap().iter().map(|of| &of["code"]).collect();
        assert!(codes.contains(&&json!("affinity-hit")), "{codes:?}");
    }
}

/// The reasons, from the rules alone.
#[test]
fn explain_live_gives_reasons_from_kube_proxy_table() {
    let node = with_kube_proxy("kp-reasons");
    for (from, to, frontend, codes) in [
        ("10.244.1.7", "10.96.0.10:80", "default/three:http", vec!["random", "source-kept"]),
        (
            "10.244.1.5",
            "10.96.0.12:80",
            "default/node-port:http",
            vec!["random", "source-kept", "masquerade-hairpin"],
        ),
        (
            "192.168.50.9",
            "10.96.0.10:80",
            "default/three:http",
            vec!["random", "masquerade-not-from-pods"],
        ),
        (
            "192.168.50.9",
            "192.168.50.1:30080",
            "default/node-port:http",
            vec!["policy-cluster", "random", "masquerade-external"],
        ),
        ("192.168.50.9", "192.0.2.13:80", "default/balanced:http", vec!["source-range"]),
        (
            "192.168.50.9",
            "192.0.2.14:80",
            "default/local:http",
            vec!["policy-local", "source-kept"],
        ),
        ("192.168.50.9", "192.0.2.16:80", "default/elsewhere:http", vec!["no-local-endpoints"]),
        ("192.168.50.9", "192.168.50.1:30084", "default/empty:http", vec!["no-endpoints"]),
        ("10.244.1.6", "10.96.0.10:81", "default/three", vec!["no-such-port"]),
        ("10.244.1.6", "10.96.0.99:80", "", vec!["no-such-cluster-ip"]),
        (
            "192.168.50.1",
            "192.0.2.14:80",
            "default/local:http",
            vec!["random", "masquerade-from-node"],
        ),
    ] {
        let output = node.rulegen(&format!("explain --live --from {from} --to {to} -o json"));
        assert!(output.status.success(), "{}", stderr(&output));
        let explanation: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let remarks = explanation["remarks"].as_array().unwrap();
        let said: Vec<&str> = remarks.iter().map(|of| of["code"].as_str().unwrap()).collect();
        assert_eq!(said, codes, "{from} to {to}: {explanation:#}");
        let service = explanation["frontend"]["service"].as_str().unwrap_or_default();
        assert_eq!(service, frontend, "{from} to {to}");
    }
    node.run(
        "ip link add pods type veth peer name pod; ip link set pods up; ip link set pod up; \
         ip route add 10.244.0.0/16 dev pods",
    );
    let text = stdout(&node.rulegen("explain --live --from 10.244.1.6 --to default/three"));
    for part in
        ["1 in 3  10.244.1.5:8080", "kube-proxy services: the Service is found", "vmap { … }"]
    {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}
