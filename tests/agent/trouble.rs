//! A slow, busy or broken API server, and one that refuses requests.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::api_server::{Canned, Failure, Kind, Slowness, Verb};
use crate::node::{KINDS, Node, wait_until};
use crate::objects::{cidr, service};

#[test]
fn api_server_with_slow_connections_is_not_an_error() {
    let mut node = Node::new("slow");
    let slowness = Slowness { bytes: 30, delay: Duration::from_millis(1) };
    node.server.set_slowness(Some(slowness));
    node.start("");
    node.settle();
    node.server.apply(service("more", 50));
    node.settle();
    assert_eq!(node.logged("watch failed"), 0);
}

/// Older servers do not support the field selector `spec.clusterIP`.
#[test]
fn headless_services_are_filtered_if_field_selector_is_unsupported() {
    let mut node = Node::new("no-selector");
    // A streaming list, and a list.
    node.server.fail_next(2, Kind::Service, Some(Verb::List), Failure::Code(400));
    node.start("");
    node.settle();
    let mut headless = service("headless", 40);
    headless["spec"]["clusterIP"] = "None".into();
    headless["spec"]["clusterIPs"] = serde_json::json!(["None"]);
    node.server.apply_many([headless, service("more", 50)]);
    node.settle();
    let asked = node.server.requests();
    let last = asked.iter().rfind(|request| request.path.ends_with("/services")).unwrap();
    assert_eq!(last.parameter("fieldSelector"), None);
    assert!(last.parameter("labelSelector").is_some());
}

#[test]
fn api_server_errors_are_retried() {
    let failures = [500, 503, 429, 401].map(Failure::Code);
    let all = failures.into_iter().chain([Failure::Truncated]);
    thread::scope(|scope| {
        for (at, failure) in all.enumerate() {
            scope.spawn(move || {
                let mut node = Node::new(&format!("answer{at}"));
                for verb in [Verb::List, Verb::Watch] {
                    // The length of a watch is unknown: half of it is just a watch that ends.
                    KINDS.iter().for_each(|k| node.server.fail_next(1, *k, Some(verb), failure));
                }
                node.start("");
                node.settle();
                node.wait_for_watches();
                node.server.apply(service("more", 50));
                node.settle();
                let failed = node.metric("rulegen_watch_restarts_total");
                assert!(failed >= Some(KINDS.len() as f64), "{failure:?}: {failed:?}");
            });
        }
    });
}

#[test]
fn list_that_is_forbidden_is_reported_and_retried() {
    let mut node = Node::new("forbidden");
    for kind in [Kind::Service, Kind::EndpointSlice, Kind::Node] {
        // A streaming list, and a list.
        node.server.fail_next(2, kind, Some(Verb::List), Failure::Code(403));
    }
    node.start("");
    wait_until("the error is logged", || node.logged("services is forbidden") > 0);
    assert!(!node.has_rules());
    node.settle();
}

/// A busy server must not get more requests because it rejects them.
#[test]
fn list_that_fails_repeatedly_is_logged_once_with_backoff() {
    let mut node = Node::new("busy");
    node.server.fail_next(2, Kind::Service, Some(Verb::List), Failure::Code(429));
    node.start("");
    node.settle();
    node.assert_logged("watch failed,", 1);
    node.assert_logged("watch re-established", 1);
}

#[test]
fn service_cidrs_are_optional() {
    let mut node = Node::new("nocidrs");
    node.server.lack_service_cidrs();
    node.start("");
    let others = || -> Vec<Value> {
        let objects = node.server.objects().into_iter();
        objects.filter(|object| object["kind"] != "ServiceCIDR").collect()
    };
    node.settle_at(&others());
    node.server.apply(service("more", 50));
    node.settle_at(&others());
    assert_eq!(node.probe("/readyz"), 200);
    node.assert_logged("unused cluster IPs are not rejected", 1);
    assert_eq!(node.logged("watch failed"), 0);
}

