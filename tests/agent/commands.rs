//! Commands that ask the API server once.

use serde_json::Value;

use crate::api_server::{Failure, Kind, Verb};
use crate::common::{help_examples, stderr, stdout};
use crate::node::Node;
use crate::objects::{HERE, service, slice};

/// More Services than fit into one page of a list.
const SERVICES: usize = 600;

#[test]
fn list_explain_doctor_compare_kernel_with_api_server() {
    let mut node = Node::new("asked");
    let services = (100..100 + SERVICES).flat_map(|n| {
        let name = format!("svc-{n}");
        [service(&name, n), slice(&name, "a", &HERE)]
    });
    node.server.apply_many(services);
    node.server.apply(service("empty", 20));
    node.start("");
    node.settle();

    let list = node.command("list -o json");
    let listed: Value = serde_json::from_str(&stdout(&list)).unwrap();
    let services = listed["services"].as_array().unwrap();
    assert_eq!(services.len(), SERVICES + 2, "{}", stderr(&list));
    assert!(services.iter().all(|service| service["state"] == "inSync"));

    let mut labelled = service("svc-150", 150);
    labelled["metadata"]["labels"] = serde_json::json!({"app": "web"});
    node.server.apply(labelled);
    let selected = node.command("list -l app=web -o name");
    assert_eq!(stdout(&selected), "default/svc-150\n", "{}", stderr(&selected));

    let diff = node.command("diff");
    assert_eq!(diff.status.code(), Some(0), "{}{}", stdout(&diff), stderr(&diff));
    let explained = node.command("explain --from 10.244.1.9 --to default/empty:http");
    let text = stdout(&explained);
    assert!(
        text.contains("default/empty:http has no EndpointSlice"),
        "{text}{}",
        stderr(&explained)
    );
    let live = node.command("explain --live --from 10.244.1.9 --to default/svc-150");
    assert!(stdout(&live).contains("1 in 2  10.244.1.5:8080"), "{}", stdout(&live));

    let doctor = node.command("doctor --check drift endpoints");
    assert_eq!(doctor.status.code(), Some(1));
    let text = stdout(&doctor);
    assert!(text.contains("default/empty:http") && text.contains("ok          drift"), "{text}");
}

/// The API server is asked only for the Node with this node's name.
#[test]
fn doctor_and_list_report_that_the_api_server_has_no_node_of_this_name() {
    let node = Node::new("no-node");
    let asked = |command: &str| {
        let kubeconfig = &node.kubeconfig;
        node.space.rulegen(&format!(
            "{command} --kubeconfig {kubeconfig} --hostname-override other --proxy-mode nftables"
        ))
    };
    let doctor = asked("doctor --check node-name");
    assert_eq!(doctor.status.code(), Some(1), "{}", stderr(&doctor));
    assert!(stdout(&doctor).contains("no Node is named other"), "{}", stdout(&doctor));
    let said = stderr(&asked("list"));
    assert!(said.contains("the API server has no Node \"other\""), "{said}");
    let doctor = node.command("doctor --check node-name");
    assert_eq!(doctor.status.code(), Some(0), "{}", stdout(&doctor));
}

/// The examples use the administrator's kubeconfig, because kubelet's may not list all kinds.
#[test]
fn help_examples_with_kubeconfig_run() {
    let node = Node::new("examples");
    let mut run = 0;
    for command in ["", "diff", "list", "explain", "doctor", "agent"] {
        for example in help_examples(command) {
            if !example.contains("--kubeconfig") {
                continue;
            }
            let administrator = "--kubeconfig /etc/kubernetes/admin.conf";
            assert!(
                example.contains(administrator),
                "{example}: not the administrator's kubeconfig"
            );
            if example.starts_with("rulegen agent") {
                continue;
            }
            let arguments = example.strip_prefix("rulegen ").unwrap().replace(administrator, "");
            let output = node.command(&arguments);
            let may_find = ["rulegen doctor", "rulegen diff"];
            let most = i32::from(may_find.iter().any(|command| example.starts_with(command)));
            let status = output.status.code().unwrap();
            assert!(status <= most, "{example}: {status}: {}", stderr(&output));
            run += 1;
        }
    }
    assert!(run >= 2, "only {run} examples were run");
}

#[test]
fn list_fails_if_api_server_fails_to_list_a_kind() {
    let node = Node::new("asked-badly");
    for (kind, plural) in [
        (Kind::Service, "services"),
        (Kind::EndpointSlice, "endpointslices"),
        (Kind::Node, "nodes"),
    ] {
        node.server.fail_next(1, kind, Some(Verb::List), Failure::Code(500));
        let list = node.command("list --dry-run");
        assert_eq!(list.status.code(), Some(1));
        let words = format!("cannot list {plural}");
        assert!(stderr(&list).contains(&words), "{}", stderr(&list));
    }
    for code in [403, 404] {
        node.server.fail_next(1, Kind::ServiceCidr, Some(Verb::List), Failure::Code(code));
        assert!(node.command("list --dry-run").status.success(), "older clusters have none");
    }
    // If the continue token has expired, the list starts again.
    node.server.fail_next(1, Kind::Service, Some(Verb::List), Failure::Code(410));
    assert!(stdout(&node.command("list --dry-run")).contains("10.96.0.10:80"));
}
