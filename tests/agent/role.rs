//! Compares the role in deploy/ with the agent's requests.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;

use serde_json::Value;

use crate::api_server::Request;
use crate::node::{Node, wait_until};
use crate::objects::{NODE_IP, local_load_balancer, service};

/// An API group, a resource and a verb.
type Right = (String, String, String);

const ROLE: &str = include_str!("../../deploy/base/rbac.yaml");

fn role() -> BTreeSet<Right> {
    let role = ROLE.split("\n---\n").find(|document| document.contains("kind: ClusterRole\n"));
    let role: Value = serde_saphyr::from_str(role.unwrap()).unwrap();
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    rights.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    rights
}

/// The right that a request needs.
fn right(request: &Request) -> Right {
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let (group, rest) = match *parts.as_slice() {
        ["api", _, ref rest @ ..] => ("", rest),
        ["apis", group, _, ref rest @ ..] => (group, rest),
        _ => panic!("not a resource: {request:?}"),
    };
    let (resource, is_named) = match *rest {
        ["namespaces", _, resource] | [resource] => (resource, false),
        ["namespaces", _, resource, _] | [resource, _] => (resource, true),
        _ => panic!("not a resource: {request:?}"),
    };
    let verb = match request.method.as_str() {
        "GET" if is_named => "get",
        "GET" if request.parameter("watch").is_some() => "watch",
        "GET" => "list",
        "POST" => "create",
        "PATCH" => "patch",
        "PUT" => "update",
        other => panic!("{other}"),
    };
    (group.to_owned(), resource.to_owned(), verb.to_owned())
}

#[test]
fn role_has_exactly_what_the_agent_asks_for() {
    const PORT: u16 = 31_040;
    let node = Node::in_sync_by_pages("role");
    let requests = |method: &str| {
        node.server.requests().iter().filter(|request| request.method == method).count()
    };
    // The same Event twice: it is created, then patched.
    let at = |port: u16| format!("{NODE_IP}:{port}");
    let _taken =
        [PORT, PORT + 1].map(|port| node.space.inside(|| TcpListener::bind(at(port)).unwrap()));
    wait_until("the Event of the start is sent", || requests("POST") == 1);
    node.server.apply(local_load_balancer("local", 20, PORT));
    wait_until("the Event of a busy port is sent", || requests("POST") == 2);
    node.server.apply(local_load_balancer("local", 20, PORT + 1));
    wait_until("the same Event is sent again", || requests("PATCH") > 0);
    // Continued watches and repeated lists need no other rights.
    node.server.expire_history();
    node.server.disconnect_all();
    node.wait_for_watches();
    node.server.apply(service("more", 50));
    node.settle();
    let asked: BTreeSet<Right> = node.server.requests().iter().map(right).collect();
    assert_eq!(asked, role());
}

/// The commands need no other rights than the agent.
#[test]
fn role_suffices_for_commands() {
    let node = Node::new("role-commands");
    thread::scope(|scope| {
        for command in ["list --dry-run", "explain --dry-run --to 10.96.0.10:80"] {
            let node = &node;
            scope.spawn(move || drop(node.command(command)));
        }
    });
    let asked: BTreeSet<Right> = node.server.requests().iter().map(right).collect();
    assert!(!asked.is_empty() && asked.is_subset(&role()), "{asked:?}");
}
