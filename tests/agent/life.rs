//! Starts, exits, and an unwritable log.

use std::fs::OpenOptions;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::node::{KINDS, Node, is_from, wait_until};
use crate::objects::{HERE, many, service};

/// Maximum time from a signal to the exit.
const PROMPTLY: Duration = Duration::from_secs(1);

#[test]
fn restart_writes_nothing() {
    let mut node = Node::in_sync("restart");
    node.serve();
    assert!(is_from(node.ask(10), HERE[0]));
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        let before = (node.generation(), node.rules());
        let (status, took) = node.stop(signal);
        assert!(took < PROMPTLY, "{signal}: it took {took:?}");
        assert_eq!(status.success(), signal != Signal::SIGKILL, "{signal}: {status}");
        assert!(is_from(node.ask(10), HERE[0]), "{signal}: the rules were removed");
        node.start("");
        wait_until("it is ready", || node.probe("/readyz") == 200);
        node.settle();
        assert_eq!((node.generation(), node.rules()), before, "{signal}");
        let written = node.metric("rulegen_sync_written_bytes_total");
        assert_eq!(written, Some(0.0), "{signal}");
        node.wait_for_watches();
    }
    // Only changes during the restart are written.
    node.stop(Signal::SIGKILL);
    node.server.apply(service("more", 50));
    node.start("");
    node.settle();
}

/// An agent that restarts during an outage of the API server keeps the rules.
#[test]
fn restart_without_api_server_keeps_rules() {
    let mut node = Node::in_sync("alone");
    node.serve();
    let before = node.generation();
    node.stop(Signal::SIGKILL);
    node.server.refuse_connections(true);
    node.start("");
    let fails = |node: &Node| node.metric("rulegen_watch_restarts_total");
    wait_until("all lists fail", || fails(&node) >= Some(KINDS.len() as f64));
    node.assert_logged("API server unreachable", 1);
    assert!(is_from(node.ask(10), HERE[0]));
    assert_eq!(node.generation(), before, "the rules were changed");
    assert_eq!((node.probe("/livez"), node.probe("/readyz")), (200, 503));
    node.server.apply(service("more", 50));
    node.server.refuse_connections(false);
    node.settle();
    wait_until("it is ready", || node.probe("/readyz") == 200);
}

#[test]
fn sigterm_at_any_time_leaves_complete_rules_or_none() {
    let mut node = Node::new("end");
    node.server.apply_many(many(2000));
    let is_whole = |node: &Node| node.difference(&node.server.objects()).is_none();
    for milliseconds in [0, 50, 100, 200, 400, 800] {
        let lines = node.logged("");
        node.start("");
        wait_until("the agent logs", || node.logged("") > lines);
        thread::sleep(Duration::from_millis(milliseconds));
        let (_, took) = node.stop(Signal::SIGTERM);
        assert!(took < PROMPTLY, "after {milliseconds} ms it took {took:?}");
        // All rules or none.
        assert!(!node.has_rules() || is_whole(&node), "incomplete rules after {milliseconds} ms");
        node.space.shell("nft flush ruleset");
    }
    // Stopped as soon as there are rules: the table must be complete.
    node.start("");
    wait_until("there are rules", || node.has_rules());
    node.stop(Signal::SIGTERM);
    assert!(is_whole(&node), "incomplete rules");
    node.start("");
    node.settle();
}

#[test]
fn log_unwritable_does_not_end_agent() {
    let mut node = Node::new("full");
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    node.start_with_log("", full().into());
    node.settle();
    node.server.disconnect_all();
    node.server.apply(service("more", 50));
    node.settle();
    assert_eq!(node.probe("/healthz"), 200);
    let (status, _) = node.stop(Signal::SIGTERM);
    assert!(status.success(), "{status}");
}