/// An agent that is not allowed to list ServiceCIDRs at its start uses those in the kernel's rules, and
/// retries. (After other errors it waits, as for all kinds.)
#[test]
fn service_cidrs_in_the_kernel_stay_while_they_cannot_be_listed() {
    let mut node = Node::in_sync("kept403");
    let network = "10.96.0.0/16";
    assert!(node.rules().contains(network));
    node.stop(Signal::SIGTERM);
    node.server.fail_next(1000, Kind::ServiceCidr, Some(Verb::List), Failure::Code(403));
    node.server.apply(service("more", 50));
    node.start("");
    wait_until("the agent syncs", || node.rules().contains("10.96.0.50"));
    assert!(node.rules().contains(network), "{}", node.rules());
    assert_eq!(node.probe("/readyz"), 200);
    let log = node.log();
    let warned = |line: &&str| line.contains(" WARN ") && line.contains("ServiceCIDR");
    assert_eq!(log.lines().filter(warned).count(), 1, "{log}");
    assert_eq!(node.logged("unused cluster IPs are not rejected"), 0);

    node.server.apply(cidr("kubernetes", &["10.112.0.0/16"]));
    node.server.fail_no_more(Kind::ServiceCidr);
    let allowed = Instant::now();
    node.settle();
    assert!(allowed.elapsed() < Duration::from_secs(11), "{:?}", allowed.elapsed());
    assert!(!node.rules().contains(network), "{}", node.rules());
}

/// On a node without rules: 403 is not absence, so it is retried within 10 s and not within minutes.
#[test]
fn service_cidrs_forbidden_on_a_fresh_node_are_retried() {
    let mut node = Node::new("fresh403");
    node.server.fail_next(1000, Kind::ServiceCidr, Some(Verb::List), Failure::Code(403));
    node.start("");
    let others = || -> Vec<Value> {
        let objects = node.server.objects().into_iter();
        objects.filter(|object| object["kind"] != "ServiceCIDR").collect()
    };
    node.settle_at(&others());
    assert_eq!(node.probe("/readyz"), 200);
    let before = node.generation();
    let left = node.server.failures_left(Kind::ServiceCidr);
    wait_until("ServiceCIDRs are asked for again", || {
        node.server.failures_left(Kind::ServiceCidr) < left
    });
    assert_eq!(node.generation(), before, "the rules were changed");
    let log = node.log();
    let warned =
        |line: &&str| line.contains(" WARN ") && line.contains("servicecidrs is forbidden");
    assert_eq!(log.lines().filter(warned).count(), 1, "{log}");
    assert_eq!(node.logged("unused cluster IPs are not rejected"), 0);

    node.server.fail_no_more(Kind::ServiceCidr);
    let allowed = Instant::now();
    node.settle();
    assert!(allowed.elapsed() < Duration::from_secs(11), "{:?}", allowed.elapsed());
    assert!(node.rules().contains("10.96.0.0/16"), "{}", node.rules());
}

/// The log shows if a set loses all elements.
#[test]
fn a_flushed_set_is_logged() {
    let node = Node::in_sync("flushed");
    node.server.delete(Kind::ServiceCidr, "", "kubernetes");
    node.settle();
    wait_until("the sync is logged", || {
        node.logged("sets_flushed=1") + node.logged("sets_flushed=2") > 0
    });
    assert!(node.logged("set flushed") + node.logged("sets flushed") > 0, "{}", node.log());
}

/// What was known stays after any error, in each form of lists, and is asked for again within 10 s.
/// (An authorizer with a temporary failure answers 403.)
#[test]
fn service_cidrs_are_kept_after_errors() {
    let failures = [
        ("403", Failure::Code(403), "servicecidrs is forbidden"),
        ("429", Failure::Code(429), "watch failed"),
        ("500", Failure::Code(500), "watch failed"),
        ("503", Failure::Code(503), "watch failed"),
        ("closed", Failure::Truncated, ""),
    ];
    let start: [fn(&str) -> Node; 3] =
        [Node::in_sync, Node::in_sync_by_json, Node::in_sync_by_pages];
    thread::scope(|scope| {
        for (form, start) in ["stream", "json", "pages"].into_iter().zip(start) {
            scope.spawn(move || {
                for (name, failure, text) in failures {
                    let node = start(&format!("cidr-{form}-{name}"));
                    keeps_service_cidrs(&format!("{form}, {name}"), &node, failure, text);
                }
            });
        }
    });
}

