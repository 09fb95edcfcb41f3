//! `rulegen test --live`: cases with the rules in the kernel, in both modes.

use crate::common::{root, stderr, stdout};
use crate::namespace::Namespace;

const CASES: &str = "
inputs:
  manifests: [MANIFEST]
  configuration: {clusterCIDR: 10.244.0.0/16}
  node: node-1
cases:
- {name: from a pod, from: {pods: {app: client}}, to: default/shop:80,
   expect: {endpoints: {all: true}, chances: {equal: true}, masqueraded: false}}
- {name: from outside, from: outside, to: {nodePort: 30090}, expect: {endpoints: {atLeast: 3}, masqueraded: true}}
- {name: without zone b, when: {zoneGone: b}, from: outside, to: {nodePort: 30090}, expect: {endpoints: {atLeast: 1}}}
- {name: of another node, node: node-2, from: outside, to: {nodePort: 30090}, expect: {outcome: endpoint}}
- {name: of one mode, mode: MODE, from: outside, to: {nodePort: 30090}, expect: {outcome: endpoint}}
";

/// A node with the rules of the shop, and a test file.
fn node(mode: &str, other_mode: &str) -> (Namespace, String) {
    let namespace = Namespace::new("test-live");
    // Only addresses and routes matter: no packet is sent.
    for interface in ["eth0", "cni0"] {
        namespace.run(&format!("ip link add {interface} type veth peer name {interface}-peer"));
        namespace.run(&format!("ip link set {interface} up; ip link set {interface}-peer up"));
    }
    namespace.run("ip addr add 192.168.1.10/24 dev eth0; ip route add default dev eth0");
    namespace.run("ip route add 10.244.0.0/16 dev cni0");
    // Without an entry it is not sure that an endpoint answers.
    namespace.run(
        "for ip in 10.244.1.5 10.244.2.6 10.244.2.7; do \
         ip neigh add $ip lladdr 02:00:00:00:00:05 dev cni0 nud permanent; done",
    );
    let manifest = root().join("examples/tests/shop.yaml").display().to_string();
    let file = namespace
        .file("cases.yaml", &CASES.replace("MANIFEST", &manifest).replace("MODE", other_mode));
    let flags = "--hostname-override node-1 --cluster-cidr 10.244.0.0/16 --ip-family ipv4";
    let applied = namespace.rulegen(&format!("-f {manifest} {flags} --proxy-mode {mode}"));
    assert!(applied.status.success(), "{}", stderr(&applied));
    (namespace, file)
}

fn test(namespace: &Namespace, arguments: &str) -> (i32, String) {
    let output = namespace.rulegen(&format!("test --live {arguments}"));
    (output.status.code().unwrap(), format!("{}{}", stdout(&output), stderr(&output)))
}

/// `breaks` removes an endpoint from the rules in the kernel only.
fn check(mode: &str, other_mode: &str, breaks: &str) {
    let (namespace, file) = node(mode, other_mode);
    let (status, text) = test(&namespace, &file);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("this node does not forward packets"), "the host counts too: {text}");
    namespace.run("sysctl -qw net.ipv4.ip_forward=1");
    let (status, text) = test(&namespace, &file);
    assert_eq!(status, 0, "{text}");
    for line in [
        format!("test from a pod ({mode}) ... ok\n"),
        format!("test from outside ({mode}) ... ok\n"),
        format!("test without zone b ({mode}) ... ignored, it changes the input (when)\n"),
        format!(
            "test of another node ({mode}) ... ignored, it is about another node than node-1\n"
        ),
        format!("test of one mode ({mode}) ... ignored, the kernel has rules of {mode}\n"),
        "test result: ok. 2 passed; 0 failed; 0 errors; 3 ignored\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}{text}");
    }
    let (_, text) = test(&namespace, &format!("-o tap {file}"));
    assert!(text.contains("# SKIP it changes the input"), "{text}");
    let (_, text) = test(&namespace, &format!("-o junit {file}"));
    assert!(text.contains(" skipped=\"3\"") && text.contains("<skipped message="), "{text}");
    namespace.run(breaks);
    let (status, text) = test(&namespace, &file);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains(&format!("test from a pod ({mode}) ... FAILED")), "{text}");
    let compiled = namespace.rulegen(&format!("test {file}"));
    assert_eq!(compiled.status.code(), Some(0), "compiled rules still pass: {}", stdout(&compiled));
}

