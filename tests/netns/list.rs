//! List the kernel's rules, and plan changes to them, with and without drift.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::common::{root, stderr, stdout};
use crate::namespace::Namespace;
use crate::topology::{From, Topology};
use crate::traffic::{Answer, Proto};

const MODES: [&str; 2] = ["iptables", "nftables"];

fn example(name: &str) -> String {
    root().join("examples").join(name).to_str().unwrap().to_owned()
}

fn applied(label: &str, mode: &str, manifest: &str) -> Namespace {
    let namespace = Namespace::new(label);
    let output = namespace.rulegen(&format!("-f {manifest} {}", flags(mode)));
    assert!(output.status.success(), "{}", stderr(&output));
    namespace
}

fn flags(mode: &str) -> String {
    format!("--hostname-override node-1 --ip-family ipv4 --proxy-mode {mode}")
}

fn list(namespace: &Namespace, arguments: &str) -> String {
    let output = namespace.rulegen(&format!("list --ip-family ipv4 {arguments}"));
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// Two columns of each line.
fn columns(text: &str, names: [&str; 2]) -> Vec<[String; 2]> {
    let header = text.lines().next().unwrap_or_default();
    let starts = names.map(|name| header.find(name).unwrap());
    let cell = |line: &str, start: usize| {
        line.get(start..).unwrap_or_default().split("   ").next().unwrap_or_default().to_owned()
    };
    text.lines().skip(1).map(|line| starts.map(|start| cell(line, start))).collect()
}

/// Without a flag, list detects the mode from the rules. Its output equals that of a dry run.
#[test]
fn list_of_applied_rules_equals_dry_run() {
    for mode in MODES {
        for manifest in ["clusterip.yaml", "nodeport.yaml", "loadbalancer.yaml"] {
            let manifest = example(manifest);
            let namespace = applied("list", mode, &manifest);
            let objects = format!("-f {manifest} --hostname-override node-1");
            let dry = list(&namespace, &format!("--dry-run {objects} --proxy-mode {mode} -o json"));
            let held = list(&namespace, &format!("{objects} -o json"));
            let [dry, mut held]: [Value; 2] =
                [dry, held].map(|text| serde_json::from_str(&text).unwrap());
            for service in held["services"].as_array_mut().unwrap() {
                assert_eq!(service.as_object_mut().unwrap().remove("state").unwrap(), "inSync");
                for frontend in service["frontends"].as_array_mut().unwrap() {
                    let state = frontend.as_object_mut().unwrap().remove("state");
                    assert_eq!(state.unwrap(), "inSync");
                }
            }
            assert_eq!(held, dry, "{mode} {manifest}");
        }
    }
}

#[test]
fn list_without_objects_shows_kernel_state() {
    for mode in MODES {
        let namespace = applied("list-alone", mode, &example("nodeport.yaml"));
        let text = list(&namespace, "");
        assert!(!text.contains("STATE"), "{text}");
        let rows = columns(&text, ["NAME ", "FRONTEND"]);
        let wanted = [
            ["example-service", "10.96.0.11:8080/TCP"],
            ["example-service", "*:30081/TCP"],
            ["web-service", "10.96.0.10:80/TCP"],
            ["web-service", "*:30080/TCP"],
        ];
        assert_eq!(rows, wanted, "{mode}");
    }
    let empty = Namespace::new("list-empty");
    let output = empty.rulegen("list");
    assert!(output.status.success());
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).contains("No Services found"), "{}", stderr(&output));
}

/// Changes that a user makes by hand.
const DRIFT: [(&str, &[&str]); 2] = [
    (
        "iptables",
        &[
            "iptables-nft -t nat -D KUBE-SERVICES $(iptables-nft -t nat -S KUBE-SERVICES | \
             grep -n -- 'database-service' | head -1 | cut -d: -f1 | awk '{print $1 - 1}')",
            "chain=$(iptables-nft -t nat -S | grep -- '--to-destination 10.244.1.5:8080' | \
             awk '{print $2}'); iptables-nft -t nat -R $chain 2 -p tcp -j DNAT \
             --to-destination 10.244.9.9:8080",
            "iptables-nft -t nat -I KUBE-SERVICES -d 10.96.0.99 -p tcp -m comment --comment \
             'default/intruder cluster IP' -m tcp --dport 80 -j KUBE-MARK-MASQ",
        ],
    ),
    (
        "nftables",
        &[
            "nft delete element ip rulegen services '{ 10.96.0.30 . tcp . 5432 }'",
            "nft delete element ip rulegen endpoints '{ 10.96.0.20 . tcp . 80 . 0 }'",
            "nft add element ip rulegen endpoints \
             '{ 10.96.0.20 . tcp . 80 . 0 : 10.244.9.9 . 8080 }'",
            "nft add element ip rulegen services \
             '{ 10.96.0.99 . tcp . 80 comment \"default/intruder\" : goto reject-chain }'",
        ],
    ),
];

