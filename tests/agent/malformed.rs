//! Malformed objects and watch events, from the API server or a proxy in between.

use std::thread;

use serde_json::{Value, json};

use crate::api_server::Kind;
use crate::node::{KINDS, Node, wait_until};
use crate::objects::{HERE, NODE, cidr, node, service, slice};

/// An object as the server has it.
fn stored(node: &Node, kind: &str, name: &str) -> Value {
    let is_match = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    node.server.objects().into_iter().find(is_match).unwrap()
}

/// A watch event as the server writes it: the type comes first.
fn event(kind: &str, object: &Value) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}")
}

/// Changes one object per kind after all previous events, and waits until the rules follow.
fn later_changes_are_applied(node: &Node, number: usize) {
    let name = format!("probe-{number}");
    node.server.apply_many([
        service(&name, number),
        slice(&name, "a", &[HERE[0]]),
        cidr(&name, &[&format!("10.200.{number}.0/24")]),
    ]);
    node.settle();
}

#[test]
fn watch_events_repeated_stale_or_for_unknown_objects_are_ignored() {
    let node = Node::in_sync("late");
    let server = &node.server;
    let (old_service, old_slice) =
        (stored(&node, "Service", "web"), stored(&node, "EndpointSlice", "web-a"));
    server.apply_many([service("web", 11), slice("web", "a", &[HERE[1]])]);
    node.settle();
    let (new_service, new_slice) =
        (stored(&node, "Service", "web"), stored(&node, "EndpointSlice", "web-a"));

    for (kind, old, new) in
        [(Kind::Service, &old_service, &new_service), (Kind::EndpointSlice, &old_slice, &new_slice)]
    {
        let never = |mut object: Value| {
            object["metadata"]["name"] = "never-seen".into();
            object
        };
        for line in [
            event("MODIFIED", new),
            event("ADDED", new),
            event("MODIFIED", old),
            event("ADDED", old),
            event("DELETED", old),
            event("DELETED", &never(new.clone())),
            event("DELETED", &never(old.clone())),
        ] {
            server.send_raw_event(kind, &line);
        }
    }
    later_changes_are_applied(&node, 80);
    assert!(node.rules().contains("10.96.0.11") && node.rules().contains(HERE[1]));

    server.delete(Kind::Service, "default", "web");
    server.send_raw_event(Kind::Service, &event("ADDED", &new_service));
    server.send_raw_event(Kind::Service, &event("MODIFIED", &old_service));
    server.send_raw_event(Kind::Service, &event("DELETED", &old_service));
    later_changes_are_applied(&node, 81);
    assert!(!node.rules().contains("10.96.0.11"));
}

/// Changes hidden by malformed lines are only in the next list.
#[test]
fn watch_events_that_are_malformed_cause_a_new_list() {
    thread::scope(|scope| {
        scope.spawn(|| malformed_events_cause_a_new_list(&Node::in_sync("frames")));
        scope.spawn(|| malformed_events_cause_a_new_list(&Node::in_sync_by_json("lines")));
    });
}

fn malformed_events_cause_a_new_list(node_of_tests: &Node) {
    let long = event("ADDED", &"x".repeat(1 << 20).into());
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "resourceVersion": "999999"},
    });
    let pod = event("DELETED", &pod);
    // A watch from an empty version does not report deletions.
    let bookmark = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"resourceVersion": ""},
    });
    let bookmark = event("BOOKMARK", &bookmark);
    let endless = "x".repeat(9 << 20);
    let node_list = json!({"apiVersion": "v1", "kind": "NodeList", "metadata": {"resourceVersion": "1"}, "items": []});
    let node_list = node_list.to_string();
    let reordered = json!({"object": service("x", 9), "type": "ADDED"}).to_string();
    let rounds = [
        ["\u{0}]", "{\"type\":\"X\"}", "{\"type\":\"ADDED\"}", &reordered],
        [
            &long,
            "{\"type\":\"ADDED\",\"object\":null}",
            "{\"type\":\"BOOKMARK\",\"object\":{}}",
            "{\"type\":\"DELETED\",\"object\":{\"metadata\":1}}",
        ],
        // Objects of another kind, with the name of an existing object.
        [&pod, &bookmark, "{", "{\"type\":\"ERROR\",\"object\":{}}"],
        ["<html>", &endless, &node_list, "{\"kind\":\"Status\",\"status\":\"Success\"}"],
    ];
    for (round, lines) in rounds.iter().enumerate() {
        let mut moved = node();
        moved["status"]["addresses"][0]["address"] = format!("192.168.50.{}", 20 + round).into();
        let hidden = [
            service(&format!("hidden-{round}"), 100 + round),
            slice("web", &format!("hidden-{round}"), &[HERE[1]]),
            moved,
            cidr("hidden", &[&format!("10.20{round}.0.0/16")]),
        ];
        node_of_tests.wait_for_watches();
        for (object, line) in hidden.into_iter().zip(lines) {
            node_of_tests.server.apply_hidden(object, line);
        }
        node_of_tests.settle();
    }
    assert!(node_of_tests.logged("invalid response from the API server") >= KINDS.len());
    assert!(node_of_tests.metric("rulegen_watch_restarts_total") >= Some(16.0));
    // The watch cache that sent them may be wrong.
    let requests = node_of_tests.server.requests();
    let lists =
        requests.iter().filter(|request| request.path.ends_with("/services") && request.is_list());
    // A streaming list of the newest version has an empty one.
    let version = |version: &&str| !version.is_empty();
    let versions: Vec<_> =
        lists.map(|list| list.parameter("resourceVersion").filter(version)).collect();
    assert_eq!(versions[0], Some("0"));
    assert!(versions.len() > rounds.len(), "{versions:?}");
    assert!(versions[1..].iter().all(Option::is_none), "{versions:?}");
}

