//! Responses with status 200 and a wrong body: from a proxy, from another server behind the same
//! address, or from a broken server.

use std::fs;
use std::thread;

use crate::api_server::{Canned, Kind, protobuf};
use crate::node::{KINDS, Node, is_from, wait_until};
use crate::objects::{HERE, service};

const FAILURES: &str = "rulegen_watch_restarts_total";
const WRONG: &str = "invalid response from the API server";

/// The first fields of a list of this kind.
fn head(kind: Kind) -> String {
    let (list, version) = match kind {
        Kind::Service => ("ServiceList", "v1"),
        Kind::EndpointSlice => ("EndpointSliceList", "discovery.k8s.io/v1"),
        Kind::Node => ("NodeList", "v1"),
        Kind::ServiceCidr => ("ServiceCIDRList", "networking.k8s.io/v1"),
    };
    format!("\"kind\":\"{list}\",\"apiVersion\":\"{version}\"")
}

const META: &str = r#""metadata":{"resourceVersion":"99999"}"#;
const POD: &str = r#"{"metadata":{"name":"web","namespace":"default"}}"#;

/// A name, and a body for each kind.
type Case = (&'static str, fn(Kind) -> String);

fn wrong_bodies() -> Vec<Case> {
    vec![
        ("an empty object", |_| "{}".to_owned()),
        ("nothing", |_| String::new()),
        ("HTML", |_| "<html><body>Sign in</body></html>".to_owned()),
        ("null", |_| "null".to_owned()),
        ("a Status of success", |_| {
            r#"{"kind":"Status","apiVersion":"v1","status":"Success"}"#.to_owned()
        }),
        ("an empty list of Pods", |_| {
            format!("{{\"kind\":\"PodList\",\"apiVersion\":\"v1\",{META},\"items\":[]}}")
        }),
        ("a list of Pods", |_| {
            format!("{{\"kind\":\"PodList\",\"apiVersion\":\"v1\",{META},\"items\":[{POD}]}}")
        }),
        ("no kind", |_| format!("{{{META},\"items\":[]}}")),
        ("another apiVersion", |kind| {
            format!("{{{},{META},\"items\":[]}}", head(kind).replace("v1", "v7"))
        }),
        ("no items", |kind| format!("{{{},{META}}}", head(kind))),
        ("no version", |kind| format!("{{{},\"metadata\":{{}},\"items\":[]}}", head(kind))),
        ("no metadata", |kind| format!("{{{},\"items\":null}}", head(kind))),
        ("broken off", |kind| format!("{{{},{META},\"items\":[", head(kind))),
        ("deep", |kind| format!("{{{},{META},\"items\":{}", head(kind), "[".repeat(200_000))),
        ("objects without a name", |kind| format!("{{{},{META},\"items\":[{{}}]}}", head(kind))),
        ("objects of another kind", |kind| {
            let pod = POD.replacen('{', "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",", 1);
            format!("{{{},{META},\"items\":[{pod}]}}", head(kind))
        }),
    ]
}

/// A node in sync. From now on, the server answers lists with `canned`.
fn node_with(label: &str, canned: impl Fn(Kind) -> Canned) -> Node {
    let node = Node::in_sync(label);
    node.serve();
    node.wait_for_watches();
    assert!(is_from(node.ask(10), HERE[0]));
    for kind in KINDS {
        node.server.answer_lists(kind, Some(canned(kind)));
    }
    KINDS.iter().for_each(|kind| node.server.expire_watches(*kind));
    node
}

/// The watch cache has no pages, so a list of a large cluster from there may exceed the limit.
#[test]
fn a_list_too_long_from_the_watch_cache_is_read_in_pages() {
    let mut node = Node::new("too-long");
    node.server.lack_watch_lists();
    let endless = Canned::Endless("{\"kind\":\"ServiceList\",\"apiVersion\":\"v1\",\"items\":[");
    node.server.answer_lists(Kind::Service, Some(endless));
    node.start("");
    wait_until("the list exceeds the limit", || node.logged("exceeds") > 0);
    node.server.answer_lists(Kind::Service, None);
    node.settle();
    let requests = node.server.requests();
    let lists = requests.iter().filter(|request| {
        request.path.ends_with("/services") && request.parameter("watch").is_none()
    });
    let versions: Vec<_> = lists.map(|list| list.parameter("resourceVersion")).collect();
    assert_eq!(versions[..2], [Some("0"), None]);
}

/// A name, and a body in protobuf for each kind.
type ProtobufCase = (&'static str, fn(Kind) -> Vec<u8>);

fn wrong_protobuf_bodies() -> Vec<ProtobufCase> {
    fn list(kind: Kind, raw: &[u8]) -> Vec<u8> {
        let head: serde_json::Value = serde_json::from_str(&format!("{{{}}}", head(kind))).unwrap();
        let text = |name: &str| head[name].as_str().unwrap().to_owned();
        protobuf::typed(&text("apiVersion"), &text("kind"), raw)
    }
    fn metadata() -> Vec<u8> {
        protobuf::piece(1, &protobuf::piece(2, b"99999"))
    }
    vec![
        ("JSON", |kind| format!("{{{},{META},\"items\":[]}}", head(kind)).into_bytes()),
        ("a list of Pods", |_| protobuf::typed("v1", "PodList", &metadata())),
        ("no metadata", |kind| list(kind, b"")),
        ("objects without a name", |kind| {
            list(kind, &[metadata(), protobuf::piece(2, b"")].concat())
        }),
        ("a huge length", |kind| {
            list(kind, &[metadata(), vec![0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat())
        }),
    ]
}

#[test]
fn list_response_of_wrong_form_in_protobuf_keeps_rules() {
    for some in wrong_protobuf_bodies().chunks(4) {
        thread::scope(|scope| {
            for (name, body) in some {
                scope.spawn(move || {
                    let label = format!("pb{}", name.len());
                    keeps_rules(name, &node_with(&label, |kind| Canned::Protobuf(body(kind))));
                });
            }
        });
    }
}

#[test]
fn list_response_of_wrong_form_keeps_rules() {
    let cases: Vec<_> = wrong_bodies().into_iter().enumerate().collect();
    // Two agents at a time per processor of a small machine.
    for some in cases.chunks(4) {
        thread::scope(|scope| {
            for (at, (name, body)) in some {
                scope.spawn(move || {
                    let canned = |kind| Canned::Body(body(kind).into_bytes());
                    keeps_rules(name, &node_with(&format!("wrong{at}"), canned));
                });
            }
        });
    }
}

/// Checks that the rules stay while each kind is listed with a wrong answer, and that the agent recovers
/// once the answers are correct.
fn keeps_rules(name: &str, node: &Node) {
    let before = node.generation();
    // The end of each watch, and two lists of each kind.
    let enough = Some(KINDS.len() as f64 * 3.0);
    wait_until(&format!("{name}: lists fail"), || node.metric(FAILURES) >= enough);
    assert_eq!(node.generation(), before, "{name}: the rules were changed");
    assert!(is_from(node.ask(10), HERE[0]), "{name}");
    // One error per kind, not per attempt.
    node.assert_logged(WRONG, KINDS.len());
    for kind in KINDS {
        node.server.answer_lists(kind, None);
    }
    node.server.apply(service("later", 50));
    node.settle();
}

/// `items: null` is how Go writes an empty list.
#[test]
fn list_response_with_null_items_is_empty() {
    let node = Node::in_sync("null");
    let body = format!("{{{},{META},\"items\":null}}", head(Kind::Service)).into_bytes();
    node.server.answer_lists(Kind::Service, Some(Canned::Body(body)));
    node.wait_for_watches();
    node.server.expire_watches(Kind::Service);
    wait_until("the Service is gone", || !node.rules().contains("10.96.0.10"));
    assert_eq!(node.logged(WRONG), 0);
}

#[test]
fn list_response_without_end_keeps_rules_and_bounds_memory() {
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = r#"{"kind":"ServiceList","apiVersion":"v1","items":["#;
            let node = node_with("endless", |_| Canned::Endless(start));
            keeps_rules("an endless list", &node);
            wait_until("it is logged", || node.logged(" exceeds ") > 0);
            // Four lists of 32 MiB at a time, in a buffer that doubles.
            let peak = peak_memory(&node);
            assert!(peak < 400 << 20, "{} MB", peak >> 20);
        });
        // The response to the Event that the agent posts at its start.
        scope.spawn(|| {
            let mut node = Node::new("events");
            node.server.answer_events(Canned::Endless("{"));
            node.start("");
            node.settle();
            let posts = || node.server.requests().iter().filter(|r| r.method == "POST").count();
            // The agent gives up and retries after a second.
            wait_until("the Event is posted again", || posts() > 1);
            let peak = peak_memory(&node);
            assert!(peak < 200 << 20, "{} MB", peak >> 20);
        });
        scope.spawn(|| {
            let heads = |kind| match kind {
                Kind::Service => r#"{"kind":"ServiceList","apiVersion":"v1","items":[],"#,
                Kind::EndpointSlice => {
                    r#"{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","items":[],"#
                }
                Kind::Node => r#"{"kind":"NodeList","apiVersion":"v1","items":[],"#,
                Kind::ServiceCidr => {
                    r#"{"kind":"ServiceCIDRList","apiVersion":"networking.k8s.io/v1","items":[],"#
                }
            };
            let node = node_with("pages", |kind| Canned::Pages(heads(kind)));
            keeps_rules("endless pages", &node);
            wait_until("it is logged", || node.logged("list does not end") > 0);
        });
    });
}

/// Peak resident memory of the agent, in bytes.
fn peak_memory(node: &Node) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes << 10
}