#[test]
fn list_and_diff_mark_drift() {
    for (mode, changes) in DRIFT {
        let manifest = example("clusterip.yaml");
        let namespace = applied("list-drift", mode, &manifest);
        for change in changes {
            namespace.run(change);
        }
        let objects = format!("-f {manifest} --hostname-override node-1");
        let states = columns(&list(&namespace, &objects), ["NAME ", "STATE"]);
        let wanted = [
            ["backend-service", "missing 10.244.1.5:8080; extra 10.244.9.9:8080"],
            ["database-service", "missing"],
            ["frontend-service", "ok"],
            ["intruder", "extra"],
        ];
        assert_eq!(states, wanted, "{mode}");
        let differing = list(&namespace, &format!("{objects} --differing"));
        assert!(!differing.contains("frontend-service"), "{differing}");

        let diff = namespace.rulegen(&format!("diff -f {manifest} {}", flags(mode)));
        let text = stdout(&diff);
        assert_eq!(diff.status.code(), Some(1), "{text}");
        let parts = [
            "~ default/backend-service TCP\n  ~ ClusterIP 10.96.0.20:80/TCP\n    \
             - endpoint 10.244.9.9:8080\n    + endpoint 10.244.1.5:8080\n",
            "+ default/database-service TCP\n  + ClusterIP 10.96.0.30:5432/TCP\n",
            "- default/intruder TCP\n  - ClusterIP",
            "Plan: 1 service to add, 1 to change, 1 to remove",
        ];
        for part in parts {
            let part = match mode {
                // The element is missing in the set of cluster IPs.
                "nftables" => {
                    part.replace("intruder TCP\n  - ClusterIP", "intruder TCP\n  - External")
                }
                _ => part.to_owned(),
            };
            assert!(text.contains(&part), "{mode}: {part:?} is not in\n{text}");
        }
        let apply = format!("-f {manifest} --prune {}", flags(mode));
        assert!(namespace.rulegen(&apply).status.success());
        let states = columns(&list(&namespace, &objects), ["NAME ", "STATE"]);
        assert!(states.iter().all(|[_, state]| state == "ok"), "{mode}: {states:?}");
    }
}

/// A chain without rules has no endpoints, regardless of its name.
#[test]
fn list_follows_rules_instead_of_chain_names() {
    let namespace = applied("list-flushed", "nftables", &example("clusterip.yaml"));
    namespace.run("nft flush chain ip rulegen endpoints-5");
    namespace.run("nft add rule ip rulegen endpoints-5 ip saddr 192.0.2.1 counter accept");
    let output = namespace.rulegen("list --ip-family ipv4 backend-service");
    assert!(stdout(&output).trim_end().ends_with("<none>"), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("note: ip rulegen: chain endpoints-5: "),
        "{}",
        stderr(&output)
    );
}

/// All Services are present and correct, but no packet reaches them.
#[test]
fn list_reports_missing_jump_to_services() {
    for (mode, change) in [
        ("iptables", "iptables-nft -t nat -F PREROUTING"),
        ("nftables", "nft flush chain ip rulegen nat-prerouting"),
    ] {
        let namespace = applied("list-closed", mode, &example("clusterip.yaml"));
        let notes = || stderr(&namespace.rulegen("list --ip-family ipv4"));
        assert_eq!(notes(), "", "{mode}");
        namespace.run(change);
        let notes = notes();
        assert!(notes.contains("no rule jumps from PREROUTING to the Services"), "{mode}: {notes}");
    }
}

/// A plan lists each Service once, with the changes in terms of Services and of rules.
#[test]
fn diff_plan_is_grouped_by_service() {
    for mode in MODES {
        let namespace = applied("plan", mode, &example("clusterip.yaml"));
        let plan = |manifest: &str, form: &str| {
            namespace.rulegen(&format!("diff -f {} {} {form}", example(manifest), flags(mode)))
        };
        let output = plan("crash.yaml", "");
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(1));
        for part in [
            "~ default/backend-service TCP\n  ~ ClusterIP 10.96.0.20:80/TCP\n    - endpoint 10.244.1.5:8080\n  ",
            "\n- default/database-service TCP\n  - ClusterIP 10.96.0.30:5432/TCP\n    - endpoint",
            "\n- default/frontend-service TCP\n",
            "\nPlan: 0 services to add, 1 to change, 2 to remove",
        ] {
            let text = format!("\n{text}");
            assert!(text.contains(part), "{mode}: {part:?} is not in\n{text}");
        }
        let report: Value = serde_json::from_slice(&plan("crash.yaml", "-o json").stdout).unwrap();
        let summary = serde_json::json!({"add": 0, "change": 1, "remove": 2});
        assert_eq!((&report["mode"], &report["summary"]), (&mode.into(), &summary));
        let backend = &report["services"][0];
        assert_eq!(backend["action"], "change");
        assert_eq!(backend["frontends"][0]["removed"][0], "endpoint 10.244.1.5:8080");
        assert!(!backend["objects"].as_array().unwrap().is_empty());
        let output = plan("clusterip.yaml", "-o json");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(
            (&report["services"], &report["shared"]),
            (&Value::Array(vec![]), &Value::Array(vec![]))
        );
    }
}

