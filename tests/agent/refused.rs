//! The kernel refuses the agent's transactions.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::api_server::Kind;
use crate::namespace::Namespace;
use crate::node::{Node, wait_until};
use crate::objects::{HERE, service, slice};

/// Another process owns the agent's tables (NFT_TABLE_F_OWNER). While it runs, the kernel refuses
/// changes of the tables by all others. When it exits, the kernel deletes them.
struct Owner(Child);

impl Owner {
    fn of(space: &Namespace) -> Self {
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &space.name, "nft", "-i"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // One line is one transaction: the agent cannot recreate its tables in between.
        let commands = ["ip", "ip6"].map(|family| {
            format!(
                "add table {family} rulegen; delete table {family} rulegen; \
                 add table {family} rulegen {{ flags owner; }}"
            )
        });
        writeln!(nft.stdin.as_mut().unwrap(), "{}", commands.join("; ")).unwrap();
        let owner = Self(nft);
        wait_until("the tables have an owner", || {
            space.run("nft list ruleset").matches("flags owner").count() == 2
        });
        owner
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const FAILURES: &str = "kubeproxy_sync_proxy_rules_nftables_sync_failures_total";

/// Changes objects while syncs fail; no change may be lost.
fn change_meanwhile(node: &Node) {
    for number in 200..210 {
        let name = format!("meanwhile-{number}");
        node.server.apply_many([service(&name, number), slice(&name, "a", &[HERE[0]])]);
        thread::sleep(Duration::from_millis(20));
    }
    node.server.delete(Kind::Service, "default", "meanwhile-200");
    node.server.apply(slice("web", "a", &[HERE[1]]));
}

#[test]
fn sync_refused_by_kernel_is_retried_and_reported_unhealthy() {
    let mut node = Node::new("refused");
    node.start("--iptables-sync-period 1s");
    node.settle();
    node.wait_for_watches();
    wait_until("the node is healthy", || {
        node.probe("/healthz") == 200 && node.probe("/readyz") == 200
    });
    assert_eq!(node.metric(FAILURES), Some(0.0));

    let owner = Owner::of(&node.space);
    change_meanwhile(&node);
    wait_until("syncs fail", || node.metric(FAILURES) >= Some(2.0));
    wait_until("the node is unhealthy", || node.probe("/healthz") == 503);
    assert_eq!((node.probe("/livez"), node.probe("/readyz")), (503, 503));
    let pending = "kubeproxy_sync_proxy_rules_service_changes_pending";
    assert!(node.metric(pending) >= Some(10.0), "{:?}", node.metric(pending));
    assert!(node.space.run("nft list ruleset").matches("flags owner").count() == 2);

    drop(owner);
    node.settle();
    assert!(node.rules().contains("10.96.0.209") && node.rules().contains(HERE[1]));
    wait_until("the node is healthy again", || node.probe("/healthz") == 200);
    assert_eq!((node.probe("/livez"), node.probe("/readyz")), (200, 200));
    wait_until("nothing is pending", || node.metric(pending) == Some(0.0));
    // Later changes are incremental again.
    node.server.apply(service("later", 250));
    node.settle();
}

#[test]
fn sync_that_never_succeeds_since_start_is_unhealthy() {
    let mut node = Node::new("never");
    let owner = Owner::of(&node.space);
    node.start("--iptables-sync-period 1s");
    wait_until("the node is unhealthy", || node.probe("/livez") == 503);
    let body = node.get(crate::node::HEALTH_PORT, "/readyz").unwrap().json();
    assert_eq!(body["ready"], false);
    assert_eq!(body["sourceInSync"], true);
    change_meanwhile(&node);
    drop(owner);
    node.settle();
    wait_until("the node is healthy", || {
        node.probe("/healthz") == 200 && node.probe("/readyz") == 200
    });
}
