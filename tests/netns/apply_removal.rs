//! apply removes no Service without being asked to. What cleanup reports and asks.

use crate::apply::{VARIANTS, example, saved};
use crate::common::{stderr, stdout};
use crate::namespace::Namespace;

const MODES: [&str; 3] = [
    "--proxy-mode iptables --iptables-variant nft",
    "--proxy-mode iptables --iptables-variant legacy",
    "--proxy-mode nftables",
];

/// All rules in the kernel, without counters and handles.
fn all_rules(namespace: &Namespace) -> String {
    let variants = VARIANTS.map(|variant| {
        ["iptables", "ip6tables"].map(|family| saved(namespace, variant, family)).concat()
    });
    variants.concat() + &namespace.run("nft list ruleset")
}

fn service(name: &str, number: usize) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: 10.96.1.{number}, ports: [{{port: 80}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-1, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{{addresses: [10.244.1.{number}]}}]\n"
    )
}

fn services(count: usize) -> String {
    (1..=count).map(|n| service(&format!("s{n:02}"), n)).collect()
}

#[test]
fn apply_without_prune_names_and_keeps_removed_services() {
    for mode in MODES {
        let namespace = Namespace::new("prune");
        let all = namespace.file("all.yaml", &services(14));
        let one = namespace.file("one.yaml", &services(1));
        let apply = |arguments: &str| namespace.rulegen(&format!("apply {mode} {arguments}"));
        assert!(
            apply(&format!("-f {all}")).status.success(),
            "nothing is removed from an empty kernel"
        );
        let before = all_rules(&namespace);

        let refused = apply(&format!("-f {one}"));
        let messages = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{mode}: {messages}");
        assert!(messages.starts_with("The input is the complete desired state."), "{messages}");
        assert!(messages.contains("(13): shop/s02, shop/s03"), "{mode}: {messages}");
        assert!(
            messages.contains("shop/s11 and 3 more") && !messages.contains("shop/s12"),
            "{messages}"
        );
        assert!(messages.contains("--prune"), "{messages}");
        assert_eq!(all_rules(&namespace), before, "{mode}: something was written");

        let pruned = apply(&format!("-f {one} --prune"));
        assert!(pruned.status.success(), "{mode}: {}", stderr(&pruned));
        assert!(stderr(&pruned).contains("shop/s11 and 3 more"), "{}", stderr(&pruned));
        let left = stdout(&namespace.rulegen(&format!("list {mode}")));
        assert!(left.contains("s01") && !left.contains("s02"), "{mode}: {left}");
        assert!(apply(&format!("-f {one}")).status.success(), "nothing is left to remove");

        // A changed address or endpoint is not a removal, and neither is a new Service.
        let moved = namespace.file("moved.yaml", &(service("s01", 9) + &service("new", 10)));
        assert!(apply(&format!("-f {moved}")).status.success(), "{mode}");
        assert!(apply(&format!("-f {one} --yes")).status.success(), "--yes answers the question");
    }
}

/// The output of `kubectl get services` alone: all traffic of every Service would be rejected.
#[test]
fn apply_without_endpoint_slices_needs_prune() {
    for mode in MODES {
        let namespace = Namespace::new("slices");
        let with = namespace.file("with.yaml", &services(2));
        let documents = services(2);
        let documents: Vec<&str> = documents.split("---\n").collect();
        let bare: Vec<&str> =
            documents.iter().copied().filter(|text| text.contains("kind: Service\n")).collect();
        let without = namespace.file("without.yaml", &bare.join("---\n"));
        let apply = |arguments: &str| namespace.rulegen(&format!("{mode} -f {arguments}"));
        assert!(apply(&with).status.success());
        let before = all_rules(&namespace);
        let refused = apply(&without);
        let messages = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{mode}: {messages}");
        assert!(
            messages.contains("no EndpointSlice (2): shop/s01, shop/s02"),
            "{mode}: {messages}"
        );
        assert_eq!(all_rules(&namespace), before, "{mode}");
        assert!(apply(&format!("{without} --prune")).status.success());

        // With a slice that has none, a Service may lose its endpoints.
        assert!(apply(&with).status.success());
        let scaled = services(2).replace("[{addresses: [10.244.1.2]}]", "[]");
        let scaled = namespace.file("scaled.yaml", &scaled);
        let output = apply(&scaled);
        assert!(output.status.success(), "{mode}: {}", stderr(&output));
    }
}

/// Rules of kube-proxy, in the layout of its own table.
#[test]
fn apply_over_kube_proxy_table_needs_prune() {
    let namespace = Namespace::new("proxy");
    namespace.run(
        "nft 'add table ip kube-proxy; \
         add chain ip kube-proxy service-2QRHZV4L-default/kubernetes/tcp/https; \
         add chain ip kube-proxy endpoint-AAAAAAAA-default/kubernetes/tcp/https__10.0.0.1/443'",
    );
    let one = namespace.file("one.yaml", &services(1));
    let apply = format!("-f {one} --proxy-mode nftables --nftables-table kube-proxy");
    let refused = namespace.rulegen(&apply);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("(1): default/kubernetes\n"), "{}", stderr(&refused));
    assert!(namespace.run("nft list table ip kube-proxy").contains("service-2QRHZV4L"));
    assert!(namespace.rulegen(&format!("{apply} --prune")).status.success());
    assert!(!namespace.run("nft list table ip kube-proxy").contains("service-2QRHZV4L"));
}

