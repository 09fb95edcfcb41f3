//! Streaming lists, lists in pages, and their encodings.

use std::thread;

use crate::api_server::{ApiServer, Kind, Request};
use crate::node::{KINDS, Node, wait_until};
use crate::objects::{HERE, service, slice};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const NO_STREAM: &str = "no streaming list from the API server";

/// Lists and watches of Services so far.
fn requests(node: &Node) -> Vec<Request> {
    let requests = node.server.requests().into_iter();
    requests.filter(|request| request.path.ends_with("/services")).collect()
}

fn is_watch(request: &Request) -> bool {
    request.parameter("watch").is_some()
}

/// The list and the changes after it come from one watch.
#[test]
fn streaming_list_goes_on_as_watch() {
    let node = Node::in_sync("stream");
    node.server.apply_many([service("later", 50), slice("later", "a", &[HERE[1]])]);
    node.settle();
    let [list] = &requests(&node)[..] else { panic!("{:?}", requests(&node)) };
    assert_eq!(list.parameter("sendInitialEvents"), Some("true"));
    assert_eq!(list.parameter("resourceVersion"), Some("0"));
    assert_eq!(list.parameter("resourceVersionMatch"), Some("NotOlderThan"));
    assert_eq!(node.logged(NO_STREAM), 0);
    // A watch that ends is continued, without another list.
    node.server.disconnect_all();
    node.server.apply(service("again", 51));
    node.settle();
    assert_eq!(requests(&node).iter().filter(|request| request.is_list()).count(), 1);
}

/// A streaming list shows what was deleted while the agent did not watch.
#[test]
fn streaming_list_removes_what_is_gone() {
    let node = Node::in_sync("stream-gone");
    node.server.apply_many([service("old", 60), slice("old", "a", &[HERE[0]])]);
    node.settle();
    node.server.refuse_connections(true);
    node.server.delete(Kind::Service, "default", "old");
    node.server.delete(Kind::EndpointSlice, "default", "old-a");
    node.server.expire_history();
    node.server.refuse_connections(false);
    node.settle();
    assert!(!node.rules().contains("10.96.0.60"));
    let requests = requests(&node);
    let lists = requests.iter().filter(|request| request.is_list());
    assert!(lists.clone().all(is_watch) && lists.count() == 2, "{requests:?}");
}

/// Servers without streaming lists: they refuse them at once, or only in the stream, or the stream
/// ends without them.
#[test]
fn server_without_streaming_lists_is_asked_for_pages() {
    type Lack = fn(&ApiServer);
    let servers: [(&str, Lack); 3] = [
        ("gate", ApiServer::lack_watch_lists),
        ("etcd", ApiServer::lack_watch_progress),
        ("ignored", ApiServer::ignore_watch_lists),
    ];
    thread::scope(|scope| {
        for (label, lack) in servers {
            scope.spawn(move || {
                let mut node = Node::new(label);
                lack(&node.server);
                node.start("");
                node.settle();
                node.wait_for_watches();
                node.assert_logged(NO_STREAM, KINDS.len());
                node.assert_logged("watch failed", 0);
                let streamed = |node: &Node| {
                    requests(node).iter().filter(|of| of.is_list() && is_watch(of)).count()
                };
                assert_eq!(streamed(&node), 1, "{label}");
                // Not again.
                node.server.expire_watches(Kind::Service);
                node.server.apply(service("later", 50));
                node.settle();
                assert_eq!(streamed(&node), 1, "{label}");
                let lists = requests(&node).iter().filter(|of| !is_watch(of)).count();
                assert_eq!(lists, 2, "{label}");
            });
        }
    });
}

#[test]
fn content_type_flag_and_server_choose_the_encoding() {
    thread::scope(|scope| {
        scope.spawn(|| {
            let node = Node::in_sync("accept-protobuf");
            for request in requests(&node) {
                let accept = request.header("accept").unwrap();
                assert_eq!(accept, format!("{PROTOBUF};stream=watch, application/json"));
            }
        });
        scope.spawn(|| {
            let mut node = Node::new("accept-json");
            node.start("--kube-api-content-type application/json");
            node.settle();
            let asked = requests(&node);
            assert!(asked.iter().all(|of| of.header("accept") == Some("application/json")));
        });
        // A server that knows only JSON, and its watches.
        scope.spawn(|| {
            let node = Node::in_sync_by_json("only-json");
            node.server.apply_many([service("later", 50), slice("later", "a", &[HERE[1]])]);
            node.settle();
            assert!(node.rules().contains("10.96.0.50"));
            assert_eq!(node.logged(" WARN "), 0);
        });
        scope.spawn(|| {
            let node = Node::new("accept-list");
            let output = node.command("list --dry-run");
            assert!(output.status.success(), "{output:?}");
            let accept = format!("{PROTOBUF}, application/json");
            assert!(requests(&node).iter().all(|of| of.header("accept") == Some(&*accept)));
        });
    });
}

/// Lists and changes in protobuf take less than half of the bytes.
#[test]
fn protobuf_halves_the_bytes_from_the_api_server() {
    let received = |label: &str, flags: &str| {
        let mut node = Node::new(label);
        let server = node.server.clone();
        let name = |n: usize| format!("shop-{n}");
        let of = |n: usize, at: usize| slice(&name(n), "a", &[HERE[at], HERE[1 - at]]);
        server.apply_many((0..100).flat_map(|n| [service(&name(n), 100 + n), of(n, 0)]));
        node.start(flags);
        node.settle();
        node.wait_for_watches();
        let list = server.sent();
        (0..100).for_each(|n| server.apply(of(n, 1)));
        node.settle();
        wait_until("all events are sent", || {
            let before = server.sent();
            thread::sleep(std::time::Duration::from_millis(200));
            server.sent() == before
        });
        [list, server.sent() - list]
    };
    let protobuf = received("bytes-protobuf", "");
    let json = received("bytes-json", "--kube-api-content-type application/json");
    for (protobuf, json) in protobuf.into_iter().zip(json) {
        assert!(protobuf * 100 < json * 55, "{protobuf} of {json} bytes");
    }
}
