//! Outages of the API server, with and without loss of its history.

use std::thread;
use std::time::{Duration, Instant};

use crate::api_server::{ApiServer, Failure, Kind, Request, Verb};
use crate::node::{KINDS, Node, is_from, wait_until};
use crate::objects::{HERE, cidr, service, slice};

/// Changes that both a continued watch and a new list must report.
fn change(server: &ApiServer) {
    server.apply_many([slice("web", "a", &[HERE[1]]), service("new", 50)]);
    server.delete(Kind::Service, "default", "old");
    server.delete(Kind::EndpointSlice, "default", "old-a");
    server.delete(Kind::ServiceCidr, "", "old");
}

/// A node in sync, with a Service that is deleted later, and serving endpoints.
fn node_in_sync(label: &str) -> Node {
    let node = Node::in_sync(label);
    node.serve();
    let old = cidr("old", &["10.100.0.0/16"]);
    node.server.apply_many([service("old", 60), slice("old", "a", &[HERE[0]]), old]);
    node.settle();
    assert!(is_from(node.ask(10), HERE[0]) && is_from(node.ask(60), HERE[0]));
    node
}

fn has_changed(node: &Node) {
    node.settle();
    assert!(is_from(node.ask(10), HERE[1]));
    let rules = node.rules();
    assert!(!rules.contains("10.96.0.60") && !rules.contains("10.100.0.0/16"), "{rules}");
}

#[test]
fn outage_of_api_server_keeps_rules_and_is_logged_once() {
    let node = node_in_sync("away");
    let before = node.generation();
    node.server.refuse_connections(true);
    change(&node.server);
    wait_until("the watches are retried", || {
        node.metric("rulegen_watch_restarts_total") >= Some(7.0)
    });
    // One line for all kinds and attempts, with the address.
    let address = node.server.address().to_string();
    let log = node.log();
    let lines = log.lines().filter(|line| line.contains("API server unreachable"));
    let lines: Vec<&str> = lines.collect();
    assert!(matches!(lines[..], [line] if line.contains(&address)), "{log}");
    assert_eq!(node.logged(" WARN ") + node.logged(" ERROR "), 1, "{log}");
    assert!(is_from(node.ask(10), HERE[0]) && is_from(node.ask(60), HERE[0]));
    assert_eq!(node.generation(), before, "the rules were changed");
    assert_eq!((node.probe("/healthz"), node.probe("/readyz")), (200, 200));
    node.server.refuse_connections(false);
    has_changed(&node);
    wait_until("the recovery is logged", || node.logged("API server reachable again") == 1);
}

/// Watches end with 410 after an outage. The backoff from the outage must not delay the list.
#[test]
fn changes_made_in_an_outage_are_in_the_kernel_within_5_s() {
    let node = node_in_sync("return");
    node.server.refuse_connections(true);
    change(&node.server);
    node.server.expire_history();
    // With client-go's backoff the pauses are 25 to 50 s by then.
    thread::sleep(Duration::from_secs(40));
    node.assert_logged("API server unreachable", 1);
    node.server.refuse_connections(false);
    let returned = Instant::now();
    has_changed(&node);
    assert!(returned.elapsed() < Duration::from_secs(5), "{:?}", returned.elapsed());
    // A rate limit: four kinds, each at most once in 0.8 s.
    let failures = node.metric("rulegen_watch_restarts_total").unwrap();
    assert!(failures < 4.0 * 50.0, "{failures}");
}

#[test]
fn outage_with_silent_api_server_keeps_rules() {
    let node = node_in_sync("silent");
    let before = node.generation();
    node.server.pause();
    change(&node.server);
    assert!(is_from(node.ask(10), HERE[0]) && is_from(node.ask(60), HERE[0]));
    assert_eq!(node.generation(), before, "the rules were changed");
    node.server.resume();
    has_changed(&node);
}

#[test]
fn outage_with_expired_history_is_followed_by_a_new_list() {
    type Forget = fn(&ApiServer);
    let ways: [(&str, Forget); 4] = [
        ("compacted", |server| {
            server.refuse_connections(true);
            change(server);
            server.expire_history();
        }),
        ("bycode", |server| {
            server.say_gone_by_code();
            server.refuse_connections(true);
            change(server);
            server.expire_history();
        }),
        ("restarted", |server| {
            server.refuse_connections(true);
            change(server);
            server.restart_empty_history();
        }),
        ("midway", |server| {
            server.pause();
            KINDS.iter().for_each(|kind| server.expire_watches(*kind));
            change(server);
            server.resume();
        }),
    ];
    thread::scope(|scope| {
        for (label, forget) in ways {
            scope.spawn(move || {
                let node = node_in_sync(label);
                let lists_before = lists(&node);
                node.wait_for_watches();
                forget(&node.server);
                node.server.refuse_connections(false);
                has_changed(&node);
                let lists = lists(&node);
                assert!(lists.len() > lists_before.len(), "{label}: no new list");
                assert_not_older(&lists);
                node.server.apply(service("later", 70));
                node.settle();
            });
        }
    });
}