#[test]
fn packet_tests_live_find_a_lost_endpoint_iptables() {
    let chain = "$(iptables -t nat -S | awk '/-> 10.244.2.7:8080/ {print $2}')";
    let number =
        "$(iptables -t nat -S | grep 'KUBE-SVC-.*->' | grep -n '10.244.2.7' | cut -d: -f1)";
    check("iptables", "nftables", &format!("iptables -t nat -R {chain} {number} -j RETURN"));
}

#[test]
fn packet_tests_live_find_a_lost_endpoint_nftables() {
    let element = "10.96.0.20 . tcp . 80 . 2";
    let breaks = format!("nft delete element ip rulegen endpoints '{{ {element} }}'");
    check("nftables", "iptables", &breaks);
}

#[test]
fn packet_tests_live_without_rules_fail() {
    let namespace = Namespace::new("test-live-none");
    let manifest = root().join("examples/tests/shop.yaml").display().to_string();
    let cases = CASES.replace("MANIFEST", &manifest).replace("MODE", "iptables");
    let (status, text) = test(&namespace, &namespace.file("cases.yaml", &cases));
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("this network namespace has no rules of Services"), "{text}");
}

/// A node that passes its cases, and a file with those that run.
fn passing(mode: &str, other_mode: &str) -> (Namespace, String) {
    let (namespace, file) = node(mode, other_mode);
    namespace.run("sysctl -qw net.ipv4.ip_forward=1");
    let (status, text) = test(&namespace, &file);
    assert_eq!(status, 0, "{text}");
    (namespace, file)
}