fn keeps_service_cidrs(name: &str, node: &Node, failure: Failure, warning: &str) {
    let before = node.generation();
    node.server.fail_next(2, Kind::ServiceCidr, Some(Verb::List), failure);
    node.server.expire_watches(Kind::ServiceCidr);
    wait_until(&format!("{name}: two lists fail"), || {
        node.server.failures_left(Kind::ServiceCidr) == 0
    });
    node.server.wait_for_watch(Kind::ServiceCidr, Duration::from_secs(11));
    assert_eq!(node.generation(), before, "{name}: the rules were changed");
    assert!(node.rules().contains("10.96.0.0/16"), "{name}: {}", node.rules());
    let log = node.log();
    let is_warned = |line: &str| line.contains(" WARN ") && line.contains(warning);
    assert!(log.lines().any(is_warned), "{name}: {log}");
    node.server.apply(cidr("more", &["10.100.0.0/16"]));
    node.settle();
}

/// A server or proxy that answers lists of ServiceCIDRs with something else.
#[test]
fn service_cidrs_are_kept_after_answers_of_wrong_form() {
    let node = Node::in_sync("cidr-wrong");
    let before = node.generation();
    let bodies =
        ["{}", "<html>Sign in</html>", r#"{"kind":"PodList","apiVersion":"v1","items":[]}"#];
    for body in bodies {
        let failures = || node.metric("rulegen_watch_restarts_total");
        let seen = failures();
        let canned = Canned::Body(body.as_bytes().to_vec());
        node.server.answer_lists(Kind::ServiceCidr, Some(canned));
        node.server.expire_watches(Kind::ServiceCidr);
        wait_until("two requests fail", || failures() >= seen.map(|seen| seen + 2.0));
        assert_eq!(node.generation(), before, "{body}: the rules were changed");
        node.server.answer_lists(Kind::ServiceCidr, None);
        node.server.wait_for_watch(Kind::ServiceCidr, Duration::from_secs(11));
    }
    let log = node.log();
    let is_warned = |line: &str| line.contains(" WARN ") && line.contains("ServiceCIDR");
    assert!(log.lines().any(is_warned), "{log}");
    node.server.apply(cidr("more", &["10.100.0.0/16"]));
    node.settle();
}

/// A role may allow lists of ServiceCIDRs without watches. Pauses between watches do not grow beyond
/// 10 s.
#[test]
fn service_cidrs_whose_watch_is_forbidden_are_asked_for_within_10_s() {
    const FAILURES: usize = 1000;
    let node = Node::in_sync("cidr-watch403");
    let before = node.generation();
    node.server.fail_next(FAILURES, Kind::ServiceCidr, Some(Verb::Watch), Failure::Code(403));
    node.server.disconnect_all();
    let deadline = Instant::now() + Duration::from_secs(90);
    // Growing pauses would be 0.8 s, 1.6 s, 3.2 s, 6.4 s, 12.8 s and 25.6 s.
    let failed = || FAILURES - node.server.failures_left(Kind::ServiceCidr);
    while failed() < 6 {
        assert!(Instant::now() < deadline, "only {} requests", failed());
        thread::sleep(Duration::from_millis(5));
    }
    let sixth = Instant::now();
    node.server.fail_no_more(Kind::ServiceCidr);
    while node.server.watchers(Kind::ServiceCidr) == 0 {
        assert!(sixth.elapsed() < Duration::from_secs(11), "no watch {:?} later", sixth.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(node.generation(), before, "the rules were changed");
}

/// Watches that end at once are repeated with a pause.
#[test]
fn watches_that_end_at_once_cause_no_request_storm() {
    let node = Node::in_sync("ends");
    node.server.end_watches(true);
    node.server.disconnect_all();
    let begun = Instant::now();
    let before = node.server.requests().len();
    for number in 50..53 {
        node.server.apply(service(&format!("more-{number}"), number));
        node.settle();
    }
    let (requests, took) = (node.server.requests().len() - before, begun.elapsed());
    let most = KINDS.len() as f64 * (2.0 + 2.0 * took.as_secs_f64());
    assert!((requests as f64) < most, "{requests} requests within {took:?}");
}