/// A connection that ends within a line looks like these. An ERROR event does not end the watch.
#[test]
fn watch_lines_that_are_empty_or_errors_cause_no_new_list() {
    let node = Node::in_sync_by_json("nothing");
    let lists = |node: &Node| {
        let requests = node.server.requests();
        requests.iter().filter(|request| request.is_list()).count()
    };
    let before = lists(&node);
    for (at, line) in [
        "",
        "  ",
        "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"code\":500,\"message\":\"etcdserver: no leader\"}}",
    ]
    .into_iter()
    .enumerate()
    {
        KINDS.iter().for_each(|kind| node.server.send_raw_event(*kind, line));
        later_changes_are_applied(&node, 100 + at);
    }
    assert_eq!(lists(&node), before);
}

/// Objects that no API server accepts: a string instead of a list.
#[test]
fn malformed_object_does_not_affect_other_objects() {
    let mut node_of_tests = Node::new("unreadable");
    let server = node_of_tests.server.clone();
    server.answer_json_only();
    let mut bad_service = service("bad", 90);
    bad_service["spec"]["ports"] = "http".into();
    let mut bad_slice = slice("bad", "a", &[HERE[0]]);
    bad_slice["endpoints"] = "none".into();
    let mut bad_cidr = cidr("bad", &[]);
    bad_cidr["spec"]["cidrs"] = "10.101.0.0/16".into();
    let bad = [bad_service, bad_slice, bad_cidr];
    let good = [service("bad", 90), slice("bad", "a", &[HERE[0]]), cidr("bad", &["10.101.0.0/16"])];
    let others: Vec<Value> = server.objects();

    // In the first list.
    server.apply_many(bad.clone());
    node_of_tests.start("");
    node_of_tests.settle_at(&others);
    node_of_tests.wait_for_watches();
    for (object, field) in
        [("default/bad", "spec.ports"), ("default/bad-a", "endpoints"), ("bad", "spec.cidrs")]
    {
        let log = node_of_tests.log();
        let is_match = |line: &str| line.contains(object) && line.contains(field);
        assert!(log.lines().any(is_match), "{object}, {field}: {log}");
    }
    // Later: a valid object becomes malformed, and valid again.
    server.apply_many(good.clone());
    node_of_tests.settle();
    assert!(node_of_tests.rules().contains("10.96.0.90"));
    server.apply_many(bad.clone());
    node_of_tests.settle_at(&others);
    server.apply_many(good);
    node_of_tests.settle();
    // A malformed object can be deleted.
    server.apply_many(bad);
    server.delete(Kind::Service, "default", "bad");
    server.delete(Kind::EndpointSlice, "default", "bad-a");
    server.delete(Kind::ServiceCidr, "", "bad");
    node_of_tests.settle();
}

/// The last valid Node object is better than none.
#[test]
fn malformed_node_keeps_last_known_node() {
    let node_of_tests = Node::in_sync_by_json("badnode");
    let good = node_of_tests.server.objects();
    let mut bad = node();
    bad["status"]["addresses"] = "192.168.50.9".into();
    node_of_tests.server.apply(bad);
    wait_until("the malformed Node is logged", || {
        node_of_tests.logged(NODE) > 0 && node_of_tests.logged("status.addresses") > 0
    });
    node_of_tests.settle_at(&good);
    node_of_tests.server.apply(node());
    node_of_tests.settle();
    wait_until("the node is known", || node_of_tests.probe("/healthz") == 200);
}
