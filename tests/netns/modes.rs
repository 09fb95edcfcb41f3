//! The proxy mode: flag, configuration, rules in the kernel, kube-proxy's default, in this order.

use serde_json::Value;

use crate::apply::example;
use crate::common::{stderr, stdout};
use crate::namespace::Namespace;

const MODES: [&str; 2] = ["iptables", "nftables"];

/// The mode that each command uses without --proxy-mode.
fn modes(namespace: &Namespace, flags: &str) -> [(&'static str, String); 5] {
    let objects = format!("-f {} --hostname-override node-1 {flags}", example("nodeport.yaml"));
    let json = |command: &str| {
        let output = namespace.rulegen(&format!("{command} {objects} -o json"));
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{command} {flags}: {error}: {}", stderr(&output)));
        json["mode"].as_str().unwrap().to_owned()
    };
    let dry_run = stdout(&namespace.rulegen(&format!("--dry-run {objects}")));
    let dry_run = if dry_run.starts_with("table ip") { "nftables" } else { "iptables" };
    let explain = "explain --from 192.168.1.100 --to 192.168.1.10:30080";
    let explained = stdout(&namespace.rulegen(&format!("{explain} {objects}")));
    let explained = if explained.contains("KUBE-") { "iptables" } else { "nftables" };
    [
        ("diff", json("diff")),
        ("list", json("list")),
        ("doctor", json("doctor")),
        ("dry-run", dry_run.to_owned()),
        ("explain", explained.to_owned()),
    ]
}

#[test]
fn proxy_mode_is_found_the_same_way_by_all_commands() {
    let namespace = Namespace::new("mode");
    let config = |name: &str, mode: &str| {
        let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
        namespace.file(name, &format!("{text}mode: '{mode}'\n"))
    };
    let unset = config("unset.yaml", "");
    let [iptables, nftables, ipvs] = ["iptables", "nftables", "ipvs"].map(|m| config(m, m));
    let assert_mode = |flags: &str, expected: &str| {
        for (command, mode) in modes(&namespace, flags) {
            assert_eq!(mode, expected, "{command} {flags}");
        }
    };
    assert_mode("", "iptables");
    assert_mode(&format!("--config {nftables}"), "nftables");
    assert_mode(&format!("--config {ipvs} --proxy-mode nftables"), "nftables");
    let apply = format!("-f {} --hostname-override node-1", example("nodeport.yaml"));
    let applied = namespace.rulegen(&format!("{apply} --proxy-mode nftables"));
    assert!(applied.status.success(), "{}", stderr(&applied));
    assert_mode("", "nftables");
    assert_mode(&format!("--config {unset}"), "nftables");
    assert_mode("--proxy-mode=", "nftables");
    assert_mode(&format!("--config {iptables}"), "iptables");
    assert_mode("--proxy-mode iptables", "iptables");
    // apply keeps to the mode of the rules.
    let again = stderr(&namespace.rulegen(&apply));
    assert!(again.contains("ip rulegen: ") && !again.contains("warning"), "{again}");
    namespace.run("nft delete table ip rulegen");
    namespace.run("nft delete table ip6 rulegen");
    namespace.run("nft add table ip kube-proxy");
    assert_mode("", "nftables");
    namespace.run("iptables-nft -t nat -N KUBE-SERVICES");
    assert_mode("", "iptables");
}

#[test]
fn proxy_mode_of_an_unknown_name_in_the_configuration_is_overridden_by_the_flag() {
    let namespace = Namespace::new("ipvs");
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    let config = namespace.file("ipvs.yaml", &format!("{text}mode: ipvs\n"));
    let apply =
        format!("-f {} --hostname-override node-1 --config {config}", example("nodeport.yaml"));
    let refused = namespace.rulegen(&apply);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    for mode in MODES {
        let applied = namespace.rulegen(&format!("{apply} --proxy-mode {mode}"));
        let said = stderr(&applied);
        assert!(applied.status.success(), "{said}");
        assert!(said.contains(&format!("overridden by --proxy-mode {mode}")), "{said}");
        assert!(namespace.rulegen("cleanup").status.success());
    }
}

#[test]
fn applying_over_rules_of_the_other_mode_prints_a_warning_first() {
    for [old, new] in [["iptables", "nftables"], ["nftables", "iptables"]] {
        for variant in ["nft", "legacy"] {
            let namespace = Namespace::new("over");
            let apply = |mode: &str| {
                let flags = format!("--hostname-override node-1 --iptables-variant {variant}");
                let manifest = example("nodeport.yaml");
                let output =
                    namespace.rulegen(&format!("-f {manifest} {flags} --proxy-mode {mode}"));
                assert!(output.status.success(), "{}", stderr(&output));
                stderr(&output)
            };
            assert!(!apply(old).contains("warning"));
            let said = apply(new);
            let first = said.lines().find(|line| !line.starts_with("note: ")).unwrap();
            let warning =
                format!("warning: the mode is {new}, but the kernel also has rules of {old}");
            assert!(first.starts_with(&warning), "{said}");
            assert!(namespace.rulegen("cleanup").status.success());
            assert!(!apply(new).contains("warning"), "after cleanup");
        }
    }
}

/// Without kubelet, the default variant is nft.
#[test]
fn rules_in_the_other_iptables_variant_are_read_without_iptables_variant() {
    let namespace = Namespace::new("variant-in-use");
    let apply = format!("-f {} --hostname-override node-1", example("nodeport.yaml"));
    let legacy = format!("{apply} --proxy-mode iptables --iptables-variant legacy");
    assert!(namespace.rulegen(&legacy).status.success());
    let list = "list -o name";
    let listed = stdout(&namespace.rulegen(&format!("{list} --iptables-variant legacy")));
    assert!(!listed.is_empty());
    assert_eq!(stdout(&namespace.rulegen(list)), listed);
    let explain = "explain --live --from 192.168.1.100 --to 10.96.0.10:80";
    let explained = stdout(&namespace.rulegen(explain));
    assert!(explained.contains("cluster IP 10.96.0.10:80 of"), "{explained}");
}
