//! Many changes at the same time.

use std::time::Instant;

use crate::api_server::Kind;
use crate::node::{Node, wait_until};
use crate::objects::many;

/// Number of syncs of an IP family.
const SYNCS: &str = "kubeproxy_sync_proxy_rules_duration_seconds_count";

#[test]
fn burst_of_changes_is_batched_into_few_syncs() {
    let node = Node::in_sync("burst");
    let syncs = || node.metric(SYNCS).unwrap() / 2.0;
    let (before, begun) = (syncs(), Instant::now());
    let objects = many(1000);
    node.server.apply_many(objects.clone());
    for object in objects.iter().rev().skip(20) {
        let kind = if object["kind"] == "Service" { Kind::Service } else { Kind::EndpointSlice };
        assert!(node.server.delete(kind, "default", object["metadata"]["name"].as_str().unwrap()));
    }
    node.settle();
    let (took, syncs) = (begun.elapsed(), syncs() - before);
    // The first immediately. The agent rests after each sync, and most changes arrive meanwhile.
    let most = objects.len() as f64 / 10.0;
    assert!(syncs <= most, "{syncs} syncs within {took:?}");
    wait_until("deleted Services are not counted", || {
        node.metric("rulegen_services") == Some(11.0)
    });
    let log = node.log();
    assert!(!log.contains("ERROR") && !log.contains("rejected"), "{log}");
}
