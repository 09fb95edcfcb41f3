//! From objects to rules: when the first rules are written, and that all changes are applied.

use std::thread;

use serde_json::{Value, json};

use crate::api_server::{Failure, Kind, Verb};
use crate::node::{KINDS, Node, PATIENCE, wait_until};
use crate::objects::{ELSEWHERE, HERE, cidr, local_load_balancer, many, node, service, slice};

#[test]
fn sync_waits_until_all_kinds_are_listed() {
    thread::scope(|scope| {
        for (at, kind) in KINDS.into_iter().enumerate() {
            scope.spawn(move || is_awaited(&format!("wait{at}"), kind));
        }
    });
}

/// The lists of one kind fail until the agent watches all other kinds and has asked again.
fn is_awaited(label: &str, kind: Kind) {
    let mut node = Node::new(label);
    node.server.fail_next(MANY, kind, Some(Verb::List), Failure::Code(500));
    node.start("");
    let others = KINDS.into_iter().filter(|other| *other != kind);
    others.for_each(|other| node.server.wait_for_watch(other, PATIENCE));
    // Meanwhile an agent that does not wait for this kind would write its rules.
    let failed = || MANY - node.server.failures_left(kind);
    let before = failed();
    wait_until("two more lists fail", || failed() >= before + 2);
    assert!(!node.has_rules(), "rules without any {kind:?}");
    node.server.fail_no_more(kind);
    node.settle();
    assert!(node.rules().contains(HERE[0]));
}

/// More failures than can occur during the test.
const MANY: usize = 1000;

#[test]
fn sync_follows_changes_of_all_kinds() {
    let node_of_tests = Node::in_sync("changes");
    let server = &node_of_tests.server;
    let arrives = |what: &str| {
        node_of_tests.settle();
        node_of_tests.rules().contains(what)
    };

    server.apply(service("shop", 20));
    assert!(arrives("10.96.0.20"));
    server.apply_many([slice("shop", "a", &[HERE[0]]), slice("shop", "b", &[ELSEWHERE])]);
    assert!(arrives(ELSEWHERE));
    server.apply(slice("shop", "a", &[HERE[0], HERE[1]]));
    assert!(arrives(HERE[1]));
    server.delete(Kind::EndpointSlice, "default", "shop-b");
    assert!(!arrives(ELSEWHERE));
    let mut moved = service("shop", 21);
    moved["spec"]["ports"][0]["port"] = 8443.into();
    server.apply(moved);
    assert!(arrives("8443") && !arrives("10.96.0.20"));
    server.delete(Kind::Service, "default", "shop");
    assert!(!arrives("8443"));

    server.apply(cidr("more", &["10.100.0.0/16"]));
    assert!(arrives("10.100.0.0/16"));
    server.delete(Kind::ServiceCidr, "", "more");
    assert!(!arrives("10.100.0.0/16"));
}

/// The limit bounds memory under a flood of changes. The remaining changes are synced at once, not after
/// the minimum period.
#[test]
fn sync_includes_at_most_2000_changed_services() {
    const SERVICES: usize = 5000;
    let mut node = Node::new("batches");
    node.start("--logging-format json --iptables-min-sync-period 3s");
    node.settle();
    node.wait_for_watches();
    let before = changed_services(&node).len();
    node.server.apply_many(many(SERVICES));
    let changed = || changed_services(&node).split_off(before);
    wait_until("all are synced", || changed().iter().sum::<u64>() >= SERVICES as u64);
    let changed = changed();
    assert!(changed.iter().all(|services| *services <= 2000), "{changed:?}");
    assert!(changed.contains(&2000), "the changes were not batched: {changed:?}");
    node.settle();
}

/// The number of changed Services of each sync.
fn changed_services(node: &Node) -> Vec<u64> {
    let log = node.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let syncs = lines.filter(|line| line["message"] == "synced");
    syncs.filter_map(|sync| sync["services"].as_u64()).collect()
}

#[test]
fn sync_follows_node_topology_zone_and_address() {
    let node_of_tests = Node::in_sync("changing");
    let server = &node_of_tests.server;
    server.apply(local_load_balancer("local", 30, 31030));
    let mut zoned = slice("local", "a", &[HERE[0], ELSEWHERE]);
    for (at, zone) in ["zone-a", "zone-b"].into_iter().enumerate() {
        zoned["endpoints"][at]["hints"] = json!({"forZones": [{"name": zone}]});
    }
    server.apply(zoned);
    node_of_tests.settle();
    let before = node_of_tests.rules();

    let mut elsewhere = node();
    elsewhere["metadata"]["labels"]["topology.kubernetes.io/zone"] = "zone-b".into();
    server.apply(elsewhere.clone());
    node_of_tests.settle();
    let rules = node_of_tests.rules();
    assert!(before != rules, "the zone makes no difference:\n{rules}");

    elsewhere["status"]["addresses"][0]["address"] = "192.168.50.7".into();
    server.apply(elsewhere);
    node_of_tests.settle();
    assert!(node_of_tests.rules().contains("192.168.50.7"));
}

#[test]
fn api_requests_use_selectors_of_kube_proxy() {
    let node = Node::in_sync_by_pages("asked");
    let requests = node.server.requests();
    for (path, labels, fields) in [
        (
            "/api/v1/services",
            Some("!service.kubernetes.io/service-proxy-name"),
            Some("spec.clusterIP!=None"),
        ),
        ("/apis/discovery.k8s.io/v1/endpointslices", Some("!service.kubernetes.io/headless"), None),
        ("/api/v1/nodes", None, Some("metadata.name=node-1")),
        ("/apis/networking.k8s.io/v1/servicecidrs", None, None),
    ] {
        let of_kind: Vec<_> = requests.iter().filter(|request| request.path == path).collect();
        for request in &of_kind {
            assert_eq!(request.parameter("labelSelector"), labels, "{request:?}");
            assert_eq!(request.parameter("fieldSelector"), fields, "{request:?}");
        }
        let (watches, lists): (Vec<_>, Vec<_>) =
            of_kind.into_iter().partition(|request| request.parameter("watch").is_some());
        assert!(watches.len() >= 2 && lists.len() == 1, "{lists:?} {watches:?}");
        assert!(watches[0].is_list(), "a streaming list is tried first: {watches:?}");
        for watch in watches {
            assert_eq!(watch.parameter("allowWatchBookmarks"), Some("true"));
        }
        assert!(lists.iter().all(|list| list.parameter("limit").is_some()));
        // All nodes may start at the same time: etcd must not read the same list for each.
        assert!(lists.iter().all(|list| list.parameter("resourceVersion") == Some("0")));
    }
    let agent = format!("rulegen/{} (linux/", env!("CARGO_PKG_VERSION"));
    for request in &requests {
        let named = request.header("user-agent").unwrap_or_default();
        assert!(named.starts_with(&agent), "{request:?}");
    }
    // Objects that the selectors exclude get no rules, even if a server sends them.
    let mut headless = service("headless", 40);
    headless["spec"]["clusterIP"] = "None".into();
    headless["spec"]["clusterIPs"] = json!(["None"]);
    let mut of_another = service("of-another", 41);
    of_another["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "x"});
    node.server.apply_many([headless, of_another, service("ours", 42)]);
    wait_until("the Service has rules", || node.rules().contains("10.96.0.42"));
    assert!(!node.rules().contains("10.96.0.41"));
    node.settle();
}