/// Runs the program at a terminal and types an answer.
fn at_terminal(namespace: &Namespace, arguments: &str, answer: &str) -> (Option<i32>, String) {
    let rulegen = env!("CARGO_BIN_EXE_rulegen");
    let output =
        namespace.shell(&format!("echo {answer} | script -qec '{rulegen} {arguments}' /dev/null"));
    (output.status.code(), stdout(&output))
}

#[test]
fn apply_and_cleanup_prompt_at_terminal_before_removal() {
    let namespace = Namespace::new("asked");
    let two = namespace.file("two.yaml", &services(2));
    let one = namespace.file("one.yaml", &services(1));
    let mode = "--proxy-mode nftables";
    assert!(namespace.rulegen(&format!("-f {two} {mode}")).status.success());
    let before = all_rules(&namespace);

    let (status, messages) = at_terminal(&namespace, &format!("-f {one} {mode}"), "n");
    assert_eq!(status, Some(1), "{messages}");
    assert!(
        messages.contains("(1): shop/s02") && messages.contains("Remove them? [y/N]"),
        "{messages}"
    );
    assert_eq!(all_rules(&namespace), before);
    let (status, messages) = at_terminal(&namespace, &format!("-f {one} {mode}"), "y");
    assert_eq!(status, Some(0), "{messages}");
    assert_ne!(all_rules(&namespace), before);

    let before = all_rules(&namespace);
    let (status, messages) = at_terminal(&namespace, "cleanup", "n");
    assert_eq!(status, Some(1), "{messages}");
    assert!(messages.contains("ip rulegen: table deleted (dry run)"), "{messages}");
    assert!(messages.contains("Remove all this? [y/N]"), "{messages}");
    assert_eq!(all_rules(&namespace), before);
    let (status, messages) = at_terminal(&namespace, "cleanup", "yes");
    assert_eq!(status, Some(0), "{messages}");
    assert!(!all_rules(&namespace).contains("rulegen"));
    let (status, messages) = at_terminal(&namespace, "cleanup", "n");
    assert_eq!(
        (status, messages.contains("[y/N]")),
        (Some(0), false),
        "nothing to remove: {messages}"
    );
    assert!(namespace.rulegen(&format!("-f {two} {mode}")).status.success());
    let (status, messages) = at_terminal(&namespace, "cleanup --yes", "n");
    assert_eq!((status, messages.contains("[y/N]")), (Some(0), false), "{messages}");
    assert!(!all_rules(&namespace).contains("rulegen"));
}

#[test]
fn cleanup_dry_run_changes_nothing() {
    let namespace = Namespace::new("dry");
    let flags = format!("-f {}", example("nodeport.yaml"));
    assert!(namespace.rulegen(&format!("{flags} --proxy-mode nftables")).status.success());
    assert!(
        namespace
            .rulegen(&format!("{flags} --proxy-mode iptables --iptables-variant legacy"))
            .status
            .success()
    );
    let before = all_rules(&namespace);
    let output = namespace.rulegen("cleanup --dry-run");
    assert!(output.status.success());
    let messages = stderr(&output);
    assert!(messages.contains("ip6 rulegen: table deleted (dry run)"), "{messages}");
    assert!(
        messages.contains("IPv4 (iptables-legacy): ") && messages.contains("deleted"),
        "{messages}"
    );
    assert_eq!(all_rules(&namespace), before);

    let read = |arguments: &str| -> serde_json::Value {
        serde_json::from_str(&stdout(&namespace.rulegen(arguments))).unwrap()
    };
    let planned = read("cleanup --dry-run -o json");
    assert_eq!(all_rules(&namespace), before);
    let done = read("cleanup -o json");
    assert_eq!((&planned["dryRun"], &done["dryRun"]), (&true.into(), &false.into()));
    assert_eq!(planned["nftables"][0], serde_json::json!({"family": "ip", "table": "rulegen"}));
    for part in ["nftables", "iptables", "failed"] {
        assert_eq!(planned[part], done[part], "{part}");
    }
    let clean = |report: &serde_json::Value| {
        let families = report["iptables"].as_array().unwrap();
        families.iter().map(|family| family["isClean"].as_bool().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(clean(&done), [true, true, false, false]);
    assert_eq!(clean(&read("cleanup -o json")), [true; 4]);
    assert!(!all_rules(&namespace).contains("KUBE-SERVICES"));
}

/// The rules that guard 127.0.0.1 are removed, so cleanup says that its opening is left.
#[test]
fn cleanup_notes_that_route_localnet_stays_on() {
    let namespace = Namespace::new("cleanup-localnet");
    let apply = format!("apply --proxy-mode iptables -f {}", example("nodeport.yaml"));
    let cleanup = || {
        let output = namespace.rulegen("cleanup --yes");
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let command = "sysctl -w net.ipv4.conf.all.route_localnet=0";
    for (value, is_noted) in [(0, false), (1, true)] {
        assert!(namespace.rulegen(&apply).status.success());
        namespace.run(&format!("sysctl -qw net.ipv4.conf.all.route_localnet={value}"));
        let said = cleanup();
        assert_eq!(
            said.contains("note: net.ipv4.conf.all.route_localnet is 1"),
            is_noted,
            "{said}"
        );
        assert_eq!(said.lines().any(|line| line.ends_with(command)), is_noted, "{said}");
    }
    assert!(!cleanup().contains("note:"), "there was nothing to remove");
}
