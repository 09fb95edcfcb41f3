//! The log without a reader, and as JSON.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::unistd::pipe;
use serde_json::{Value, json};

use crate::node::{KINDS, METRICS_PORT, Node, PATIENCE, wait_until};
use crate::objects::{HERE, service, slice};

const LOST: &str = "rulegen_log_lines_lost_total";

/// The write and read end of a pipe that is full after few lines.
fn narrow_pipe() -> (OwnedFd, OwnedFd) {
    let (read, write) = pipe().unwrap();
    fcntl(write.as_fd(), FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    (read, write)
}

/// Services with errors that differ for each `n`, so that each is logged.
fn complaints(n: usize) -> Vec<Value> {
    let wrong = |number| {
        let mut service = service(&format!("wrong-{number}"), 40);
        let text = format!("{n}{}", "x".repeat(1000));
        service["metadata"]["annotations"] = json!({ "rulegen/load-balancing": text });
        service
    };
    (0..500).map(wrong).collect()
}

fn works_without_log_reader(label: &str, log: Stdio, held: Option<OwnedFd>) {
    let mut node = Node::new(label);
    node.start_with_log("", log);
    node.settle();
    KINDS.iter().for_each(|kind| node.server.wait_for_watch(*kind, PATIENCE));
    let mut n = 0;
    wait_until("log lines are dropped", || {
        n += 1;
        node.server.apply_many(complaints(n));
        node.metric(LOST) > Some(0.0)
    });
    node.server.apply_many([service("news", 30), slice("news", "a", &[HERE[0]])]);
    node.settle();
    for path in ["/livez", "/healthz", "/readyz"] {
        assert_eq!(node.probe(path), 200, "{path}");
    }
    assert_eq!(node.get(METRICS_PORT, "/").unwrap().status, 200);
    let (status, took) = node.stop(Signal::SIGTERM);
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(4), "the exit waited for a reader: {took:?}");
    drop(held);
}

#[test]
fn log_pipe_that_is_full_does_not_block_agent() {
    let (read, write) = narrow_pipe();
    works_without_log_reader("log-full-pipe", write.into(), Some(read));
}

#[test]
fn log_pipe_that_is_closed_does_not_stop_agent() {
    let (_, write) = narrow_pipe();
    works_without_log_reader("log-no-reader", write.into(), None);
}

#[test]
fn log_on_full_disk_does_not_stop_agent() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    works_without_log_reader("log-full-disk", full.into(), None);
}

#[test]
fn log_format_json_for_all_lines_including_last() {
    let mut node = Node::new("log-json");
    let config = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
                  noSuchField: 1\n";
    let config = node.space.file("config.yaml", config);
    node.start(&format!("--logging-format json --config {config}"));
    node.settle();
    node.server.apply_many([service("news", 30), slice("news", "a", &[HERE[0]])]);
    node.settle();
    wait_until("two syncs are logged", || node.logged(r#""message":"synced""#) > 1);
    node.stop(Signal::SIGTERM);
    let log = node.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let has = |text: &str| lines.iter().any(|line| line.to_string().contains(text));
    assert!(has("noSuchField"), "no problem of the configuration: {log}");
    assert!(
        lines.last().unwrap()["message"].as_str().unwrap().starts_with("received SIGTERM"),
        "{log}"
    );
    let syncs: Vec<&Value> = lines.iter().filter(|line| line["message"] == "synced").collect();
    for sync in syncs {
        let phases = ["gather", "compile", "read", "diff", "commit", "other"];
        let sum: f64 = phases.iter().filter_map(|of| sync[format!("{of}_ms")].as_f64()).sum();
        let all = sync["milliseconds"].as_f64().unwrap();
        assert!((sum - all).abs() < 0.001, "the phases do not add up: {sync}");
        for number in ["services", "bytes", "elements_added", "rules_deleted", "other_ms"] {
            assert!(sync[number].is_number(), "{number}: {sync}");
        }
    }
}

/// A cluster may have thousands of Services without rules, so they share one line.
#[test]
fn headless_and_external_name_services_are_one_line() {
    let mut node = Node::new("log-skipped");
    let names: Vec<String> = (0..20).map(|n| format!("alias-{n}")).collect();
    node.server.apply_many(names.iter().map(|name| {
        let mut alias = service(name, 40);
        alias["spec"] = json!({"type": "ExternalName", "externalName": "example.com"});
        alias
    }));
    node.start("");
    node.settle();
    wait_until("it is logged", || node.logged("skipped headless and ExternalName Services") > 0);
    let log = node.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("ExternalName")).collect();
    assert!(matches!(lines[..], [line] if line.contains("services=20")), "{lines:?}");

    let list = node.command("list --dry-run");
    let printed = crate::common::stderr(&list);
    let lines: Vec<&str> = printed.lines().filter(|line| line.contains("ExternalName")).collect();
    let start =
        "note: skipped 20 headless and ExternalName Services, which need no rules: default/";
    assert!(matches!(lines[..], [line] if line.starts_with(start)), "{printed}");
    assert!(printed.contains("and 17 more"), "{printed}");
}

/// Effective values may come from the configuration file or a default, or depend on the mode.
#[test]
fn flagz_has_effective_values() {
    let mut node = Node::new("flagz");
    let config = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
                  mode: iptables\nclusterCIDR: 10.244.0.0/16\nnftables: {syncPeriod: 45s}\n\
                  nodePortAddresses: [192.168.0.0/16, 10.0.0.0/8]\noomScoreAdj: -5\n";
    let config = node.space.file("config.yaml", config);
    node.start(&format!("--config {config} --conntrack-udp-timeout 7s"));
    wait_until("/flagz answers", || node.get(METRICS_PORT, "/flagz").is_some());
    let flags = node.get(METRICS_PORT, "/flagz").unwrap().body;
    for line in [
        "proxy-mode=nftables",
        "cluster-cidr=10.244.0.0/16",
        "iptables-sync-period=45s",
        "nodeport-addresses=192.168.0.0/16,10.0.0.0/8",
        "conntrack-udp-timeout=7s",
        "conntrack-min=0",
        "detect-local-mode=ClusterCIDR",
        "metrics-bind-address=127.0.0.1:10249",
        "oom-score-adj=0",
        &format!("kubeconfig={}", node.kubeconfig),
        &format!("config={config}"),
    ] {
        assert!(flags.lines().any(|of| of == line), "{line} is not in {flags}");
    }
}

/// The error that prevents the start is JSON too.
#[test]
fn log_format_json_for_startup_error() {
    let node = Node::new("log-json-error");
    let output = node.space.rulegen(
        "agent --manifests /nowhere --logging-format json --config /nowhere/config.yaml \
         --conntrack-max-per-core 0 --oom-score-adj 0",
    );
    assert!(!output.status.success());
    let text = crate::common::stderr(&output);
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "ERROR", "{text}");
    assert_eq!(last["message"], "command failed", "{text}");
    assert!(last["error"].as_str().unwrap().contains("/nowhere/config.yaml"), "{text}");
}