/// Runs the cases, and checks the status, and that the output has these texts.
fn expect(namespace: &Namespace, arguments: &str, wanted: i32, texts: &[&str]) {
    let (status, text) = test(namespace, arguments);
    assert_eq!(status, wanted, "{text}");
    for wanted in texts {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
}

/// The match depends on the source port, which a case does not have. Most packets would take it.
#[test]
fn packet_tests_live_fail_with_a_rule_that_is_not_understood_iptables() {
    let (namespace, file) = passing("iptables", "nftables");
    let chain = "$(iptables -t nat -S | awk '/^-N KUBE-SVC-/ {print $2}')";
    namespace
        .run(&format!("iptables -t nat -I {chain} 1 -p tcp -m tcp --sport 1024:65535 -j RETURN"));
    let texts = ["test from a pod (iptables) ... FAILED", "rules\n", "--sport 1024:65535"];
    expect(&namespace, &file, 1, &texts);
}

#[test]
fn packet_tests_live_fail_with_a_rule_that_is_not_understood_nftables() {
    let (namespace, file) = passing("nftables", "iptables");
    namespace.run("nft insert rule ip rulegen services meta random '< 3000000000' drop");
    let texts = ["test from a pod (nftables) ... FAILED", "rules\n", "services: "];
    expect(&namespace, &file, 1, &texts);
}

#[test]
fn packet_tests_live_pass_with_conditions_of_other_tables() {
    let (namespace, file) = passing("nftables", "iptables");
    let others = [
        (
            "ip",
            "nat hook prerouting priority -110",
            "tcp dport 80 meta random < 9 dnat to 192.0.2.1",
        ),
        ("ip", "nat hook prerouting priority -110", "tcp dport 80 meta random < 9 redirect to :9"),
        ("netdev", "filter hook ingress device cni0 priority 0", "meta random < 9 drop"),
        ("ip", "filter hook forward priority 0", "meta random < 9 drop"),
    ];
    for (family, hook, rule) in others {
        namespace.run(&format!(
            "nft 'table {family} other {{ chain c {{ type {hook}; policy accept; {rule}; }}; }}'"
        ));
        let texts = [
            &format!("... ok, unless\n    table {family} other "),
            "passed with conditions; 0 failed",
        ];
        expect(&namespace, &file, 0, &texts);
        let texts = ["conditions\n    expected: none\n    actual:   unless table "];
        expect(&namespace, &format!("--fail-on-conditions {file}"), 1, &texts);
        namespace.run(&format!("nft delete table {family} other"));
    }
    namespace.run(
        "nft 'table ip other { chain c { type filter hook forward priority 0; meta random < 9 drop; }; }'",
    );
    let texts = ["\"result\": \"conditional\"", "\"code\": \"other-table\"", "\"conditional\": 2"];
    expect(&namespace, &format!("-o json {file}"), 0, &texts);
    let texts = ["<property name=\"unless\" value=\"table ip other "];
    expect(&namespace, &format!("-o junit {file}"), 0, &texts);
    let texts = ["ok 1 - ", "  message: |\n    unless table ip other "];
    expect(&namespace, &format!("-o tap {file}"), 0, &texts);
}

/// The rules of Services masquerade packets with a mark, also if another program set it.
#[test]
fn packet_tests_live_mark_of_others_is_a_condition_of_masqueraded() {
    for (mode, other_mode) in [("nftables", "iptables"), ("iptables", "nftables")] {
        let (namespace, file) = passing(mode, other_mode);
        let chain = |rule: &str| {
            format!(
                "nft 'table ip other {{ chain c {{ type filter hook forward priority mangle; {rule}; }}; }}'"
            )
        };
        for (rule, undo, is_condition) in [
            (chain("meta mark set 0x4000"), "nft delete table ip other", true),
            (chain("meta mark set meta mark or 0x4000"), "nft delete table ip other", true),
            (chain("meta mark set meta mark or 0x8000"), "nft delete table ip other", false),
            (
                "iptables -t mangle -A PREROUTING -j MARK --set-xmark 0x4000/0x4000".to_owned(),
                "iptables -t mangle -F",
                true,
            ),
            (
                "iptables -t mangle -A POSTROUTING -j MARK --or-mark 0x4000".to_owned(),
                "iptables -t mangle -F",
                true,
            ),
            (
                "iptables -t mangle -A POSTROUTING -j MARK --or-mark 0x10000".to_owned(),
                "iptables -t mangle -F",
                false,
            ),
        ] {
            namespace.run(&rule);
            let (status, text) = test(&namespace, &file);
            assert_eq!(status, 0, "{rule}: {text}");
            let verdict = if is_condition { "ok, unless\n    table " } else { "ok\n" };
            let from_pod = format!("test from a pod ({mode}) ... {verdict}");
            assert!(text.contains(&from_pod), "{rule}: {text}");
            // It is masqueraded anyway.
            let from_outside = format!("test from outside ({mode}) ... ok\n");
            assert!(text.contains(&from_outside), "{rule}: {text}");
            namespace.run(undo);
        }
    }
}

#[test]
fn packet_tests_live_ignore_dormant_tables() {
    let (namespace, file) = passing("nftables", "iptables");
    namespace.run(
        "nft 'table ip other { flags dormant; chain c { type filter hook forward priority 0; policy drop; }; }'",
    );
    expect(&namespace, &file, 0, &["test from a pod (nftables) ... ok\n"]);
    namespace.run("nft add table ip rulegen '{ flags dormant; }'");
    expect(
        &namespace,
        &file,
        2,
        &["table ip rulegen is dormant: the kernel does not use its rules"],
    );
}

#[test]
fn packet_tests_live_need_the_node_of_the_file() {
    let (namespace, file) = passing("nftables", "iptables");
    let cases = std::fs::read_to_string(&file).unwrap();
    let other = namespace.file("other.yaml", &cases.replace("  node: node-1", "  node: node-2"));
    let wrong = "case \"from outside\": inputs.node: the rules in this kernel are not those of node \
                 \"node-2\": this host";
    expect(&namespace, &other, 2, &[wrong, "does not have its address 192.168.1.20"]);
    let cases = cases.replace("from: {pods: {app: client}}", "from: default/shop-1");
    let other = namespace.file("sender.yaml", &cases);
    let ignored = "test from a pod (nftables) ... ignored, its sender is on another node, node-2";
    expect(&namespace, &other, 0, &[ignored]);
}
