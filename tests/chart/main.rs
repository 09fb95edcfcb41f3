//! The Helm chart and the kustomizations of `deploy`, rendered by Helm's and kubectl's own code, which
//! `ci/check-deploy` installs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing test should panic"
)]

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod kube_proxy_patch;
mod monitoring;
mod render;
mod values;

use serde_json::{Value, json};

use crate::cases::cases;
use crate::common::{Scratch, root};
use crate::render::{Chart, difference, kustomization, kustomize, schema_problems};

#[test]
fn chart_renders_the_same_objects_as_the_kustomization() {
    let scratch = Scratch::new("chart-cases");
    for case in cases() {
        let wanted = kustomize(&kustomization(&scratch, &case));
        let found = Chart::of_project().objects(case.namespace, &case.values);
        let difference = difference(&wanted, &found);
        assert!(difference.is_empty(), "{}: - kustomization, + chart\n{difference}", case.name);
    }
}

/// Unknown fields, wrong types and missing required fields.
#[test]
fn deploy_objects_match_the_schemas_of_kubernetes_and_the_prometheus_operator() {
    let scratch = Scratch::new("chart-schemas");
    let mut kinds = std::collections::BTreeSet::new();
    let folders = cases().into_iter().map(|case| kustomization(&scratch, &case));
    for folder in folders.chain([root().join("deploy/cleanup")]) {
        for object in kustomize(&folder) {
            assert_eq!(schema_problems(&object), "", "{}", folder.display());
            kinds.insert(object["kind"].as_str().unwrap().to_owned());
        }
    }
    let wanted = [
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "DaemonSet",
        "PodMonitor",
        "PrometheusRule",
        "ServiceAccount",
    ];
    assert!(kinds.iter().eq(wanted), "{kinds:?}");
}

#[test]
fn chart_packaged_renders_the_same() {
    let scratch = Scratch::new("chart-package");
    let chart = Chart::of_project();
    let package = Chart(chart.package(&scratch.0));
    let values = json!({ "alerts": { "enabled": true }, "podMonitor": { "enabled": true } });
    let objects = chart.objects("kube-system", &values);
    assert_eq!(package.objects("kube-system", &values), objects);
    // The links to files outside of the chart.
    assert!(objects.iter().any(|object| object["kind"] == "PrometheusRule"));
}

#[test]
fn chart_lint_finds_no_problem() {
    for case in cases() {
        let report = Chart::of_project().lint(&case.values);
        let messages = report["messages"].as_array().unwrap();
        let serious: Vec<&Value> =
            messages.iter().filter(|it| it["error"] != "icon is recommended").collect();
        assert!(serious.is_empty(), "{}: {serious:?}", case.name);
        assert_eq!(report["errors"], json!([]), "{}", case.name);
        assert_eq!(report["total_charts_linted"], 1);
    }
}

#[test]
fn chart_probes_use_the_port_of_healthz_bind_address() {
    for (address, port) in [
        ("0.0.0.0:10300", 10300),
        ("[::]:10300", 10300),
        (":10300", 10300),
        ("0.0.0.0", 10256),
        ("::1", 10256),
    ] {
        let values = json!({ "config": { "healthzBindAddress": address } });
        let objects = Chart::of_project().objects("kube-system", &values);
        let daemonset = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
        let ports = &daemonset["spec"]["template"]["spec"]["containers"][0]["ports"];
        assert_eq!(ports[0]["name"], "healthz");
        assert_eq!(ports[0]["containerPort"], port, "{address}");
    }
}

#[test]
fn chart_notes_say_what_to_do_next() {
    let notes = |values: Value| Chart::of_project().notes(&values);
    let placeholder = "no pod becomes ready and no rule changes. Set it:";
    assert!(notes(json!({})).contains(placeholder));
    let set = notes(json!({ "apiServer": "https://192.0.2.1:6443" }));
    assert!(
        !set.contains(placeholder) && set.contains("Only one proxy may run on a node"),
        "{set}"
    );
    let of_kubeadm = notes(json!({ "kubeProxyConfigMap": "kube-proxy", "labelledNodes": true }));
    assert!(!of_kubeadm.contains(placeholder), "{of_kubeadm}");
    assert!(of_kubeadm.contains("kubectl label node NODE service-proxy=rulegen"), "{of_kubeadm}");
    let unmonitored = notes(json!({ "alerts": { "enabled": true } }));
    assert!(unmonitored.contains("alerts.enabled needs rulegen's metrics"), "{unmonitored}");
}

/// The values of `helm install` and `helm upgrade` in docs/install.md.
#[test]
fn chart_commands_in_the_documentation_have_valid_values() {
    let page = std::fs::read_to_string(root().join("docs/install.md")).unwrap();
    let page = page.replace("\\\n", " ").replace("REGISTRY", "registry.test");
    let mut commands = Vec::new();
    for line in page.lines() {
        let Some(command) = ["install", "upgrade"]
            .into_iter()
            .find(|command| line.starts_with(&format!("helm {command} ")))
        else {
            continue;
        };
        let sets = line.split("--set ").skip(1).filter_map(|rest| rest.split(' ').next());
        let values = json!(sets.collect::<Vec<_>>().join(","));
        let objects = json!(Chart::of_project().objects("kube-system", &values)).to_string();
        if command == "install" {
            assert!(objects.contains("registry.test/rulegen"), "{line}: no image of the registry");
            assert!(!objects.contains(".invalid"), "{line}: does not set the API server");
        }
        commands.push(command);
    }
    assert_eq!(commands, ["install", "install", "install", "upgrade"]);
}