/// Rules count connections of Services with affinity, elements count those of others.
#[test]
fn list_shows_connections_with_nftables_counters() {
    let lab = Topology::new("list-counted");
    lab.apply("--cluster-cidr 10.244.0.0/16,fd00:10:244::/48 --proxy-mode nftables");
    let list = |form: &str| stdout(&lab.node.rulegen(&format!("list cluster sticky {form}")));
    assert!(!list("").contains("CONNECTIONS"), "nothing is counted yet");
    lab.apply(
        "--cluster-cidr 10.244.0.0/16,fd00:10:244::/48 --proxy-mode nftables --nftables-counters",
    );
    for (ip, times) in [("10.96.0.10:80", 3), ("10.96.0.70:80", 2)] {
        for _ in 0..times {
            let answer = lab.ask(From::BridgedPod, Proto::Tcp, ip.parse().unwrap());
            assert!(matches!(answer, Answer::From { .. }), "{answer:?}");
        }
    }
    let listing: Value = serde_json::from_str(&list("-o json")).unwrap();
    let services = listing["services"].as_array().unwrap();
    for (name, times) in [("cluster", 3), ("sticky", 2)] {
        let of_name = services.iter().filter(|service| service["name"] == name);
        let tcp: Vec<&Value> = of_name
            .filter(|service| service["frontends"][0]["protocol"] == "TCP")
            .filter(|service| service["connections"] != 0)
            .collect();
        assert_eq!(tcp.len(), 1, "{name}: {listing:#}");
        assert_eq!(tcp[0]["connections"], times, "{name}");
        let endpoints = tcp[0]["endpoints"].as_array().unwrap();
        let sum: u64 = endpoints.iter().map(|to| to["connections"].as_u64().unwrap()).sum();
        assert_eq!(sum, times, "{name}");
    }
    assert!(list("").contains("CONNECTIONS"));
}

/// With nothing but the rules to read, a table of one mode equals that of the other.
#[test]
fn list_without_objects_has_the_same_words_in_both_modes() {
    for manifest in ["clusterip.yaml", "nodeport.yaml", "loadbalancer.yaml"] {
        let [iptables, nftables] =
            MODES.map(|mode| list(&applied("same", mode, &example(manifest)), "-o wide"));
        assert!(iptables.lines().count() > 1, "{manifest}");
        assert_eq!(iptables, nftables, "{manifest}");
        let json = MODES.map(|mode| {
            let text = list(&applied("same-json", mode, &example(manifest)), "-o json");
            let listed: Value = serde_json::from_str(&text).unwrap();
            listed["services"].clone()
        });
        assert_eq!(json[0], json[1], "{manifest}");
    }
}

#[test]
fn list_watch_prints_each_frontend_that_changes() {
    for mode in MODES {
        let namespace = applied("watch", mode, &example("nodeport.yaml"));
        let mut child = Command::new("ip")
            .args(["netns", "exec", &namespace.name, env!("CARGO_BIN_EXE_rulegen")])
            .args(["list", "--watch", "--ip-family", "ipv4", "--proxy-mode", mode])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|l| sender.send(l)));
        let wait_for = |parts: &[&str]| {
            let deadline = Duration::from_secs(30);
            loop {
                let line =
                    lines.recv_timeout(deadline).unwrap_or_else(|_| panic!("{mode}: {parts:?}"));
                if parts.iter().all(|part| line.contains(part)) {
                    return line;
                }
            }
        };
        wait_for(&["NAMESPACE", "ENDPOINTS"]);
        wait_for(&["web-service", "*:30080/TCP"]);
        let apply = format!("-f {} --prune {}", example("clusterip.yaml"), flags(mode));
        assert!(namespace.rulegen(&apply).status.success());
        wait_for(&["backend-service", "10.96.0.20:80/TCP"]);
        wait_for(&["web-service", "*:30080/TCP", "<removed>"]);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