/// The requests for lists of Services.
fn lists(node: &Node) -> Vec<Request> {
    let is_list = |request: &Request| request.path.ends_with("/services") && request.is_list();
    node.server.requests().into_iter().filter(is_list).collect()
}

/// The first list may have any version. Later ones are not older, and come from the watch cache: a
/// limit would make the server read exactly the version from etcd.
fn assert_not_older(lists: &[Request]) {
    let versions = |list: &Request| list.parameter("resourceVersion")?.parse::<u64>().ok();
    let versions: Vec<_> = lists.iter().map(versions).collect();
    assert_eq!(versions[0], Some(0), "{lists:?}");
    assert!(versions[1..].iter().all(|version| *version > Some(0)), "{lists:?}");
    assert!(versions.is_sorted(), "{lists:?}");
    assert!(lists[1..].iter().all(|list| list.parameter("limit").is_none()), "{lists:?}");
}

/// A version that the server has no more, or does not have yet, is not asked for again.
#[test]
fn list_whose_version_is_refused_is_repeated_at_once_for_the_newest() {
    thread::scope(|scope| {
        scope.spawn(|| refused_version_is_not_asked_for_again(&node_in_sync("refused-stream")));
        scope.spawn(|| {
            let node = node_in_sync("refused-version");
            node.server.lack_watch_lists();
            // The next list learns that.
            let before = lists(&node).len();
            node.server.expire_watches(Kind::Service);
            wait_until("the Services are listed in pages", || lists(&node).len() >= before + 2);
            node.wait_for_watches();
            refused_version_is_not_asked_for_again(&node);
            let lists = lists(&node);
            let newest = lists.last().unwrap();
            assert!(newest.parameter("limit").is_some(), "etcd is read in pages: {lists:?}");
        });
    });
}

fn refused_version_is_not_asked_for_again(node: &Node) {
    node.server.fail_next(1, Kind::Service, Some(Verb::List), Failure::Code(410));
    node.server.expire_history();
    node.server.expire_watches(Kind::Service);
    change(&node.server);
    has_changed(node);
    let lists = lists(node);
    let [.., refused, newest] = lists.as_slice() else { panic!("{lists:?}") };
    let version = |list: &Request| list.parameter("resourceVersion").unwrap_or("").to_owned();
    assert!(!["", "0"].contains(&&*version(refused)), "{lists:?}");
    assert_eq!(version(newest), "", "{lists:?}");
    node.assert_logged("resource version refused", 1);
}

#[test]
fn list_truncated_by_api_server_removes_no_rules() {
    let node = node_in_sync("halfway");
    let before = node.generation();
    node.server.expire_history();
    node.server.fail_next(1, Kind::Service, Some(Verb::List), Failure::Truncated);
    KINDS.iter().for_each(|kind| node.server.expire_watches(*kind));
    wait_until("the list failed", || node.metric("rulegen_watch_restarts_total") > Some(0.0));
    assert!(is_from(node.ask(10), HERE[0]) && is_from(node.ask(60), HERE[0]));
    assert_eq!(node.generation(), before, "the rules were changed");
    change(&node.server);
    has_changed(&node);
}

/// A bookmark has a version from which a watch can continue although its kind has no changes.
#[test]
fn watch_bookmarks_avoid_new_lists() {
    let node = node_in_sync("bookmarks");
    node.server.apply(slice("web", "a", &[HERE[1]]));
    node.settle();
    let lists_before = lists(&node).len();
    node.server.bookmark();
    // Sent after the bookmark: shows that the bookmark was read.
    let error = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","code":500,"message":"after the mark"}}"#;
    node.server.send_raw_event(Kind::Service, error);
    wait_until("the bookmark was read", || node.logged("after the mark") > 0);
    node.server.restart_empty_history();
    wait_until("the watch is open again", || node.server.watchers(Kind::Service) > 0);
    node.server.apply(service("web", 11));
    node.settle();
    assert_eq!(lists(&node).len(), lists_before);
}
