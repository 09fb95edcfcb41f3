//! Without credentials, server or response: what is logged, and that nothing on the machine is changed
//! before all objects are listed.

use std::net::TcpListener;
use std::thread;

use crate::node::{Node, wait_until};

/// The kernel's default in a new network namespace; the agent sets it to 86,400.
const UNTOUCHED: &str = "432000";

fn is_untouched(node: &Node) -> bool {
    let timeout =
        node.space.run("cat /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established");
    timeout.trim() == UNTOUCHED && !node.has_rules()
}

/// A kubeconfig for a server.
fn kubeconfig(server: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: {server:?}}}}}]\n\
         users: [{{name: test, user: {{}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n"
    )
}

#[test]
fn kubeconfig_that_is_invalid_ends_agent_and_changes_nothing() {
    let cases = [
        ("missing", None),
        ("empty", Some(String::new())),
        ("malformed", Some("clusters: [".to_owned())),
        ("other", Some("hello".to_owned())),
        (
            "context",
            Some(
                kubeconfig("http://127.0.0.1:1")
                    .replace("current-context: test", "current-context: x"),
            ),
        ),
        (
            "cluster",
            Some(kubeconfig("http://127.0.0.1:1").replace("cluster: test,", "cluster: x,")),
        ),
        ("url", Some(kubeconfig("not a url"))),
        (
            "ca",
            Some(
                kubeconfig("https://127.0.0.1:1")
                    .replace("server:", "certificate-authority: /none, server:"),
            ),
        ),
    ];
    thread::scope(|scope| {
        for (label, content) in cases {
            scope.spawn(move || {
                let mut node = Node::new(&format!("cred-{label}"));
                node.kubeconfig = match content {
                    Some(content) => node.space.file("broken", &content),
                    None => format!("{}-none", node.kubeconfig),
                };
                node.start("");
                assert_eq!(node.end(), Some(1), "{label}");
                let log = node.log();
                assert!(
                    log.contains(&node.kubeconfig) || log.contains("127.0.0.1:1"),
                    "{label}: {log}"
                );
                assert!(is_untouched(&node), "{label}");
            });
        }
    });
}

/// One line with the server's address, regardless of the duration and the number of kinds.
#[test]
fn api_server_unreachable_is_logged_once_and_changes_nothing() {
    let label_and_server = [
        ("refused", "http://127.0.0.1:1".to_owned()),
        ("dns", "http://no-such-host.invalid:6443".to_owned()),
        ("route", "http://203.0.113.1:6443".to_owned()),
    ];
    thread::scope(|scope| {
        for (label, server) in label_and_server {
            scope.spawn(move || {
                let mut node = Node::new(&format!("away-{label}"));
                node.kubeconfig = node.space.file("away", &kubeconfig(&server));
                node.start("");
                let failures = || node.metric("rulegen_watch_restarts_total");
                let often = if label == "refused" { 12.0 } else { 4.0 };
                wait_until(&format!("{label}: requests fail"), || failures() >= Some(often));
                is_logged_once(&node, &server);
            });
        }
        // TLS to a server without TLS.
        scope.spawn(|| {
            let mut node = Node::new("away-tls");
            let server = format!("https://{}", node.server.address());
            node.kubeconfig = node.space.file("away", &kubeconfig(&server));
            node.start("");
            wait_until("TLS fails", || node.metric("rulegen_watch_restarts_total") >= Some(8.0));
            is_logged_once(&node, &server);
        });
        // The kernel accepts the connection, but no process answers.
        scope.spawn(|| {
            let mut node = Node::new("away-hangs");
            let listener = node.space.inside(|| TcpListener::bind("127.0.0.1:0").unwrap());
            let server = format!("http://{}", listener.local_addr().unwrap());
            node.kubeconfig = node.space.file("away", &kubeconfig(&server));
            node.start("");
            wait_until("the outage is logged", || {
                node.logged("no answer from the API server yet") > 0
            });
            is_logged_once(&node, &server);
        });
    });
}

fn is_logged_once(node: &Node, server: &str) {
    let log = node.log();
    let warned: Vec<&str> =
        log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    assert!(matches!(warned[..], [line] if line.contains(server)), "{server}: {log}");
    assert!(is_untouched(node), "{server}");
    assert_eq!((node.probe("/livez"), node.probe("/readyz")), (200, 503), "{server}");
}

/// The counterpart: once all objects are listed, sysctls are set.
#[test]
fn sysctls_are_set_once_caches_are_synced() {
    let mut node = Node::new("set-up");
    assert!(is_untouched(&node));
    node.server.refuse_connections(true);
    node.start("");
    wait_until("lists fail", || node.metric("rulegen_watch_restarts_total") >= Some(4.0));
    assert!(is_untouched(&node));
    node.server.refuse_connections(false);
    node.settle();
    wait_until("sysctls are set", || !is_untouched(&node));
}
